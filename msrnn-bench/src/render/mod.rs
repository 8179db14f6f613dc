//! Results as files and as text: `report.html` for people, SVG for papers, CSV and parquet for
//! programs, plain text for terminals.
//!
//! - `html`: the report, one self-contained file; `svg`: its plots; [`text`]: the same in a terminal
//! - `frame`: the data of a figure as columns, for `csv` and `parquet`
//! - `scale`, `extent`, `colour`, `raster`: what the drawings share
//! - [`plots`]: plots for a paper
//! - `check`: whether figures can be drawn

pub(crate) mod check;
pub(crate) mod colour;
pub(crate) mod csv;
pub(crate) mod extent;
pub(crate) mod frame;
pub(crate) mod head;
pub(crate) mod html;
pub(crate) mod parquet;
#[cfg(feature = "pdf")]
mod pdf;
pub mod plots;
pub(crate) mod raster;
#[cfg(test)]
mod sample;
pub(crate) mod scale;
pub(crate) mod svg;
pub mod text;

use std::borrow::Cow;
use std::path::Path;

use crate::error::BenchError;
use crate::figure::{Cell, Content, Figure};
use crate::output::{subdirectory, write_file};
use crate::results::Results;
use frame::Frame;

/// File name of the report for people.
pub(crate) const PAGE: &str = "report.html";
/// Name of the directory of figures beside it.
pub(crate) const FIGURES: &str = "figures";

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The heading: `Perplexity over states`.
    pub title: &'a str,
    /// What was measured on what, in a sentence; may be empty.
    pub summary: &'a str,
    /// What was found.
    pub results: &'a Results,
    /// How it was made.
    pub manifest: &'a toml::Table,
    /// Time and memory: apart from the results, since they differ from run to run.
    pub speed: &'a [Figure],
}

impl Report<'_> {
    /// The figures, then what the states held, then speed.
    pub fn figures(&self) -> Vec<Cow<'_, Figure>> {
        let results = self.results.figures.iter().map(Cow::Borrowed);
        results.chain(arms(self.results).map(Cow::Owned)).chain(self.speed.iter().map(Cow::Borrowed)).collect()
    }
}

/// Writes `report.html`, and `figures/ID.svg`, `.csv` and `.parquet` of every figure. A table has
/// no SVG, a table without columns no parquet. Every file is whole, `report.html` comes last.
///
/// # Errors
///
/// When a figure is not as it should be (`check`), before anything is written;
/// when a file cannot be written, or `figures` is a link.
pub fn write(report: &Report<'_>, directory: &Path) -> Result<(), BenchError> {
    let page = html::page(report)?;
    let figures = directory.join(FIGURES);
    std::fs::create_dir_all(directory).map_err(|source| BenchError::Write { path: directory.into(), source })?;
    subdirectory(&figures)?;
    for figure in &report.figures() {
        let name = |ending: &str| figures.join(format!("{}.{ending}", figure.id));
        let frame = Frame::of(&figure.content);
        if let Some(svg) = svg::svg(figure)? {
            write_file(&name("svg"), svg.as_bytes())?;
        }
        write_file(&name("csv"), &csv::csv(&frame)?)?;
        if !frame.columns.is_empty() {
            write_file(&name("parquet"), &parquet::parquet(&frame, &about(figure))?)?;
        }
    }
    write_file(&directory.join(PAGE), page.as_bytes())
}

/// What the columns of a figure's data mean.
fn about(figure: &Figure) -> Vec<(&str, &str)> {
    let mut about = vec![("title", figure.title.as_str()), ("caption", figure.caption.as_str())];
    match &figure.content {
        Content::Table { .. } | Content::Passages { .. } => {}
        Content::Lines { x, y, .. } => about.extend([("x", x.label.as_str()), ("y", y.label.as_str())]),
        Content::Bars { y, .. } => about.push(("value", y.label.as_str())),
        Content::HeatMap { panel, x, y, value, .. } => {
            about.extend([("panel", panel.as_str()), ("x", &x.label), ("y", &y.label), ("value", value)]);
        }
    }
    about
}

/// What the states were seen to hold, as a table; none without arms.
fn arms(results: &Results) -> Option<Figure> {
    if results.arms.is_empty() {
        return None;
    }
    let row = |arm: &crate::results::Arm| {
        vec![
            Cell::text(&arm.model),
            Cell::text(&arm.policy),
            arm.states.map_or_else(|| Cell::text("none"), Cell::count),
            Cell::count(arm.observed.max_rows),
            Cell::count(arm.observed.omitted),
            Cell::count(arm.observed.state_bytes),
            Cell::count(arm.observed.predicted),
            Cell::count(arm.observed.under_bound),
        ]
    };
    let columns =
        ["model", "policy", "bound", "most rows", "omissions", "state bytes", "predictions", "under the bound"];
    Some(Figure {
        id: "states-held".to_owned(),
        title: "What the states held".to_owned(),
        caption: "Read from the states over all samples, not derived from the bound. Most rows: that a layer \
                  carried from one token to the next. Omissions: over layers, heads and samples. Bytes: of the \
                  states of all layers, of one context, at their largest between blocks. Predictions under the bound: those that an \
                  omission preceded; the others are the full state's."
            .to_owned(),
        content: Content::Table {
            columns: columns.map(str::to_owned).into(),
            rows: results.arms.iter().map(row).collect(),
        },
    })
}

/// Says which bounds were never reached, or not before the last prediction; none if all were.
fn warning(results: &Results) -> Option<String> {
    let names = |arms: Vec<&crate::results::Arm>| {
        let names: Vec<String> = arms.iter().map(|arm| format!("{} on {}", arm.policy, arm.model)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let never = names(results.never_bound()).map(|names| {
        format!(
            "nothing was ever omitted by {names}. The bound was not reached, and these numbers are those of the full \
             state: take longer contexts or a smaller bound."
        )
    });
    let before = names(results.before_bound()).map(|names| {
        format!(
            "no prediction was made under the bound by {names}: rows were omitted after the last one only, as a prefill \
             of whole contexts does. These numbers are those of the full state: take the strict protocol or prefill fewer \
             tokens."
        )
    });
    match (never, before) {
        (Some(never), Some(before)) => Some(format!("{never} Also, {before}")),
        (never, before) => never.or(before),
    }
}

/// A number with that many decimals, with commas between thousands where it is whole.
fn decimal(value: f64, decimals: usize) -> String {
    match decimals {
        0 => scale::grouped(&format!("{value:.0}")),
        // Never so many that the formatter refuses.
        _ => format!("{value:.decimals$}", decimals = decimals.min(17)),
    }
}

/// Text without characters that no document or terminal should get: controls (terminals obey them,
/// XML forbids them), and those that are none.
pub(crate) fn printable(text: &str) -> String {
    let bad = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}');
    text.chars()
        .map(|c| {
            if c == '\n' || c == '\t' {
                ' '
            } else if bad(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
