//! Panics of the crate `tokenizers` as errors.
//!
//! It panics on some damaged or contradictory files and on ids that its decoders do not expect. Those are
//! files from the network, so that here it is an error like any other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::error::ModelError;

thread_local! {
    /// Whether this thread is inside of [`contained`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The result of `work`, its error or its panic as an error. `doing`: what it is about, as in "reading".
pub(super) fn contained<T>(doing: &str, work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, ModelError> {
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
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ModelError::Tokenizer(format!("{doing}: {error}"))),
        Err(panic) => Err(ModelError::Tokenizer(format!(
            "{doing}: {}; the file is damaged or asks for what the library cannot do, download or convert it again",
            message(panic.as_ref())
        ))),
    }
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
        let error = contained("reading", || -> Result<(), _> { panic!("no {}", "luck") }).unwrap_err().to_string();
        assert!(error.contains("reading: no luck") && error.contains("again"), "{error}");
        assert_eq!(contained("reading", || Ok(3)).unwrap(), 3);
    }
}
