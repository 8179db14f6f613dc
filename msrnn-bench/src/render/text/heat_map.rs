//! Grids of values as shades: each character is the mean of the cells under it.

use std::fmt::Write;

use super::{WIDTH, padded};
use crate::figure::{Content, Panel};
use crate::render::{colour, printable, scale};

/// Most columns and rows of a panel.
const SIZE: (usize, usize) = (60, 20);
/// Columns left of a panel for labels.
const LEFT: usize = 11;
/// Panels beyond are in the report.
const PANELS: usize = 4;
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];

pub(super) fn draw(content: &Content) -> String {
    let Content::HeatMap { panel: kind, x, columns, y, rows, value, panels } = content else {
        return String::new();
    };
    if panels.is_empty() || rows.is_empty() || columns.is_empty() {
        return "(no data)\n".to_owned();
    }
    let span = colour::span(panels.iter().flat_map(|panel| panel.values.iter().flatten().flatten().copied()));
    let (low, high) = (scale::label(span.0), scale::label(span.1));
    let mut text = String::new();
    let mut line = |words: &str| {
        let _ = writeln!(text, "{}", padded(words, WIDTH).trim_end());
    };
    line(&format!("{low} {} {high}  {value}", SHADES.iter().collect::<String>()));
    line(&format!("across: {}", printable(&x.label)));
    line(&format!("down: {}", printable(&y.label)));
    for panel in panels.iter().take(PANELS) {
        line("");
        line(&format!("{kind} {}", panel.name));
        let (width, height) = (columns.len().min(SIZE.0), rows.len().min(SIZE.1));
        for row in 0..height {
            let under = part(row, height, rows.len());
            let label = if row % 4 == 0 || row + 1 == height { scale::label(rows[under.start]) } else { String::new() };
            let cells: String =
                (0..width).map(|column| shade(panel, &under, part(column, width, columns.len()), span)).collect();
            line(&format!("{label:>LEFT$} {cells}"));
        }
        let (first, last) = (scale::label(columns[0]), scale::label(columns[columns.len() - 1]));
        let gap = width.saturating_sub(first.chars().count() + last.chars().count()).max(1);
        line(&format!("{}{first}{}{last}", " ".repeat(LEFT + 1), " ".repeat(gap)));
    }
    if panels.len() > PANELS {
        line("");
        line(&format!("and {} more in the report", panels.len() - PANELS));
    }
    text
}

/// The cells of a character: a part of them, at least one.
fn part(index: usize, parts: usize, cells: usize) -> std::ops::Range<usize> {
    index * cells / parts..(index + 1) * cells / parts
}

fn shade(panel: &Panel, rows: &std::ops::Range<usize>, columns: std::ops::Range<usize>, span: (f64, f64)) -> char {
    let cells = panel.values[rows.clone()].iter().flat_map(|row| row[columns.clone()].iter().flatten());
    let shares: Vec<f64> = cells.map(|&value| colour::share(value, span)).collect();
    if shares.is_empty() {
        return ' ';
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    SHADES[((mean * SHADES.len() as f64) as usize).min(SHADES.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Axis;

    #[test]
    fn shades_are_means_of_cells() {
        let cell = |row: usize, column: usize| (column <= row).then_some(if column < 100 { 0.0 } else { 1.0 });
        let values = (0..200).map(|row| (0..200).map(|column| cell(row, column)).collect()).collect();
        let content = Content::HeatMap {
            panel: "layer".to_owned(),
            x: Axis::linear("position"),
            columns: (0..200).map(f64::from).collect(),
            y: Axis::linear("step"),
            rows: (0..200).map(f64::from).collect(),
            value: "kept".to_owned(),
            panels: vec![Panel { name: "0".to_owned(), values }],
        };
        let text = draw(&content);
        let last = text.lines().find(|line| line.trim_start().starts_with("190 ")).unwrap();
        let cells: String = last.chars().skip(LEFT + 1).collect();
        assert_eq!(cells, "·".repeat(30) + &"█".repeat(30), "{text}");
        let first = text.lines().find(|line| line.starts_with("          0 ·")).unwrap();
        assert_eq!(first.chars().skip(LEFT + 1).collect::<String>(), "···", "{text}");
    }
}
