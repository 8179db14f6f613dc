//! How far a command is: a bar on a terminal, a plain line every half minute elsewhere, so that the log of a cluster
//! lives. Nothing of it reaches a result.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::experiment::Event;

/// From one line to the next where there is no terminal.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);

/// Whether nobody wants to see anything.
static QUIET: AtomicBool = AtomicBool::new(false);

/// The bars of a terminal. Whoever else writes to it does so while they are [out of the way](aside).
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// From now on nothing of this is shown.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether nothing is shown, not even on a terminal.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes while no bar is in the way.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Puts a bar to the others.
pub(crate) fn among_others(bar: ProgressBar) -> ProgressBar {
    if is_quiet() { ProgressBar::hidden() } else { BARS.add(bar) }
}

/// How far something is.
#[derive(Debug, Default)]
struct State {
    /// What is done now: a unit, or `loading`.
    what: String,
    /// Units that are finished, of those that there are; no units where it is one piece of work.
    units: (usize, usize),
    /// Tokens gone through, of those that there are; none of none while that is not known.
    tokens: (usize, usize),
    /// When the first tokens could be gone through.
    began: Option<Instant>,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    name: String,
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

/// Shows how far a command is until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
    bar: Option<ProgressBar>,
    writer: Option<JoinHandle<()>>,
}

impl Progress {
    /// From the first second: loads, and says so. `name`: of the command, for who has several.
    pub(crate) fn new(name: &str) -> Self {
        match (is_quiet(), std::io::stderr().is_terminal()) {
            (true, _) => Self::with(name, None, None),
            (false, true) => Self::with(name, Some(bar(name)), None),
            (false, false) => Self::with(name, None, Some((PERIOD, Box::new(std::io::stderr())))),
        }
    }

    fn with(name: &str, bar: Option<ProgressBar>, lines: Option<(Duration, Box<dyn Write + Send>)>) -> Self {
        let state = State { what: "loading".into(), ..State::default() };
        let shared = Arc::new(Shared {
            name: name.into(),
            started: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let writer = lines.map(|(period, to)| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.write(period, to))
        });
        if let Some(bar) = &bar {
            bar.set_message("loading");
        }
        Self { shared, bar, writer }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.state();
        change(&mut state);
        let Some(bar) = &self.bar else { return };
        if state.tokens.1 > 0 && bar.length() != Some(state.tokens.1 as u64) {
            bar.set_length(state.tokens.1 as u64);
            bar.set_style(style("{prefix} {bar:24} {percent}%, {elapsed_precise}, {eta_precise} left, {wide_msg}"));
            bar.reset_eta();
        }
        bar.set_position(state.tokens.0 as u64);
        bar.set_message(state.what.clone());
    }

    /// So many tokens are to be gone through.
    pub(crate) fn tokens(&self, tokens: usize) {
        self.tell(Event::Left(0, tokens));
        self.change(|state| state.what = "scoring".into());
    }

    /// So many more tokens were gone through.
    pub(crate) fn advance(&self, tokens: usize) {
        self.change(|state| state.tokens.0 += tokens);
    }

    /// Takes note of what happens in a run.
    pub(crate) fn tell(&self, event: Event<'_>) {
        self.change(|state| match event {
            Event::Left(units, tokens) => {
                (state.units, state.tokens, state.began) = ((0, units), (0, tokens), Some(Instant::now()));
            }
            Event::Begins(unit) => state.what = unit.name.clone(),
            Event::Ends(_) => state.units.0 += 1,
        });
    }
}

impl Progress {
    /// Shows nothing from now on.
    pub(crate) fn end(&self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line every `period` until it ends.
    fn write(&self, period: Duration, mut to: impl Write) {
        let mut next = period;
        let mut state = self.state();
        while !state.ended {
            let left = next.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                // Who cannot be told is not told.
                let _ = writeln!(to, "{}", self.line(&state));
                next += period;
                continue;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn line(&self, state: &State) -> String {
        let State { what, units, tokens: (done, all), began, .. } = state;
        let elapsed = in_words(self.started.elapsed());
        let mut line = format!("{}: {elapsed} elapsed", self.name);
        if units.1 > 0 {
            line += &format!(", {} of {} units", units.0, units.1);
        }
        if *all > 0 {
            line += &format!(", {} % of {all} tokens", done * 100 / all);
        }
        let spent = began.map_or(Duration::ZERO, |began| began.elapsed());
        if *done > 0 && done < all {
            let left = spent.mul_f64((all - done) as f64 / *done as f64);
            line += &format!(", about {} left", in_words(left));
        }
        let what: String = what.chars().filter(|sign| !sign.is_control()).collect();
        format!("{line}: {what}")
    }
}

/// A time for people: `42 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn bar(name: &str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new_spinner());
    bar.set_style(style("{prefix} {spinner} {elapsed_precise}, {wide_msg}"));
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Unit;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_has_a_plain_line_every_period_from_loading_on_and_none_after_the_end() {
        let log = Log::default();
        let text = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let until = |what: &str| {
            let started = Instant::now();
            while !text().contains(what) {
                assert!(started.elapsed() < Duration::from_secs(60), "{what:?} does not come: {}", text());
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let progress = Progress::with("msrnn lm", None, Some((Duration::from_millis(5), Box::new(log.clone()))));
        until("msrnn lm: 0 s elapsed: loading\n");
        progress.tell(Event::Left(4, 200));
        let unit = Unit { name: "tova@16, \u{1b}[2Ja.txt".into(), ..Unit::default() };
        progress.tell(Event::Begins(&unit));
        progress.advance(50);
        until("0 of 4 units, 25 % of 200 tokens, about ");
        progress.tell(Event::Ends(&unit));
        until("1 of 4 units");
        drop(progress);
        let ended = text();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(text(), ended);
        assert!(ended.ends_with('\n') && ended.contains(": tova@16, [2Ja.txt\n"), "{ended}");
        assert!(ended.chars().all(|sign| sign == '\n' || !sign.is_control()), "{ended:?}");
    }

    #[test]
    fn times_are_told_in_two_units() {
        let words = [0, 59, 60, 3599, 3600, 100_000].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(words, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "27 h 46 min"]);
    }
}
