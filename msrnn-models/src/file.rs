//! Files of a model directory as text.

use std::path::Path;

use crate::checkpoint;
use crate::error::ModelError;

/// The text of a file in UTF-8, without the byte order mark that some editors put before it.
///
/// # Errors
///
/// When it cannot be read, is the pointer that Git LFS leaves in a file's place, or is not UTF-8, with the remedy for
/// UTF-16.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    let failed = |source| ModelError::Read { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    if checkpoint::is_pointer(&bytes) {
        return Err(ModelError::Pointer(path.into()));
    }
    let wrong = |reason: String| ModelError::Config { path: path.into(), reason };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(wrong("this is UTF-16; convert it, for example with `iconv -f UTF-16 -t UTF-8`".into()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| wrong(format!("not UTF-8 at byte {}; download the file again", e.utf8_error().valid_up_to())))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_goes_and_utf_16_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|e| e.to_string())
        };
        assert_eq!(of(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert_eq!(of(b"{}").unwrap(), "{}");
        let error = of(b"\xff\xfe{\0}\0").unwrap_err();
        assert!(error.contains("UTF-16") && error.contains("iconv") && error.contains("config.json"), "{error}");
        assert!(of(b"caf\xe9").unwrap_err().contains("not UTF-8 at byte 3"));
    }
}
