//! Random tokens through a model's states: one by one, as in generation, or in blocks to get somewhere.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use msrnn_core::compression::Compression;
use msrnn_core::rnn::MultiStateRnn;
use msrnn_core::state::MultiState;
use msrnn_models::captured::{Capture, Captured};
use msrnn_models::decoder::Decoder;
use msrnn_models::recurrent::{Positions, Recurrent};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::contexts::BLOCK;

/// Token ids, uniform over the vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct RandomTokens {
    rng: ChaCha8Rng,
    vocab_size: usize,
}

impl RandomTokens {
    /// The sequence of a seed.
    pub(crate) fn new(vocab_size: usize, seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), vocab_size }
    }

    /// The next `n`.
    pub(crate) fn draw(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| (self.rng.next_u64() % self.vocab_size as u64) as u32).collect()
    }
}

/// A model under a compression, its states, and the tokens that it is fed.
#[derive(Clone, Debug)]
pub(crate) struct DecodeLoop<'m> {
    decoder: &'m Decoder,
    recurrent: Recurrent<'m>,
    states: Vec<MultiState>,
    tokens: RandomTokens,
    batch: usize,
}

impl<'m> DecodeLoop<'m> {
    /// Empty states of `batch` rows.
    pub(crate) fn new(decoder: &'m Decoder, compression: Compression, batch: usize, seed: u64) -> Self {
        let recurrent = Recurrent::new(decoder, compression, Positions::Original);
        let states = recurrent.initial_states(batch);
        let tokens = RandomTokens::new(decoder.config().vocab_size, seed);
        Self { decoder, recurrent, states, tokens, batch }
    }

    /// Lets [`DecodeLoop::time_steps`] capture a step once and replay it, where the device and the policy allow it.
    /// That takes the memory of the states three times.
    #[must_use]
    pub(crate) fn with_capture(self, captures: bool) -> Self {
        Self { recurrent: self.recurrent.with_capture(Capture::when(captures)), ..self }
    }

    /// The states of all layers.
    pub(crate) fn states(&self) -> &[MultiState] {
        &self.states
    }

    /// Tokens seen by every batch row.
    pub(crate) fn seen(&self) -> usize {
        self.states[0].seen()[0]
    }

    /// Feeds `n` tokens to every batch row in blocks, layer by layer, and computes no logits: the quick
    /// way to a depth. Returns the last layer's output of the last token, `[batch, 1, d]`, if any.
    pub(crate) fn fill(&mut self, n: usize) -> Option<Tensor<3>> {
        self.fill_by(BLOCK, n)
    }

    /// As [`DecodeLoop::fill`], by so many tokens of every batch row at once.
    pub(crate) fn fill_by(&mut self, block: usize, n: usize) -> Option<Tensor<3>> {
        let mut last = None;
        let mut left = n;
        while left > 0 {
            let size = left.min(block);
            let x = self.decoder.embed(self.next_tokens(size));
            let layers = self.recurrent.layers();
            let x = layers.iter().zip(&mut self.states).fold(x, |x, (layer, state)| layer.scan(x, state));
            last = Some(x.narrow(1, size - 1, 1));
            left -= size;
        }
        last
    }

    /// Makes room for `n` more tokens in unbounded states, so that none of them has to copy the state.
    pub(crate) fn reserve(&mut self, n: usize) {
        let rows = self.seen() + n;
        self.states.iter_mut().for_each(|state| state.reserve(rows));
    }

    /// A prompt of `n` tokens: [`DecodeLoop::fill`], and the logits of the last token on the host.
    pub(crate) fn prompt(&mut self, n: usize) {
        self.reserve(n);
        if let Some(x) = self.fill(n) {
            self.decoder.logits(x).into_data();
        }
    }

    /// Feeds one token to every batch row, and waits until its logits are on the host, as a sampler
    /// would.
    pub(crate) fn step(&mut self) {
        let tokens = self.next_tokens(1).reshape([self.batch]);
        self.recurrent.step(tokens, &mut self.states).into_data();
    }

    /// Seconds of `n` steps. Where they are replayed, one more, which is captured, comes before them.
    pub(crate) fn time_steps(&mut self, n: usize) -> f64 {
        if Captured::is_possible(&self.recurrent, &self.states) {
            let states = std::mem::take(&mut self.states);
            match Captured::step(&self.recurrent, states, &self.tokens.draw(self.batch)).1 {
                Ok(mut captured) => {
                    let started = Instant::now();
                    for _ in 0..n {
                        captured.replay(&self.tokens.draw(self.batch));
                    }
                    let seconds = started.elapsed().as_secs_f64();
                    self.states = captured.into_states();
                    return seconds;
                }
                Err(states) => self.states = states,
            }
        }
        let started = Instant::now();
        (0..n).for_each(|_| self.step());
        started.elapsed().as_secs_f64()
    }

    /// `[batch, n]`
    fn next_tokens(&mut self, n: usize) -> Tensor<2, Int> {
        let ids: Vec<i64> = self.tokens.draw(self.batch * n).into_iter().map(i64::from).collect();
        Tensor::from_data(TensorData::new(ids, [self.batch, n]), &self.states[0].device())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_policies::registry;

    use super::*;
    use crate::speed::shape::Shape;

    #[test]
    fn tokens_are_a_function_of_the_seed_and_in_the_vocabulary() {
        let draw = |seed, n| RandomTokens::new(7, seed).draw(n);
        assert_eq!(draw(1, 50), draw(1, 50));
        assert_ne!(draw(1, 50), draw(2, 50));
        assert!(draw(3, 1000).iter().all(|&id| id < 7));
    }

    #[test]
    fn filling_leaves_the_states_that_steps_leave() {
        let shape: Shape = "2x16x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F64, &Device::flex());
        for policy in ["window", "h2o", "tova"] {
            let compression = registry::compression(policy, 5).unwrap();
            let new = || DecodeLoop::new(&model.decoder, compression.clone(), 1, 3);
            let (mut filled, mut stepped) = (new(), new());
            filled.fill(300);
            stepped.time_steps(300);
            assert_eq!(filled.seen(), 300);
            for (filled, stepped) in filled.states().iter().zip(stepped.states()) {
                assert_eq!(filled.held(), stepped.held(), "{policy}");
            }
        }
    }
}
