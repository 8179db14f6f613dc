//! What Ctrl-C, SIGTERM and SIGHUP do.
//!
//! Whoever works looks at [`INTERRUPT`], ends with what is finished, and says so. That can take a while: a block of
//! tokens of a large model, a text that is turned into ids. Where nothing would be lost, the command does not
//! wait for it: before there is a result, and in experiments, whose finished units are on disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::streams::say;

/// Set by the first signal: finish the block, keep what is there, and end.
pub(super) static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Whether something is finished that is in memory alone.
static IN_MEMORY: AtomicBool = AtomicBool::new(false);

/// Whether the command works by turns: then an interrupt ends the turn.
static BY_TURNS: AtomicBool = AtomicBool::new(false);

/// Whether a turn is under way.
static AT_WORK: AtomicBool = AtomicBool::new(false);

/// What an interrupted command says.
pub(super) const ENDED: &str = "interrupted: what was finished is kept and marked as partial";

/// For who works to end by itself.
const GRACE: Duration = Duration::from_millis(700);

/// From now on what is finished is in memory alone: an interrupt waits until it is shown or written.
pub(super) fn results_are_in_memory() {
    IN_MEMORY.store(true, Ordering::Relaxed);
}

/// From now on an interrupt ends the turn that is under way, and between turns the command. A turn that does not end is
/// ended with the command by a second one.
pub(super) fn work_by_turns() {
    BY_TURNS.store(true, Ordering::Relaxed);
}

/// A turn begins.
pub(super) fn begin_turn() {
    INTERRUPT.store(false, Ordering::Relaxed);
    AT_WORK.store(true, Ordering::Relaxed);
}

/// A turn has ended; whether it was interrupted.
pub(super) fn end_turn() -> bool {
    AT_WORK.store(false, Ordering::Relaxed);
    INTERRUPT.swap(false, Ordering::Relaxed)
}

/// Obeys signals. The second one ends at once.
pub(super) fn obey() {
    // Without a handler a signal still ends the program, unkindly.
    let _ = ctrlc::set_handler(|| {
        let again = INTERRUPT.swap(true, Ordering::Relaxed);
        let by_turns = BY_TURNS.load(Ordering::Relaxed);
        if again || (by_turns && !AT_WORK.load(Ordering::Relaxed)) {
            std::process::exit(130);
        }
        if by_turns {
            return;
        }
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            if !IN_MEMORY.load(Ordering::Relaxed) {
                say(ENDED);
                std::process::exit(130);
            }
        });
    });
}
