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
use crate::experiment::{Unit, seal};
use crate::output::{open_lines, write_file};

/// File name of the samples.
pub(crate) const SAMPLES: &str = "samples.jsonl";

/// A line: which unit, and what it left behind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a, S> {
    key: Cow<'a, str>,
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

/// Finished units by [key](Unit::key).
pub(crate) type Samples = BTreeMap<String, Finished>;

/// What two say of the same unit, none where they contradict each other. Each has fields that the other does not: those
/// that a version of msrnn writes and an older one did not, whose numbers are the same.
pub(crate) fn joined(one: &Value, other: &Value) -> Option<Value> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut both = one.clone();
            for (field, value) in other {
                let value = one.get(field).map_or_else(|| Some(value.clone()), |before| joined(before, value))?;
                both.insert(field.clone(), value);
            }
            Some(Value::Object(both))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).map(|(one, other)| joined(one, other)).collect()
        }
        _ => (one == other).then(|| one.clone()),
    }
}

/// Samples of a run, appended to a file in a directory that nobody else writes: see
/// [`Claim`](crate::claim::Claim).
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Journal {
    /// Opens or creates the samples of a run, with the units that are finished. A last line that was cut
    /// off, by a kill or a full disk, is dropped.
    ///
    /// # Errors
    ///
    /// When a line that is whole is not what a unit has left.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Samples), BenchError> {
        let path = directory.join(SAMPLES);
        let (file, text) = open_lines(&path)?;
        let samples = parse(&path, &text)?;
        Ok((Self { path, file, length: text.len() as u64 }, samples))
    }

    /// Appends a line and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// When the sample does not survive being written, as a number that is none, or it cannot be written. What
    /// was there before stays good.
    pub(crate) fn append<S: Serialize + DeserializeOwned>(
        &mut self,
        unit: &Unit,
        sample: &S,
    ) -> Result<(), BenchError> {
        let object = object(&unit.key, &unit.name, sample)?;
        // JSON has no word for a number that is not finite, and writes none at all.
        serde_json::from_slice::<Line<'_, S>>(&object).map_err(|e| {
            BenchError::Input(format!(
                "{}: what it found cannot be kept ({e}): some number is infinite or none. Look at the model with \
                 `msrnn perplexity`, and try another ‘dtype’",
                unit.name
            ))
        })?;
        self.put(&object)
    }

    /// Appends what a unit left elsewhere.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn adopt(&mut self, key: &str, finished: &Finished) -> Result<(), BenchError> {
        self.put(&object(key, &finished.name, &finished.sample)?)
    }

    fn put(&mut self, object: &[u8]) -> Result<(), BenchError> {
        let line = [seal::close(object), b"\n".to_vec()].concat();
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

fn object(key: &str, name: &str, sample: &impl Serialize) -> Result<Vec<u8>, BenchError> {
    let line = Line { key: key.into(), name: name.into(), sample };
    serde_json::to_vec(&line).map_err(|e| BenchError::Input(format!("{name}: no JSON: {e}")))
}

/// Writes samples of a run at once, in the order of its units.
///
/// # Errors
///
/// When they cannot be written.
pub(crate) fn write(directory: &Path, units: &[Unit], samples: &Samples) -> Result<(), BenchError> {
    let mut text = Vec::new();
    for (unit, Finished { name, sample }) in units.iter().filter_map(|unit| Some((unit, samples.get(&unit.key)?))) {
        text.extend(seal::close(&object(&unit.key, name, sample)?));
        text.push(b'\n');
    }
    write_file(&directory.join(SAMPLES), &text)
}

/// The samples of a run directory, while it may be written: what is not yet a whole line does not count.
///
/// # Errors
///
/// When there are none, or a whole line is not what a unit has left.
pub(crate) fn read(directory: &Path) -> Result<Samples, BenchError> {
    let path = directory.join(SAMPLES);
    let text = std::fs::read(&path).map_err(|source| BenchError::Read { path: path.clone(), source })?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    parse(&path, &text[..whole])
}

/// Whole lines.
fn parse(path: &Path, text: &[u8]) -> Result<Samples, BenchError> {
    let mut samples = Samples::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let add = one(line).and_then(|(key, mut finished)| {
            if let Some(before) = samples.get(&key) {
                finished.sample = joined(&before.sample, &finished.sample)
                    .ok_or_else(|| format!("another line says something else of the same unit, {}", finished.name))?;
            }
            samples.insert(key, finished);
            Ok(())
        });
        add.map_err(|reason| {
            let (path, number) = (path.display(), index + 1);
            BenchError::Input(format!(
                "{path}, line {number}: {reason}. If that line is damaged, remove it (`sed -i {number}d {path}`), and \
                 the command that made this run does its unit again"
            ))
        })?;
    }
    Ok(samples)
}

