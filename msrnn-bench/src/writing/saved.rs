//! What a model has read, in a file, to be taken up again: a long text is read once and asked many things.
//!
//! A file is a mark, a header that says of what it is the state, a body, and a checksum over all of it:
//!
//! ```text
//!   8 bytes    "msrnn\x00s\x01"
//!   8 bytes    length of the header, little-endian
//!   header     JSON: Identity
//!   body       CBOR: snapshots of all layers, ids, logits, where the seed's sequence is, what was said
//!   32 bytes   SHA-256 of all before
//! ```
//!
//! The checksum finds what was cut or damaged, before anything in the file is believed. It says nothing of who made the
//! file: whatever is in it is looked at against the model before memory is taken for it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use msrnn_core::compression::Compression;
use msrnn_core::state::MultiState;
use msrnn_core::state::snapshot::Snapshot;
use msrnn_models::Model;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::session::{Parts, Session};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::conversation::Said;
use crate::error::BenchError;
use crate::memory;
use crate::output::write_file;
use crate::precision::Precision;
use crate::source::Source;

const MARK: &[u8; 8] = b"msrnn\0s\x01";
const HASH: usize = 32;
/// Bytes of the longest header that is read.
const LONGEST: usize = 1 << 20;

/// Of what it is the state: what has to be the same where it is taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model, as the user named it; told, not compared.
    pub model: String,
    /// SHA-256 of the model's files, by their names.
    pub sha256: BTreeMap<String, String>,
    /// `tova@256` with the number of states, or `full`.
    pub policy: String,
    /// Weights and states.
    pub precision: String,
    /// How positions are numbered.
    pub positions: Positions,
}

impl Identity {
    /// Of a model's files under a compression.
    pub fn new(source: Source, compression: &Compression, precision: Precision, positions: Positions) -> Self {
        let policy = match compression.bound() {
            Some((policy, states)) => format!("{}@{states}", policy.name()),
            None => "full".into(),
        };
        Self { model: source.name, sha256: source.sha256, policy, precision: precision.to_string(), positions }
    }

    /// What differs, with the remedy.
    fn differs(&self, asked: &Self) -> Option<String> {
        if self.sha256 != asked.sha256 {
            let files: Vec<&str> = self
                .sha256
                .iter()
                .filter(|(name, hash)| asked.sha256.get(*name) != Some(hash))
                .map(|(name, _)| name.as_str())
                .chain(asked.sha256.keys().filter(|name| !self.sha256.contains_key(*name)).map(String::as_str))
                .collect();
            return Some(format!(
                "it is of another model, {}, than {}: {} differ; give the model that it was saved with",
                self.model,
                asked.model,
                files.join(", ")
            ));
        }
        let other = |what: &str, saved: &str, given: &str, option: &str| {
            Some(format!("it was saved under the {what} {saved}, not {given}; give {option} {saved}"))
        };
        if self.policy != asked.policy {
            return other("policy", &self.policy, &asked.policy, "‘policy’");
        }
        if self.precision != asked.precision {
            return other("precision", &self.precision, &asked.precision, "‘dtype’");
        }
        if self.positions != asked.positions {
            return other("positions", &self.positions.to_string(), &asked.positions.to_string(), "‘positions’");
        }
        None
    }
}

/// What goes with the states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Seed of the draws.
    pub seed: u64,
    /// How far its sequence is.
    pub drawn: u64,
    /// What was said, in a conversation.
    pub said: Option<Said>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    states: Vec<Snapshot>,
    seen: Vec<u32>,
    pending: Option<u32>,
    logits: Option<Vec<f32>>,
    aside: Aside,
}

