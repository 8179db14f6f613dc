//! How long it takes to carry plans out, judged by a second of each kind of work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use msrnn_core::compression::Compression;
use msrnn_core::policy::Policy;
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use serde::Serialize;

use crate::error::BenchError;
use crate::progress::in_words;
use crate::speed::decode::DecodeLoop;
use crate::throughput::measure::{Run, at_once, drawn, queue, rows};
use crate::throughput::plan::Plan;
use crate::trial;

/// Tokens of all sequences that go through the layers at once while states fill.
const BLOCK: usize = 64;

/// States of a trial take no more bytes, unless fewer than so many sequences would be left: from there on a token takes about
/// as long in any batch.
const STATES: u64 = 1 << 30;
const SEQUENCES: usize = 16;

/// How long plans take, or why that cannot be told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Time {
    /// None where it cannot be told.
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_seconds_since: Option<String>,
    /// Whether some states were not full in the second of their steps, so that full ones take longer.
    before_full: bool,
    /// Whether it was judged by a part of some batch.
    part: bool,
}

impl Time {
    fn of(time: Option<Judged>) -> Self {
        match time {
            Some(Judged { time, before_full, part }) => {
                Self { seconds: Some(time.as_secs_f64()), no_seconds_since: None, before_full, part }
            }
            None => Self::unknown("nothing was gone through in a second of work"),
        }
    }

    /// Why there is none.
    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self { seconds: None, no_seconds_since: Some(why.into()), before_full: false, part: false }
    }

    /// A line that says it, and how it was found.
    pub(crate) fn describe(&self, run: Run) -> String {
        let work = match run {
            Run::Steady { .. } => "a second of filling states and a second of steps",
            Run::Sequences { .. } => "a second of generating from empty states",
        };
        let told = self.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (told, &self.no_seconds_since) {
            (Some(time), _) => {
                let part = if self.part { ", with a part of the largest batches" } else { "" };
                let more = match self.before_full {
                    true => "; not all states were full by then, and steps of full ones take longer",
                    false => "",
                };
                format!(
                    "measuring takes about {}, judged by {work} for each number of states{part}{more}\n",
                    in_words(time)
                )
            }
            (None, Some(why)) => format!("no time can be told: {why}\n"),
            (None, None) => "no time can be told\n".into(),
        }
    }
}

/// How long a plan takes.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    time: Duration,
    before_full: bool,
    part: bool,
}

/// How long plans take to carry out, one after the other.
///
/// # Errors
///
/// As [`measure`](super::measure::measure), and when it is interrupted.
pub(crate) fn time(
    model: &Model,
    policy: &Arc<dyn Policy>,
    plans: &[Plan],
    run: Run,
    seed: u64,
    interrupt: &AtomicBool,
) -> Result<Time, BenchError> {
    let mut all = Some(Judged::default());
    for &plan in plans {
        let compression = Compression::bounded(policy.clone(), plan.states)?;
        compression.check_no_foresight()?;
        let time = estimate(model, &compression, plan, run, seed, interrupt)?;
        if interrupt.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
        }
        all = all.zip(time).map(|(all, this)| Judged {
            time: all.time.saturating_add(this.time),
            before_full: all.before_full || this.before_full,
            part: all.part || this.part,
        });
    }
    Ok(Time::of(all))
}

/// How long a plan takes to carry out; none where a second of work is too little to tell.
///
/// # Errors
///
/// As [`measure`](super::measure::measure).
fn estimate(
    model: &Model,
    compression: &Compression,
    plan: Plan,
    run: Run,
    seed: u64,
    interrupt: &AtomicBool,
) -> Result<Option<Judged>, BenchError> {
    let whole = plan.batch;
    let plan = part(plan);
    match run {
        Run::Steady { steps, repetitions } => {
            let decode = DecodeLoop::new(&model.decoder, compression.clone(), plan.batch, seed);
            let (rows, block) = (rows(&decode, plan), at_once(BLOCK, plan));
            let decode = Mutex::new(decode);
            let fill = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
                let mut decode = locked(&decode);
                while decode.seen() < rows && !enough.load(Ordering::Relaxed) {
                    let n = block.min(rows - decode.seen());
                    // Read back, since a device may only have been told what to do.
                    drop(decode.fill_by(block, n).map(|x| x.into_data()));
                    advance(n.saturating_mul(plan.batch));
                }
            };
            let step = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
                let mut decode = locked(&decode);
                while !enough.load(Ordering::Relaxed) {
                    decode.step();
                    advance(plan.batch);
                }
            };
            let filling = trial::estimate(rows.saturating_mul(whole), 1, &fill, interrupt);
            let before_full = locked(&decode).seen() < rows;
            let steps = steps.saturating_mul(repetitions).saturating_add(1);
            let stepping = trial::estimate(steps.saturating_mul(whole), 1, &step, interrupt);
            let judged = |(filling, stepping): (Duration, Duration)| Judged {
                time: filling.saturating_add(stepping),
                before_full,
                part: plan.batch < whole,
            };
            Ok(filling.zip(stepping).map(judged))
        }
        Run::Sequences { sequences, length } => {
            let generation = Mutex::new(queue(model, compression, plan, sequences, length, seed)?);
            let (batch, whole) = (plan.batch.min(sequences), whole.min(sequences));
            let round = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
                let mut generation = locked(&generation);
                while generation.unfinished() > 0 && !enough.load(Ordering::Relaxed) {
                    if generation.round(&mut |_, _| true).is_err() {
                        break;
                    }
                    advance(batch);
                }
            };
            // Rows that are left without a sequence take their time too.
            let rounds = sequences.div_ceil(whole).saturating_mul(drawn(length));
            let time = trial::estimate(rounds.saturating_mul(whole), 1, &round, interrupt);
            let generation = locked(&generation);
            let before_full = generation.unfinished() > 0
                && drawn(length) > plan.states
                && !generation.states().iter().all(MultiState::is_steady);
            Ok(time.map(|time| Judged { time, before_full, part: batch < whole }))
        }
    }
}

