//! From the metadata of a file to a configuration, by way of the keys of a `config.json`, so that everything is checked
//! as it is there.

use serde_json::{Map, Value, json};

use super::metadata::{Metadata, shown};
use super::{Gguf, frequencies, unknown};
use crate::config::{Architecture, ModelConfig, RopeScaling};
use crate::weights::HEAD;

/// The one architecture that is read: Llamas, and what llama.cpp writes as such, Mistrals and Yi among them.
const ARCHITECTURE: &str = "llama";
const PREFIX: &str = "llama.";

/// Numbers that must be there: of the file, and of `config.json`.
const COUNTS: [(&str, &str); 5] = [
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
];

/// Keys that are read here, or say nothing that a Llama computes with.
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

/// Numbers that make another model of a Llama, unless they are 0 or the one given.
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

pub(super) fn read(gguf: &Gguf) -> Result<(ModelConfig, Vec<String>), String> {
    let metadata = gguf.metadata();
    match metadata.text("general.architecture")? {
        Some(ARCHITECTURE) => {}
        Some(other) => {
            return Err(format!(
                "architecture {} is not read from GGUF files; read is {ARCHITECTURE:?}, which Llama, Mistral and Yi are",
                shown(other)
            ));
        }
        None => return Err("it does not say its architecture (`general.architecture`), so it is no model".into()),
    }
    refuse_other_models(metadata)?;
    let mut keys = Map::new();
    for (here, there) in COUNTS {
        keys.insert(there.into(), required(here, metadata.count(&key(here))?)?.into());
    }
    let optional = [("attention.head_count_kv", "num_key_value_heads"), ("vocab_size", "vocab_size")];
    for (here, there) in optional {
        if let Some(count) = metadata.count(&key(here))? {
            keys.insert(there.into(), count.into());
        }
    }
    if !keys.contains_key("vocab_size") {
        let tokens = metadata.texts("tokenizer.ggml.tokens")?.map(|tokens| tokens.len());
        let rows = || gguf.tensor("token_embd.weight").map(|(tensor, _)| tensor.shape[0]);
        keys.insert("vocab_size".into(), required("vocab_size", tokens.or_else(rows))?.into());
    }
    if let Some(head_dim) = head_dim(metadata)? {
        keys.insert("head_dim".into(), head_dim.into());
    }
    let epsilon = "attention.layer_norm_rms_epsilon";
    keys.insert("rms_norm_eps".into(), json!(required(epsilon, metadata.number(&key(epsilon))?)?));
    if let Some(theta) = metadata.number(&key("rope.freq_base"))? {
        keys.insert("rope_theta".into(), json!(theta));
    }
    if let Some(scaling) = scaling(metadata)? {
        keys.insert("rope_scaling".into(), scaling);
    }
    for (here, there) in [("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id")] {
        if let Some(id) = metadata.count(&format!("tokenizer.ggml.{here}"))? {
            keys.insert(there.into(), id.into());
        }
    }
    let has = |ending: &str| gguf.places().any(|place| place.name.ends_with(ending));
    let bias = |parts: &[&str]| parts.iter().any(|part| has(&format!("{part}_proj.bias")));
    keys.insert("tie_word_embeddings".into(), (!has(HEAD)).into());
    keys.insert("attention_bias".into(), bias(&["q", "k", "v", "o"]).into());
    keys.insert("mlp_bias".into(), bias(&["gate", "up", "down"]).into());
    keys.insert("model_type".into(), "llama".into());

    let mut config = ModelConfig::from_object(&keys)?;
    // A Mistral is a Llama with a window. llama.cpp's converter leaves it out; msrnn's does not.
    if let Some(window) = metadata.count(&key("attention.sliding_window"))?.filter(|window| *window > 0) {
        (config.architecture, config.sliding_window) = (Architecture::MistralForCausalLM, Some(window as usize));
        if config.attention_bias || config.mlp_bias {
            return Err("it has a sliding window and biases, and no model that is read has both".into());
        }
    }
    let original = metadata.count(&key("rope.scaling.original_context_length"))?;
    if let Some(llama3) = frequencies::scaling(gguf, &config, original.map(|context| context as usize))? {
        if config.rope_scaling != RopeScaling::None {
            return Err(
                "it has both frequency factors and a scaling (`llama.rope.scaling.type`), which no model has".into()
            );
        }
        config.rope_scaling = llama3;
    }
    Ok((config, said_of(metadata)))
}

