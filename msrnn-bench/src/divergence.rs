//! How far the predictions under a bounded state are from those of the full state.
//!
//! Per predicted token, of the next-token distributions p (full state) and q (the other):
//! KL(p‖q) = Σ p (ln p − ln q) over the vocabulary, in nats, and whether both have the same most
//! probable token (on equal probabilities the one with the lowest id).

use burn::tensor::{Int, Tensor, activation::log_softmax};
use msrnn_core::precision::widen;

use crate::error::BenchError;
use crate::evaluate::{Block, Observer};

/// What the full state predicts in one batch of contexts of equal length: tokens · vocab values per
/// context, on the device of the model.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    blocks: Vec<Distributions>,
}

/// ln p of a block of tokens, `[batch, n, vocab]`, and the most probable tokens, `[batch, n]`.
#[derive(Clone, Debug)]
struct Distributions {
    start: usize,
    log: Tensor<3>,
    top: Tensor<2, Int>,
}

impl Distributions {
    fn of(start: usize, logits: &Tensor<3>) -> Self {
        let log = log_softmax(widen(logits.clone()), 2);
        let top = log.clone().argmax(2).squeeze_dim(2);
        Self { start, log, top }
    }
}

/// Keeps what is predicted. Sees one batch of contexts only.
impl Observer for Predictions {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        self.blocks.push(Distributions::of(block.start, block.logits));
        Ok(())
    }
}

/// Compares what another state predicts, on the same batch in the same blocks.
#[derive(Debug)]
pub struct Divergence<'p> {
    full: &'p Predictions,
    length: usize,
    next: usize,
    /// Σ KL(full‖other) over the predicted tokens, per context.
    pub kl: Vec<f64>,
    /// Predicted tokens with the same most probable token, per context.
    pub agreed: Vec<usize>,
}

impl<'p> Divergence<'p> {
    /// A comparison on `batch` contexts of `length` tokens.
    pub fn new(full: &'p Predictions, batch: usize, length: usize) -> Self {
        Self { full, length, next: 0, kl: vec![0.0; batch], agreed: vec![0; batch] }
    }
}