/// A plan with as much of its batch as a trial takes.
fn part(plan: Plan) -> Plan {
    let fit = usize::try_from(STATES / plan.state_bytes.max(1)).unwrap_or(usize::MAX);
    Plan { batch: plan.batch.min(fit.max(SEQUENCES)), ..plan }
}

fn locked<T>(work: &Mutex<T>) -> MutexGuard<'_, T> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_models::checkpoint::Outline;
    use msrnn_policies::registry;

    use super::*;
    use crate::speed::random::even_model;
    use crate::speed::shape::Shape;
    use crate::throughput::measure::measure;
    use crate::throughput::plan::{Sizes, plan};

    #[test]
    fn time_is_told_of_both_kinds_of_runs_and_grows_with_the_work() {
        let device = Device::flex();
        let config = "2x32x4:2x64x50".parse::<Shape>().unwrap().config();
        let sizes = Sizes::of(DType::F32, &device);
        let model = even_model(&config, sizes.storage, &device);
        let outline = Outline { weight_bytes: sizes.storage.weight_bytes(&config), config };
        let policy = registry::policy("tova").unwrap();
        let plan = plan(&outline, policy.as_ref(), 8, sizes, 300 << 10).unwrap();
        let compression = Compression::bounded(policy, 8).unwrap();
        let never = AtomicBool::new(false);
        let seconds = |run| estimate(&model, &compression, plan, run, 0, &never).unwrap().unwrap().time.as_secs_f64();
        let steady = |steps| Run::Steady { steps, repetitions: 3 };
        let queued = |sequences| Run::Sequences { sequences, length: 16 };
        assert!(seconds(steady(1)) < seconds(steady(1_000_000)) / 100.0);
        assert!(seconds(queued(1)) < seconds(queued(100_000)) / 100.0);
        // What time is judged by is what is measured.
        assert!(measure(&model, &compression, plan, steady(1), 0, &never).unwrap().is_some());
    }

    #[test]
    fn a_trial_takes_no_more_than_it_needs_of_a_batch() {
        let batch =
            |state_bytes, batch| part(Plan { states: 8, weight_bytes: 1, state_bytes, work_bytes: 1, batch }).batch;
        assert_eq!(batch(1 << 20, 1000), 1000);
        assert_eq!(batch(1 << 20, 5000), 1024);
        assert_eq!(batch(1 << 40, 5000), 16);
        assert_eq!(batch(1 << 40, 9), 9);
    }

    #[test]
    fn a_line_says_the_time_and_how_it_was_found_or_why_there_is_none() {
        let steady = Run::Steady { steps: 1, repetitions: 1 };
        let of = |seconds, before_full| {
            Time::of(Some(Judged { time: Duration::from_secs(seconds), before_full, part: before_full }))
        };
        let line = of(90, false).describe(steady);
        assert!(line.contains("about 1 min 30 s, judged by a second of filling states"), "{line}");
        assert!(!line.contains("longer") && !line.contains("part"), "{line}");
        let rough = of(90, true).describe(steady);
        assert!(rough.contains("full ones take longer") && rough.contains("with a part of"), "{rough}");
        let queued = of(2, false).describe(Run::Sequences { sequences: 1, length: 2 });
        assert!(queued.contains("2 s, judged by a second of generating"), "{queued}");
        assert_eq!(Time::unknown("of this").describe(steady), "no time can be told: of this\n");
        assert!(Time::of(None).describe(steady).contains("a second of work"));
    }
}