/// Writes a session, whole or not at all.
///
/// # Errors
///
/// When it cannot be written.
pub fn save(path: &Path, identity: &Identity, session: Session<'_>, aside: Aside) -> Result<(), BenchError> {
    let Parts { states, seen, pending, logits } = session.into_parts();
    let states = states.iter().map(MultiState::snapshot).collect();
    let failed = |what: String| BenchError::Input(format!("{}: the state cannot be written: {what}", path.display()));
    let header = serde_json::to_vec(identity).map_err(|e| failed(e.to_string()))?;
    let mut bytes = [&MARK[..], &(header.len() as u64).to_le_bytes(), &header].concat();
    let body = Body { states, seen, pending, logits, aside };
    ciborium::into_writer(&body, &mut bytes).map_err(|e| failed(e.to_string()))?;
    let hash = Sha256::digest(&bytes);
    bytes.write_all(&hash).map_err(|e| failed(e.to_string()))?;
    write_file(path, &bytes)
}

/// Takes a session up again.
///
/// # Errors
///
/// When the file is none, cut, damaged or hostile; when it is of another model, policy, precision or numbering, which is
/// named.
pub fn load<'m>(
    path: &Path,
    identity: &Identity,
    model: &'m Model,
    recurrent: &'m Recurrent<'m>,
) -> Result<(Session<'m>, Aside), BenchError> {
    let wrong = |what: &str| BenchError::Input(format!("{}: {what}", path.display()));
    let bytes = read(path)?;
    let damaged = "the file is cut or damaged: its checksum is wrong; make it anew with ‘state_out’";
    let Some((all, hash)) = bytes.split_at_checked(bytes.len().saturating_sub(HASH)) else {
        return Err(wrong(damaged));
    };
    let rest = all.strip_prefix(&MARK[..]).ok_or_else(|| {
        wrong("this is no state that this msrnn writes; give a file of ‘state_out’, made by the same version")
    })?;
    if Sha256::digest(all).as_slice() != hash {
        return Err(wrong(damaged));
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| wrong(damaged))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, body) = rest
        .split_at_checked(length)
        .filter(|_| length <= LONGEST)
        .ok_or_else(|| wrong("its header is longer than the file; make it anew with ‘state_out’"))?;
    let saved: Identity = serde_json::from_slice(header)
        .map_err(|e| wrong(&format!("its header cannot be read ({e}); make it anew with ‘state_out’")))?;
    if let Some(reason) = saved.differs(identity) {
        return Err(wrong(&reason));
    }
    let body: Body = ciborium::from_reader(body)
        .map_err(|e| wrong(&format!("its body cannot be read ({e}); make it anew with ‘state_out’")))?;
    let (states, aside) = restore(&body.states, model, recurrent)
        .map(|states| (states, body.aside))
        .map_err(|error| wrong(&error.to_string()))?;
    let parts = Parts { states, seen: body.seen, pending: body.pending, logits: body.logits };
    let session = Session::of_parts(model, recurrent, parts).map_err(|error| wrong(&error.to_string()))?;
    Ok((session, aside))
}

/// The bytes of a file that may be read into memory twice.
fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    let failed = |source| BenchError::Read { path: path.into(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(BenchError::Input(format!("{}: this is no file; give one of ‘state_out’", path.display())));
    }
    let bytes = memory::product(&[usize::try_from(found.len()).unwrap_or(usize::MAX), 3]);
    memory::check(bytes, &format!("{}, read at once,", path.display()), "give a state of fewer rows")?;
    let mut all = Vec::new();
    file.read_to_end(&mut all).map_err(failed)?;
    Ok(all)
}

fn restore(
    snapshots: &[Snapshot],
    model: &Model,
    recurrent: &Recurrent<'_>,
) -> Result<Vec<MultiState>, msrnn_core::Error> {
    let empty = recurrent.initial_states(1);
    if snapshots.len() != empty.len() {
        let (found, layers) = (snapshots.len(), empty.len());
        return Err(msrnn_core::Error::Snapshot(format!("it has {found} layers, and the model {layers}")));
    }
    let device = model.decoder.device();
    let one = |(snapshot, empty): (&Snapshot, &MultiState)| {
        snapshot.check(empty, recurrent.attentions()[0].heads)?;
        MultiState::restore(snapshot.clone(), recurrent.compression(), &device)
    };
    snapshots.iter().zip(&empty).map(one).collect()
}
