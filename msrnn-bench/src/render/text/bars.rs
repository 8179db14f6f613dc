//! Bars of blocks, group by group.

use std::fmt::Write;

use super::{WIDTH, padded};
use crate::figure::{Axis, Series};
use crate::render::{extent, printable, scale};

/// Columns for names.
const NAMES: usize = 20;
/// Columns for bars.
const BARS: usize = 34;

pub(super) fn draw(groups: &[String], y: &Axis, series: &[Series]) -> String {
    let axis = extent::bars(y, series);
    let name = printable(&y.label) + if axis.log { " (log)" } else { "" };
    let mut text = padded(&name, WIDTH).trim_end().to_owned() + "\n";
    let floor = if axis.log { axis.lowest } else { 0.0 };
    for (index, group) in groups.iter().enumerate() {
        if series.len() > 1 {
            let _ = writeln!(text, "{}", padded(group, WIDTH).trim_end());
        }
        for one in series {
            let label = if series.len() > 1 { format!("  {}", one.name) } else { group.clone() };
            let Some(value) = one.values[index] else {
                let _ = writeln!(text, "{} ", padded(&label, NAMES));
                continue;
            };
            let error = one.errors.get(index).copied().flatten();
            let error = error.map_or_else(String::new, |error| format!(" ±{}", scale::label(error)));
            let bar = bar(axis.share(floor), axis.share(value));
            let line = format!("{} {bar} {}{error}", padded(&label, NAMES), scale::label(value));
            let _ = writeln!(text, "{}", padded(&line, WIDTH).trim_end());
        }
    }
    text
}

/// A bar between two shares of its columns, in eighths of a column at its right end.
fn bar(from: f64, to: f64) -> String {
    let eighths = |share: f64| (share.clamp(0.0, 1.0) * (BARS * 8) as f64).round() as usize;
    let (start, end) = (eighths(from.min(to)), eighths(from.max(to)));
    let cell = |column: usize| match (end.saturating_sub(column * 8).min(8), column * 8 + 7 < start) {
        (_, true) | (0, _) => ' ',
        (filled, _) => ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'][filled - 1],
    };
    (0..BARS).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let series = [Series { name: String::new(), values: vec![Some(2.0), Some(4.0), None], errors: Vec::new() }];
        let groups = ["a", "b", "c"].map(str::to_owned);
        let text = draw(&groups, &Axis::linear("steps kept"), &series);
        let blocks: Vec<usize> = text.lines().map(|line| line.chars().filter(|&c| c == '█').count()).collect();
        assert_eq!(blocks[0], 0);
        assert!(blocks[2].abs_diff(2 * blocks[1]) <= 1 && blocks[2] > BARS / 2, "{text}");
        assert_eq!(blocks[3], 0);
    }

    #[test]
    fn bars_below_zero_end_there() {
        assert_eq!(bar(0.5, 0.0).trim_end().chars().count(), BARS / 2);
        assert_eq!(bar(0.5, 1.0).chars().take(BARS / 2).collect::<String>().trim(), "");
    }
}
