//! From the metadata of a file to a configuration, by way of the keys of a `config.json`, so that everything is checked
//! as it is there.

use serde_json::{Map, Value, json};

use super::metadata::{Metadata, shown};
use super::names::LONG_FACTORS;
use super::{Gguf, frequencies, unknown};
use crate::config::{Architecture, ModelConfig, RopeScaling};
use crate::weights::HEAD;

/// Numbers that must be there: of the file, and of `config.json`.
const COUNTS: [(&str, &str); 5] = [
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
];

/// Keys that are read here, or say nothing that these models compute with.
const KNOWN: [&str; 24] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "vocab_size",
    "expert_count",
    "expert_used_count",
    "tensor_data_layout",
];

/// Numbers that make another model of it, unless they are 0 or the one given, or [`FACTORS`] of its architecture.
const SCALES: [(&str, f64); 9] = [
    ("attention.scale", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("logit_scale", 1.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
];

/// A Granite's factors: in the file, and in `config.json`.
pub(crate) const FACTORS: [(&str, &str); 4] = [
    ("embedding_scale", "embedding_multiplier"),
    ("attention.scale", "attention_multiplier"),
    ("residual_scale", "residual_multiplier"),
    ("logit_scale", "logits_scaling"),
];

/// The number of layers of a SmolLM3 of which one, the last, does not rotate: llama.cpp has it, and no file says it.
pub(crate) const UNROTATED_EVERY: usize = 4;

/// What a file says of its architecture.
#[derive(Clone, Copy)]
struct Said<'a> {
    metadata: Metadata<'a>,
    architecture: Architecture,
}

pub(super) fn read(gguf: &Gguf) -> Result<(ModelConfig, Vec<String>), String> {
    let metadata = gguf.metadata();
    let architecture = match (metadata.text("general.architecture")?, gguf.architecture()) {
        (_, Some(architecture)) => architecture,
        (Some(other), None) => {
            return Err(format!(
                "architecture {} is not read from GGUF files; {}",
                shown(other),
                Architecture::supported_in_gguf()
            ));
        }
        (None, None) => {
            return Err("it does not say its architecture (`general.architecture`), so it is no model".into());
        }
    };
    let said = Said { metadata, architecture };
    said.refuse_other_models()?;
    if let Some(name) = LONG_FACTORS.iter().find(|name| gguf.tensor(name).is_some()) {
        return Err(format!(
            "it has factors for long and short texts ({name}): rope scaling \"longrope\", whose frequencies change for all \
             tokens at once in the middle of a text, is not supported; take the model with the shorter context"
        ));
    }
    let mut keys = Map::new();
    for (here, there) in COUNTS {
        keys.insert(there.into(), said.required(here, said.count(here)?)?.into());
    }
    // As llama.cpp where nothing is said, whatever the class in transformers has then.
    let heads = keys["num_attention_heads"].clone();
    keys.insert("num_key_value_heads".into(), said.count("attention.head_count_kv")?.map_or(heads, Value::from));
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.map(|tokens| tokens.len() as u64);
    let rows = || gguf.tensor("token_embd.weight").map(|(tensor, _)| tensor.shape[0] as u64);
    let vocabulary = said.count("vocab_size")?.or(tokens).or_else(rows);
    keys.insert("vocab_size".into(), said.required("vocab_size", vocabulary)?.into());
    if let Some(head_dim) = said.head_dim()? {
        keys.insert("head_dim".into(), head_dim.into());
    }
    let epsilon = "attention.layer_norm_rms_epsilon";
    keys.insert("rms_norm_eps".into(), json!(said.required(epsilon, said.number(epsilon)?)?));
    keys.insert("rope_theta".into(), json!(said.number("rope.freq_base")?.unwrap_or(10_000.0)));
    if let Some(scaling) = said.scaling()? {
        keys.insert("rope_scaling".into(), scaling);
    }
    for name in ["bos_token_id", "eos_token_id"] {
        match metadata.count(&format!("tokenizer.ggml.{name}"))? {
            Some(id) => drop(keys.insert(name.into(), id.into())),
            // As transformers: the default of its class.
            None if architecture == Architecture::LlamaForCausalLM => {}
            None => drop(keys.insert(name.into(), Value::Null)),
        }
    }
    let has = |ending: &str| gguf.places().any(|place| place.name.ends_with(ending));
    let bias = |parts: &[&str]| parts.iter().any(|part| has(&format!("{part}_proj.bias")));
    keys.insert("tie_word_embeddings".into(), (!has(HEAD)).into());
    keys.insert("attention_bias".into(), bias(&["q", "k", "v", "o"]).into());
    keys.insert("mlp_bias".into(), bias(&["gate", "up", "down"]).into());
    keys.insert("model_type".into(), architecture.model_type().into());
    keys.insert("no_rope_layer_interval".into(), UNROTATED_EVERY.into());
    let window = said.count("attention.sliding_window")?.filter(|window| *window > 0);
    match (architecture, window) {
        (Architecture::Phi3ForCausalLM, Some(window)) => drop(keys.insert("sliding_window".into(), window.into())),
        (Architecture::LlamaForCausalLM, _) | (_, None) => {}
        (_, Some(window)) => {
            return Err(format!(
                "it has a sliding window of {window} (`{}`) and does not say in which layers; take the model's safetensors",
                said.key("attention.sliding_window")
            ));
        }
    }
    if architecture == Architecture::GraniteForCausalLM {
        // As llama.cpp: 0 is what the file does not say, and then attention is a Llama's.
        let usual = keys.get("head_dim").and_then(Value::as_f64).map(|head_dim| head_dim.sqrt().recip());
        keys.insert("attention_multiplier".into(), json!(usual));
        for (here, there) in FACTORS {
            if let Some(factor) = said.number(here)?.filter(|factor| *factor != 0.0) {
                keys.insert(there.into(), json!(factor));
            }
        }
    }

    let mut config = ModelConfig::from_object(&keys)?;
    // A Mistral is a Llama with a window. llama.cpp's converter leaves it out; msrnn's does not.
    if let (Architecture::LlamaForCausalLM, Some(window)) = (architecture, window) {
        (config.architecture, config.sliding_window) = (Architecture::MistralForCausalLM, Some(window as usize));
        if config.attention_bias || config.mlp_bias {
            return Err("it has a sliding window and biases, and no model that is read has both".into());
        }
    }
    let original = said.count("rope.scaling.original_context_length")?;
    if let Some(llama3) = frequencies::scaling(gguf, &config, original.map(|context| context as usize))? {
        if config.rope_scaling != RopeScaling::None {
            return Err(format!(
                "it has both frequency factors and a scaling (`{}`), which no model has",
                said.key("rope.scaling.type")
            ));
        }
        config.rope_scaling = llama3;
    }
    Ok((config, said.strange()))
}

impl Said<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.in_gguf())
    }

    fn count(&self, name: &str) -> Result<Option<u64>, String> {
        self.metadata.count(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.metadata.number(&self.key(name))
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, String> {
        let key = self.key(name);
        value.ok_or_else(|| format!("`{key}` is missing, without which there is no model; convert it anew"))
    }

    /// What is to be said about keys that nothing reads.
    fn strange(&self) -> Vec<String> {
        let prefix = self.key("");
        let mut strange = unknown(self.metadata, &prefix, &KNOWN);
        strange.retain(|name| !SCALES.iter().any(|(known, _)| known == name));
        let names: Vec<String> = strange.iter().take(5).map(|name| format!("`{prefix}{name}`")).collect();
        let more = if strange.len() > names.len() { ", …" } else { "" };
        let note = || {
            format!(
                "the file says something of {}{more}, which msrnn does not know; if the model computes with it, results are \
                 wrong",
                names.join(", ")
            )
        };
        (!names.is_empty()).then(note).into_iter().collect()
    }

    /// What makes another model of it.
    fn refuse_other_models(&self) -> Result<(), String> {
        if let Some(experts) = self.count("expert_count")?.filter(|experts| *experts > 0) {
            let key = self.key("expert_count");
            return Err(format!("it is a mixture of {experts} experts (`{key}`), which is not read"));
        }
        let causal = self.key("attention.causal");
        if self.metadata.flag(&causal)? == Some(false) {
            return Err(format!("its attention is not causal (`{causal}`), so it predicts no next token"));
        }
        let known = |name: &str| FACTORS.iter().any(|(here, _)| *here == name);
        for (name, nothing) in SCALES {
            match self.number(name)? {
                Some(_) if self.architecture == Architecture::GraniteForCausalLM && known(name) => {}
                Some(scale) if scale != 0.0 && scale != nothing => {
                    let key = self.key(name);
                    return Err(format!("`{key}` is {scale}, which msrnn does not compute; take another model"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Channels of a head, all of which are rotated.
    fn head_dim(&self) -> Result<Option<u64>, String> {
        let (keys, values, rotated) = (
            self.count("attention.key_length")?,
            self.count("attention.value_length")?,
            self.count("rope.dimension_count")?,
        );
        if let (Some(keys), Some(values)) = (keys, values)
            && keys != values
        {
            let key = self.key("attention.key_length");
            return Err(format!("keys of {keys} channels and values of {values} (`{key}`) are not read"));
        }
        let (width, heads) = (self.count("embedding_length")?, self.count("attention.head_count")?);
        let usual = match (width, heads) {
            (Some(width), Some(heads)) if heads > 0 && width % heads == 0 => Some(width / heads),
            _ => None,
        };
        match (keys.or(values).or(usual), rotated) {
            (Some(keys), Some(rotated)) if keys != rotated => Err(format!(
                "{rotated} of {keys} channels are rotated (`{}`), which is not read: models that rotate all of them are",
                self.key("rope.dimension_count")
            )),
            (keys, rotated) => Ok(keys.or(rotated)),
        }
    }

    /// `rope_scaling` of `config.json`.
    fn scaling(&self) -> Result<Option<Value>, String> {
        let number = |name: &str| self.number(name);
        let factor = match number("rope.scaling.factor")? {
            None => number("rope.scale_linear")?,
            factor => factor,
        };
        // 0 is none.
        let factor = factor.filter(|factor| *factor != 0.0);
        // As llama.cpp: where no type is said a factor is a linear one.
        match (self.metadata.text(&self.key("rope.scaling.type"))?.unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None | Some(1.0)) => Ok(None),
            ("linear", Some(factor)) => Ok(Some(json!({ "rope_type": "linear", "factor": factor }))),
            ("yarn", factor) => {
                let mut scaling = json!({ "rope_type": "yarn", "factor": factor.unwrap_or(1.0) });
                if let Some(original) = self.count("rope.scaling.original_context_length")? {
                    scaling["original_max_position_embeddings"] = original.into();
                }
                for (here, there) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                    if let Some(beta) = number(&format!("rope.scaling.{here}"))? {
                        scaling[there] = beta.into();
                    }
                }
                Ok(Some(scaling))
            }
            (other, _) => Err(format!(
                "rope scaling {} (`{}`) is not supported; supported are \"none\", \"linear\" and \"yarn\", and Llama 3.1's \
                 frequency factors",
                shown(other),
                self.key("rope.scaling.type")
            )),
        }
    }
}
