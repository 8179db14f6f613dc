//! Panics of libraries as errors.
//!
//! Some panic on damaged or contradictory files. Those are files from the network, so that here it is an error like any
//! other. What can be validated before is: this is for what cannot.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside of [`contained`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The result of `work`, or what it said when it panicked. What `work` was changing must not be used after a panic.
///
/// # Errors
///
/// The message of the panic.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    // A contained panic is reported by its error, not on stderr as well.
    QUIET.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                hook(info);
            }
        }));
    });
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer);
    result.map_err(|panic| message(panic.as_ref()).to_owned())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the library gave up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(contained(|| -> u8 { panic!("no {}", "luck") }), Err("no luck".into()));
        assert_eq!(contained(|| 3), Ok(3));
    }
}
