//! Texts in a terminal: under the name of who wrote them, indented.

use std::fmt::Write as _;

use super::{WIDTH, padded};
use crate::figure::{Excerpt, Passage};
use crate::render::printable;

/// Columns before a text.
const INDENT: usize = 4;

pub(super) fn draw(passages: &[Passage]) -> String {
    let mut drawn = String::new();
    for Passage { title, texts } in passages {
        let _ = writeln!(drawn, "{}", padded(title, WIDTH).trim_end());
        for Excerpt { by, remark, text } in texts {
            let head = if remark.is_empty() { by.clone() } else { format!("{by} ({remark})") };
            let _ = writeln!(drawn, "  {}", padded(&head, WIDTH - 2).trim_end());
            for line in text.lines() {
                wrap(&printable(line), WIDTH - INDENT, |line| {
                    let _ = writeln!(drawn, "{}{line}", " ".repeat(INDENT));
                });
            }
        }
        drawn.push('\n');
    }
    drawn
}

/// A line in pieces of at most so many characters, cut between words where there are some.
fn wrap(line: &str, width: usize, mut each: impl FnMut(&str)) {
    let mut rest = line.trim();
    while let Some((end, _)) = rest.char_indices().nth(width) {
        let at = rest[..end].rfind(' ').filter(|at| *at > 0).unwrap_or(end);
        each(rest[..at].trim_end());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() {
        each(rest);
    }
}
