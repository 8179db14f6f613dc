//! A long scoring run: does memory grow, does a token late in the text cost more than an early one?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::rotary::Rotary;
use serde::Serialize;

use crate::error::BenchError;
use crate::evaluate::{Block, Observer, Scoring, evaluate};
use crate::memory::{check, product};
use crate::room;
use crate::speed::decode::{DecodeLoop, RandomTokens};
use crate::speed::memory;
use crate::speed::timing::{Spread, in_turn};
use crate::speed::workload::Conditions;

/// Depths at which a token's time is compared; the latter only in runs that are long enough.
pub(crate) const DEPTHS: [usize; 2] = [1_000, 100_000];

/// Rounds of the comparison, and steps in each.
const ROUNDS: usize = 30;
const STEPS: usize = 100;

/// What a long run showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Soak {
    /// Name and parameters of the policy.
    pub policy: String,
    /// Its bound; none for the full state.
    pub states: Option<usize>,
    /// Tokens scored.
    pub tokens: usize,
    /// Tokens scored per second.
    pub tokens_per_second: f64,
    /// Mean resident memory while the first tenth was scored; none where it cannot be read.
    pub first_tenth_resident_bytes: Option<f64>,
    /// The same of the last tenth.
    pub last_tenth_resident_bytes: Option<f64>,
    /// Last over first.
    pub resident_ratio: Option<f64>,
    /// Bytes of the states at the end.
    pub state_bytes: usize,
    /// Seconds of a decode step at each of [`DEPTHS`] that the run is long enough for.
    pub seconds_per_step: Vec<Spread>,
    /// Time at the later depth over the time at the earlier one, in the same round.
    pub step_ratio: Option<Spread>,
    /// False when it was interrupted.
    pub complete: bool,
}

/// Watches memory.
struct Watch<'a> {
    tokens: usize,
    done: usize,
    first: Vec<f64>,
    last: Vec<f64>,
    advance: &'a dyn Fn(usize),
}

impl Observer for Watch<'_> {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        let Some(resident) = memory::resident() else { return Ok(()) };
        let (tenth, end) = (self.tokens / 10, block.start + block.logits.dims()[1]);
        if block.start < tenth {
            self.first.push(resident as f64);
        }
        if end > self.tokens - tenth {
            self.last.push(resident as f64);
        }
        Ok(())
    }

    fn advance(&mut self, tokens: usize) {
        self.done += tokens;
        (self.advance)(tokens);
    }
}

/// Scores `tokens` random tokens as one context, then compares the cost of a step at [`DEPTHS`].
///
/// `advance`: called with the number of tokens of every block.
///
/// # Errors
///
/// When there are fewer than 10 tokens, or more than there are positions.
pub(crate) fn soak(
    model: &Model,
    policy: &str,
    compression: &Compression,
    tokens: usize,
    conditions: Conditions,
    advance: &dyn Fn(usize),
    interrupt: &AtomicBool,
) -> Result<Soak, BenchError> {
    if !(10..=Rotary::LIMIT).contains(&tokens) {
        return Err(BenchError::Input(format!(
            "‘soak’ {tokens} is out of range; give 10 to {} tokens, of which the first and the last tenth are compared",
            Rotary::LIMIT
        )));
    }
    let room = product(&[tokens, 2 * size_of::<u32>()]);
    check(room, &format!("a text of {tokens} tokens"), "give a shorter ‘soak’")?;
    let contexts = [RandomTokens::new(model.decoder.config().vocab_size, conditions.seed).draw(tokens).into()];
    let scoring = Scoring::new(compression.clone());
    let mut watch = Watch { tokens, done: 0, first: Vec::new(), last: Vec::new(), advance };
    let started = Instant::now();
    let evaluation = evaluate(model, &contexts, &scoring, &mut watch, interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let (first, last) = (mean(&watch.first), mean(&watch.last));

    let (seconds_per_step, compared) = match evaluation.complete {
        true => steps_at_depths(model, compression, tokens, conditions, interrupt)?,
        false => (Vec::new(), None),
    };
    Ok(Soak {
        policy: policy.to_owned(),
        states: compression.states(),
        tokens: watch.done,
        tokens_per_second: watch.done as f64 / seconds,
        first_tenth_resident_bytes: first,
        last_tenth_resident_bytes: last,
        resident_ratio: first.zip(last).map(|(first, last)| last / first),
        state_bytes: evaluation.observed.state_bytes,
        seconds_per_step,
        step_ratio: compared,
        complete: evaluation.complete && !interrupt.load(Ordering::Relaxed),
    })
}

/// Steps at every depth below `tokens`, in turn.
fn steps_at_depths(
    model: &Model,
    compression: &Compression,
    tokens: usize,
    conditions: Conditions,
    interrupt: &AtomicBool,
) -> Result<(Vec<Spread>, Option<Spread>), BenchError> {
    let Conditions { batch, seed, .. } = conditions;
    let mut loops = Vec::new();
    for depth in DEPTHS.into_iter().filter(|&depth| depth <= tokens) {
        room::check(&model.decoder, compression, depth, batch)?;
        let mut decode = DecodeLoop::new(&model.decoder, compression.clone(), batch, seed);
        decode.fill(depth);
        decode.step();
        loops.push(decode);
    }
    let go_on = |_| !interrupt.load(Ordering::Relaxed);
    let values = in_turn(&mut loops, ROUNDS, go_on, |_, decode| Ok::<_, BenchError>(Some(decode.time_steps(STEPS))))?;
    if values.iter().any(Vec::is_empty) {
        return Ok((Vec::new(), None));
    }
    let spreads =
        values.iter().map(|seconds| Spread::of(&seconds.iter().map(|s| s / STEPS as f64).collect::<Vec<_>>()));
    let ratio = match &values[..] {
        [early, late] => {
            Some(Spread::of(&late.iter().zip(early).map(|(late, early)| late / early).collect::<Vec<_>>()))
        }
        _ => None,
    };
    Ok((spreads.collect(), ratio))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_policies::registry;

    use super::*;
    use crate::speed::shape::Shape;

    #[test]
    fn a_run_says_what_it_saw_and_compares_only_depths_that_it_reached() {
        let shape: Shape = "1x8x2:1x16x20".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let tova = registry::compression("tova", 8).unwrap();
        let conditions = Conditions { batch: 1, threads: 1, seed: 0, captures: true };
        let run = |tokens, interrupted| {
            soak(&model, "tova", &tova, tokens, conditions, &|_| (), &AtomicBool::new(interrupted))
        };
        let found = run(6_000, false).unwrap();
        assert!(found.complete);
        assert_eq!((found.tokens, found.states), (6_000, Some(8)));
        assert_eq!(found.seconds_per_step.len(), 1);
        assert!(found.step_ratio.is_none());
        let ratio = found.resident_ratio.zip(found.first_tenth_resident_bytes.zip(found.last_tenth_resident_bytes));
        assert!(ratio.is_none_or(|(ratio, (first, last))| ratio == last / first));
        assert_eq!(ratio.is_some(), memory::resident().is_some());

        let stopped = run(6_000, true).unwrap();
        assert!(!stopped.complete && stopped.tokens == 0 && stopped.seconds_per_step.is_empty());
        assert!(run(9, false).unwrap_err().to_string().contains("‘soak’ 9"));
        assert!(run(Rotary::LIMIT + 1, false).is_err());
    }
}
