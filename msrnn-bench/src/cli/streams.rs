//! What is written to the terminal, and what becomes of the command when nobody can read it.
//!
//! Results are files, or one text on stdout. stderr carries remarks only: where it is closed or full they are
//! lost, and the results are not. A reader of stdout who closes the pipe has seen enough.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

use msrnn_bench::error::BenchError;

/// A remark or an error, on stderr.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", visible(text));
}

/// Prints one JSON object on stdout, on one line.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), BenchError> {
    let text = serde_json::to_string(value).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
    print(&format!("{text}\n"))
}

/// Writes to stdout at once.
///
/// # Errors
///
/// [`BenchError::NobodyReads`] where the reader closed the pipe, which is no failure; else, as when a disk is full,
/// that it cannot be written.
pub(super) fn print(text: &str) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => BenchError::NobodyReads,
        _ => BenchError::Write { path: "standard output".into(), source },
    })
}

/// Prints what a model wrote, or a prompt: on a terminal with control characters spelled out, unless it is wanted
/// `raw`; elsewhere as it is.
///
/// # Errors
///
/// As [`print`].
pub(super) fn print_text(text: &str, raw: bool) -> Result<(), BenchError> {
    match raw || !std::io::stdout().is_terminal() {
        true => print(text),
        false => print(&visible(text)),
    }
}

/// Whether remarks on stderr may be in colour.
pub(super) fn may_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text of which no character moves a cursor, colours a terminal or turns the direction of writing: such are
/// spelled out. Lines and tabs stay.
fn visible(text: &str) -> Cow<'_, str> {
    let moves = |sign: char| {
        sign.is_control() && !matches!(sign, '\n' | '\t')
            || matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(moves) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.chars().fold(String::new(), |mut shown, sign| {
            match moves(sign) {
                true => shown.extend(sign.escape_unicode()),
                false => shown.push(sign),
            }
            shown
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_spelled_out_and_the_rest_stays() {
        assert_eq!(visible("a\tb\nwörter 日本 🐶 👩‍👩‍👧"), "a\tb\nwörter 日本 🐶 👩‍👩‍👧");
        assert_eq!(visible("\u{1b}[2Jx\r\u{9b}1m\u{202e}y"), "\\u{1b}[2Jx\\u{d}\\u{9b}1m\\u{202e}y");
    }
}