/// What a line says, if it is one.
fn one(line: &[u8]) -> Result<(String, Finished), String> {
    let object = seal::open(line)?;
    let Line { key, name, sample } = serde_json::from_slice::<Line<'_, Value>>(&object).map_err(|e| e.to_string())?;
    Ok((key.into_owned(), Finished { name: name.into_owned(), sample }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units() -> Vec<Unit> {
        let unit = |unit| Unit { key: format!("k{unit}"), name: format!("a \"name\"\n {unit}"), ..Unit::default() };
        (0..6).map(unit).collect()
    }

    fn open(directory: &Path) -> Result<(Journal, Samples), BenchError> {
        Journal::open(directory)
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
                journal.append(&units()[unit], value).unwrap();
            }
            drop(journal);
            let path = directory.path().join(SAMPLES);
            let text = std::fs::read(&path).unwrap();
            let cut = cut.min(text.len());
            std::fs::write(&path, &text[..cut]).unwrap();
            let whole = text[..cut].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(read(directory.path()).unwrap().len(), whole);

            let (mut journal, samples) = open(directory.path()).unwrap();
            prop_assert_eq!(samples.len(), whole);
            for (unit, value) in values.iter().enumerate().skip(whole) {
                journal.append(&units()[unit], value).unwrap();
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }

    /// The lines of a journal of four units.
    fn lines(directory: &Path) -> Vec<String> {
        let (mut journal, _) = open(directory).unwrap();
        for unit in 0..4 {
            journal.append(&units()[unit], &(unit as f64 / 3.0)).unwrap();
        }
        std::fs::read_to_string(directory.join(SAMPLES)).unwrap().lines().map(|line| format!("{line}\n")).collect()
    }

    fn refused(directory: &Path, lines: &[String], words: &[&str]) {
        std::fs::write(directory.join(SAMPLES), lines.concat()).unwrap();
        for error in [open(directory).unwrap_err(), read(directory).unwrap_err()] {
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
        refused(directory, &changed(2, "k2", "k3"), &["line 3", "checksum is wrong"]);
        refused(directory, &changed(0, "check", "chock"), &["line 1", "without a checksum"]);
    }

    #[test]
    fn lines_in_another_order_or_twice_say_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let good = lines(directory.path());
        let samples = read(directory.path()).unwrap();
        let other = [good[3].clone(), good[0].clone(), good[2].clone(), good[0].clone(), good[1].clone()];
        std::fs::write(directory.path().join(SAMPLES), other.concat()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), samples);
        assert_eq!(open(directory.path()).unwrap().1, samples);
    }

    #[test]
    fn lines_that_contradict_each_other_are_refused_whatever_their_checksums() {
        let directory = tempfile::tempdir().unwrap();
        let good = lines(directory.path());
        let sealed = |key: &str, name: &str, sample: f64| {
            String::from_utf8([seal::close(&object(key, name, &sample).unwrap()), b"\n".to_vec()].concat()).unwrap()
        };
        let with = |line: String| [&good[..], &[line]].concat();
        refused(directory.path(), &with(sealed("k1", &units()[1].name, 0.5)), &["line 5", "something else"]);
        // Another name of the same is no contradiction: texts and models are moved.
        std::fs::write(directory.path().join(SAMPLES), with(sealed("k0", "elsewhere", 0.0)).concat()).unwrap();
        assert_eq!(open(directory.path()).unwrap().1.len(), 4);
    }

    #[test]
    fn what_one_line_leaves_out_is_no_contradiction_and_what_both_say_must_be_the_same() {
        use serde_json::json;
        let new = json!({ "n": 1, "trials": [{ "rank": 1, "said": { "answer": "home" } }, { "rank": 2 }] });
        let old = json!({ "n": 1, "trials": [{ "rank": 1 }, { "rank": 2 }], "gone": null });
        let mut both = new.clone();
        both["gone"] = Value::Null;
        assert_eq!(joined(&new, &old), Some(both.clone()));
        assert_eq!(joined(&old, &new), Some(both));
        for (place, value) in [("/n", json!(2)), ("/trials/0/rank", json!(1.5)), ("/trials", json!([{ "rank": 1 }]))] {
            let mut other = old.clone();
            *other.pointer_mut(place).unwrap() = value;
            assert_eq!((joined(&new, &other), joined(&other, &new)), (None, None), "{place}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(directory.path()).unwrap();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = journal.append(&units()[0], &value).unwrap_err().to_string();
            assert!(error.contains("cannot be kept") && error.contains("‘dtype’"), "{error}");
        }
        assert!(open(directory.path()).unwrap().1.is_empty());
    }
}
