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
    if found.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let original = original.unwrap_or(ORIGINAL);
    let scaling = RopeScaling::Llama3 {
        factor: whole_factor(config, f64::from(found[half - 1]), original),
        low_freq_factor: LOW,
        high_freq_factor: HIGH,
        original_max_position_embeddings: original,
    };
    let close = |(ours, theirs): (&f64, &f32)| (ours / f64::from(*theirs) - 1.0).abs() < ROUNDING;
    let scaled = ModelConfig { rope_scaling: scaling, ..config.clone() };
    match factors(&scaled).iter().zip(&found).all(close) {
        true => Ok(Some(scaling)),
        false => Err(format!(
            "the frequency factors ({FACTORS}) are not those of Llama 3.1's scaling, the only one whose factors are read \
             (the last of them is {}, and the original context {original}); take the model's safetensors",
            found[half - 1]
        )),
    }
}

/// The ratio of contexts that a scaling was made with, by the factor of the slowest pair, which may be blended.
fn whole_factor(config: &ModelConfig, slowest: f64, original: usize) -> f64 {
    let plain = inverse_frequencies(&ModelConfig { rope_scaling: RopeScaling::None, ..config.clone() });
    let turns = original as f64 * plain[plain.len() - 1] / std::f64::consts::TAU;
    let kept = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    // 1/slowest = (1 − kept)/factor + kept
    let factor = (1.0 - kept) / (slowest.recip() - kept);
    // Ratios are numbers such as 8 or 32; 32 bits, and blending, took some of their digits.
    let near = (factor * 64.0).round() / 64.0;
    if (near / factor - 1.0).abs() < ROUNDING { near } else { factor }
}

/// What the frequencies of a configuration are divided by, for every pair of channels.
pub(crate) fn factors(config: &ModelConfig) -> Vec<f64> {
    let plain = inverse_frequencies(&ModelConfig { rope_scaling: RopeScaling::None, ..config.clone() });
    plain.iter().zip(inverse_frequencies(config)).map(|(plain, scaled)| plain / scaled).collect()
}
