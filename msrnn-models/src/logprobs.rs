//! How likely a token was, and which ones would have been likelier.

use serde::{Deserialize, Serialize};

/// Log-probabilities of a token that was drawn, and of the most likely ones.
///
/// They are those of the model: log-softmax of its logits as they are, before penalty, temperature and what else a draw
/// is narrowed by, as OpenAI's and vLLM's are unless told otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogProbabilities {
    /// The token.
    pub id: u32,
    /// Its natural logarithm of a probability.
    pub logprob: f64,
    /// The most likely tokens with theirs, the most likely first, the smaller id first of equals.
    pub top: Vec<(u32, f64)>,
}

impl LogProbabilities {
    /// Of the token `id`, and of the `top` most likely.
    pub fn of(logits: &[f32], id: u32, top: usize) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = |logit: f32| f64::from(logit) - f64::from(highest);
        let total: f64 = logits.iter().map(|&logit| shifted(logit).exp()).sum();
        let logprob = |id: u32| shifted(logits[id as usize]) - total.ln();
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if top < ids.len() {
            ids.select_nth_unstable_by(top, by_logit);
            ids.truncate(top);
        }
        ids.sort_unstable_by(by_logit);
        Self { id, logprob: logprob(id), top: ids.into_iter().map(|id| (id, logprob(id))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_the_models_own_and_sorted() {
        let logits = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];
        let found = LogProbabilities::of(&logits, 2, 3);
        let total: f64 = [1.0f64, 3.0, 2.0, 3.0].iter().map(|x| x.exp()).sum();
        assert!((found.logprob - (2.0 - total.ln())).abs() < 1e-12);
        assert_eq!(found.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 2]);
        let all = LogProbabilities::of(&logits, 4, 100);
        assert_eq!((all.logprob, all.top.len()), (f64::NEG_INFINITY, 5));
        let sum: f64 = all.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
