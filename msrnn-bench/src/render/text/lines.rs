//! Lines in braille, two by four dots to a character, with a letter at each point.

use std::fmt::Write;

use super::{WIDTH, padded};
use crate::figure::{Axis, Line};
use crate::render::{extent, printable, scale};

/// Rows of the plot.
const HEIGHT: usize = 18;
/// Columns left of the plot for labels.
const LEFT: usize = 12;
/// Lines of more points have letters at every few of them.
const LETTERS: usize = 12;

pub(super) fn draw(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    if lines.iter().all(|line| line.points.is_empty()) {
        return "(no data)\n".to_owned();
    }
    let (across, up) = extent::lines(x, y, lines);
    let columns = WIDTH - LEFT - 1;
    // In dots: from the left, from the top.
    let place = |x: f64, y: f64| {
        let at = |share: f64, dots: usize| (share.clamp(0.0, 1.0) * (dots - 1) as f64).round() as usize;
        (at(across.share(x), columns * 2), HEIGHT * 4 - 1 - at(up.share(y), HEIGHT * 4))
    };
    let mut dots = vec![vec![0u8; columns]; HEIGHT];
    let mut letters = vec![vec![None; columns]; HEIGHT];
    for (index, line) in lines.iter().enumerate() {
        let places: Vec<(usize, usize)> = line.points.iter().map(|point| place(point.x, point.y)).collect();
        for pair in places.windows(2) {
            // Reference lines are dashed.
            connect(pair[0], pair[1], |step, (column, row)| {
                if !line.reference || step / 4 % 2 == 0 {
                    dots[row / 4][column / 2] |= DOTS[row % 4][column % 2];
                }
            });
        }
        for &(column, row) in places.iter().step_by(places.len().div_ceil(LETTERS).max(1)) {
            letters[row / 4][column / 2] = Some(letter(index));
        }
    }

    let mut text = printable(&y.label) + if up.log { " (log)\n" } else { "\n" };
    text = padded(text.trim_end(), WIDTH).trim_end().to_owned() + "\n";
    let ticks: Vec<(usize, f64)> =
        up.ticks(6).into_iter().map(|tick| (place(across.lowest, tick).1 / 4, tick)).collect();
    for (row, (dots, letters)) in dots.iter().zip(&letters).enumerate() {
        let label = ticks.iter().find(|(at, _)| *at == row).map_or_else(String::new, |(_, tick)| scale::label(*tick));
        let cells: String =
            dots.iter().zip(letters).map(|(&dots, letter)| letter.unwrap_or_else(|| braille(dots))).collect();
        let _ = writeln!(
            text,
            "{label:>width$}{}{}",
            if label.is_empty() { '│' } else { '┤' },
            cells.trim_end(),
            width = LEFT
        );
    }
    let _ = writeln!(text, "{}└{}", " ".repeat(LEFT), "─".repeat(columns));
    let mut places: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|point| point.x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    // A label goes under its tick where it does not touch the one before.
    let mut labels = String::new();
    for tick in across.ticks_at(&places, 6) {
        let label = scale::label(tick);
        let centre = LEFT + 1 + place(tick, up.lowest).0 / 2;
        let start = centre.saturating_sub(label.len() / 2).min(WIDTH - label.len());
        if labels.is_empty() || start > labels.len() {
            labels += &" ".repeat(start - labels.len());
            labels += &label;
        }
    }
    let name = printable(&x.label) + if across.log { " (log)" } else { "" };
    let _ = writeln!(text, "{labels}\n{}{}", " ".repeat(LEFT + 1), padded(&name, columns).trim_end());
    for (index, line) in lines.iter().enumerate() {
        let last = line.points.last().map_or_else(String::new, |point| scale::label(point.y));
        let _ = writeln!(text, "{:>LEFT$} {} {last:>16}", letter(index), padded(&line.name, 40));
    }
    text
}

/// Dots of a braille character, by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

fn braille(dots: u8) -> char {
    if dots == 0 { ' ' } else { char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ') }
}

/// What marks the line of that index.
fn letter(index: usize) -> char {
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char::from(letters[index % letters.len()])
}

/// Visits the dots between two places.
fn connect(from: (usize, usize), to: (usize, usize), mut visit: impl FnMut(usize, (usize, usize))) {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
    for step in 0..=steps {
        let between =
            |a: usize, b: usize| (a as f64 + (b as f64 - a as f64) * step as f64 / steps as f64).round() as usize;
        visit(step, (between(from.0, to.0), between(from.1, to.1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Point;

    #[test]
    fn a_falling_line_falls() {
        let points = [(1.0, 100.0), (10.0, 10.0), (100.0, 1.0)].map(|(x, y)| Point { x, y, error: None });
        let line = Line { name: "tova".to_owned(), reference: false, points: points.into() };
        let text = draw(&Axis::log("states"), &Axis::log("perplexity"), &[line]);
        let column = |row: &str| row.chars().position(|c| c == 'a');
        let marks: Vec<usize> = text.lines().skip(1).take(HEIGHT).filter_map(column).collect();
        assert_eq!(marks.len(), 3, "{text}");
        // On logarithmic axes the middle point lies in the middle.
        assert!((marks[0] + marks[2]).abs_diff(2 * marks[1]) <= 1, "{text}");
        assert!(marks[0] < marks[1]);
        assert!(
            text.contains("perplexity (log)") && text.contains("states (log)") && text.contains("a tova"),
            "{text}"
        );
    }
}