/// What is to be said about keys that nothing reads.
fn said_of(metadata: Metadata<'_>) -> Vec<String> {
    let mut strange = unknown(metadata, PREFIX, &KNOWN);
    strange.retain(|name| !SCALES.iter().any(|(known, _)| known == name));
    let names: Vec<String> = strange.iter().take(5).map(|name| format!("`{PREFIX}{name}`")).collect();
    let more = if strange.len() > names.len() { ", …" } else { "" };
    let note = || {
        format!(
            "the file says something of {}{more}, which msrnn does not know; if the model computes with it, results are wrong",
            names.join(", ")
        )
    };
    (!names.is_empty()).then(note).into_iter().collect()
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("`{PREFIX}{name}` is missing, without which there is no model; convert it anew"))
}

/// What makes another model of it.
fn refuse_other_models(metadata: Metadata<'_>) -> Result<(), String> {
    if let Some(experts) = metadata.count(&key("expert_count"))?.filter(|experts| *experts > 0) {
        return Err(format!("it is a mixture of {experts} experts (`llama.expert_count`), which is not read"));
    }
    if metadata.flag(&key("attention.causal"))? == Some(false) {
        return Err("its attention is not causal (`llama.attention.causal`), so it predicts no next token".into());
    }
    for (name, nothing) in SCALES {
        match metadata.number(&key(name))? {
            Some(scale) if scale != 0.0 && scale != nothing => {
                return Err(format!("`{PREFIX}{name}` is {scale}, which msrnn does not compute; take another model"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Channels of a head, all of which are rotated.
fn head_dim(metadata: Metadata<'_>) -> Result<Option<u64>, String> {
    let said = |name: &str| metadata.count(&key(name));
    let (keys, values, rotated) =
        (said("attention.key_length")?, said("attention.value_length")?, said("rope.dimension_count")?);
    match (keys, values, rotated) {
        (Some(keys), Some(values), _) if keys != values => {
            Err(format!("keys of {keys} channels and values of {values} (`llama.attention.key_length`) are not read"))
        }
        (Some(keys), _, Some(rotated)) if keys != rotated => Err(format!(
            "{rotated} of {keys} channels are rotated (`llama.rope.dimension_count`); a Llama or Mistral rotates all"
        )),
        _ => Ok(keys.or(values).or(rotated)),
    }
}

/// `rope_scaling` of `config.json`.
fn scaling(metadata: Metadata<'_>) -> Result<Option<Value>, String> {
    let number = |name: &str| metadata.number(&key(name));
    let factor = match number("rope.scaling.factor")? {
        None => number("rope.scale_linear")?,
        factor => factor,
    };
    // 0 is none.
    let factor = factor.filter(|factor| *factor != 0.0);
    // As llama.cpp: where no type is said a factor is a linear one.
    match (metadata.text(&key("rope.scaling.type"))?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None | Some(1.0)) => Ok(None),
        ("linear", Some(factor)) => Ok(Some(json!({ "rope_type": "linear", "factor": factor }))),
        ("yarn", factor) => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": factor.unwrap_or(1.0) });
            if let Some(original) = metadata.count(&key("rope.scaling.original_context_length"))? {
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
            "rope scaling {} (`llama.rope.scaling.type`) is not supported; supported are \"none\", \"linear\" and \
             \"yarn\", and Llama 3.1's frequency factors",
            shown(other)
        )),
    }
}
