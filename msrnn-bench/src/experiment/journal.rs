//! `samples.jsonl`: a line per finished unit, on disk before the next one counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;
use crate::experiment::Unit;
use crate::experiment::manifest::Identity;
use crate::experiment::seal::Seal;
use crate::output::{open_lines, write_file};

/// File name of the samples.
pub const SAMPLES: &str = "samples.jsonl";

/// A line: which unit, and what it left behind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Samples of a run, appended to a file in a directory that nobody else writes: see
/// [`Claim`](crate::claim::Claim).
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    seal: Seal,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or creates the samples of a run, with the units that are finished. A last line that was cut
    /// off, by a kill or a full disk, is dropped. `units`: of the whole experiment.
    ///
    /// # Errors
    ///
    /// When a line that is whole is not what a unit of this run has left.
    pub fn open(directory: &Path, identity: &Identity, units: &[Unit]) -> Result<(Self, Samples), BenchError> {
        let path = directory.join(SAMPLES);
        let (file, text) = open_lines(&path)?;
        let seal = Seal::of(identity)?;
        let samples = Lines { path: &path, seal: &seal, identity, names: Some(units) }.parse(&text)?;
        Ok((Self { path, file, seal, length: text.len() as u64 }, samples))
    }

    /// Appends a line and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// When the sample does not survive being written, as a number that is none, or it cannot be written. What
    /// was there before stays good.
    pub fn append<S: Serialize + DeserializeOwned>(
        &mut self,
        unit: usize,
        name: &str,
        sample: &S,
    ) -> Result<(), BenchError> {
        let object = object(unit, name, sample)?;
        // JSON has no word for a number that is not finite, and writes none at all.
        serde_json::from_slice::<Line<'_, S>>(&object).map_err(|e| {
            BenchError::Input(format!(
                "{name}: what it found cannot be kept ({e}): some number is infinite or none. Look at the model with \
                 `msrnn perplexity`, and try another --dtype"
            ))
        })?;
        let line = [self.seal.close(&object), b"\n".to_vec()].concat();
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

fn object(unit: usize, name: &str, sample: &impl Serialize) -> Result<Vec<u8>, BenchError> {
    let line = Line { unit, name: name.into(), sample };
    serde_json::to_vec(&line).map_err(|e| BenchError::Input(format!("{name}: no JSON: {e}")))
}

/// Writes all samples of a run at once, in the order of their units.
///
/// # Errors
///
/// When they cannot be written.
pub fn write(directory: &Path, identity: &Identity, samples: &Samples) -> Result<(), BenchError> {
    let seal = Seal::of(identity)?;
    let mut text = Vec::new();
    for (&unit, Finished { name, sample }) in samples {
        text.extend(seal.close(&object(unit, name, sample)?));
        text.push(b'\n');
    }
    write_file(&directory.join(SAMPLES), &text)
}

/// The samples of a run directory that has that identity, while it may be written: what is not yet a whole
/// line does not count.
///
/// # Errors
///
/// When there are none, or a whole line is not what a unit of this run has left.
pub fn read(directory: &Path, identity: &Identity) -> Result<Samples, BenchError> {
    let path = directory.join(SAMPLES);
    let text = std::fs::read(&path).map_err(|source| BenchError::Read { path: path.clone(), source })?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    Lines { path: &path, seal: &Seal::of(identity)?, identity, names: None }.parse(&text[..whole])
}

/// Whole lines, and what they must agree with.
struct Lines<'a> {
    path: &'a Path,
    seal: &'a Seal,
    identity: &'a Identity,
    /// The units, where they are known.
    names: Option<&'a [Unit]>,
}

