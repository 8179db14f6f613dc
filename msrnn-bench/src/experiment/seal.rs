//! What tells a line of samples that was changed from one that was not.
//!
//! Every line ends with a checksum of itself and of what the run is. A digit that was flipped, a line of another
//! run and a manifest that was edited are found when the line is read, not in the numbers that follow from it.
//! It guards against accidents, not against who computes checksums too.

use sha2::{Digest, Sha256};

use crate::error::BenchError;
use crate::experiment::manifest::{Identity, table};

/// Hexadecimal digits of a checksum: 64 bits.
const DIGITS: usize = 16;
/// What stands before the checksum.
const KEY: &str = ",\"check\":\"";
/// What stands behind it.
const END: &str = "\"}";

/// Makes and checks the checksums of a run, which its parts share.
#[derive(Clone, Debug)]
pub struct Seal(Sha256);

impl Seal {
    /// The seal of a run, whichever part of it.
    ///
    /// # Errors
    ///
    /// When a number is too large for TOML.
    pub fn of(identity: &Identity) -> Result<Self, BenchError> {
        let whole = table(&Identity { shard: None, ..identity.clone() })?;
        let text = serde_json::to_vec(&whole).map_err(|e| BenchError::Input(format!("the setting is no JSON: {e}")))?;
        Ok(Self(Sha256::new_with_prefix(text)))
    }

    fn check(&self, line: &[u8]) -> String {
        let hash = self.0.clone().chain_update(line).finalize();
        hash.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A JSON object with its checksum as last entry.
    pub fn close(&self, object: &[u8]) -> Vec<u8> {
        let open = &object[..object.len() - 1];
        [open, KEY.as_bytes(), self.check(object).as_bytes(), END.as_bytes()].concat()
    }

    /// The JSON object that was closed.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the line.
    pub fn open(&self, line: &[u8]) -> Result<Vec<u8>, &'static str> {
        let missing = "it ends without a checksum: it was changed or cut, or an older msrnn wrote it";
        let (object, end) =
            line.split_at_checked(line.len().saturating_sub(KEY.len() + DIGITS + END.len())).ok_or(missing)?;
        let check = end.strip_prefix(KEY.as_bytes()).and_then(|end| end.strip_suffix(END.as_bytes())).ok_or(missing)?;
        let object = [object, b"}"].concat();
        match self.check(&object).as_bytes() == check {
            true => Ok(object),
            false => Err("its checksum is wrong: the line or the manifest was changed, or it is of another run"),
        }
    }
}
