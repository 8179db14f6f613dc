//! `samples.jsonl`: a line per finished unit, on disk before the next one counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;
use crate::output::write_file;

/// File name of the samples.
pub const SAMPLES: &str = "samples.jsonl";

/// A line: which unit, and what it left behind.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a, S> {
    unit: usize,
    name: Cow<'a, str>,
    sample: S,
}

/// A finished unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What it is, for people.
    pub name: String,
    /// What it left behind.
    pub sample: Value,
}

/// Finished units by index.
pub type Samples = BTreeMap<usize, Finished>;

/// Samples of a run, appended to a file that no other program writes at the same time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or creates the samples of a run directory, with the units that are finished. A last line
    /// that was cut off, by a kill or a full disk, is dropped.
    ///
    /// # Errors
    ///
    /// When another program writes there, or a line that is whole makes no sense.
    pub fn open(directory: &Path) -> Result<(Self, Samples), BenchError> {
        let path = directory.join(SAMPLES);
        let failed = |source| BenchError::Write { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BenchError::Input(format!(
                    "{}: another msrnn is writing here; wait for it, or choose another --out",
                    directory.display()
                )));
            }
            // Not every file system can lock.
            Err(TryLockError::Error(_)) => {}
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let samples = parse(&path, &text[..whole])?;
        Ok((Self { path, file, length: whole as u64 }, samples))
    }

    /// Appends a line and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written. What was there before stays good.
    pub fn append(&mut self, unit: usize, name: &str, sample: &impl Serialize) -> Result<(), BenchError> {
        let line = line(unit, name, sample)?;
        match self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Half a line, if it stays, is dropped when the run is resumed.
                let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
                Err(BenchError::Write { path: self.path.clone(), source })
            }
        }
    }
}

fn line(unit: usize, name: &str, sample: &impl Serialize) -> Result<Vec<u8>, BenchError> {
    let line = Line { unit, name: name.into(), sample };
    let mut line = serde_json::to_vec(&line).map_err(|e| BenchError::Input(format!("{name}: no JSON: {e}")))?;
    line.push(b'\n');
    Ok(line)
}

/// Writes all samples of a run directory at once, in the order of their units.
///
/// # Errors
///
/// When they cannot be written.
pub fn write(directory: &Path, samples: &Samples) -> Result<(), BenchError> {
    let mut text = Vec::new();
    for (&unit, Finished { name, sample }) in samples {
        text.extend(line(unit, name, sample)?);
    }
    write_file(&directory.join(SAMPLES), &text)
}

/// The samples of a run directory.
///
/// # Errors
///
/// When there are none, or a line makes no sense.
pub fn read(directory: &Path) -> Result<Samples, BenchError> {
    let path = directory.join(SAMPLES);
    let text = std::fs::read(&path).map_err(|source| BenchError::Read { path: path.clone(), source })?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    parse(&path, &text[..whole])
}

fn parse(path: &Path, text: &[u8]) -> Result<Samples, BenchError> {
    let mut samples = Samples::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let line: Line<'_, Value> = serde_json::from_slice(line).map_err(|e| {
            BenchError::Input(format!(
                "{}, line {}: {e}; remove the line, and its unit is done again",
                path.display(),
                number + 1
            ))
        })?;
        samples.insert(line.unit, Finished { name: line.name.into_owned(), sample: line.sample });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(
            values in proptest::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 1..6),
            cut in 0usize..400,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (mut journal, samples) = Journal::open(directory.path()).unwrap();
            prop_assert!(samples.is_empty());
            for (unit, value) in values.iter().enumerate() {
                journal.append(unit, "a \"name\"\n", value).unwrap();
            }
            drop(journal);
            let path = directory.path().join(SAMPLES);
            let text = std::fs::read(&path).unwrap();
            let cut = cut.min(text.len());
            std::fs::write(&path, &text[..cut]).unwrap();
            let whole = text[..cut].iter().filter(|&&byte| byte == b'\n').count();

            let (mut journal, samples) = Journal::open(directory.path()).unwrap();
            prop_assert_eq!(samples.len(), whole);
            for (unit, value) in values.iter().enumerate().skip(whole) {
                journal.append(unit, "a \"name\"\n", value).unwrap();
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_programs_cannot_write_the_same_samples() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path()).unwrap();
        let error = Journal::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another msrnn"), "{error}");
        drop(first);
        Journal::open(directory.path()).unwrap();
    }

    #[test]
    fn a_whole_line_that_makes_no_sense_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(SAMPLES), "{\"unit\":0,\"name\":\"\",\"sample\":1}\nnonsense\n").unwrap();
        let error = Journal::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("remove"), "{error}");
    }
}
