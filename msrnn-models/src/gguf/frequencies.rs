//! Factors that the frequencies of the rotary embedding are divided by, `rope_freqs`: how GGUF files say the scaling of
//! Llama 3.1.

use super::Gguf;
use super::names::FACTORS;
use crate::config::{ModelConfig, RopeScaling};
use crate::rotary::inverse_frequencies;

/// What every Llama that is scaled so has.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const ORIGINAL: usize = 8192;
/// How far factors of 32 bits, computed by others, are from ours.
const ROUNDING: f64 = 1e-4;

/// The scaling that the factors of a file were made from; none where it has none, or all are 1. `original`: the
/// original context, if the file says it.
///
/// # Errors
///
/// When they were made from another scaling than Llama 3.1's.
pub(super) fn scaling(
    gguf: &Gguf,
    config: &ModelConfig,
    original: Option<usize>,
) -> Result<Option<RopeScaling>, String> {
    let Some((tensor, bytes)) = gguf.tensor(FACTORS) else { return Ok(None) };
    let half = config.head_dim / 2;
    if tensor.shape != [half] {
        return Err(format!(
            "{FACTORS} has shape {:?}; expected [{half}], one for every pair of channels",
            tensor.shape
        ));
    }
    let mut found = vec![0.0; half];
    tensor.format.dequantize(bytes, &mut found);
    let largest = found.iter().copied().fold(1.0, f32::max);
    if found.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(largest),
        low_freq_factor: LOW,
        high_freq_factor: HIGH,
        original_max_position_embeddings: original.unwrap_or(ORIGINAL),
    };
    let close = |(ours, theirs): (&f64, &f32)| (ours / f64::from(*theirs) - 1.0).abs() < ROUNDING;
    let scaled = ModelConfig { rope_scaling: scaling, ..config.clone() };
    match factors(&scaled).iter().zip(&found).all(close) {
        true => Ok(Some(scaling)),
        false => Err(format!(
            "the frequency factors ({FACTORS}) are not those of Llama 3.1's scaling, the only one whose factors are read \
             (up to {largest} with the original context {}); take the model's safetensors",
            original.unwrap_or(ORIGINAL)
        )),
    }
}

/// What the frequencies of a configuration are divided by, for every pair of channels.
pub(crate) fn factors(config: &ModelConfig) -> Vec<f64> {
    let plain = inverse_frequencies(&ModelConfig { rope_scaling: RopeScaling::None, ..config.clone() });
    plain.iter().zip(inverse_frequencies(config)).map(|(plain, scaled)| plain / scaled).collect()
}
