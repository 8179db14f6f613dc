//! Errors and panics of the crate `tokenizers`, which panics on some damaged or contradictory files and on ids that its
//! decoders do not expect.

use crate::error::ModelError;

/// The result of `work`, its error or its panic as an error. `doing`: what it is about, as in "reading".
pub(crate) fn contained<T>(doing: &str, work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, ModelError> {
    match crate::contained::contained(work) {
        Ok(result) => result.map_err(|error| ModelError::Tokenizer(format!("{doing}: {error}"))),
        Err(panic) => Err(ModelError::Tokenizer(format!(
            "{doing}: {panic}; the file is damaged or asks for what the library cannot do, download or convert it again"
        ))),
    }
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
