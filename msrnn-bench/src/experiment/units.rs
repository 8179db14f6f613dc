//! `plan.jsonl`: which units a run has, in the order of its results, so that it can be read where its models are not; and
//! `failures.jsonl`: which of them could not be done, and why.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::experiment::Unit;
use crate::experiment::manifest::{Identity, hash};
use crate::output::{open_lines, write_file};

/// File name of the list of units.
pub(crate) const PLAN: &str = "plan.jsonl";
/// File name of what failed.
pub(crate) const FAILURES: &str = "failures.jsonl";

/// The list as it is written.
///
/// # Errors
///
/// Never in practice: units become JSON.
pub(super) fn text(units: &[Unit]) -> Result<Vec<u8>, BenchError> {
    let line = |unit: &Unit| serde_json::to_string(unit).map(|line| line + "\n");
    let lines = units.iter().map(line).collect::<Result<String, _>>();
    Ok(lines.map_err(|e| BenchError::Input(format!("the plan is no JSON: {e}")))?.into_bytes())
}

/// Writes the list of units of a run.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(directory: &Path, units: &[Unit]) -> Result<(), BenchError> {
    write_file(&directory.join(PLAN), &text(units)?)
}

/// The units of a run directory that has that identity.
///
/// # Errors
///
/// When they cannot be read, or are not those of the manifest.
pub(super) fn read(directory: &Path, identity: &Identity) -> Result<Vec<Unit>, BenchError> {
    let path = directory.join(PLAN);
    let text = std::fs::read(&path).map_err(|source| BenchError::Read { path: path.clone(), source })?;
    let line = |line: &[u8]| serde_json::from_slice::<Unit>(line).ok();
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let units: Option<Vec<Unit>> = lines.map(line).collect();
    units.filter(|units| units.len() == identity.units && hash(&text) == identity.plan).ok_or_else(|| {
        BenchError::Input(format!(
            "{}: these are not the units that the manifest beside it speaks of; the command that made this run, given \
             again with the same ‘out’, writes them anew",
            path.display()
        ))
    })
}

/// A unit that could not be done.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    key: String,
    name: String,
    reason: String,
}

/// Reasons by [key](Unit::key); what was done since counts as done.
pub(crate) type Reasons = BTreeMap<String, String>;

/// What failed in a run, appended to a file.
#[derive(Debug)]
pub(super) struct Failures {
    path: PathBuf,
    file: File,
}

impl Failures {
    pub(super) fn open(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(FAILURES);
        let (file, _) = open_lines(&path)?;
        Ok(Self { path, file })
    }

    pub(super) fn add(&mut self, unit: &Unit, reason: &str) -> Result<(), BenchError> {
        let line = Failure { key: unit.key.clone(), name: unit.name.clone(), reason: reason.into() };
        let line = serde_json::json!(line).to_string() + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}

/// Writes what failed of a run at once; nothing where nothing did.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write_reasons(directory: &Path, units: &[Unit], reasons: &Reasons) -> Result<(), BenchError> {
    let line = |unit: &Unit| {
        let reason = reasons.get(&unit.key)?.clone();
        Some(serde_json::json!(Failure { key: unit.key.clone(), name: unit.name.clone(), reason }).to_string() + "\n")
    };
    let text: String = units.iter().filter_map(line).collect();
    if text.is_empty() { Ok(()) } else { write_file(&directory.join(FAILURES), text.as_bytes()) }
}

/// The latest reasons of a run directory; a line that makes no sense is none.
///
/// # Errors
///
/// When they cannot be read.
pub(super) fn reasons(directory: &Path) -> Result<Reasons, BenchError> {
    let path = directory.join(FAILURES);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Reasons::new()),
        Err(source) => return Err(BenchError::Read { path, source }),
    };
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(lines.map(|Failure { key, reason, .. }: Failure| (key, reason)).collect())
}
