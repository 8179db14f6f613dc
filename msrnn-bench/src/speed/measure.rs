//! Rows and limits in turn, and what they say about each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::DType;
use msrnn_models::Model;
use msrnn_policies::PolicySpec;
use serde::Serialize;

use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::run::Plan;
use crate::experiment::{Event, Unit, Watch};
use crate::speed::limits::Limits;
use crate::speed::plan::{Grid, Row, Test, baselines};
use crate::speed::timing::{Spread, in_turn};
use crate::speed::workload::{Conditions, Workload};
use crate::speed::{cost, memory};
use crate::trial;

/// How often, and beside what.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Batch, threads and seed.
    pub conditions: Conditions,
    /// Rounds that count.
    pub repetitions: usize,
    /// Rounds before them that do not.
    pub warm_up: usize,
    /// What times are set in relation to.
    pub baseline: Option<PolicySpec>,
    /// Whether the device computes in the host's memory.
    pub on_host: bool,
}

/// What the machine allows, measured in every round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Allowed {
    /// Bytes read per second by all threads; on a device of its own memory, read and written by copies.
    pub read_bytes_per_second: Spread,
    /// Floating-point operations per second of a matrix product in f32.
    pub f32_operations_per_second: Spread,
    /// The same in the model's dtype.
    pub operations_per_second: Spread,
}

/// Which limit a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limit {
    /// Reading weights and states.
    Reading,
    /// Multiplying matrices.
    Multiplying,
}

/// A row, measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// What was timed.
    #[serde(flatten)]
    pub test: Test,
    /// Name and parameters of the policy.
    pub policy: String,
    /// Its bound; none for the full state.
    pub states: Option<usize>,
    /// Tokens seen before the timed ones.
    pub depth: usize,
    /// Rows side by side.
    pub batch: usize,
    /// Which way tokens go under this policy.
    pub road: String,
    /// Rows that a token attends, on average.
    pub mean_rows: f64,
    /// All batch rows together.
    pub tokens_per_second: Spread,
    /// Seconds per token.
    pub seconds_per_token: Spread,
    /// Time per token in relation to the baseline's in the same round.
    pub relative_time: Option<Spread>,
    /// Weights and states that are read for a token, where tokens go one by one.
    pub bytes_per_token: Option<f64>,
    /// Floating-point operations of a token.
    pub operations_per_token: f64,
    /// Which limit this is compared with.
    pub limit: Limit,
    /// Speed in relation to that limit in the same round. More than 1 where weights and states fit into
    /// the cache.
    pub limit_share: Spread,
    /// What the states were seen to hold.
    #[serde(flatten)]
    pub observed: Observed,
}

/// All rows and what they are seen against.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// In the order of the grid. Empty when interrupted before the first round was whole.
    pub rows: Vec<Measured>,
    /// The machine's limits.
    pub limits: Option<Allowed>,
    /// What the rows are set in relation to.
    pub baseline: Option<PolicySpec>,
    /// Bytes of all weights.
    pub weight_bytes: usize,
    /// Most memory that was resident when every row had run, loading included.
    pub peak_resident_bytes: Option<u64>,
    /// Rounds that count.
    pub repetitions: usize,
    /// False when it was interrupted; the rounds are those that were finished.
    pub complete: bool,
}

/// A subject of a round.
enum Turn<'m> {
    Bandwidth,
    Multiply(DType),
    Row(Box<Workload<'m>>),
}

/// Rows, and of each the index of the one that its time is set in relation to.
type Rows = (Vec<Row>, Vec<Option<usize>>);

impl Settings {
    fn rows(&self, model: &Model, grid: &Grid) -> Result<Rows, BenchError> {
        if self.repetitions == 0 || self.conditions.batch == 0 {
            return Err(BenchError::Input("no repetition or an empty batch measures nothing; give at least 1".into()));
        }
        let rows = grid.rows(&model.decoder)?;
        let relative = match &self.baseline {
            Some(baseline) => baselines(&rows, baseline)?,
            None => vec![None; rows.len()],
        };
        Ok((rows, relative))
    }