impl Lines<'_> {
    fn parse(&self, text: &[u8]) -> Result<Samples, BenchError> {
        let mut samples = Samples::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let add = self.line(line).and_then(|(unit, finished)| match samples.get(&unit) {
                Some(before) if *before != finished => {
                    Err(format!("another line says something else of the same unit {unit}"))
                }
                _ => {
                    samples.insert(unit, finished);
                    Ok(())
                }
            });
            add.map_err(|reason| {
                let (path, number) = (self.path.display(), index + 1);
                BenchError::Input(format!(
                    "{path}, line {number}: {reason}. If that line is damaged, remove it (`sed -i {number}d {path}`), and \
                     the command that made this run does its unit again; if the manifest was changed, change it back"
                ))
            })?;
        }
        Ok(samples)
    }

    /// What a line says, if it is a line of this run.
    fn line(&self, line: &[u8]) -> Result<(usize, Finished), String> {
        let object = self.seal.open(line)?;
        let Line { unit, name, sample } =
            serde_json::from_slice::<Line<'_, Value>>(&object).map_err(|e| e.to_string())?;
        let Identity { units, shard, .. } = self.identity;
        if unit >= *units || shard.is_some_and(|shard| !shard.holds(unit)) {
            let part = shard.map_or_else(String::new, |shard| format!(", of which part {shard} was to be done"));
            return Err(format!("unit {unit} is none of this run's: there are {units}{part}"));
        }
        match self.names.and_then(|names| names.get(unit)).filter(|known| known.name != *name) {
            Some(known) => Err(format!("unit {unit} is {:?}, not {name:?}", known.name)),
            None => Ok((unit, Finished { name: name.into_owned(), sample })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The identity of a run of six units.
    fn identity(seed: i64) -> Identity {
        let setting = toml::Table::from_iter([("seed".to_owned(), seed.into())]);
        Identity {
            experiment: "lm".into(),
            version: "1".into(),
            commit: "c".into(),
            features: vec![],
            device: "cpu".into(),
            dtype: "f32".into(),
            units: 6,
            shard: None,
            models: vec![],
            data: vec![],
            setting,
        }
    }

    fn units() -> Vec<Unit> {
        (0..6).map(|unit| Unit { name: format!("a \"name\"\n {unit}"), tokens: 1, state_bytes: 1 }).collect()
    }

    fn open(directory: &Path) -> Result<(Journal, Samples), BenchError> {
        Journal::open(directory, &identity(0), &units())
    }

    proptest! {
        #[test]
        fn a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(
            values in proptest::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 1..6),
            cut in 0usize..600,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (mut journal, samples) = open(directory.path()).unwrap();
            prop_assert!(samples.is_empty());
            for (unit, value) in values.iter().enumerate() {
                journal.append(unit, &units()[unit].name, value).unwrap();
            }
            drop(journal);
            let path = directory.path().join(SAMPLES);
            let text = std::fs::read(&path).unwrap();
            let cut = cut.min(text.len());
            std::fs::write(&path, &text[..cut]).unwrap();
            let whole = text[..cut].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(read(directory.path(), &identity(0)).unwrap().len(), whole);

            let (mut journal, samples) = open(directory.path()).unwrap();
            prop_assert_eq!(samples.len(), whole);
            for (unit, value) in values.iter().enumerate().skip(whole) {
                journal.append(unit, &units()[unit].name, value).unwrap();
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }

    /// The lines of a journal of four units.
    fn lines(directory: &Path) -> Vec<String> {
        let (mut journal, _) = open(directory).unwrap();
        for unit in 0..4 {
            journal.append(unit, &units()[unit].name, &(unit as f64 / 3.0)).unwrap();
        }
        std::fs::read_to_string(directory.join(SAMPLES)).unwrap().lines().map(|line| format!("{line}\n")).collect()
    }

    fn refused(directory: &Path, lines: &[String], words: &[&str]) {
        std::fs::write(directory.join(SAMPLES), lines.concat()).unwrap();
        for error in [open(directory).unwrap_err(), read(directory, &identity(0)).unwrap_err()] {
            let error = error.to_string();
            assert!(words.iter().all(|word| error.contains(word)) && error.contains("remove"), "{error}");
        }
    }

    #[test]
    fn a_whole_line_that_is_not_what_a_unit_left_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let good = lines(directory.path());
        let changed = |line: usize, from: &str, to: &str| {
            let mut lines = good.clone();
            assert!(lines[line].contains(from));
            lines[line] = lines[line].replacen(from, to, 1);
            lines
        };
        let directory = directory.path();
        refused(directory, &[&good[..], &["nonsense\n".into()]].concat(), &["line 5", "without a checksum"]);
        refused(directory, &changed(1, "0.3333", "0.3334"), &["line 2", "checksum is wrong"]);
        refused(directory, &changed(2, "\"unit\":2", "\"unit\":3"), &["line 3", "checksum is wrong"]);
        refused(directory, &changed(0, "check", "chock"), &["line 1", "without a checksum"]);
    }

    #[test]
    fn lines_in_another_order_or_twice_say_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let good = lines(directory.path());
        let samples = read(directory.path(), &identity(0)).unwrap();
        let other = [good[3].clone(), good[0].clone(), good[2].clone(), good[0].clone(), good[1].clone()];
        std::fs::write(directory.path().join(SAMPLES), other.concat()).unwrap();
        assert_eq!(read(directory.path(), &identity(0)).unwrap(), samples);
        assert_eq!(open(directory.path()).unwrap().1, samples);
    }

    #[test]
    fn lines_that_contradict_or_belong_elsewhere_are_refused_whatever_their_checksums() {
        let directory = tempfile::tempdir().unwrap();
        let good = lines(directory.path());
        let seal = Seal::of(&identity(0)).unwrap();
        let sealed = |unit: usize, name: &str, sample: f64| {
            String::from_utf8([seal.close(&object(unit, name, &sample).unwrap()), b"\n".to_vec()].concat()).unwrap()
        };
        let with = |line: String| [&good[..], &[line]].concat();
        let directory = directory.path();
        refused(directory, &with(sealed(1, &units()[1].name, 0.5)), &["line 5", "something else"]);
        refused(directory, &with(sealed(6, "a", 0.5)), &["line 5", "there are 6"]);

        // Names are known where the inputs are.
        std::fs::write(directory.join(SAMPLES), with(sealed(4, "a", 0.5)).concat()).unwrap();
        let error = open(directory).unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("not \"a\""), "{error}");

        std::fs::write(directory.join(SAMPLES), good.concat()).unwrap();
        let part = Identity { shard: Some("1/2".parse().unwrap()), ..identity(0) };
        let error = read(directory, &part).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("part 1/2"), "{error}");
        let error = read(directory, &identity(1)).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("manifest"), "{error}");
    }

    #[test]
    fn a_number_that_is_none_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path()).unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = journal.append(0, &units()[0].name, &value).unwrap_err().to_string();
            assert!(error.contains("cannot be kept") && error.contains("--dtype"), "{error}");
        }
        assert!(open(directory.path()).unwrap().1.is_empty());
    }
}
