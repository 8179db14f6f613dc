//! From logits to the next token.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::trouble::{BadLogits, check};

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token (the first of equals).
    pub temperature: f64,
    /// Only the k most likely tokens, and those as likely as the last of them; 0 for all. As many as there are if k
    /// is more.
    pub top_k: usize,
    /// Only the most likely tokens that together have at least this probability; 1 for all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens, one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its seed's sequence.
    ///
    /// # Errors
    ///
    /// When temperature is negative or top-p outside (0, 1].
    pub fn new(sampling: Sampling) -> Result<Self, ModelError> {
        if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
            return Err(ModelError::Sampling(format!("temperature {} must be 0 or more", sampling.temperature)));
        }
        if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
            return Err(ModelError::Sampling(format!("top-p {} must be above 0 and at most 1", sampling.top_p)));
        }
        Ok(Self { sampling, rng: ChaCha8Rng::seed_from_u64(sampling.seed) })
    }

    /// The next token's id, given its logits: of one that is possible.
    ///
    /// # Errors
    ///
    /// When the logits make no distribution: one is NaN or +∞, or all are −∞.
    pub fn next(&mut self, logits: &[f32]) -> Result<u32, BadLogits> {
        if self.sampling.temperature == 0.0 {
            return greedy(logits);
        }
        check(logits)?;
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // In f64, where the difference of two floats of 32 bits does not overflow.
        let weight = |logit: f32| ((f64::from(logit) - f64::from(highest)) / self.sampling.temperature).exp();
        let weights = logits.iter().map(|&logit| weight(logit)).enumerate();
        // What weighs nothing is never drawn, not even by rounding.
        let mut candidates: Vec<(usize, f64)> = weights.filter(|&(_, weight)| weight > 0.0).collect();
        // By logits: two that differ may weigh the same.
        candidates.sort_by(|a, b| logits[b.0].total_cmp(&logits[a.0]));
        if let Some(&(last, _)) = self.sampling.top_k.checked_sub(1).and_then(|last| candidates.get(last)) {
            candidates.retain(|&(id, _)| logits[id] >= logits[last]);
        }
        if self.sampling.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
            let mut mass = 0.0;
            let enough = candidates.iter().position(|&(_, weight)| {
                mass += weight;
                mass >= self.sampling.top_p * total
            });
            candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        }

        let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
        let mut left = total * (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        for &(id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(id as u32);
            }
        }
        candidates.last().map(|&(id, _)| id as u32).ok_or(BadLogits::NonePossible)
    }
}

/// The most likely token, the first of equals.
///
/// # Errors
///
/// When the logits make no distribution: one is NaN or +∞, or all are −∞.
pub fn greedy(logits: &[f32]) -> Result<u32, BadLogits> {
    check(logits)?;
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    Ok(best as u32)
}

/// Whether no token is told from another, as by a model that was never trained: all of several logits are equal.
pub fn is_uniform(logits: &[f32]) -> bool {
    logits.len() > 1 && logits.iter().all(|&logit| logit == logits[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling).unwrap();
        (0..n).map(|_| sampler.next(logits).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        assert_eq!(draws(Sampling::default(), &[0.0, 3.0, 3.0, 1.0], 3), [1, 1, 1]);
    }

    #[test]
    fn equal_seeds_draw_equally_and_frequencies_follow_the_probabilities() {
        let sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
        let logits = [0.0, (3.0f32).ln()];
        let drawn = draws(sampling, &logits, 4000);
        assert_eq!(drawn, draws(sampling, &logits, 4000));
        let ones = drawn.iter().filter(|&&id| id == 1).count();
        assert!((2850..3150).contains(&ones), "{ones} of 4000 at probability 3/4");
    }

    #[test]
    fn top_k_and_top_p_leave_the_unlikely_out() {
        let logits = [4.0, 3.0, -1.0, 3.5];
        let two = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
        assert!(draws(two, &logits, 500).iter().all(|id| [0, 3].contains(id)));
        let nucleus = Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() };
        assert!(draws(nucleus, &logits, 500).iter().all(|&id| id == 0));
    }

    #[test]
    fn no_parameters_draw_from_what_is_no_distribution() {
        for (temperature, top_k, top_p) in [(0.0, 0, 1.0), (1.0, 0, 1.0), (1e-300, 2, 0.5), (1e300, 9, 1e-300)] {
            let mut sampler = Sampler::new(Sampling { temperature, top_k, top_p, seed: 0 }).unwrap();
            assert_eq!(sampler.next(&[0.0, f32::NAN, 1.0]), Err(BadLogits::NotANumber(1)));
            assert_eq!(sampler.next(&[0.0, 1.0, f32::INFINITY]), Err(BadLogits::Infinite(2)));
            assert_eq!(sampler.next(&[f32::NEG_INFINITY; 3]), Err(BadLogits::NonePossible));
        }
    }

    #[test]
    fn extreme_parameters_draw_possible_tokens_only() {
        // The last is impossible, and ids 1 and 3 are the likeliest.
        let logits = [0.0, 2.0, -3e38, 2.0, f32::NEG_INFINITY];
        for temperature in [5e-324, 1e-300, 1e-9, 1.0, 1e300, f64::MAX] {
            for top_k in [0, 1, 2, 4, 5, 1000, usize::MAX] {
                for top_p in [5e-324, 1e-300, 0.5, 1.0 - f64::EPSILON, 1.0] {
                    let drawn = draws(Sampling { temperature, top_k, top_p, seed: 1 }, &logits, 200);
                    let told = format!("temperature {temperature}, top-k {top_k}, top-p {top_p}: {drawn:?}");
                    assert!(!drawn.contains(&4), "{told}");
                    if temperature < 1e-8 || top_k == 1 || top_k == 2 || top_p < 1e-200 {
                        assert!(drawn.iter().all(|id| [1, 3].contains(id)), "{told}");
                    }
                }
            }
        }
        // At a temperature beyond all logits every token that is possible is as likely as any.
        let drawn = draws(Sampling { temperature: 1e300, ..Sampling::default() }, &logits, 400);
        assert!((0..4).all(|id| drawn.iter().filter(|&&drawn| drawn == id).count() > 60), "{drawn:?}");
    }

    /// As Hugging Face's: what is as likely as the k-th stays.
    #[test]
    fn top_k_keeps_all_that_tie_with_the_last() {
        let sampling = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
        let drawn = draws(sampling, &[1.0, 3.0, 1.0, 0.5, 1.0], 2000);
        let seen: Vec<u32> = (0..5).filter(|id| drawn.contains(id)).collect();
        assert_eq!(seen, [0, 1, 2, 4]);
    }

    #[test]
    fn impossible_parameters_are_refused() {
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            assert!(Sampler::new(Sampling { temperature, top_p, ..Sampling::default() }).is_err());
        }
    }
}
