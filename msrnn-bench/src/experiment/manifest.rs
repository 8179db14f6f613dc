//! `manifest.toml`: what a run is, written before the work starts.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::input::read_text;
use crate::output::write_file;
pub use crate::source::{Source, hash, hash_file};

/// File name of a manifest.
pub(crate) const MANIFEST: &str = "manifest.toml";

/// Version of what results mean: part of what a unit is known by, so that numbers of two meanings never stand in one
/// table.
///
/// **Raise it by hand** with every change after which some unit would leave other numbers behind: another rule of a
/// built-in policy, another cut of texts, a metric counted otherwise, a fault mended that had changed a result. Rounding is
/// no reason, nor are new options, policies or outputs: what was measured before keeps its worth.
pub(crate) const MEANING: u32 = 2;

/// What a run is and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Checksum of the identity, so that one that was changed is known.
    check: String,
    /// What decides the samples, and which there are.
    pub identity: Identity,
    /// What may differ without changing a sample: who worked here, one after the other.
    pub origin: Vec<Origin>,
}

/// What decides the samples of a run. What a single one depends on is its unit's [key](crate::experiment::Unit::key).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the experiment.
    pub experiment: String,
    /// `MEANING` of the program that made the run.
    pub meaning: u32,
    /// Kind of device: `cpu`, `wgpu`, `cuda`.
    pub device: String,
    /// As in `--dtype`.
    pub dtype: String,
    /// Units of the whole experiment.
    pub units: usize,
    /// SHA-256 of the file that lists them.
    pub plan: String,
    /// The models, with the SHA-256 of their files.
    #[serde(default)]
    pub models: Vec<Source>,
    /// The data, likewise.
    #[serde(default)]
    pub data: Vec<Source>,
    /// The experiment's own setting.
    pub setting: toml::Table,
}

/// By whom and where a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The command line.
    pub command: Vec<String>,
    /// Seconds since 1970, when it was first given.
    pub started: u64,
    /// Version of msrnn.
    pub version: String,
    /// Commit that the program was built from.
    pub commit: String,
    /// Backends compiled in.
    pub features: Vec<String>,
    /// Which part of the units it was to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Operating system.
    pub system: String,
    /// Processor.
    pub processor: String,
    /// Logical cores that the program may use.
    pub cores: usize,
    /// Bytes of main memory.
    pub memory: u64,
    /// Units side by side.
    pub jobs: usize,
    /// Threads that compute.
    pub threads: usize,
}

/// Part `index` of `of`, counted from 1: every `of`-th unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Whether the unit of that index is in this part.
    pub fn holds(self, unit: usize) -> bool {
        unit % self.of == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').map(|(index, of)| (index.parse(), of.parse()));
        match parts {
            Some((Ok(index), Ok(of))) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(format!("{text:?} is no part; expected i/n with 1 ≤ i ≤ n, such as 2/8")),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl Origin {
    /// This program on this machine, and a command line.
    pub fn here(command: Vec<String>, jobs: usize, shard: Option<Shard>) -> Self {
        let features =
            [("flex", cfg!(feature = "flex")), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing()
                .with_cpu(sysinfo::CpuRefreshKind::nothing())
                .with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram()),
        );
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            command,
            started: since_1970.map_or(0, |time| time.as_secs()),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("MSRNN_COMMIT").into(),
            features: features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.into()).collect(),
            shard,
            system: sysinfo::System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
            processor: system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: system.total_memory(),
            jobs,
            threads: rayon::current_num_threads(),
        }
    }

    /// What numbers should not depend on and yet is not the same as it was, in words.
    pub fn remarks(&self, before: &Self) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut note = |what: &str, then: &dyn fmt::Display, now: &dyn fmt::Display| {
            let (then, now) = (then.to_string(), now.to_string());
            if then != now {
                remarks.push(format!("{what} was {then}, and is {now}"));
            }
        };
        note("version", &before.version, &self.version);
        note("commit", &before.commit, &self.commit);
        note("features", &before.features.join(","), &self.features.join(","));
        note("processor", &before.processor, &self.processor);
        remarks
    }

    /// The same but for the time.
    fn is_again(&self, before: &Self) -> bool {
        *self == Self { started: self.started, ..before.clone() }
    }
}

impl Manifest {
    /// A run that was worked on by these.
    ///
    /// # Errors
    ///
    /// When a number is too large for TOML.
    pub fn new(identity: Identity, origin: Vec<Origin>) -> Result<Self, BenchError> {
        Ok(Self { check: identity.check()?, identity, origin })
    }

    /// The same run, worked on by one more.
    #[must_use]
    pub fn and(mut self, origin: Origin) -> Self {
        if self.origin.last().is_none_or(|last| !origin.is_again(last)) {
            self.origin.push(origin);
        }
        self
    }

