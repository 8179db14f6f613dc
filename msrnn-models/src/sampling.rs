//! From logits to the next token.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::trouble::{BadLogits, check};

/// How the next token is drawn.
///
/// What changes the distribution comes in the order of transformers' `generate`: repetition penalty, temperature, top-k,
/// top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token (the first of equals), after the repetition penalty; of the others none counts then.
    pub temperature: f64,
    /// Only the k most likely tokens, and those as likely as the last of them; 0 for all. As many as there are if k
    /// is more.
    pub top_k: usize,
    /// Only the most likely tokens that together have at least this probability; 1 for all.
    pub top_p: f64,
    /// Only tokens that are at least this times as likely as the most likely one; 0 for all.
    pub min_p: f64,
    /// Logits of tokens that prompt or text have already are divided by this where they are above 0, and multiplied by it
    /// where they are below (Keskar et al. 2019, arXiv 1909.05858, as in transformers); 1 changes nothing.
    pub repetition_penalty: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Whether the token with the highest logit is taken, whatever came before.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }

    /// Checks the parameters.
    ///
    /// # Errors
    ///
    /// Says which makes no sense, and what it may be.
    pub fn check(&self) -> Result<(), ModelError> {
        let wrong = |text: String| Err(ModelError::Sampling(text));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong(format!("temperature {} must be 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong(format!("top-p {} must be above 0 and at most 1", self.top_p));
        }
        if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            return wrong(format!("min-p {} must be from 0 to 1", self.min_p));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return wrong(format!(
                "repetition penalty {} must be above 0; 1 changes nothing, 1.1 to 1.3 are usual",
                self.repetition_penalty
            ));
        }
        Ok(())
    }
}

/// Draws tokens, one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// Ids of prompt and text so far, if these matter.
    seen: BTreeSet<u32>,
}

impl Sampler {
    /// A sampler at the start of its seed's sequence.
    ///
    /// # Errors
    ///
    /// As [`Sampling::check`].
    pub fn new(sampling: Sampling) -> Result<Self, ModelError> {
        sampling.check()?;
        Ok(Self { sampling, rng: ChaCha8Rng::seed_from_u64(sampling.seed), seen: BTreeSet::new() })
    }

    /// The same sampler further on in its seed's sequence, as [`Sampler::at`] says where.
    #[must_use]
    pub fn from(mut self, at: u64) -> Self {
        self.rng.set_word_pos(u128::from(at));
        self
    }

    /// How far it is in its seed's sequence.
    pub fn at(&self) -> u64 {
        self.rng.get_word_pos() as u64
    }

    /// How it draws.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Takes note of ids that came before, for the repetition penalty.
    pub fn note(&mut self, ids: &[u32]) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.extend(ids);
        }
    }

    /// The next token's id, given its logits: of one that is possible. It is taken note of.
    ///
    /// # Errors
    ///
    /// When the logits make no distribution: one is NaN or +∞, or all are −∞.
    pub fn next(&mut self, logits: &[f32]) -> Result<u32, BadLogits> {
        let token = match self.sampling {
            sampling if sampling.is_greedy() => greedy(logits)?,
            Sampling { temperature: 0.0, .. } => self.penalised(logits)?.first_of_the_highest(),
            _ => {
                let candidates = self.candidates(logits)?;
                self.draw(&candidates).ok_or(BadLogits::NonePossible)?
            }
        };
        self.note(&[token]);
        Ok(token)
    }

    /// What the next token is drawn from at a temperature above 0: ids and weights, the most likely first.
    ///
    /// # Errors
    ///
    /// As [`Sampler::next`].
    pub fn candidates(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>, BadLogits> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let Scores(scores) = self.penalised(logits)?;
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // In f64, where the difference of two floats of 32 bits does not overflow.
        let weights = scores.iter().map(|&score| ((score - highest) / temperature).exp()).enumerate();
        // What weighs nothing is never drawn, not even by rounding.
        let mut candidates: Vec<(u32, f64)> =
            weights.filter(|&(_, weight)| weight > 0.0).map(|(id, weight)| (id as u32, weight)).collect();
        let score = |id: u32| scores[id as usize];
        // By scores: two that differ may weigh the same.
        candidates.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)));
        if let Some(&(last, _)) = top_k.checked_sub(1).and_then(|last| candidates.get(last)) {
            candidates.retain(|&(id, _)| score(id) >= score(last));
        }
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
            let mut mass = 0.0;
            let enough = candidates.iter().position(|&(_, weight)| {
                mass += weight;
                mass >= top_p * total
            });
            candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        }
        // The first weighs 1.
        candidates.retain(|&(_, weight)| weight >= min_p);
        Ok(candidates)
    }

    fn draw(&mut self, candidates: &[(u32, f64)]) -> Option<u32> {
        let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
        let mut left = total * (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        for &(id, weight) in candidates {
            left -= weight;
            if left < 0.0 {
                return Some(id);
            }
        }
        candidates.last().map(|&(id, _)| id)
    }

    /// The logits after the repetition penalty.
    fn penalised(&self, logits: &[f32]) -> Result<Scores, BadLogits> {
        check(logits)?;
        let mut scores: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        for &id in &self.seen {
            // An id may be of a tokenizer that has more than the model.
            let Some(score) = scores.get_mut(id as usize) else { continue };
            match *score < 0.0 {
                true => *score *= self.sampling.repetition_penalty,
                false => *score /= self.sampling.repetition_penalty,
            }
            if *score == f64::INFINITY {
                return Err(BadLogits::Infinite(id as usize));
            }
        }
        match scores.iter().all(|&score| score == f64::NEG_INFINITY) {
            true => Err(BadLogits::NonePossible),
            false => Ok(Scores(scores)),
        }
    }
}

