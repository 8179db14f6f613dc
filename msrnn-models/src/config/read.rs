//! From the keys of a `config.json` to a checked configuration: the defaults, and the meaning of absent and null, are
//! those of transformers' `LlamaConfig` and `MistralConfig`.

use serde_json::Value;

use super::keys::{Keys, Said, shown};
use super::{Architecture, ModelConfig, limits, rope};

/// What an architecture's class in transformers has where a key is absent.
struct Defaults {
    intermediate_size: usize,
    /// None: as many as query heads.
    kv_heads: Option<usize>,
    context: usize,
}

impl Architecture {
    fn defaults(self) -> Defaults {
        match self {
            Architecture::LlamaForCausalLM => Defaults { intermediate_size: 11_008, kv_heads: None, context: 2048 },
            Architecture::MistralForCausalLM => {
                Defaults { intermediate_size: 14_336, kv_heads: Some(8), context: 131_072 }
            }
        }
    }
}

pub(super) fn config(keys: Keys<'_>) -> Result<ModelConfig, String> {
    let architecture = architecture(keys)?;
    refuse_what_is_not_read(keys)?;
    let defaults = architecture.defaults();
    match keys.text("hidden_act")?.or_default("hidden_act", "silu")? {
        "silu" | "swish" => {}
        act => return Err(format!("`hidden_act` {act:?} is not supported; supported is \"silu\"")),
    }
    let count = |key: &str, most: usize, default: usize| keys.count(key, most)?.or_default(key, default);
    let heads = count("num_attention_heads", limits::HEADS, 32)?;
    let kv_heads = match (keys.count("num_key_value_heads", limits::HEADS)?, defaults.kv_heads) {
        (Said::Absent | Said::Null, None) => heads,
        (said, default) => said.or_default("num_key_value_heads", default.unwrap_or(heads))?,
    };
    if heads % kv_heads != 0 {
        return Err(format!("`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {kv_heads}"));
    }
    let hidden_size = count("hidden_size", limits::WIDTH, 4096)?;
    let head_dim = match keys.count("head_dim", limits::HEAD_DIM)?.value() {
        Some(head_dim) => head_dim,
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
    let max_position_embeddings = count("max_position_embeddings", limits::CONTEXT, defaults.context)?;
    let (rope_theta, rope_scaling) = rope::read(keys, max_position_embeddings)?;
    if matches!(rope_scaling, rope::RopeScaling::Dynamic { .. }) && head_dim == 2 {
        return Err("rope scaling \"dynamic\" needs a `head_dim` above 2".into());
    }
    let rms_norm_eps = keys.number("rms_norm_eps")?.or_default("rms_norm_eps", 1e-6)?;
    if !(0.0..1.0).contains(&rms_norm_eps) {
        return Err(format!("`rms_norm_eps` is {rms_norm_eps}; it must be at least 0 and below 1, such as 1e-5"));
    }
    let flag = |key: &str| keys.flag(key)?.or_default(key, false);
    // transformers' Mistral has no biases, whatever these keys say.
    let (attention_bias, mlp_bias) = match architecture {
        Architecture::LlamaForCausalLM => (flag("attention_bias")?, flag("mlp_bias")?),
        Architecture::MistralForCausalLM => (false, false),
    };
    let config = ModelConfig {
        architecture,
        hidden_size,
        intermediate_size: count("intermediate_size", limits::WIDTH, defaults.intermediate_size)?,
        layers: count("num_hidden_layers", limits::LAYERS, 32)?,
        heads,
        kv_heads,
        head_dim,
        vocab_size: count("vocab_size", limits::VOCABULARY, 32_000)?,
        max_position_embeddings,
        rms_norm_eps,
        rope_theta,
        rope_scaling,
        tie_word_embeddings: flag("tie_word_embeddings")?,
        attention_bias,
        mlp_bias,
        sliding_window: sliding_window(keys, architecture)?,
        bos_token_id: keys.id("bos_token_id")?.or(Some(1)),
        eos_token_ids: keys.ids("eos_token_id")?.or(vec![2]),
    };
    match config.count() {
        count if count > limits::PARAMETERS => Err(format!(
            "it describes a model of {count} parameters, which is beyond reason; the limit is {}",
            limits::PARAMETERS
        )),
        _ => layer_types(keys, &config).map(|()| config),
    }
}

impl<T: Default> Said<T> {
    /// The value, `default` where the key is absent, and nothing where it is null.
    fn or(self, default: T) -> T {
        match self {
            Said::Is(value) => value,
            Said::Absent => default,
            Said::Null => T::default(),
        }
    }
}

/// The tokens that end a generated text, by the text of a `generation_config.json`: it alone decides where it is
/// there, also where it names none.
pub(crate) fn ends(generation: &str) -> Result<Vec<u32>, String> {
    let value: Value = serde_json::from_str(generation).map_err(|e| e.to_string())?;
    let object = value.as_object().ok_or("expected a JSON object")?;
    Ok(Keys(object).ids("eos_token_id")?.value().unwrap_or_default())
}

/// The architecture goes by `model_type`, as in `AutoModelForCausalLM`; where there is none, by `architectures`.
fn architecture(keys: Keys<'_>) -> Result<Architecture, String> {
    const SUPPORTED: &str = "supported are LlamaForCausalLM (Llama 2/3, Yi) and MistralForCausalLM";
    let names = keys.texts("architectures")?.value().unwrap_or_default();
    // Its weights without a head are a part of it, and the older spelling is found in old files.
    let named = |name: &&str| match *name {
        "LlamaForCausalLM" | "LLaMAForCausalLM" | "LlamaModel" => Some(Architecture::LlamaForCausalLM),
        "MistralForCausalLM" | "MistralModel" => Some(Architecture::MistralForCausalLM),
        _ => None,
    };
    let by_type = match keys.text("model_type")?.value() {
        Some("llama") => Architecture::LlamaForCausalLM,
        Some("mistral") => Architecture::MistralForCausalLM,
        Some(other) => {
            return Err(format!(
                "`model_type` {other:?} is not supported (`architectures` {names:?}); {SUPPORTED}, with `model_type` \
                 \"llama\" and \"mistral\""
            ));
        }
        None => match names.iter().find_map(named) {
            Some(architecture) => architecture,
            None if names.is_empty() => {
                return Err("it is not a model configuration: it has neither `model_type` (\"llama\" or \"mistral\") \
                            nor `architectures` ([\"LlamaForCausalLM\"] or [\"MistralForCausalLM\"])"
                    .into());
            }
            None => return Err(format!("architecture {:?} is not supported; {SUPPORTED}", names[0])),
        },
    };
    if names.is_empty() || names.iter().any(|name| named(name) == Some(by_type)) {
        return Ok(by_type);
    }
    let why = match names[0] {
        name if name.contains("For") && !name.ends_with("ForCausalLM") => {
            ": a model for another task has no head that predicts tokens"
        }
        name if named(&name).is_some() => ": `model_type` and `architectures` contradict each other",
        _ => "",
    };
    Err(format!("architecture {:?} is not supported{why}; {SUPPORTED}", names[0]))
}

/// Keys that change what the weights mean, or where they are.
fn refuse_what_is_not_read(keys: Keys<'_>) -> Result<(), String> {
    if keys.has("quantization_config") {
        let method = &keys.0["quantization_config"]["quant_method"];
        return Err(format!(
            "`quantization_config` says that the weights are quantised (`quant_method` {}), which msrnn does not read; \
             take the model's unquantised checkpoint, or dequantise it with transformers (`model.dequantize()`, then \
             `save_pretrained`); --dtype int8 quantises while loading",
            shown(method)
        ));
    }
    for key in ["transformers_weights", "per_layer_config"] {
        if keys.has(key) {
            return Err(format!("`{key}` is {}, which msrnn does not read; remove the key", shown(&keys.0[key])));
        }
    }
    Ok(())
}

fn sliding_window(keys: Keys<'_>, architecture: Architecture) -> Result<Option<usize>, String> {
    if architecture == Architecture::LlamaForCausalLM {
        return Ok(None);
    }
    // What transformers takes where the key is absent; null is no window.
    let window = match keys.count("sliding_window", usize::MAX)? {
        Said::Absent => Some(4096),
        said => said.value(),
    };
    match (window, keys.flag("use_sliding_window")?.value()) {
        (Some(window), Some(false)) => Err(format!(
            "`use_sliding_window` is false and `sliding_window` is {window}; transformers' Mistral goes by the second \
             alone, so make it null for no window, or remove the first"
        )),
        _ => Ok(window),
    }
}

/// Layers are all alike; a list that says so is accepted.
fn layer_types(keys: Keys<'_>, config: &ModelConfig) -> Result<(), String> {
    let Some(types) = keys.texts("layer_types")?.value() else { return Ok(()) };
    let all = if config.sliding_window.is_some() { "sliding_attention" } else { "full_attention" };
    if types.len() != config.layers {
        return Err(format!("`layer_types` has {} entries for {} layers", types.len(), config.layers));
    }
    match types.iter().find(|name| **name != all) {
        Some(name) => Err(format!(
            "`layer_types` has {name:?}, and every layer of this model is of {all:?} (`sliding_window` decides for \
             Mistral); remove the key if that is meant"
        )),
        None => Ok(()),
    }
}
