//! A comparison as text table, JSON, CSV and SVG.

use std::fmt::Write;
use std::path::Path;

use crate::claim::Claim;
use crate::compare::{Comparison, Run};
use crate::error::BenchError;
use crate::experiment::manifest::MANIFEST;
use crate::output::write_file;
use crate::plan::Kind;
use crate::render::svg::svg;
use crate::render::{self, text::aligned};
use crate::statistics::{Mean, perplexity_in_words};

/// Claims a directory for a comparison, which takes the place of an earlier one there, but of no run.
///
/// # Errors
///
/// When another program is writing there, the directory holds the run of an experiment, or it cannot be written.
pub fn claim(directory: &Path) -> Result<Claim, BenchError> {
    let claim = Claim::take(directory)?;
    match directory.join(MANIFEST).symlink_metadata().is_ok() {
        true => Err(BenchError::Input(format!(
            "{} holds the run of an experiment, whose report would be lost; choose another --out",
            directory.display()
        ))),
        false => Ok(claim),
    }
}

/// Writes `compare.json`, `.csv` and `.svg` into a directory; `compare.partial.*` when the
/// comparison was interrupted, so that it does not take the place of a whole result.
///
/// `report`: what the JSON holds, the comparison and its setting.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(
    comparison: &Comparison,
    report: &impl serde::Serialize,
    title: &str,
    directory: &Path,
) -> Result<(), BenchError> {
    let stem = if comparison.complete { "compare" } else { "compare.partial" };
    let name = |ending: &str| directory.join(format!("{stem}.{ending}"));
    let json = serde_json::to_vec_pretty(report).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
    write_file(&name("json"), &json)?;
    write_file(&name("csv"), &csv(comparison)?)?;
    match plot(comparison, title)? {
        Some(svg) => write_file(&name("svg"), svg.as_bytes()),
        None => Ok(()),
    }
}

/// The table of perplexities: policies down, states across, each with its standard error.
pub fn table(comparison: &Comparison) -> String {
    let cell = |run: Option<&Run>| run.map_or_else(String::new, value);
    let states = comparison.states();
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once("policy \\ states".to_owned()).chain(states.iter().map(usize::to_string)).collect()];
    for name in comparison.names() {
        let cells = states.iter().map(|&k| cell(comparison.run(name, k)));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let mut text = aligned(&rows);
    if let Some(full) = comparison.full() {
        let bits = full.bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.4} bits per byte"));
        let _ = writeln!(text, "\nfull state: {}{bits}", value(full));
    }
    for run in comparison.held() {
        let _ = writeln!(text, "{}: {}, {} state bytes", run.policy, value(run), run.observed.state_bytes);
    }
    text
}

fn value(run: &Run) -> String {
    match run.perplexity {
        Some(Mean { mean, standard_error: Some(error) }) => format!("{mean:.3} ±{error:.3}"),
        _ => perplexity_in_words(run.nll / run.tokens as f64, 3),
    }
}

/// One line per run, without the scores by context.
///
/// # Errors
///
/// Never in practice: it writes to memory.
pub fn csv(comparison: &Comparison) -> Result<Vec<u8>, BenchError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| BenchError::Input(format!("the results cannot be written as CSV: {e}"));
    let header = [
        "kind",
        "policy",
        "states",
        "perplexity",
        "perplexity_se",
        "bits_per_byte",
        "nats_above_full",
        "nats_above_full_se",
        "nll",
        "tokens",
        "omitted",
        "max_rows",
        "state_bytes",
        "under_bound",
        "seconds",
        "tokens_per_second",
    ];
    writer.write_record(header).map_err(failed)?;
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for run in &comparison.runs {
        let kind = match run.kind {
            Kind::Full => "full",
            Kind::Baseline => "baseline",
            Kind::Policy => "policy",
        };
        writer
            .write_record([
                kind.to_owned(),
                run.policy.clone(),
                run.states.map_or_else(String::new, |states| states.to_string()),
                optional(run.perplexity.map(|perplexity| perplexity.mean)),
                optional(run.perplexity.and_then(|perplexity| perplexity.standard_error)),
                optional(run.bits_per_byte),
                optional(run.above_full.map(|above| above.mean)),
                optional(run.above_full.and_then(|above| above.standard_error)),
                run.nll.to_string(),
                run.tokens.to_string(),
                run.observed.omitted.to_string(),
                run.observed.max_rows.to_string(),
                run.observed.state_bytes.to_string(),
                run.observed.under_bound.to_string(),
                run.seconds.to_string(),
                run.tokens_per_second.to_string(),
            ])
            .map_err(failed)?;
    }
    writer.into_inner().map_err(|e| BenchError::Input(format!("the results cannot be written as CSV: {e}")))
}

/// Perplexity over states, both axes logarithmic, one line per policy, as SVG. None when there is
/// nothing to draw.
///
/// # Errors
///
/// When the plot cannot be drawn.
pub fn plot(comparison: &Comparison, title: &str) -> Result<Option<String>, BenchError> {
    if comparison.states().is_empty() {
        return Ok(None);
    }
    svg(&render::comparison::perplexity(comparison, title))
}