    fn rounds(&self) -> usize {
        self.warm_up.saturating_add(self.repetitions)
    }

    fn units(&self, model: &Model, rows: &[Row]) -> Vec<Unit> {
        rows.iter().map(|row| row.unit(&model.decoder, self.conditions.batch, self.rounds())).collect()
    }
}

/// What [`measure`] does: a unit per row.
///
/// # Errors
///
/// As [`measure`], before it works.
pub(crate) fn plan(model: &Model, grid: &Grid, settings: &Settings) -> Result<Plan, BenchError> {
    let (rows, _) = settings.rows(model, grid)?;
    Ok(Plan::of(settings.units(model, &rows)))
}

/// How long that takes, judged by a second of the first row of every test; none where that is too little to tell.
///
/// # Errors
///
/// As [`measure`].
pub(crate) fn estimate(
    model: &Model,
    grid: &Grid,
    settings: &Settings,
    interrupt: &AtomicBool,
) -> Result<Option<Duration>, BenchError> {
    let (rows, _) = settings.rows(model, grid)?;
    let (batch, mut time) = (settings.conditions.batch, Duration::ZERO);
    for &test in &grid.tests {
        let of_test: Vec<&Row> = rows.iter().filter(|row| row.test == test).collect();
        // Of several depths the greatest, so that what is not proportional to it counts least.
        let Some(&deepest) = of_test.iter().max_by_key(|row| row.filled()) else { continue };
        let started = Instant::now();
        let workload = Mutex::new(Workload::new(model, deepest.clone(), settings.conditions)?);
        let fill = started.elapsed();
        let units = settings.units(model, &rows);
        let all: usize = rows.iter().zip(&units).filter(|(row, _)| row.test == test).map(|(_, unit)| unit.tokens).sum();
        let filled: usize = of_test.iter().map(|row| row.filled().saturating_mul(batch)).sum();
        let work = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
            let mut workload = workload.lock().unwrap_or_else(PoisonError::into_inner);
            while !enough.load(Ordering::Relaxed) && matches!(workload.run(advance, enough), Ok(Some(_))) {}
        };
        let Some(rounds) = trial::estimate(all.saturating_sub(filled), 1, &work, interrupt) else { return Ok(None) };
        time += rounds + fill.mul_f64(filled as f64 / deepest.filled().saturating_mul(batch).max(1) as f64);
    }
    Ok(Some(time))
}

/// Who is told how far the rows are.
struct Told<'w> {
    units: Vec<Unit>,
    /// Rounds of each that are left.
    left: Vec<usize>,
    watch: Watch<'w>,
}

impl Told<'_> {
    fn run(&mut self, index: usize, workload: &mut Workload<'_>) -> Result<Option<f64>, BenchError> {
        (self.watch.tell)(Event::Begins(&self.units[index]));
        let seconds = workload.run(self.watch.advance, self.watch.interrupt)?;
        self.left[index] -= 1;
        if self.left[index] == 0 {
            (self.watch.tell)(Event::Ends(&self.units[index]));
        }
        Ok(seconds)
    }
}

