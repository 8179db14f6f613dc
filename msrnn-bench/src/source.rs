//! Models and texts by what is in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::BenchError;

/// A model or text by what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// SHA-256 of its files, in hexadecimal, by file name.
    pub sha256: BTreeMap<String, String>,
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

    /// What is in it, whatever it and its files are called: SHA-256 of theirs, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut all: Vec<&str> = self.sha256.values().map(String::as_str).collect();
        all.sort_unstable();
        hex(&Sha256::digest(all.concat()))
    }

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

/// SHA-256 of bytes, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_what_is_in_it_and_not_by_names() {
        let of = |name: &str, files: &[(&str, &str)]| {
            Source::of_bytes(name, files.iter().map(|(file, text)| (*file, text.as_bytes()))).digest()
        };
        assert_eq!(of("a", &[("x.gguf", "1")]), of("b", &[("y.gguf", "1")]));
        assert_ne!(of("a", &[("x.gguf", "1")]), of("a", &[("x.gguf", "2")]));
        assert_ne!(of("a", &[("x", "1")]), of("a", &[("x", "1"), ("y", "")]));
    }
}
