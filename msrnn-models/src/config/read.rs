//! From the keys of a `config.json` to a checked configuration: the defaults, and the meaning of absent and null, are
//! those of the architecture's class in transformers.

use serde_json::Value;

use super::by_layer::{rotated, windows};
use super::keys::{Keys, Said, shown};
use super::{Architecture, ModelConfig, Scales, limits, rope};

pub(super) fn config(keys: Keys<'_>) -> Result<ModelConfig, String> {
    let architecture = architecture(keys)?;
    refuse_what_is_not_read(keys)?;
    let defaults = architecture.defaults();
    match keys.text("hidden_act")?.or_default("hidden_act", "silu")? {
        "silu" | "swish" => {}
        act => return Err(format!("`hidden_act` {act:?} is not supported; supported is \"silu\"")),
    }
    let count = |key: &str, most: usize, default: usize| keys.count(key, most)?.or_default(key, default);
    let heads = count("num_attention_heads", limits::HEADS, defaults.heads)?;
    let kv_heads = match keys.count("num_key_value_heads", limits::HEADS)? {
        Said::Null if architecture != Architecture::MistralForCausalLM => heads,
        said => said.or_default("num_key_value_heads", defaults.kv_heads.unwrap_or(heads))?,
    };
    if heads % kv_heads != 0 {
        return Err(format!("`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {kv_heads}"));
    }
    let hidden_size = count("hidden_size", limits::WIDTH, defaults.hidden_size)?;
    let head_dim = match (keys.count("head_dim", limits::HEAD_DIM)?, defaults.head_dim) {
        (Said::Is(head_dim), _) => head_dim,
        (said, Some(default)) => said.or_default("head_dim", default)?,
        _ if hidden_size % heads == 0 => hidden_size / heads,
        _ => {
            return Err(format!(
                "`hidden_size` {hidden_size} is not a multiple of `num_attention_heads` {heads} and `head_dim` is not given"
            ));
        }
    };
    if head_dim % 2 != 0 {
        return Err(format!("head_dim {head_dim} is odd; the rotary embedding needs pairs"));
    }
    let max_position_embeddings = count("max_position_embeddings", limits::CONTEXT, defaults.context)?;
    let (rope_theta, rope_scaling) = rope::read(keys, max_position_embeddings, defaults.theta)?;
    if architecture == Architecture::Phi3ForCausalLM && rope_scaling != rope::RopeScaling::None {
        return Err(
            "a Phi-3 has rope scaling \"longrope\" or none, and transformers takes \"yarn\" of one for longrope and \
                    refuses other types; supported is a Phi-3 without scaling"
                .into(),
        );
    }
    if matches!(rope_scaling, rope::RopeScaling::Dynamic { .. }) && head_dim == 2 {
        return Err("rope scaling \"dynamic\" needs a `head_dim` above 2".into());
    }
    let rms_norm_eps = keys.number("rms_norm_eps")?.or_default("rms_norm_eps", defaults.epsilon)?;
    if !(0.0..1.0).contains(&rms_norm_eps) {
        return Err(format!("`rms_norm_eps` is {rms_norm_eps}; it must be at least 0 and below 1, such as 1e-5"));
    }
    let flag = |key: &str| keys.flag(key)?.or_default(key, false);
    // Where a class has no such key it is left alone, as transformers does.
    let (attention_bias, output_bias, mlp_bias) = match architecture {
        Architecture::LlamaForCausalLM | Architecture::SmolLM3ForCausalLM | Architecture::GraniteForCausalLM => {
            (flag("attention_bias")?, flag("attention_bias")?, flag("mlp_bias")?)
        }
        Architecture::Qwen3ForCausalLM => (flag("attention_bias")?, flag("attention_bias")?, false),
        Architecture::Qwen2ForCausalLM => (true, false, false),
        Architecture::MistralForCausalLM | Architecture::Phi3ForCausalLM => (false, false, false),
    };
    let layers = count("num_hidden_layers", limits::LAYERS, defaults.layers)?;
    let rotated = rotated(keys, architecture, layers)?;
    let (sliding_window, windowed) = windows(keys, architecture, layers, &rotated)?;
    let config = ModelConfig {
        architecture,
        hidden_size,
        intermediate_size: count("intermediate_size", limits::WIDTH, defaults.intermediate_size)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab_size: count("vocab_size", limits::VOCABULARY, defaults.vocab_size)?,
        max_position_embeddings,
        rms_norm_eps,
        rope_theta,
        rope_scaling,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.or_default("tie_word_embeddings", defaults.tied)?,
        attention_bias,
        output_bias,
        mlp_bias,
        head_norms: architecture == Architecture::Qwen3ForCausalLM,
        fused: architecture.is_fused(),
        sliding_window,
        windowed,
        rotated,
        scales: scales(keys, architecture)?,
        bos_token_id: keys.id("bos_token_id")?.or(defaults.bos),
        eos_token_ids: keys.ids("eos_token_id")?.or(defaults.eos.into_iter().collect()),
    };
    match config.count() {
        count if count > limits::PARAMETERS => Err(format!(
            "it describes a model of {count} parameters, which is beyond reason; the limit is {}",
            limits::PARAMETERS
        )),
        _ => Ok(config),
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
    let supported = Architecture::supported();
    let names = keys.texts("architectures")?.value().unwrap_or_default();
    let named = |name: &&str| Architecture::of_class(name);
    let by_type = match keys.text("model_type")?.value() {
        Some(name) => Architecture::of_type(name).ok_or_else(|| {
            let types = Architecture::ALL.map(Architecture::model_type).join(", ");
            format!(
                "`model_type` {name:?} is not supported (`architectures` {names:?}); {supported}, with `model_type` one of \
                 {types}"
            )
        })?,
        None => match names.iter().find_map(named) {
            Some(architecture) => architecture,
            None if names.is_empty() => {
                return Err("it is not a model configuration: it has neither `model_type` (such as \"llama\") nor \
                            `architectures` (such as [\"LlamaForCausalLM\"])"
                    .into());
            }
            None => return Err(format!("architecture {:?} is not supported; {supported}", names[0])),
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
    Err(format!("architecture {:?} is not supported{why}; {supported}", names[0]))
}

/// Keys that change what the weights mean, or where they are.
fn refuse_what_is_not_read(keys: Keys<'_>) -> Result<(), String> {
    if keys.has("quantization_config") {
        let method = &keys.0["quantization_config"]["quant_method"];
        return Err(format!(
            "`quantization_config` says that the weights are quantised (`quant_method` {}), which msrnn does not read; \
             take the model's unquantised checkpoint, or dequantise it with transformers (`model.dequantize()`, then \
             `save_pretrained`); ‘dtype’ int8 quantises while loading",
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

/// Granite's factors.
fn scales(keys: Keys<'_>, architecture: Architecture) -> Result<Scales, String> {
    if architecture != Architecture::GraniteForCausalLM {
        return Ok(Scales::default());
    }
    let factor = |key: &str| match keys.number(key)?.or_default(key, 1.0)? {
        factor if factor.is_finite() && factor > 0.0 => Ok(factor),
        factor => Err(format!("`{key}` is {factor}; it must be positive")),
    };
    Ok(Scales {
        embedding: factor("embedding_multiplier")?,
        attention: Some(factor("attention_multiplier")?),
        residual: factor("residual_multiplier")?,
        logits: factor("logits_scaling")?,
    })
}
