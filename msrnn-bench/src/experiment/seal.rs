//! What tells a line of samples that was changed from one that was not.
//!
//! Every line ends with a checksum of itself, and names the unit that it is of by all that its sample depends on. A digit
//! that was flipped is found when the line is read, not in the numbers that follow from it. It guards against accidents,
//! not against who computes checksums too.

use crate::experiment::manifest::hash;

/// Hexadecimal digits of a checksum: 64 bits.
const DIGITS: usize = 16;
/// What stands before the checksum.
const KEY: &str = ",\"check\":\"";
/// What stands behind it.
const END: &str = "\"}";

fn check(object: &[u8]) -> String {
    hash(object).split_at(DIGITS).0.to_owned()
}

/// A JSON object with its checksum as last entry.
pub fn close(object: &[u8]) -> Vec<u8> {
    let open = &object[..object.len() - 1];
    [open, KEY.as_bytes(), check(object).as_bytes(), END.as_bytes()].concat()
}

/// The JSON object that was closed.
///
/// # Errors
///
/// Says what is wrong with the line.
pub fn open(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    let missing = "it ends without a checksum: it was changed or cut";
    let (object, end) =
        line.split_at_checked(line.len().saturating_sub(KEY.len() + DIGITS + END.len())).ok_or(missing)?;
    let found = end.strip_prefix(KEY.as_bytes()).and_then(|end| end.strip_suffix(END.as_bytes())).ok_or(missing)?;
    let object = [object, b"}"].concat();
    match check(&object).as_bytes() == found {
        true => Ok(object),
        false => Err("its checksum is wrong: the line was changed"),
    }
}
