//! Figures for a terminal: 72 columns of plain text in one colour, whatever the terminal.

mod bars;
mod heat_map;
mod lines;
mod passages;
mod table;

use std::fmt::Write;

use super::printable;
use crate::figure::{Content, Figure};
use crate::results::Results;

/// Columns of a plot.
const WIDTH: usize = 72;

/// All that results show, one figure after the other, with what the states held and the notes.
pub fn results(results: &Results) -> String {
    let mut text = String::new();
    for figure in results.figures.iter().chain(super::arms(results).as_ref()) {
        let _ = writeln!(text, "{}", self::figure(figure));
    }
    if let Some(warning) = super::warning(results) {
        let _ = writeln!(text, "WARNING: {}\n", printable(&warning));
    }
    for note in &results.notes {
        let _ = writeln!(text, "- {}", printable(note));
    }
    text
}

/// What a command shows of results that are in files: the tables of one kind, which is the beginning of their ids, and
/// what a reader must not miss; all of it where no kind is named.
pub(crate) fn brief(results: &Results, kind: &str) -> String {
    if kind.is_empty() {
        return self::results(results);
    }
    let table = |figure: &&Figure| figure.id.starts_with(kind) && matches!(figure.content, Content::Table { .. });
    let mut text: String = results.figures.iter().filter(table).map(|figure| self::figure(figure) + "\n").collect();
    let lines = results.missing.len() + usize::from(!results.missing.is_empty());
    let (first, last) = (results.notes.first(), results.notes.iter().rev().take(lines.saturating_sub(1)).rev());
    for note in first.filter(|_| lines > 0).into_iter().chain(last) {
        let _ = writeln!(text, "- {}", printable(note));
    }
    text
}

/// The tables alone, without what the states held.
pub fn tables(results: &Results) -> String {
    let tables = results.figures.iter().filter(|figure| matches!(figure.content, Content::Table { .. }));
    tables.map(figure).collect::<Vec<_>>().join("\n")
}

/// A figure under its title, with its caption.
pub fn figure(figure: &Figure) -> String {
    let body = match &figure.content {
        Content::Table { columns, rows } => table::draw(columns, rows),
        Content::Lines { x, y, lines } => lines::draw(x, y, lines),
        Content::Bars { groups, y, series } => bars::draw(groups, y, series),
        Content::HeatMap { .. } => heat_map::draw(&figure.content),
        Content::Passages { passages } => passages::draw(passages),
    };
    let mut text = printable(&figure.title) + "\n";
    if !figure.caption.is_empty() {
        let _ = writeln!(text, "{}", printable(&figure.caption));
    }
    text + "\n" + &body
}

/// A name that fits, padded to its width.
fn padded(name: &str, width: usize) -> String {
    let name = printable(name);
    let count = name.chars().count();
    if count <= width {
        return name + &" ".repeat(width - count);
    }
    name.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    proptest! {
        /// Whatever the data: no panic, no control characters, and plots keep their width.
        #[test]
        fn text_stays_text(figure in sample::figures()) {
            let text = super::figure(&figure);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            if !matches!(figure.content, Content::Table { .. }) {
                let head = 2 + usize::from(!figure.caption.is_empty());
                for line in text.lines().skip(head) {
                    prop_assert!(line.chars().count() <= WIDTH, "{line:?}");
                }
            }
        }
    }
}
