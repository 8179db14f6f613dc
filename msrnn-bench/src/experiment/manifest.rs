//! `manifest.toml`: what a run is, written before the work starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::BenchError;
use crate::input::read_text;
use crate::output::write_file;

/// File name of a manifest.
pub const MANIFEST: &str = "manifest.toml";

/// What a run is and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What decides the samples. A run is resumed, or merged with another, only where it is equal.
    pub identity: Identity,
    /// What may differ without changing a sample.
    pub origin: Origin,
}

/// What decides the samples of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the experiment.
    pub experiment: String,
    /// Version of msrnn.
    pub version: String,
    /// Commit that the program was built from.
    pub commit: String,
    /// Backends compiled in.
    pub features: Vec<String>,
    /// As in `--device`.
    pub device: String,
    /// As in `--dtype`.
    pub dtype: String,
    /// Units of the whole experiment.
    pub units: usize,
    /// Which part of them this run does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The models, with the SHA-256 of their files.
    #[serde(default)]
    pub models: Vec<Source>,
    /// The data, likewise.
    #[serde(default)]
    pub data: Vec<Source>,
    /// The experiment's own setting.
    pub setting: toml::Table,
}

/// A model or text by what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// SHA-256 of its files, in hexadecimal, by file name.
    pub sha256: BTreeMap<String, String>,
}

/// Where a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The command line.
    pub command: Vec<String>,
    /// Seconds since 1970, when the run was first started.
    pub started: u64,
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

impl Source {
    /// A source in memory.
    pub fn of_bytes<'a>(name: &str, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let hash = |(file, bytes): (&str, &[u8])| (file.to_owned(), hex(&Sha256::digest(bytes)));
        Self { name: name.into(), sha256: files.into_iter().map(hash).collect() }
    }

    /// Files by path, each under its file name.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn of_files(name: &str, paths: &[impl AsRef<Path>]) -> Result<Self, BenchError> {
        let mut sha256 = BTreeMap::new();
        for path in paths {
            let path = path.as_ref();
            let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            sha256.insert(file, hash_file(path)?);
        }
        Ok(Self { name: name.into(), sha256 })
    }
}

impl Source {
    /// Files of a directory, each under its path within it.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn of_directory<'a>(
        name: &str,
        directory: &Path,
        files: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<Self, BenchError> {
        let hash = |file: &PathBuf| {
            // The same on every system.
            let parts: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            Ok((parts.join("/"), hash_file(&directory.join(file))?))
        };
        Ok(Self { name: name.into(), sha256: files.into_iter().map(hash).collect::<Result<_, BenchError>>()? })
    }
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
///
/// When it cannot be read.
pub fn hash_file(path: &Path) -> Result<String, BenchError> {
    let failed = |source| BenchError::Read { path: path.into(), source };
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path).map_err(failed)?, &mut hasher).map_err(failed)?;
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Origin {
    /// This machine, and a command line.
    pub fn here(command: Vec<String>, jobs: usize) -> Self {
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing()
                .with_cpu(sysinfo::CpuRefreshKind::nothing())
                .with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram()),
        );
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            command,
            started: since_1970.map_or(0, |time| time.as_secs()),
            system: sysinfo::System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
            processor: system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: system.total_memory(),
            jobs,
        }
    }
}

impl Manifest {
    /// Reads the manifest of a run directory.
    ///
    /// # Errors
    ///
    /// When there is none, or it is damaged.
    pub fn read(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(MANIFEST);
        let text = read_text(&path)?;
        toml::from_str(&text).map_err(|e| {
            BenchError::Input(format!("{}: {e}; a run directory is made by `msrnn experiment`", path.display()))
        })
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
    /// Where another identity differs, as `key: this, not that`.
    ///
    /// # Errors
    ///
    /// When a number is too large for TOML.
    pub fn differences(&self, other: &Self) -> Result<Vec<String>, BenchError> {
        let mut found = Vec::new();
        differences(&toml::Value::Table(table(self)?), &toml::Value::Table(table(other)?), "", &mut found);
        Ok(found)
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
    fn a_difference_names_its_key_and_both_values() {
        let identity = |k: i64, seed: Option<i64>| {
            let mut setting = toml::Table::new();
            setting.insert("states".into(), k.into());
            if let Some(seed) = seed {
                setting.insert("seed".into(), seed.into());
            }
            Identity {
                experiment: "lm".into(),
                version: "1".into(),
                commit: "c".into(),
                features: vec![],
                device: "cpu".into(),
                dtype: "f32".into(),
                units: 3,
                shard: None,
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
