//! `results.csv` and `results.parquet`: all numbers of a run as one long table, a value a row, for R, pandas and polars.
//!
//! ```text
//! model    text    as in --model
//! policy   text    without its bound: tova, full, baseline
//! states   number  k, or the baseline's context; empty for the full state
//! text     text    of what text, question or prompt it is; empty for all together
//! context  number  of which context of it, or which trial, from 0; empty for all together
//! seed     number  of a policy or generation that draws
//! metric   text    what the value is
//! value    number
//! error    number  its standard error, where there is one
//! n        number  tokens that it is of, or questions, texts, pairs
//! ```

use std::path::Path;

use crate::error::BenchError;
use crate::experiment::{Arm, Results};
use crate::output::write_file;
use crate::render::frame::{Column, Frame, Values};
use crate::render::{csv, parquet};
use crate::statistics::Mean;

/// File names of the table, without their endings.
pub(crate) const TABLE: &str = "results";

/// A value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// As in `--model`.
    pub model: String,
    /// Without its bound.
    pub policy: String,
    /// k, or the baseline's context.
    pub states: Option<usize>,
    /// Of what text, question or prompt; none for all together.
    pub text: Option<String>,
    /// Of which context of it, or which trial; none for all together.
    pub context: Option<usize>,
    /// Of what draws.
    pub seed: Option<u64>,
    /// What the value is.
    pub metric: &'static str,
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
    /// What it is of: tokens, questions, pairs.
    pub n: Option<usize>,
}

impl Row {
    /// The same of something else.
    pub(super) fn of(&self, metric: &'static str, value: f64) -> Self {
        Self { metric, value, ..self.clone() }
    }

    /// The same of a mean with its error.
    pub(super) fn mean(&self, metric: &'static str, mean: Mean) -> Self {
        Self { metric, value: mean.mean, error: mean.standard_error, ..self.clone() }
    }
}

/// What the states of an arm were seen to hold.
fn held(arm: &Arm) -> impl Iterator<Item = Row> {
    let bound = arm.states.map_or_else(String::new, |states| format!("@{states}"));
    let row = Row {
        model: arm.model.clone(),
        policy: arm.policy.strip_suffix(&bound[..]).unwrap_or(&arm.policy).into(),
        states: arm.states,
        ..Row::default()
    };
    let seen = arm.observed;
    let values = [
        ("omitted", seen.omitted),
        ("max_rows", seen.max_rows),
        ("state_bytes", seen.state_bytes),
        ("predicted", seen.predicted),
        ("under_bound", seen.under_bound),
    ];
    values.into_iter().map(move |(metric, value)| row.of(metric, value as f64))
}

/// Writes the table of a run into its directory: an experiment's own rows, then what the states held.
///
/// # Errors
///
/// When a file cannot be written.
pub(super) fn write(mut rows: Vec<Row>, results: &Results, directory: &Path) -> Result<(), BenchError> {
    rows.extend(results.arms.iter().flat_map(held));
    rows.retain(|row| row.value.is_finite());
    let frame = frame(&rows);
    write_file(&directory.join(format!("{TABLE}.csv")), &csv::csv(&frame)?)?;
    let about = [("title", "one value a row"), ("error", "standard error of the value")];
    write_file(&directory.join(format!("{TABLE}.parquet")), &parquet::parquet(&frame, &about)?)
}

fn frame(rows: &[Row]) -> Frame {
    let text = |of: &dyn Fn(&Row) -> String| Values::Text(rows.iter().map(of).collect());
    let number = |of: &dyn Fn(&Row) -> Option<f64>| Values::Number(rows.iter().map(of).collect());
    let columns = [
        ("model", text(&|row| row.model.clone())),
        ("policy", text(&|row| row.policy.clone())),
        ("states", number(&|row| row.states.map(|k| k as f64))),
        ("text", text(&|row| row.text.clone().unwrap_or_default())),
        ("context", number(&|row| row.context.map(|n| n as f64))),
        ("seed", number(&|row| row.seed.map(|seed| seed as f64))),
        ("metric", text(&|row| row.metric.into())),
        ("value", number(&|row| Some(row.value))),
        ("error", number(&|row| row.error)),
        ("n", number(&|row| row.n.map(|n| n as f64))),
    ];
    Frame { columns: columns.into_iter().map(|(name, values)| Column { name: name.into(), values }).collect() }
}
