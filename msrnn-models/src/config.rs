//! `config.json` of a Llama-architecture checkpoint.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ModelError;
use crate::file::read_text;

/// The shape and constants of a decoder, as read from `config.json` and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Which of the supported architectures this is.
    pub architecture: Architecture,
    /// d: width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Key/value heads per layer; divides `heads`.
    pub kv_heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The context that the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// ε of every norm.
    pub rms_norm_eps: f64,
    /// θ of the rotary embedding.
    pub rope_theta: f64,
    /// How the rotary frequencies are scaled.
    pub rope_scaling: RopeScaling,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k, v and o have a bias.
    pub attention_bias: bool,
    /// Whether gate, up and down have a bias.
    pub mlp_bias: bool,
    /// Mistral: a query sees rows with t − position < window only.
    pub sliding_window: Option<usize>,
    /// First token of a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

/// The supported architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Llama 1, 2, 3, Yi and everything else that declares `LlamaForCausalLM`.
    LlamaForCausalLM,
    /// Mistral, with its sliding window.
    MistralForCausalLM,
}

/// Scaling of the rotary frequencies for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every position divided by `factor`.
    Linear {
        /// Ratio of the new context to the old.
        factor: f64,
    },
    /// Slow frequencies divided by `factor`, fast ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Pairs that turn less often than this within the original context are slowed down.
        low_freq_factor: f64,
        /// Pairs that turn more often than this within the original context are kept.
        high_freq_factor: f64,
        /// The original context in tokens.
        original_max_position_embeddings: usize,
    },
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    ///
    /// When the file is missing, is not JSON, names an architecture, activation or rope type that
    /// is not supported, or describes an impossible shape. The message says which key.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = read_text(path)?;
        Self::parse(&text).map_err(|reason| ModelError::Config { path: path.into(), reason })
    }

    /// Parses the text of a `config.json`. The error says which key is wrong and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_str(text).map_err(|e| format!("it is not a model configuration: {e}"))?;
        raw.check()
    }

    /// The configuration as Hugging Face writes it, for a checkpoint of our own.
    pub fn to_json(&self) -> Value {
        let (architecture, model_type) = match self.architecture {
            Architecture::LlamaForCausalLM => ("LlamaForCausalLM", "llama"),
            Architecture::MistralForCausalLM => ("MistralForCausalLM", "mistral"),
        };
        let scaling = match self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => serde_json::json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                serde_json::json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
        };
        serde_json::json!({
            "architectures": [architecture],
            "model_type": model_type,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "sliding_window": self.sliding_window,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_ids,
            "torch_dtype": "float32",
        })
    }

    /// Query heads that read one KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        let d = self.hidden_size;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut layer = 2 * d * q + 2 * d * kv + 3 * d * self.intermediate_size + 2 * d;
        if self.attention_bias {
            layer += q + 2 * kv + d;
        }
        if self.mlp_bias {
            layer += 2 * self.intermediate_size + d;
        }
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 } * self.vocab_size * d;
        embeddings + self.layers * layer + d
    }
}

/// `config.json` as written, in the spellings of old and new transformers versions.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    /// Since transformers 5: theta and scaling in one.
    rope_parameters: Option<RawRope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    /// Absent and null differ.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    hidden_act: Option<String>,
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Ids,
}

#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

/// `null`, one id or several.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ids {
    #[default]
    None,
    One(u32),
    Several(Vec<u32>),
}

impl Ids {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Ids::None => Vec::new(),
            Ids::One(id) => vec![id],
            Ids::Several(ids) => ids,
        }
    }
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(value).map(Some)
}

fn default_epsilon() -> f64 {
    1e-6
}

