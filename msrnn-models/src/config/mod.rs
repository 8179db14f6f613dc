//! `config.json` of a checkpoint of one of the supported architectures.

mod architecture;
mod by_layer;
mod defaults;
pub(crate) mod keys;
mod layers;
mod limits;
mod read;
mod rope;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::keys::Keys;
use crate::error::ModelError;
use crate::file::read_text;

pub use architecture::Architecture;
pub use layers::{Layers, Scales};
pub(crate) use read::ends;
pub use rope::RopeScaling;

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
    /// Whether q, k and v have a bias.
    pub attention_bias: bool,
    /// Whether o has a bias.
    pub output_bias: bool,
    /// Whether gate, up and down have a bias.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised head by head, before they are rotated.
    pub head_norms: bool,
    /// Whether files have q, k and v in one tensor, and gate and up in another.
    pub fused: bool,
    /// A query sees rows with t − position < window only, in the layers of [`windowed`](Self::windowed).
    pub sliding_window: Option<usize>,
    /// The layers that the window is in.
    pub windowed: Layers,
    /// The layers that rotate queries and keys; in others rows have no position.
    pub rotated: Layers,
    /// Factors beside the weights.
    pub scales: Scales,
    /// First token of a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
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
        let value: Value = serde_json::from_str(text).map_err(|e| format!("it is not a model configuration: {e}"))?;
        let object = value.as_object().ok_or("it is not a model configuration: expected a JSON object")?;
        read::config(Keys(object))
    }

    /// [`ModelConfig::parse`] of what was parsed.
    pub(crate) fn from_object(object: &Map<String, Value>) -> Result<Self, String> {
        read::config(Keys(object))
    }

    /// The window of a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.windowed.has(layer))
    }

    /// The factor before the softmax of attention.
    pub fn attention_scale(&self) -> f64 {
        self.scales.attention.unwrap_or_else(|| (self.head_dim as f64).sqrt().recip())
    }

    /// Query heads that read one KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Number of trained values; the largest number there is where a configuration made by hand has more.
    pub fn parameters(&self) -> usize {
        usize::try_from(self.count()).unwrap_or(usize::MAX)
    }

    /// As [`ModelConfig::parameters`], in a type that holds it for every configuration that was read.
    fn count(&self) -> u128 {
        let product = |a: usize, b: usize| (a as u128).saturating_mul(b as u128);
        let (d, ff) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (product(self.heads, self.head_dim), product(self.kv_heads, self.head_dim));
        let sums = |terms: &[(u128, u128)]| {
            terms.iter().fold(0u128, |sum, (n, each)| sum.saturating_add(n.saturating_mul(*each)))
        };
        let (wide, d, ff) = (d as u128, d as u128, ff as u128);
        let mut layer = sums(&[(2 * d, q), (2 * d, kv), (3 * d, ff), (2, d)]);
        if self.attention_bias {
            layer = sums(&[(1, layer), (1, q), (2, kv)]);
        }
        if self.output_bias {
            layer = sums(&[(1, layer), (1, d)]);
        }
        if self.head_norms {
            layer = sums(&[(1, layer), (2, self.head_dim as u128)]);
        }
        if self.mlp_bias {
            layer = sums(&[(1, layer), (2, ff), (1, d)]);
        }
        let matrices = if self.tie_word_embeddings { 1 } else { 2 };
        sums(&[(matrices * wide, self.vocab_size as u128), (self.layers as u128, layer), (1, d)])
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
    fn every_rope_scaling_is_written_as_it_is_read() {
        for rope in [
            r#"{"rope_type": "linear", "factor": 4.0}"#,
            r#"{"rope_type": "dynamic", "factor": 4.0}"#,
            r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}"#,
            r#"{"rope_type": "yarn", "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.0, "truncate": false}"#,
        ] {
            let config = parse(&format!(r#", "head_dim": 4, "rope_scaling": {rope}"#)).unwrap();
            assert_ne!(config.rope_scaling, RopeScaling::None);
            assert_eq!(ModelConfig::parse(&config.to_json().to_string()).unwrap(), config);
        }
    }

    #[test]
    fn a_configuration_of_more_parameters_than_there_are_numbers_is_refused_or_counted_without_overflow() {
        let largest = r#", "head_dim": 4096, "num_attention_heads": 16384, "num_hidden_layers": 16384,
            "hidden_size": 1048576, "intermediate_size": 1048576, "vocab_size": 16777216"#;
        let error = parse(largest).unwrap_err();
        assert!(error.contains("parameters") && error.contains("limit is 100000000000000"), "{error}");
        let by_hand = ModelConfig { hidden_size: usize::MAX, layers: usize::MAX, ..parse("").unwrap() };
        assert_eq!(by_hand.parameters(), usize::MAX);
    }

    #[test]
    fn a_sliding_window_counts_for_mistral_only() {
        assert_eq!(parse(r#", "sliding_window": 4"#).unwrap().sliding_window, None);
        let mistral =
            TINY.replace("Llama", "Mistral").replace("EXTRA", r#", "num_key_value_heads": 2, "sliding_window": 4"#);
        assert_eq!(ModelConfig::parse(&mistral).unwrap().sliding_window, Some(4));
    }

    #[test]
    fn errors_name_the_key_and_what_is_supported() {
        let cases = [
            (r#", "rope_scaling": {"rope_type": "longrope", "factor": 2.0}"#, "longrope"),
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
