//! Logits that are no numbers: what they are, and what may be the reason.

use burn::tensor::DType;
use msrnn_core::compression::Compression;
use msrnn_core::kernels::Activations;
use msrnn_core::state::MultiState;
use msrnn_core::trouble::Trouble;

use crate::storage::{Storage, Weights};

/// Why no token can be drawn from logits, or none be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLogits {
    /// A logit is NaN.
    #[error("the logit of token id {0} is not a number")]
    NotANumber(usize),
    /// A logit is +∞, so that no probability can be told.
    #[error("the logit of token id {0} is +∞")]
    Infinite(usize),
    /// No token is possible.
    #[error("all logits are −∞")]
    NonePossible,
}

/// Whether logits make a distribution: none NaN or +∞, and not all −∞.
///
/// # Errors
///
/// When they do not.
pub fn check(logits: &[f32]) -> Result<(), BadLogits> {
    // One pass that is vectorised, since nearly always that is all.
    if logits.iter().fold(true, |all, logit| all & logit.is_finite()) {
        return Ok(());
    }
    if let Some(id) = logits.iter().position(|logit| logit.is_nan()) {
        return Err(BadLogits::NotANumber(id));
    }
    if let Some(id) = logits.iter().position(|&logit| logit == f32::INFINITY) {
        return Err(BadLogits::Infinite(id));
    }
    match logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
        true => Err(BadLogits::NonePossible),
        false => Ok(()),
    }
}

/// The reason for logits of a batch row that are no numbers, as far as the states tell, and what would help.
/// Reads the device.
pub fn reason(storage: Storage, compression: &Compression, states: &[MultiState], row: usize) -> String {
    let layers = states.len();
    let found = states.iter().enumerate().find_map(|(layer, state)| Some((layer, state.trouble(row)?)));
    let policy = compression.policy().map_or_else(String::new, |policy| policy.name());
    match found {
        Some((layer, Trouble::Scores)) => format!(
            "the policy {policy} scored a row of layer {layer} of {layers} with NaN, so that none was the lowest; \
             correct the policy (+∞ protects a row, NaN is not allowed)"
        ),
        Some((layer, Trouble::Rows)) => format!(
            "layer {layer} of {layers}, counted from 0, is the first to hold a key or value that is not a number; {}",
            remedy(storage)
        ),
        None => {
            format!("keys and values of all {layers} layers are numbers, what follows them is not; {}", remedy(storage))
        }
    }
}

/// What may help where values do not fit.
pub fn remedy(storage: Storage) -> &'static str {
    let narrow = |dtype| storage.weights == Weights::Float(dtype) || storage.states == dtype;
    if narrow(DType::F16) {
        "values in f16 end at 65,504: choose ‘dtype’ bf16 or f32"
    } else if storage.weights == Weights::Int8 || storage.activations == Activations::Int8 {
        "values in 8 bits share their scales: choose ‘dtype’ f32 to see whether it is they"
    } else if narrow(DType::F64) {
        "a weight of the checkpoint is not a number, or config.json is not that of its weights"
    } else {
        "a weight of the checkpoint is not a number, config.json is not that of its weights, or values end the range of \
         32 bits: ‘dtype’ f64 tells"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_refused_exactly_where_no_token_can_be_told() {
        for n in [1, 7, 64, 101] {
            let good: Vec<f32> = (0..n).map(|i| i as f32 * 0.1 - 3.0).collect();
            assert_eq!(check(&good), Ok(()));
            for at in [0, n / 2, n - 1] {
                let with = |value| {
                    let mut logits = good.clone();
                    logits[at] = value;
                    check(&logits)
                };
                assert_eq!(with(f32::NAN), Err(BadLogits::NotANumber(at)));
                assert_eq!(with(f32::INFINITY), Err(BadLogits::Infinite(at)));
                // A token may be impossible, as long as another is not.
                assert_eq!(with(f32::NEG_INFINITY), if n == 1 { Err(BadLogits::NonePossible) } else { Ok(()) });
            }
            assert_eq!(check(&vec![f32::NEG_INFINITY; n]), Err(BadLogits::NonePossible));
        }
    }
}