/// Logits on their way to a draw, none of them NaN or +∞ and one finite.
struct Scores(Vec<f64>);

impl Scores {
    fn first_of_the_highest(&self) -> u32 {
        let mut best = 0;
        for (id, &score) in self.0.iter().enumerate() {
            if score > self.0[best] {
                best = id;
            }
        }
        best as u32
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
            let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
            let mut sampler = Sampler::new(sampling).unwrap();
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
                    let sampling = Sampling { temperature, top_k, top_p, seed: 1, ..Sampling::default() };
                    let drawn = draws(sampling, &logits, 200);
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
        for min_p in [-0.1, 1.1, f64::NAN] {
            assert!(Sampler::new(Sampling { min_p, ..Sampling::default() }).is_err());
        }
        for repetition_penalty in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Sampler::new(Sampling { repetition_penalty, ..Sampling::default() }).is_err());
        }
    }

    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<f32>,
        seen: Vec<u32>,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        min_p: f64,
        repetition_penalty: f64,
        greedy: u32,
        probabilities: Vec<f64>,
    }

    #[test]
    fn distributions_and_greedy_choices_are_those_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/goldens/warpers.json");
        let cases: Vec<Golden> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for (number, case) in cases.iter().enumerate() {
            let Golden { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *case;
            let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty, seed: 0 };
            let mut sampler = Sampler::new(sampling).unwrap();
            sampler.note(&case.seen);
            let candidates = sampler.candidates(&case.logits).unwrap();
            let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            let mut found = vec![0.0; case.logits.len()];
            candidates.iter().for_each(|&(id, weight)| found[id as usize] = weight / total);
            for (id, (found, expected)) in found.iter().zip(&case.probabilities).enumerate() {
                assert!((found - expected).abs() < 1e-9, "case {number}, id {id}: {found} for {expected}");
            }
            let mut greedy = Sampler::new(Sampling { temperature: 0.0, ..sampling }).unwrap();
            greedy.note(&case.seen);
            assert_eq!(greedy.next(&case.logits).unwrap(), case.greedy, "case {number}");
        }
    }

    #[test]
    fn what_is_drawn_is_penalised_from_then_on() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(draws(sampling, &[4.0, 3.0, 1.0], 3), [0, 1, 0]);
        // An id beyond the logits is nobody's.
        let mut sampler = Sampler::new(sampling).unwrap();
        sampler.note(&[7, 0]);
        assert_eq!(sampler.next(&[4.0, 3.0]), Ok(1));
    }

    #[test]
    fn a_sampler_that_is_taken_up_again_draws_what_the_first_would_have_drawn() {
        let sampling = Sampling { temperature: 1.0, seed: 3, ..Sampling::default() };
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        let whole = draws(sampling, &logits, 40);
        let mut first = Sampler::new(sampling).unwrap();
        let begun: Vec<u32> = (0..13).map(|_| first.next(&logits).unwrap()).collect();
        let mut second = Sampler::new(sampling).unwrap().from(first.at());
        let rest: Vec<u32> = (0..27).map(|_| second.next(&logits).unwrap()).collect();
        assert_eq!([begun, rest].concat(), whole);
    }
}