    /// Reads the manifest of a run directory.
    ///
    /// # Errors
    ///
    /// When there is none, or it is damaged.
    pub fn read(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(MANIFEST);
        let text = read_text(&path)?;
        let wrong = |e: &dyn fmt::Display| {
            BenchError::Input(format!("{}: {e}; a run directory is made by `msrnn experiment`", path.display()))
        };
        let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(&e))?;
        let identity = table.get("identity").and_then(toml::Value::as_table);
        if let Some(old) = identity.filter(|identity| !identity.contains_key("meaning") && !table.contains_key("check"))
        {
            let made = |key: &str| old.get(key).and_then(toml::Value::as_str).unwrap_or("unknown");
            return Err(BenchError::Input(format!(
                "{}: this run was made by an older msrnn (version {}, commit {}), which knew its units by other names. Read \
                 it with that one, or do it again in another ‘out’",
                path.display(),
                made("version"),
                made("commit")
            )));
        }
        let manifest: Self = table.try_into().map_err(|e| wrong(&e))?;
        match manifest.check == manifest.identity.check()? {
            true => Ok(manifest),
            false => Err(BenchError::Input(format!(
                "{}: it was changed since it was written (its checksum is wrong). Change it back, or give the command that \
                 made this run again with another ‘out’",
                path.display()
            ))),
        }
    }

    /// Writes it into a run directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), BenchError> {
        write_file(&directory.join(MANIFEST), self.to_table()?.to_string().as_bytes())
    }

    /// As a table of TOML.
    ///
    /// # Errors
    ///
    /// When a number is too large for TOML.
    pub fn to_table(&self) -> Result<toml::Table, BenchError> {
        table(self)
    }
}

impl Identity {
    /// Where another identity differs, as `key: this, not that`; not in the list of units, which follows from it.
    ///
    /// # Errors
    ///
    /// When a number is too large for TOML.
    pub fn differences(&self, other: &Self) -> Result<Vec<String>, BenchError> {
        let table = |identity: &Self| {
            let mut table = table(identity)?;
            table.remove("plan");
            table.remove("units");
            Ok::<_, BenchError>(toml::Value::Table(table))
        };
        let mut found = Vec::new();
        differences(&table(self)?, &table(other)?, "", &mut found);
        Ok(found)
    }

    fn check(&self) -> Result<String, BenchError> {
        Ok(hash(table(self)?.to_string().as_bytes()).split_at(16).0.to_owned())
    }
}

/// Any plain data as a table of TOML.
///
/// # Errors
///
/// When a number is too large for TOML, or the data is no table.
pub fn table(value: &impl Serialize) -> Result<toml::Table, BenchError> {
    toml::Table::try_from(value).map_err(|e| BenchError::Input(format!("the setting cannot be written as TOML: {e}")))
}

fn differences(a: &toml::Value, b: &toml::Value, path: &str, found: &mut Vec<String>) {
    let empty = toml::Table::new();
    match (a, b) {
        (toml::Value::Table(a), toml::Value::Table(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let none = toml::Value::Table(empty);
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), &path, found);
            }
        }
        _ if a == b => {}
        (toml::Value::Array(a), toml::Value::Array(b)) if a.len() == b.len() && a.iter().all(toml::Value::is_table) => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{index}]"), found);
            }
        }
        _ => found.push(format!("{path}: {}, not {}", shown(a), shown(b))),
    }
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) if table.is_empty() => "nothing".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_exactly_one_part() {
        for of in 1..6 {
            let parts: Vec<Shard> = (1..=of).map(|index| format!("{index}/{of}").parse().unwrap()).collect();
            for unit in 0..20 {
                assert_eq!(parts.iter().filter(|part| part.holds(unit)).count(), 1);
            }
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_manifest_of_an_older_msrnn_is_told_from_a_damaged_one() {
        let place = tempfile::tempdir().unwrap();
        let says = |text: &str| {
            std::fs::write(place.path().join(MANIFEST), text).unwrap();
            Manifest::read(place.path()).unwrap_err().to_string()
        };
        let old = says("[identity]\nexperiment = \"lm\"\nversion = \"0.0\"\ncommit = \"abc\"\n");
        assert!(old.contains("older msrnn (version 0.0, commit abc)") && old.contains("another ‘out’"), "{old}");
        let damaged = says("[identity]\nexperiment = \"lm\"\nmeaning = 1\n");
        assert!(damaged.contains("missing field"), "{damaged}");
    }

    #[test]
    fn a_difference_names_its_key_and_both_values() {
        let identity = |k: i64, seed: Option<i64>| {
            let mut setting = toml::Table::new();
            setting.insert("states".into(), k.into());
            if let Some(seed) = seed {
                setting.insert("seed".into(), seed.into());
            }
            Identity {
                experiment: "lm".into(),
                meaning: 1,
                device: "cpu".into(),
                dtype: "f32".into(),
                units: 3,
                plan: String::new(),
                models: vec![],
                data: vec![],
                setting,
            }
        };
        let a = identity(16, Some(1));
        assert_eq!(a.differences(&a).unwrap(), [""; 0]);
        assert_eq!(a.differences(&identity(32, Some(1))).unwrap(), ["setting.states: 16, not 32"]);
        assert_eq!(a.differences(&identity(16, None)).unwrap(), ["setting.seed: 1, not nothing"]);
    }
}