/// Measures all rows of a grid.
///
/// # Errors
///
/// When the grid has no rows, a row cannot be measured, or the baseline is not among them.
pub(crate) fn measure(
    model: &Model,
    grid: &Grid,
    settings: &Settings,
    watch: Watch<'_>,
) -> Result<Measurement, BenchError> {
    let (rows, relative) = settings.rows(model, grid)?;
    let units = settings.units(model, &rows);
    let left = vec![settings.rounds(); rows.len()];
    (watch.tell)(Event::Left(units.len(), units.iter().fold(0, |all, unit| unit.tokens.saturating_add(all))));
    let mut told = Told { units, left, watch };
    let mut workloads = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        if watch.interrupted() {
            break;
        }
        (watch.tell)(Event::Begins(&told.units[index]));
        let before = row.filled().saturating_mul(settings.conditions.batch);
        workloads.push(Workload::new(model, row, settings.conditions)?);
        (watch.advance)(before);
    }
    let weight_bytes = cost::weight_bytes(&model.decoder);
    let go_on = |_| !watch.interrupted();
    in_turn(&mut workloads, settings.warm_up, go_on, |index, workload| told.run(index, workload))?;
    // Before the limits, whose memory is not the model's.
    let peak_resident_bytes = memory::peak();

    let dtype = model.decoder.storage().vectors();
    let limits = Limits::new(&model.decoder.device(), settings.on_host, settings.conditions.threads);
    let mut turns = vec![Turn::Bandwidth, Turn::Multiply(DType::F32)];
    if dtype != DType::F32 {
        turns.push(Turn::Multiply(dtype));
    }
    let first_row = turns.len();
    turns.extend(workloads.into_iter().map(|workload| Turn::Row(Box::new(workload))));
    let values = in_turn(&mut turns, settings.repetitions, go_on, |index, turn| match turn {
        Turn::Bandwidth => limits.bandwidth().map(Some),
        Turn::Multiply(dtype) => Ok(Some(limits.matrix_rate(*dtype))),
        Turn::Row(workload) => told.run(index - first_row, workload),
    })?;
    drop(limits);

    let repetitions = values[0].len();
    let complete = repetitions == settings.repetitions;
    if repetitions == 0 {
        let baseline = settings.baseline.clone();
        let (rows, limits) = (Vec::new(), None);
        return Ok(Measurement { rows, limits, baseline, weight_bytes, peak_resident_bytes, repetitions, complete });
    }
    // The last limit is that of the model's dtype, which may be f32 itself.
    let (reading, multiplying) = (&values[0], &values[first_row - 1]);
    let allowed = Allowed {
        read_bytes_per_second: Spread::of(reading),
        f32_operations_per_second: Spread::of(&values[1]),
        operations_per_second: Spread::of(multiplying),
    };
    let workloads: Vec<&Workload<'_>> = turns.iter().filter_map(Turn::workload).collect();
    let seconds: Vec<Vec<f64>> = workloads
        .iter()
        .zip(&values[first_row..])
        .map(|(workload, values)| values.iter().map(|seconds| seconds / workload.tokens() as f64).collect())
        .collect();
    let rows = workloads.iter().enumerate().map(|(index, workload)| {
        let per_token = &seconds[index];
        let (limit, work, allowed) = match workload.bytes_per_token() {
            Some(bytes) => (Limit::Reading, bytes, reading),
            None => (Limit::Multiplying, workload.operations_per_token(), multiplying),
        };
        let spread = |f: &dyn Fn(usize) -> f64| Spread::of(&(0..repetitions).map(f).collect::<Vec<_>>());
        let row = workload.row();
        Measured {
            test: row.test,
            policy: row.policy.clone(),
            states: row.compression.states(),
            depth: row.depth,
            batch: settings.conditions.batch,
            road: workload.road(),
            mean_rows: workload.rows(),
            tokens_per_second: spread(&|round| 1.0 / per_token[round]),
            seconds_per_token: Spread::of(per_token),
            relative_time: relative[index].map(|base| spread(&|round| per_token[round] / seconds[base][round])),
            bytes_per_token: workload.bytes_per_token(),
            operations_per_token: workload.operations_per_token(),
            limit,
            limit_share: spread(&|round| work / per_token[round] / allowed[round]),
            observed: workload.observed(),
        }
    });
    Ok(Measurement {
        rows: rows.collect(),
        limits: Some(allowed),
        baseline: settings.baseline.clone(),
        weight_bytes,
        peak_resident_bytes,
        repetitions,
        complete,
    })
}

impl<'m> Turn<'m> {
    fn workload(&self) -> Option<&Workload<'m>> {
        match self {
            Turn::Row(workload) => Some(workload),
            Turn::Bandwidth | Turn::Multiply(_) => None,
        }
    }
}