impl Raw {
    fn check(self) -> Result<ModelConfig, String> {
        let architecture = match self.architectures.first().map(String::as_str) {
            Some("LlamaForCausalLM") => Architecture::LlamaForCausalLM,
            Some("MistralForCausalLM") => Architecture::MistralForCausalLM,
            Some(other) => {
                return Err(format!(
                    "architecture {other:?} is not supported; supported are LlamaForCausalLM (Llama 2/3, Yi) and MistralForCausalLM"
                ));
            }
            None => {
                return Err(
                    "`architectures` is missing or empty; expected [\"LlamaForCausalLM\"] or [\"MistralForCausalLM\"]"
                        .into(),
                );
            }
        };
        if let Some(act) = self.hidden_act.as_deref().filter(|act| !matches!(*act, "silu" | "swish")) {
            return Err(format!("`hidden_act` {act:?} is not supported; supported is \"silu\""));
        }
        let positive = |name: &str, value: usize| match value {
            0 => Err(format!("`{name}` is 0; it must be positive")),
            value => Ok(value),
        };
        let heads = positive("num_attention_heads", self.num_attention_heads)?;
        let kv_heads = positive("num_key_value_heads", self.num_key_value_heads.unwrap_or(heads))?;
        if heads % kv_heads != 0 {
            return Err(format!("`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {kv_heads}"));
        }
        let hidden_size = positive("hidden_size", self.hidden_size)?;
        let head_dim = match self.head_dim {
            Some(head_dim) => positive("head_dim", head_dim)?,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(format!(
                    "`hidden_size` {hidden_size} is not a multiple of `num_attention_heads` {heads} and `head_dim` is not given"
                ));
            }
        };
        if head_dim % 2 != 0 {
            return Err(format!("head_dim {head_dim} is odd; the rotary embedding needs pairs"));
        }
        // As transformers reads them: the older key wins, and a theta inside it wins over one outside.
        let rope = self.rope_scaling.or(self.rope_parameters);
        let rope_theta = rope.as_ref().and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        if !(rope_theta.is_finite() && rope_theta > 0.0) {
            return Err(format!("`rope_theta` {rope_theta} must be positive"));
        }
        let max_position_embeddings =
            positive("max_position_embeddings", self.max_position_embeddings.unwrap_or(2048))?;
        Ok(ModelConfig {
            architecture,
            hidden_size,
            intermediate_size: positive("intermediate_size", self.intermediate_size)?,
            layers: positive("num_hidden_layers", self.num_hidden_layers)?,
            heads,
            kv_heads,
            head_dim,
            vocab_size: positive("vocab_size", self.vocab_size)?,
            max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta,
            rope_scaling: rope.map_or(Ok(RopeScaling::None), |rope| rope.check(max_position_embeddings))?,
            tie_word_embeddings: self.tie_word_embeddings,
            attention_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            sliding_window: match (architecture, self.sliding_window) {
                (Architecture::LlamaForCausalLM, _) | (_, Some(None)) => None,
                (_, Some(Some(window))) => Some(positive("sliding_window", window)?),
                // What transformers takes where the key is absent; null is no window.
                (Architecture::MistralForCausalLM, None) => Some(4096),
            },
            bos_token_id: self.bos_token_id,
            eos_token_ids: self.eos_token_id.into_vec(),
        })
    }
}

impl RawRope {
    fn check(self, context: usize) -> Result<RopeScaling, String> {
        let kind = self.rope_type.as_deref().unwrap_or("default");
        let need = |name: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(format!("rope scaling {kind:?}: `{name}` is {value}; it must be positive")),
            None => Err(format!("rope scaling {kind:?} needs `{name}`")),
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor", self.factor)? }),
            "llama3" => {
                let low_freq_factor = need("low_freq_factor", self.low_freq_factor)?;
                let high_freq_factor = need("high_freq_factor", self.high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    return Err("rope scaling \"llama3\": `high_freq_factor` must exceed `low_freq_factor`".into());
                }
                Ok(RopeScaling::Llama3 {
                    factor: need("factor", self.factor)?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: self.original_max_position_embeddings.unwrap_or(context),
                })
            }
            other => Err(format!(
                "rope scaling type {other:?} is not supported; supported are \"default\", \"linear\" and \"llama3\""
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 5 EXTRA}"#;

    fn parse(extra: &str) -> Result<ModelConfig, String> {
        ModelConfig::parse(&TINY.replace("EXTRA", extra))
    }

    #[test]
    fn old_and_new_rope_spellings_agree() {
        let old = parse(r#", "rope_theta": 5e6, "rope_scaling": {"type": "linear", "factor": 4.0}"#).unwrap();
        let new = parse(r#", "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e6}"#).unwrap();
        assert_eq!(old, new);
        assert_eq!(old.rope_scaling, RopeScaling::Linear { factor: 4.0 });
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = parse(r#", "eos_token_id": [1, 2], "bos_token_id": 0, "head_dim": 6"#).unwrap();
        assert_eq!(ModelConfig::parse(&config.to_json().to_string()).unwrap(), config);
    }

    #[test]
    fn a_sliding_window_counts_for_mistral_only() {
        assert_eq!(parse(r#", "sliding_window": 4"#).unwrap().sliding_window, None);
        let mistral = TINY.replace("Llama", "Mistral").replace("EXTRA", r#", "sliding_window": 4"#);
        assert_eq!(ModelConfig::parse(&mistral).unwrap().sliding_window, Some(4));
    }

    #[test]
    fn errors_name_the_key_and_what_is_supported() {
        let cases = [
            (r#", "rope_scaling": {"rope_type": "yarn", "factor": 2.0}"#, "yarn"),
            (r#", "rope_scaling": {"rope_type": "linear"}"#, "factor"),
            (r#", "num_key_value_heads": 3"#, "num_key_value_heads"),
            (r#", "hidden_act": "gelu""#, "hidden_act"),
            (r#", "head_dim": 3"#, "odd"),
            (r#", "num_key_value_heads": 0"#, "positive"),
        ];
        for (extra, word) in cases {
            let message = parse(extra).unwrap_err();
            assert!(message.contains(word), "{message:?} should mention {word:?}");
        }
        let other = TINY.replace("LlamaForCausalLM", "GPT2LMHeadModel").replace("EXTRA", "");
        assert!(ModelConfig::parse(&other).unwrap_err().contains("GPT2LMHeadModel"));
    }
}
