//! Tokens per second at the largest batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use msrnn_core::compression::Compression;
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use msrnn_models::batched::{BatchedGeneration, Request};
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use serde::Serialize;

use crate::contexts::BLOCK;
use crate::error::BenchError;
use crate::memory::{check, product};
use crate::speed::cost::weight_bytes;
use crate::speed::decode::{DecodeLoop, RandomTokens};
use crate::speed::timing::Spread;
use crate::throughput::plan::Plan;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Run {
    /// Steps of full states, `steps` in each of `repetitions`.
    Steady {
        /// Steps of a repetition.
        steps: usize,
        /// How often.
        repetitions: usize,
    },
    /// Whole sequences of `length` tokens from a queue of `sequences`, from empty states on.
    Sequences {
        /// How many.
        sequences: usize,
        /// Tokens of each, the first of them given.
        length: usize,
    },
}

/// A plan, carried out.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measured {
    /// What was predicted.
    #[serde(flatten)]
    pub plan: Plan,
    /// Bytes of all weights as they are in memory.
    pub reported_weight_bytes: u64,
    /// Bytes of all states as they report them themselves, per sequence.
    pub reported_state_bytes: u64,
    /// All sequences together.
    pub tokens_per_second: Spread,
}

/// Carries out a plan; none when it was interrupted.
///
/// # Errors
///
/// When weights or states are not what was predicted, or a generation is refused.
pub(crate) fn measure(
    model: &Model,
    compression: &Compression,
    plan: Plan,
    run: Run,
    seed: u64,
    interrupt: &AtomicBool,
) -> Result<Option<Measured>, BenchError> {
    let weights = weight_bytes(&model.decoder) as u64;
    check_predicted("the weights", weights, plan.weight_bytes)?;
    let (states, values) = match run {
        Run::Steady { steps, repetitions } => {
            let mut decode = DecodeLoop::new(&model.decoder, compression.clone(), plan.batch, seed);
            decode.fill_by(at_once(BLOCK, plan), rows(&decode, plan));
            if !decode.states().iter().all(MultiState::is_steady) {
                return Err(BenchError::Input(
                    "steps of states that are full are all alike only where a row goes at every token; give \
                     ‘sequences’, which times whole texts"
                        .into(),
                ));
            }
            decode.step();
            let mut values = Vec::new();
            while values.len() < repetitions && !interrupt.load(Ordering::Relaxed) {
                values.push((plan.batch * steps) as f64 / decode.time_steps(steps));
            }
            (audited(decode.states(), plan)?, values)
        }
        Run::Sequences { sequences, length } => {
            let mut generation = queue(model, compression, plan, sequences, length, seed)?;
            let states = audited(generation.states(), Plan { batch: plan.batch.min(sequences), ..plan })?;
            let started = Instant::now();
            let mut tokens = 0;
            while generation.unfinished() > 0 && !interrupt.load(Ordering::Relaxed) {
                generation.round(&mut |_, _| {
                    tokens += 1;
                    true
                })?;
            }
            let whole = generation.unfinished() == 0;
            let values = if whole { vec![f64::from(tokens) / started.elapsed().as_secs_f64()] } else { Vec::new() };
            (states, values)
        }
    };
    if values.is_empty() || interrupt.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(Some(Measured {
        plan,
        reported_weight_bytes: weights,
        reported_state_bytes: states,
        tokens_per_second: Spread::of(&values),
    }))
}

/// Tokens until all states are full.
pub(super) fn rows(decode: &DecodeLoop<'_>, plan: Plan) -> usize {
    decode.states().iter().filter_map(MultiState::states).max().unwrap_or(plan.states)
}

/// Tokens of each sequence that go through the layers at once, where all sequences together have so many, or one each: work
/// takes memory in proportion to that, of which a plan counts one token each.
pub(super) fn at_once(tokens: usize, plan: Plan) -> usize {
    (tokens / plan.batch.max(1)).max(1)
}

/// Sequences that begin with a random token, in a queue.
///
/// # Errors
///
/// When they do not fit into the memory, or a generation is refused.
pub(super) fn queue<'m>(
    model: &'m Model,
    compression: &Compression,
    plan: Plan,
    sequences: usize,
    length: usize,
    seed: u64,
) -> Result<BatchedGeneration<'m>, BenchError> {
    let bytes = product(&[sequences, size_of::<Request>()]);
    check(bytes, &format!("a queue of {sequences} sequences"), "give fewer ‘sequences’")?;
    let recurrent = Recurrent::new(&model.decoder, compression.clone(), Positions::Original);
    let mut generation = BatchedGeneration::new(model, recurrent, plan.batch.min(sequences))?;
    let mut random = RandomTokens::new(model.decoder.config().vocab_size, seed);
    for _ in 0..sequences {
        let (prompt, max_new_tokens) = (random.draw(1), drawn(length));
        generation.push(Request { prompt, sampling: Sampling::default(), max_new_tokens })?;
    }
    Ok(generation)
}

/// Tokens of a sequence of that length which are drawn.
pub(super) fn drawn(length: usize) -> usize {
    length.saturating_sub(1).max(1)
}

/// Bytes of states per sequence, which must be what was predicted.
fn audited(states: &[MultiState], plan: Plan) -> Result<u64, BenchError> {
    let all = states.iter().map(MultiState::bytes).sum::<usize>() as u64;
    check_predicted("all states", all, plan.state_bytes * plan.batch as u64)?;
    Ok(plan.state_bytes)
}

fn check_predicted(what: &str, bytes: u64, predicted: u64) -> Result<(), BenchError> {
    match bytes == predicted {
        true => Ok(()),
        false => Err(BenchError::Input(format!(
            "{what} take {bytes} bytes and not the {predicted} that were predicted; please report it as a bug"
        ))),
    }
}
