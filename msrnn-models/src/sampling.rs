//! From logits to the next token.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token (the first of equals).
    pub temperature: f64,
    /// Only the k most likely tokens; 0 for all.
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

    /// The next token's id, given its logits.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature == 0.0 {
            return greedy(logits);
        }
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| (f64::from(logit - highest) / self.sampling.temperature).exp();
        let mut candidates: Vec<(usize, f64)> = logits.iter().map(|&logit| weight(logit)).enumerate().collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
        if self.sampling.top_k > 0 {
            candidates.truncate(self.sampling.top_k);
        }
        let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
        let mut mass = 0.0;
        let enough = candidates.iter().position(|&(_, weight)| {
            mass += weight;
            mass >= self.sampling.top_p * total
        });
        candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));

        let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
        let mut left = total * (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        for &(id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return id as u32;
            }
        }
        candidates.last().map_or(0, |&(id, _)| id as u32)
    }
}

/// The most likely token, the first of equals.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling).unwrap();
        (0..n).map(|_| sampler.next(logits)).collect()
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
    fn impossible_parameters_are_refused() {
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            assert!(Sampler::new(Sampling { temperature, top_p, ..Sampling::default() }).is_err());
        }
    }
}
