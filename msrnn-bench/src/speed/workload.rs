//! One row, ready to run: its model, its states, its text.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use msrnn_models::Model;

use crate::contexts::Context;
use crate::error::BenchError;
use crate::evaluate::{Advance, Form, Observed, Scoring, evaluate};
use crate::memory;
use crate::roads;
use crate::room;
use crate::speed::cost;
use crate::speed::decode::{DecodeLoop, RandomTokens};
use crate::speed::plan::{Row, Test};

/// How rows run, all alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Rows of a batch.
    pub batch: usize,
    /// Threads that compute, on a CPU; the machine's limits are measured with as many.
    pub threads: usize,
    /// Seed of the tokens.
    pub seed: u64,
    /// Whether steps of decoding are captured once and replayed, where the device and the policy allow it.
    pub captures: bool,
}

/// A row that can be repeated.
#[derive(Debug)]
pub(crate) struct Workload<'m> {
    model: &'m Model,
    row: Row,
    conditions: Conditions,
    kind: Kind<'m>,
    observed: Observed,
    rows: f64,
    bytes: Option<f64>,
}

#[derive(Debug)]
enum Kind<'m> {
    Prefill,
    Score(Vec<Context>),
    /// Filled to the depth. A bounded state goes on from there; of a growing one every repetition takes
    /// a fork.
    Decode(Box<DecodeLoop<'m>>),
}

impl<'m> Workload<'m> {
    /// Draws its text or fills its states.
    ///
    /// # Errors
    ///
    /// When they do not fit into the memory.
    pub(crate) fn new(model: &'m Model, row: Row, conditions: Conditions) -> Result<Self, BenchError> {
        let Conditions { batch, seed, .. } = conditions;
        let compression = &row.compression;
        room::check(&model.decoder, compression, row.depth.max(row.test.tokens()), batch)?;
        let texts = memory::product(&[batch, row.depth.max(row.test.tokens()), size_of::<u32>()]);
        memory::check(texts, &format!("{batch} texts of random tokens"), "give a smaller ‘batch’, or shorter texts")?;
        let kind = match row.test {
            Test::Prefill { .. } => Kind::Prefill,
            Test::Score { tokens, .. } => {
                let mut random = RandomTokens::new(model.decoder.config().vocab_size, seed);
                Kind::Score((0..batch).map(|_| random.draw(tokens).into()).collect())
            }
            Test::Decode { tokens } => {
                let decode = DecodeLoop::new(&model.decoder, compression.clone(), batch, seed);
                let mut decode = decode.with_capture(conditions.captures);
                decode.fill(row.filled());
                decode.reserve(tokens + 1);
                Kind::Decode(Box::new(decode))
            }
        };
        let rows = cost::mean_rows(row.test.tokens(), compression, model.decoder.config());
        Ok(Self { model, row, conditions, kind, observed: Observed::default(), rows, bytes: None })
    }

    /// Seconds of one repetition; none when it was interrupted. `advance`: called with tokens that were gone through.
    ///
    /// # Errors
    ///
    /// When a scoring fails.
    pub(crate) fn run(
        &mut self,
        advance: &(dyn Fn(usize) + Sync),
        interrupt: &AtomicBool,
    ) -> Result<Option<f64>, BenchError> {
        let Conditions { batch, seed, .. } = self.conditions;
        let compression = &self.row.compression;
        match &mut self.kind {
            Kind::Prefill => {
                let mut decode = DecodeLoop::new(&self.model.decoder, compression.clone(), batch, seed);
                let started = Instant::now();
                decode.prompt(self.row.test.tokens());
                let seconds = started.elapsed().as_secs_f64();
                advance(self.row.test.tokens() * batch);
                self.observed = Observed::of(decode.states());
                Ok(Some(seconds))
            }
            Kind::Score(contexts) => {
                let form = match self.row.test {
                    Test::Score { form, .. } => form,
                    _ => Form::default(),
                };
                let scoring = Scoring { form, batch, ..Scoring::new(compression.clone()) };
                let evaluation = evaluate(self.model, contexts, &scoring, &mut Advance(advance), interrupt)?;
                self.observed = evaluation.observed;
                Ok(evaluation.complete.then_some(evaluation.seconds))
            }
            Kind::Decode(decode) => {
                let mut fork = compression.states().is_none().then(|| (**decode).clone());
                let decode = fork.as_mut().unwrap_or(decode);
                // The first step after a fork copies the state.
                decode.step();
                let steps = self.row.test.tokens();
                let states = decode.states();
                let rows: f64 = states.iter().map(|state| cost::rows_per_step(state, steps)).sum();
                self.rows = rows / states.len() as f64;
                let states = cost::state_bytes_per_step(states, steps);
                let seconds = decode.time_steps(steps);
                advance((steps + 1) * batch);
                let weights = cost::weight_bytes_per_step(&self.model.decoder) as f64;
                self.bytes = Some((weights + states) / batch as f64);
                self.observed = Observed::of(decode.states());
                Ok(Some(seconds))
            }
        }
    }
}