impl Observer for Divergence<'_> {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        let full = &self.full.blocks[self.next];
        assert_eq!((full.start, full.log.dims()), (block.start, block.logits.dims()), "both see the same blocks");
        self.next += 1;
        // The last token of a context predicts nothing that is known.
        let n = full.log.dims()[1].min(self.length - 1 - block.start);
        if n == 0 {
            return Ok(());
        }
        let other = Distributions::of(block.start, block.logits);
        let log = full.log.clone().narrow(1, 0, n);
        let difference = log.clone() - other.log.narrow(1, 0, n);
        // What has no probability under the full state adds nothing, however unlikely it is to the other.
        let p = log.exp();
        let nothing = p.clone().equal_elem(0.0);
        let kl = (p * difference).mask_fill(nothing, 0.0).sum_dim(2).into_data().convert::<f64>();
        let kl: &[f64] = kl.as_slice().expect("divergences are floats");
        if let Some(at) = kl.iter().position(|kl| !kl.is_finite()) {
            return Err(BenchError::Input(format!(
                "context {}, token {}: KL(full‖policy) is not a number, since the bounded state gives no probability to a \
                 token that the full state thinks possible; choose a ‘dtype’ of more range",
                block.contexts.start + at / n,
                block.start + at % n
            )));
        }
        self.kl.iter_mut().zip(kl.chunks(n)).for_each(|(sum, kl)| *sum += kl.iter().sum::<f64>());

        let same = full.top.clone().narrow(1, 0, n).equal(other.top.narrow(1, 0, n)).int();
        let same = same.into_data().convert::<i64>();
        let same: &[i64] = same.as_slice().expect("counts are integers");
        let counts = same.chunks(n).map(|same| same.iter().sum::<i64>() as usize);
        self.agreed.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Logits of two contexts of `n` tokens over `vocab` ids, of a fixed sequence.
    fn logits(n: usize, vocab: usize, step: f64) -> Vec<f64> {
        (0..2 * n * vocab).map(|i| 6.0 * (step * i as f64 + 0.1 * (i * i % 17) as f64).sin()).collect()
    }

    fn show(observer: &mut dyn Observer, values: &[f64], n: usize, vocab: usize, blocks: &[(usize, usize)]) {
        let all = Tensor::<3>::from_data(TensorData::new(values.to_vec(), [2, n, vocab]), &Device::flex());
        for &(start, size) in blocks {
            let logits = all.clone().narrow(1, start, size);
            observer.block(Block { contexts: 0..2, start, logits: &logits, states: &mut [] }).unwrap();
        }
    }

    /// KL and agreement of one token, from the definitions.
    fn naive(p: &[f64], q: &[f64]) -> (f64, bool) {
        let probabilities = |x: &[f64]| {
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            x.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
        };
        let top = |x: &[f64]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
        let (p_, q_) = (probabilities(p), probabilities(q));
        (p_.iter().zip(q_).map(|(p, q)| p * (p / q).ln()).sum(), top(p) == top(q))
    }

    #[test]
    fn both_equal_a_naive_computation() {
        let (n, vocab) = (7, 23);
        let (full, other) = (logits(n, vocab, 0.37), logits(n, vocab, 0.41));
        let blocks = [(0, 3), (3, 3), (6, 1)];
        let mut predictions = Predictions::default();
        show(&mut predictions, &full, n, vocab, &blocks);
        let mut found = Divergence::new(&predictions, 2, n);
        show(&mut found, &other, n, vocab, &blocks);
        for row in 0..2 {
            let token = |t: usize| (row * n + t) * vocab..(row * n + t + 1) * vocab;
            // The last token predicts nothing.
            let tokens: Vec<(f64, bool)> = (0..n - 1).map(|t| naive(&full[token(t)], &other[token(t)])).collect();
            let kl: f64 = tokens.iter().map(|(kl, _)| kl).sum();
            // Logits of up to 6 are rounded to f32, 23 of them summed.
            assert!((found.kl[row] - kl).abs() < 1e-5 * (1.0 + kl), "{} should be {kl}", found.kl[row]);
            assert_eq!(found.agreed[row], tokens.iter().filter(|(_, same)| *same).count());
        }
        assert!(found.agreed.iter().all(|&agreed| agreed < n - 1) && found.agreed.iter().any(|&agreed| agreed > 0));
    }

    #[test]
    fn impossible_tokens_add_nothing_and_a_divergence_that_is_no_number_is_refused() {
        let infinite = f64::NEG_INFINITY;
        let both = |full: &[f64], other: &[f64]| {
            let mut predictions = Predictions::default();
            show(&mut predictions, full, 2, 3, &[(0, 2)]);
            let mut found = Divergence::new(&predictions, 2, 2);
            let all = Tensor::<3>::from_data(TensorData::new(other.to_vec(), [2, 2, 3]), &Device::flex());
            found.block(Block { contexts: 4..6, start: 0, logits: &all, states: &mut [] }).map(|()| found.kl.clone())
        };
        // ln 1/2 each of two tokens, and the third impossible to both; then impossible to the other alone.
        let full = [0.0, 0.0, infinite, 1.0, 2.0, 3.0].repeat(2);
        assert_eq!(both(&full, &full).unwrap(), [0.0, 0.0]);
        let mut other = full.clone();
        other[6] = infinite;
        let error = both(&full, &other).unwrap_err().to_string();
        assert!(error.contains("context 5, token 0"), "{error}");
    }

    #[test]
    fn equal_predictions_do_not_diverge() {
        let (n, vocab) = (3, 5);
        let values = logits(n, vocab, 0.9);
        let mut predictions = Predictions::default();
        show(&mut predictions, &values, n, vocab, &[(0, 3)]);
        let mut same = Divergence::new(&predictions, 2, n);
        show(&mut same, &values, n, vocab, &[(0, 3)]);
        assert_eq!((same.kl, same.agreed), (vec![0.0; 2], vec![2; 2]));
    }
}
