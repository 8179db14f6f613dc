//! The models of a grid, opened when they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use msrnn_models::Model;
use msrnn_models::checkpoint::INDEX;
use msrnn_models::config::ModelConfig;
use msrnn_models::gguf;
use msrnn_models::tokenizer::TextOptions;
use serde::Deserialize;

use crate::device::DeviceName;
use crate::error::BenchError;
use crate::experiment::manifest::Source;
use crate::hub::Downloads;
use crate::precision::Precision;
use crate::{bundled, open};

/// Models by name, of which the last one used stays open.
#[derive(Debug)]
pub struct Models {
    paths: Vec<PathBuf>,
    names: Vec<String>,
    directories: Vec<OnceLock<Option<PathBuf>>>,
    device: DeviceName,
    precision: Precision,
    downloads: Downloads,
    reading: TextOptions,
    open: Mutex<Option<(usize, Arc<Model>)>>,
}

impl Models {
    /// Model directories, GGUF files, names on the hub, or `bundled`, on a device. Nothing is opened or fetched yet.
    pub fn new(models: &[PathBuf], device: DeviceName, precision: Precision, downloads: Downloads) -> Self {
        Self {
            paths: models.to_vec(),
            names: models.iter().map(|path| path.display().to_string()).collect(),
            directories: models.iter().map(|_| OnceLock::new()).collect(),
            device,
            precision,
            downloads,
            reading: TextOptions::default(),
            open: Mutex::new(None),
        }
    }

    /// The same models, whose tokenizers read texts in another way.
    #[must_use]
    pub fn reading(self, reading: TextOptions) -> Self {
        Self { reading, ..self }
    }

    /// Their names, as the user gave them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The directory or GGUF file of the model of that index, fetched if need be; none for the bundled one.
    ///
    /// # Errors
    ///
    /// When it is neither here nor on the hub.
    pub fn directory(&self, index: usize) -> Result<Option<&Path>, BenchError> {
        if self.directories[index].get().is_none() {
            let found = open::directory(&self.paths[index], &self.downloads)?;
            let _ = self.directories[index].set(found);
        }
        Ok(self.directories[index].get().and_then(Option::as_deref))
    }

    /// Where they run.
    pub fn device(&self) -> DeviceName {
        self.device
    }

    /// In which precision they run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The model of that index. Opens it unless it was the last one used.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn get(&self, index: usize) -> Result<Arc<Model>, BenchError> {
        // Whoever panicked while opening has left nothing open.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, model)) = open.as_ref().filter(|(at, _)| *at == index) {
            return Ok(model.clone());
        }
        // Close the other one first: two may be too large.
        *open = None;
        let model = open::open(self.directory(index)?, self.device, self.precision)?.with_text(self.reading)?;
        let model = Arc::new(model);
        *open = Some((index, model.clone()));
        Ok(model)
    }

    /// The configuration of the model of that index, without opening its weights.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn config(&self, index: usize) -> Result<ModelConfig, BenchError> {
        open::config(self.directory(index)?)
    }

    /// What is in their files.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn sources(&self) -> Result<Vec<Source>, BenchError> {
        let source = |(index, name): (usize, &String)| match self.directory(index)? {
            None => Ok(bundled::source()),
            Some(file) if file.is_file() => {
                let directory = file.parent().unwrap_or(Path::new(""));
                let name_of_file = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let parts: Vec<PathBuf> = match name_of_file {
                    // What is no Unicode is no part of several.
                    "" => file.file_name().map(PathBuf::from).into_iter().collect(),
                    name => gguf::parts(name).into_iter().map(PathBuf::from).collect(),
                };
                Source::of_directory(name, directory, &parts)
            }
            Some(directory) => Source::of_directory(name, directory, &files(directory)?),
        };
        self.names.iter().enumerate().map(source).collect()
    }
}

/// Endings of files that decide what a model computes: configurations and indices, weights, vocabularies,
/// templates of chats. A file too many costs the time to hash it, one too few a resumed run of two models.
const ENDINGS: [&str; 7] = ["json", "safetensors", "gguf", "jinja", "model", "txt", "tiktoken"];

/// The files of a model directory that decide what it computes, by path within it: those of [`ENDINGS`], and
/// whatever the index of shards names.
fn files(directory: &Path) -> Result<BTreeSet<PathBuf>, BenchError> {
    let failed = |source| BenchError::Read { path: directory.into(), source };
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let decides = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if let Some(name) = path.file_name().filter(|_| decides && path.is_file()) {
            files.insert(name.into());
        }
    }
    let index = directory.join(INDEX);
    if index.exists() {
        let text = std::fs::read(&index).map_err(|source| BenchError::Read { path: index.clone(), source })?;
        // What is no index is refused by who loads it.
        let index: Index = serde_json::from_slice(&text).unwrap_or_default();
        files.extend(index.weight_map.into_values().map(PathBuf::from).filter(|shard| directory.join(shard).is_file()));
    }
    Ok(files)
}

/// Which shard holds which tensor.
#[derive(Default, Deserialize)]
struct Index {
    #[serde(default)]
    weight_map: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_decides_what_is_computed_is_in_the_identity() {
        let directory = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map": {"a": "shard.weights", "b": "parts/2.bin", "c": "not-there"}}"#;
        std::fs::create_dir(directory.path().join("parts")).unwrap();
        let decide = [
            (INDEX, index),
            ("shard.weights", "1"),
            ("parts/2.bin", "2"),
            ("config.json", "{}"),
            ("tokenizer_config.json", "{}"),
            ("special_tokens_map.json", "{}"),
            ("chat_template.jinja", "{{ x }}"),
            ("tokenizer.model", "x"),
            ("merges.txt", "x"),
        ];
        for (name, text) in decide.into_iter().chain([("README.md", "x"), ("parts/1.bin", "x")]) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let models = Models::new(&[directory.path().into()], DeviceName::Cpu, Precision::F32, Downloads::UNWATCHED);
        let source = || models.sources().unwrap().remove(0);
        let before = source();
        assert_eq!(before.sha256.len(), decide.len());
        for (name, _) in decide {
            let path = directory.path().join(name);
            let text = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&text[..], b" "].concat()).unwrap();
            assert_ne!(source(), before, "{name}");
            std::fs::write(&path, text).unwrap();
        }
        std::fs::write(directory.path().join("README.md"), "y").unwrap();
        assert_eq!(source(), before);
    }

    #[test]
    fn every_part_of_a_gguf_file_is_in_the_identity_and_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let part = |index: usize| directory.path().join(format!("m-0000{index}-of-00002.gguf"));
        for path in [part(1), part(2), directory.path().join("other.gguf"), directory.path().join("config.json")] {
            std::fs::write(path, "GGUF").unwrap();
        }
        let models = Models::new(&[part(1)], DeviceName::Cpu, Precision::F32, Downloads::UNWATCHED);
        let source = || models.sources().unwrap().remove(0);
        let before = source();
        assert_eq!(before.sha256.len(), 2);
        std::fs::write(directory.path().join("other.gguf"), "x").unwrap();
        assert_eq!(source(), before);
        std::fs::write(part(2), "x").unwrap();
        assert_ne!(source(), before);
    }
}
