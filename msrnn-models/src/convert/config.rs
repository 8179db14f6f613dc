//! A configuration as the metadata of a GGUF file.

use std::path::Path;

use super::file::entry;
use super::{WrittenAs, cannot};
use crate::checkpoint::Source;
use crate::config::{Architecture, Layers, ModelConfig, RopeScaling, Scales};
use crate::error::ModelError;
use crate::gguf::write::Entry;
use crate::gguf::{FACTORS as FACTORS_OF_GRANITE, UNROTATED_EVERY, factors as frequency_factors};

/// Name of the tensor that frequencies are divided by.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// The keys that describe a model.
pub(super) fn entries(
    source: &Source,
    written_as: WrittenAs,
    out: &Path,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Entry)>, ModelError> {
    let config = &source.config;
    let prefix = config.architecture.in_gguf();
    refuse_layers(config, out)?;
    let count = |key: &str, count: usize| entry(&format!("{prefix}.{key}"), Entry::U32(count as u32));
    let number = |key: &str, number: f64| entry(&format!("{prefix}.{key}"), Entry::F32(number as f32));
    // As llama.cpp numbers what most tensors of a file are.
    let file_type = match written_as {
        WrittenAs::F32 => 0,
        WrittenAs::F16 => 1,
        WrittenAs::Q8_0 => 7,
        WrittenAs::BF16 => 32,
    };
    let mut entries = vec![
        entry("general.architecture", Entry::Text(prefix.into())),
        entry("general.type", Entry::Text("model".into())),
        entry("general.file_type", Entry::U32(file_type)),
        entry("general.quantization_version", Entry::U32(2)),
        count("context_length", config.max_position_embeddings),
        count("embedding_length", config.hidden_size),
        count("block_count", config.layers),
        count("feed_forward_length", config.intermediate_size),
        count("attention.head_count", config.heads),
        count("attention.head_count_kv", config.kv_heads),
        count("attention.key_length", config.head_dim),
        count("attention.value_length", config.head_dim),
        count("rope.dimension_count", config.head_dim),
        count("vocab_size", config.vocab_size),
        number("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
        number("rope.freq_base", config.rope_theta),
    ];
    if let Some(name) = source.gguf.as_ref().and_then(|gguf| gguf.name()) {
        entries.push(entry("general.name", Entry::Text(name.to_owned())));
    }
    if let Some(window) = config.sliding_window {
        entries.push(count("attention.sliding_window", window));
        notes.push(format!(
            "the sliding window of {window} tokens is in the file, and msrnn reads it; llama.cpp and transformers do not, and \
             differ from it on longer texts"
        ));
    }
    if config.architecture == Architecture::GraniteForCausalLM {
        let Scales { embedding, residual, logits, .. } = config.scales;
        for (key, _) in FACTORS_OF_GRANITE {
            entries.push(number(
                key,
                match key {
                    "embedding_scale" => embedding,
                    "residual_scale" => residual,
                    "logit_scale" => logits,
                    _ => config.attention_scale(),
                },
            ));
        }
    }
    let text = |key: &str, text: &str| entry(&format!("{prefix}.{key}"), Entry::Text(text.into()));
    match config.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            entries.extend([text("rope.scaling.type", "linear"), number("rope.scaling.factor", factor)]);
        }
        RopeScaling::Llama3 { low_freq_factor, high_freq_factor, original_max_position_embeddings, .. } => {
            if (low_freq_factor, high_freq_factor) != (1.0, 4.0) {
                return Err(cannot(
                    "its rotary scaling is Llama 3.1's with other `low_freq_factor` and `high_freq_factor` than 1 and 4, \
                     which msrnn would not recognise in a GGUF file; convert it with llama.cpp",
                    out,
                ));
            }
            entries.push(count("rope.scaling.original_context_length", original_max_position_embeddings));
        }
        RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            truncate,
            original_max_position_embeddings,
        } => {
            let usual = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            if !truncate || (attention_factor - usual).abs() > 1e-9 {
                return Err(cannot(
                    "its rotary scaling is \"yarn\" with an `attention_factor` or `truncate` of its own, which a GGUF file \
                     cannot say; keep the directory",
                    out,
                ));
            }
            entries.extend([
                text("rope.scaling.type", "yarn"),
                number("rope.scaling.factor", factor),
                count("rope.scaling.original_context_length", original_max_position_embeddings),
                number("rope.scaling.yarn_beta_fast", beta_fast),
                number("rope.scaling.yarn_beta_slow", beta_slow),
            ]);
        }
        RopeScaling::Dynamic { .. } => {
            return Err(cannot(
                "its rotary scaling is \"dynamic\", which a GGUF file cannot say; keep the directory",
                out,
            ));
        }
    }
    Ok(entries)
}

/// Refuses what differs from layer to layer in a way that a GGUF file has no words for.
fn refuse_layers(config: &ModelConfig, out: &Path) -> Result<(), ModelError> {
    let window = config
        .sliding_window
        .filter(|_| !matches!(config.architecture, Architecture::MistralForCausalLM | Architecture::Phi3ForCausalLM));
    if let Some(window) = window {
        return Err(cannot(
            format!(
                "some of its layers have a sliding window of {window} tokens, and a GGUF file of its architecture cannot say \
                 which; keep the directory"
            ),
            out,
        ));
    }
    let usual = match config.architecture {
        Architecture::SmolLM3ForCausalLM => {
            Layers::of((1..=config.layers).map(|layer| layer % UNROTATED_EVERY != 0).collect())
        }
        _ => Layers::All,
    };
    match config.rotated == usual {
        true => Ok(()),
        false => Err(cannot(
            format!(
                "the layers that do not rotate are others than every {UNROTATED_EVERY}th, and a GGUF file cannot say which; \
                 keep the directory"
            ),
            out,
        )),
    }
}

/// What frequencies are divided by, where a tensor says it.
pub(super) fn factors(config: &ModelConfig) -> Option<Vec<f32>> {
    let is_said_so = matches!(config.rope_scaling, RopeScaling::Llama3 { .. });
    is_said_so.then(|| frequency_factors(config).into_iter().map(|factor| factor as f32).collect())
}
