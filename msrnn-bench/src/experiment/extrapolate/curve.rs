//! The negative log-likelihood up to positions of a text.

use serde::{Deserialize, Serialize};

use crate::contexts::Context;
use crate::error::BenchError;
use crate::evaluate::{Block, Observer, token_nll};

/// Sums at some positions, ascending. The last one is the end of the text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Tokens predicted up to there.
    pub positions: Vec<usize>,
    /// Σ −ln p of these tokens.
    pub nll: Vec<f64>,
}

impl Curve {
    /// Tokens predicted.
    pub fn tokens(&self) -> usize {
        self.positions.last().copied().unwrap_or(0)
    }

    /// Perplexity of the whole text; none of no text, or where it is beyond a 64-bit number.
    pub fn perplexity(&self) -> Option<f64> {
        self.running().last().map(|&(_, perplexity)| perplexity).filter(|perplexity| perplexity.is_finite())
    }

    /// Perplexity of all tokens up to each position.
    pub fn running(&self) -> Vec<(usize, f64)> {
        self.positions.iter().zip(&self.nll).map(|(&at, &nll)| (at, (nll / at as f64).exp())).collect()
    }

    /// The sum at the last known position that is not beyond `at`, and that position.
    fn up_to(&self, at: usize) -> (usize, f64) {
        match self.positions.partition_point(|&position| position <= at) {
            0 => (0, 0.0),
            n => (self.positions[n - 1], self.nll[n - 1]),
        }
    }

    /// Perplexity of all tokens up to the last known position that is not beyond `at`; none where the
    /// curve ends before `at`, or begins after it.
    pub fn running_at(&self, at: usize) -> Option<f64> {
        let (position, nll) = self.up_to(at);
        (at <= self.tokens() && position > 0).then(|| (nll / position as f64).exp())
    }

    /// Perplexity of the tokens within segments of about `size` tokens, each with the position of its end.
    pub fn segments(&self, size: usize) -> Vec<(usize, f64)> {
        let mut segments = Vec::new();
        let mut from = (0, 0.0);
        for (&at, &nll) in self.positions.iter().zip(&self.nll) {
            let tokens = at - from.0;
            if tokens >= size {
                segments.push((at, ((nll - from.1) / tokens as f64).exp()));
                from = (at, nll);
            }
        }
        segments
    }
}

/// Keeps the sum at every `step`th position and at the end.
pub(super) struct Recorder<'c> {
    contexts: &'c [Context; 1],
    step: usize,
    tokens: usize,
    nll: f64,
    curve: Curve,
}

impl<'c> Recorder<'c> {
    pub(super) fn new(contexts: &'c [Context; 1], step: usize) -> Self {
        Self { contexts, step: step.max(1), tokens: 0, nll: 0.0, curve: Curve::default() }
    }

    pub(super) fn into_curve(mut self) -> Curve {
        if self.tokens > self.curve.tokens() {
            self.keep();
        }
        self.curve
    }

    fn keep(&mut self) {
        self.curve.positions.push(self.tokens);
        self.curve.nll.push(self.nll);
    }
}

impl Observer for Recorder<'_> {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        for nll in token_nll(self.contexts, block.start, block.logits) {
            self.tokens += 1;
            self.nll += nll;
            if self.tokens.is_multiple_of(self.step) {
                self.keep();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn the_sum_of_every_third_token_and_of_all_is_kept() {
        // Two ids, equally probable: every token costs ln 2.
        let contexts = [vec![0, 1, 0, 0, 1, 1, 0, 1, 0].into()];
        let mut recorder = Recorder::new(&contexts, 3);
        for (start, n) in [(0, 4), (4, 4), (8, 1)] {
            let logits = Tensor::<3>::zeros([1, n, 2], &Device::flex());
            recorder.block(Block { contexts: 0..1, start, logits: &logits, states: &mut [] }).unwrap();
        }
        let curve = recorder.into_curve();
        assert_eq!(curve.positions, [3, 6, 8]);
        // Probabilities are computed in f32.
        let ln2 = std::f64::consts::LN_2;
        assert!(curve.nll.iter().zip([3.0, 6.0, 8.0]).all(|(nll, n)| (nll - n * ln2).abs() < 1e-6));
        assert!((curve.perplexity().unwrap() - 2.0).abs() < 1e-6);
    }

    #[test]
    fn running_and_segment_perplexities_are_those_worked_out_by_hand() {
        let curve = Curve { positions: vec![2, 4, 6, 7], nll: vec![2.0, 6.0, 7.0, 14.0] };
        let exp = |values: &[(usize, f64)]| values.iter().map(|&(at, x)| (at, f64::exp(x))).collect::<Vec<_>>();
        assert_eq!(curve.running(), exp(&[(2, 1.0), (4, 1.5), (6, 7.0 / 6.0), (7, 2.0)]));
        assert_eq!(curve.segments(2), exp(&[(2, 1.0), (4, 2.0), (6, 0.5)]));
        assert_eq!(curve.segments(3), exp(&[(4, 1.5), (7, 8.0 / 3.0)]));
        assert_eq!(curve.running_at(5), Some(1.5f64.exp()));
        assert_eq!((curve.running_at(1), curve.running_at(8)), (None, None));
    }
}
