//! A comparison as text table, JSON, CSV and SVG.

use std::fmt::Write;
use std::path::Path;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::{Comparison, Run};
use crate::error::BenchError;
use crate::output::write_file;
use crate::plan::Kind;
use crate::statistics::Mean;

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
    let cell = |run: Option<&Run>| run.map_or_else(String::new, |run| value(&run.perplexity));
    let states = comparison.states();
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once("policy \\ states".to_owned()).chain(states.iter().map(usize::to_string)).collect()];
    for name in comparison.names() {
        let cells = states.iter().map(|&k| cell(comparison.run(name, k)));
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let mut text = aligned(&rows);
    if let Some(full) = comparison.full() {
        let _ = writeln!(text, "\nfull state: {}", value(&full.perplexity));
    }
    text
}

fn value(mean: &Mean) -> String {
    match mean.standard_error {
        Some(error) => format!("{:.3} ±{error:.3}", mean.mean),
        None => format!("{:.3}", mean.mean),
    }
}

/// Columns padded to their widest cell; the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let _ = if column == 0 { write!(text, "{cell}{pad}") } else { write!(text, "  {pad}{cell}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
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
        "nats_above_full",
        "nats_above_full_se",
        "nll",
        "tokens",
        "omitted",
        "max_rows",
        "state_bytes",
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
                run.perplexity.mean.to_string(),
                optional(run.perplexity.standard_error),
                optional(run.above_full.map(|above| above.mean)),
                optional(run.above_full.and_then(|above| above.standard_error)),
                run.nll.to_string(),
                run.tokens.to_string(),
                run.observed.omitted.to_string(),
                run.observed.max_rows.to_string(),
                run.observed.state_bytes.to_string(),
                run.seconds.to_string(),
                run.tokens_per_second.to_string(),
            ])
            .map_err(failed)?;
    }
    writer.into_inner().map_err(|e| BenchError::Input(format!("the results cannot be written as CSV: {e}")))
}

/// Colours that differ in hue and lightness (Paul Tol's muted scheme), one per line.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0x33, 0x22, 0x88),
    RGBColor(0x88, 0xcc, 0xee),
    RGBColor(0x44, 0xaa, 0x99),
    RGBColor(0x11, 0x77, 0x33),
    RGBColor(0x99, 0x99, 0x33),
    RGBColor(0xdd, 0xcc, 0x77),
    RGBColor(0xcc, 0x66, 0x77),
    RGBColor(0x88, 0x22, 0x55),
    RGBColor(0xaa, 0x44, 0x99),
];

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
    let mut svg = String::new();
    draw(comparison, title, &mut svg).map_err(|e| BenchError::Input(format!("the plot cannot be drawn: {e}")))?;
    Ok(Some(svg))
}

/// Round numbers between two values, for a logarithmic axis.
fn round_numbers(lowest: f64, highest: f64) -> Vec<f64> {
    let decades = lowest.log10().floor() as i32..=highest.log10().ceil() as i32;
    let all = decades.flat_map(|decade| [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0].map(|x| x * 10f64.powi(decade)));
    all.filter(|x| (lowest..=highest).contains(x)).collect()
}

/// A logarithmic axis with ticks of our choice.
struct LogAxis {
    lowest: f64,
    highest: f64,
    ticks: Vec<f64>,
}

impl Ranged for LogAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (value / self.lowest).ln() / (self.highest / self.lowest).ln();
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.lowest..self.highest
    }
}

impl ValueFormatter<f64> for LogAxis {
    fn format(value: &f64) -> String {
        ((value * 1e4).round() / 1e4).to_string()
    }
}

fn draw(comparison: &Comparison, title: &str, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let states = comparison.states();
    let values = comparison.runs.iter().map(|run| run.perplexity.mean).filter(|value| value.is_finite());
    let lowest = values.clone().fold(f64::INFINITY, f64::min) * 0.97;
    let highest = values.fold(lowest, f64::max) * 1.03;
    let ticks: Vec<f64> = states.iter().map(|&k| k as f64).collect();
    let (first, last) = (ticks[0], ticks[ticks.len() - 1] * 1.001);

    let root = SVGBackend::with_string(svg, (860, 520)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(150)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(
            LogAxis { lowest: first, highest: last, ticks },
            LogAxis { lowest, highest, ticks: round_numbers(lowest, highest) },
        )?;
    chart
        .configure_mesh()
        .x_desc("states (log scale)")
        .y_desc("perplexity (log scale)")
        .light_line_style(WHITE)
        .draw()?;
    let mut ends: Vec<(f64, &str, RGBColor)> = Vec::new();
    if let Some(full) = comparison.full() {
        let level = full.perplexity.mean;
        chart.draw_series(DashedLineSeries::new([(first, level), (last, level)], 6, 4, BLACK.stroke_width(2)))?;
        ends.push((level, "full", BLACK));
    }
    for (index, name) in comparison.names().into_iter().enumerate() {
        let colour = if name == "baseline" { RGBColor(110, 110, 110) } else { COLOURS[index % COLOURS.len()] };
        let points: Vec<(f64, f64)> =
            states.iter().filter_map(|&k| comparison.run(name, k).map(|run| (k as f64, run.perplexity.mean))).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        if let Some(&(_, level)) = points.last() {
            ends.push((level, name, colour));
        }
    }
    // Names at the right ends of their lines, pushed apart where they would overlap.
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let area = chart.plotting_area();
    let mut above = i32::MAX;
    for (level, name, colour) in ends {
        let (x, y) = area.map_coordinate(&(last, level));
        above = y.min(above.saturating_sub(15));
        let style = ("sans-serif", 13).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(name.to_owned(), (x + 8, above), style))?;
    }
    root.present()?;
    drop(chart);
    Ok(())
}
