//! What is written to the terminal, and what becomes of the command when nobody can read it.
//!
//! Results are files, or one text on stdout. stderr carries remarks only: where it is closed or full they are
//! lost, and the results are not. A reader of stdout who closes the pipe has seen enough.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use msrnn_bench::error::BenchError;
use msrnn_bench::progress;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::settings::as_options;

/// From now on a file that grows beyond what it may (`ulimit -f`) is an error of who writes it, as a full disk is, instead
/// of the death of the process.
pub(super) fn outlive_limits() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: to ignore a signal runs no code when it comes.
        #[allow(unsafe_code)]
        // Where it cannot be ignored, it is as it was.
        let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    }
}

/// An error, or how a command ended, on stderr.
pub(super) fn say(text: &str) {
    let _ = progress::aside(|| writeln!(std::io::stderr().lock(), "{}", visible(&as_options(text))));
}

/// What is good to know, on stderr.
pub(super) fn remark(text: &str) {
    if !progress::is_quiet() {
        say(text);
    }
}

/// A text on stderr in which what could command a terminal is spelled out already.
pub(super) fn say_raw(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Warnings and errors of the libraries, on stderr, one a line.
///
/// What they tell of files and servers is spelled out as everything is; the colour of the first word is ours.
pub(super) struct Remarks;

impl<S, N> FormatEvent<S, N> for Remarks
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let level = event.metadata().level();
        match to.has_ansi_escapes() {
            true => write!(to, "\x1b[33m{level:>5}\x1b[0m ")?,
            false => write!(to, "{level:>5} ")?,
        }
        writeln!(to, "{}", visible(&as_options(&text)))
    }
}

/// Says what is wrong with the command line, or what it asked to be told, and how the command ends.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    // Values may come from a file of options. Without anything to spell out, clap knows best how to show it.
    if !error.use_stderr() || visible(&as_options(&text)) == text {
        error.exit();
    }
    say(text.trim_end());
    ExitCode::from(2)
}

/// Prints one JSON object on stdout, on one line.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), BenchError> {
    let text = serde_json::to_string(value).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
    print(&format!("{text}\n"))
}

/// Writes to stdout at once; on a terminal, with control characters spelled out.
///
/// # Errors
///
/// As [`print_raw`].
pub(super) fn print(text: &str) -> Result<(), BenchError> {
    print_text(text, false)
}

/// Writes to stdout at once.
///
/// # Errors
///
/// [`BenchError::NobodyReads`] where the reader closed the pipe, which is no failure; else, as when a disk is full,
/// that it cannot be written.
pub(super) fn print_raw(text: &str) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    let written = progress::aside(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    written.map_err(|source| match source.kind() {
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
        true => print_raw(text),
        false => print_raw(&visible(text)),
    }
}

/// Whether remarks on stderr may be in colour.
pub(super) fn may_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text of which no character moves a cursor, colours a terminal or turns the direction of writing: such are
/// spelled out. Lines and tabs stay.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
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