impl Workload<'_> {
    /// What it measures.
    pub(crate) fn row(&self) -> &Row {
        &self.row
    }

    /// Which way its tokens go; see [`Road`](msrnn_core::attention::Road).
    pub(crate) fn road(&self) -> String {
        roads::of(&self.model.decoder, &self.row.compression)
    }

    /// Tokens of a repetition, all batch rows together.
    pub(crate) fn tokens(&self) -> usize {
        self.row.test.tokens() * self.conditions.batch
    }

    /// What the states held after the last repetition.
    pub(crate) fn observed(&self) -> Observed {
        self.observed
    }

    /// Rows that a token attends, on average.
    pub(crate) fn rows(&self) -> f64 {
        self.rows
    }

    /// Bytes read per token, weights and states: of one step shared by the batch. Only where tokens go
    /// one by one; a block reads the weights once for all of its tokens.
    pub(crate) fn bytes_per_token(&self) -> Option<f64> {
        self.bytes
    }

    /// Floating-point operations per token.
    pub(crate) fn operations_per_token(&self) -> f64 {
        let config = self.model.decoder.config();
        let logits = match self.row.test {
            Test::Prefill { tokens } => 1.0 / tokens as f64,
            Test::Score { .. } | Test::Decode { .. } => 1.0,
        };
        cost::layer_operations(config, self.rows) + logits * cost::logits_operations(config)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_core::compression::Compression;
    use msrnn_core::state::MultiState;
    use msrnn_policies::registry;

    use super::*;
    use crate::speed::shape::Shape;

    fn run(test: Test, compression: Compression, depth: usize, batch: usize, check: impl Fn(&Workload<'_>)) {
        let shape: Shape = "2x16x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let row = Row { test, policy: "any".into(), compression, depth };
        let mut workload =
            Workload::new(&model, row, Conditions { batch, threads: 2, seed: 0, captures: true }).unwrap();
        for _ in 0..2 {
            let seconds = workload.run(&|_| (), &AtomicBool::new(false)).unwrap().unwrap();
            assert!(seconds > 0.0);
            check(&workload);
        }
    }

    #[test]
    fn a_bounded_decode_reads_weights_and_states_as_they_say_themselves() {
        for batch in [1, 2] {
            let tova = registry::compression("tova", 6).unwrap();
            run(Test::Decode { tokens: 4 }, tova, 10, batch, |workload| {
                let Kind::Decode(decode) = &workload.kind else { panic!("it decodes") };
                let states: usize = decode.states().iter().map(MultiState::bytes).sum();
                let weights = cost::weight_bytes(&workload.model.decoder);
                assert_eq!(workload.bytes_per_token(), Some((weights + states) as f64 / batch as f64));
                assert_eq!(workload.observed().state_bytes, states / batch);
                assert_eq!(workload.rows(), 7.0);
                assert_eq!(workload.observed().max_rows, 6);
            });
        }
    }

    #[test]
    fn a_growing_state_is_the_same_in_every_repetition_and_centred_at_the_depth() {
        run(Test::Decode { tokens: 8 }, Compression::Unbounded, 20, 1, |workload| {
            // From 15 tokens: one step, then eight that attend 17 to 24 rows.
            assert_eq!(workload.rows(), 20.5);
            assert_eq!(workload.observed().max_rows, 24);
        });
    }

    #[test]
    fn prefill_and_scoring_start_from_an_empty_state() {
        let tova = registry::compression("tova", 6).unwrap();
        for test in [
            Test::Prefill { tokens: 20 },
            Test::Score { tokens: 20, form: Form::Layer },
            Test::Score { tokens: 20, form: Form::Step },
        ] {
            run(test, tova.clone(), 0, 1, |workload| {
                assert_eq!(workload.observed().omitted, 2 * 14);
                assert_eq!(workload.bytes_per_token(), None);
                assert_eq!(workload.rows(), (1..=20).map(|row: usize| row.min(7)).sum::<usize>() as f64 / 20.0);
            });
        }
    }

    #[test]
    fn an_interrupted_scoring_gives_no_time() {
        let shape: Shape = "1x16x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let test = Test::Score { tokens: 20, form: Form::Layer };
        let row = Row { test, policy: "full".into(), compression: Compression::Unbounded, depth: 0 };
        let mut workload =
            Workload::new(&model, row, Conditions { batch: 1, threads: 1, seed: 0, captures: true }).unwrap();
        assert!(workload.run(&|_| (), &AtomicBool::new(true)).unwrap().is_none());
    }
}
