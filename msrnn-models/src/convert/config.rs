//! A configuration as the metadata of a GGUF file.

use std::path::Path;

use super::file::entry;
use super::{WrittenAs, cannot};
use crate::checkpoint::Source;
use crate::config::{ModelConfig, RopeScaling};
use crate::error::ModelError;
use crate::gguf::factors as frequency_factors;
use crate::gguf::write::Entry;

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
    let count = |key: &str, count: usize| entry(&format!("llama.{key}"), Entry::U32(count as u32));
    let number = |key: &str, number: f64| entry(&format!("llama.{key}"), Entry::F32(number as f32));
    // As llama.cpp numbers what most tensors of a file are.
    let file_type = match written_as {
        WrittenAs::F32 => 0,
        WrittenAs::F16 => 1,
        WrittenAs::Q8_0 => 7,
        WrittenAs::BF16 => 32,
    };
    let mut entries = vec![
        entry("general.architecture", Entry::Text("llama".into())),
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
    let text = |key: &str, text: &str| entry(&format!("llama.{key}"), Entry::Text(text.into()));
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

/// What frequencies are divided by, where a tensor says it.
pub(super) fn factors(config: &ModelConfig) -> Option<Vec<f32>> {
    let is_said_so = matches!(config.rope_scaling, RopeScaling::Llama3 { .. });
    is_said_so.then(|| frequency_factors(config).into_iter().map(|factor| factor as f32).collect())
}
