//! The models of a grid, opened when they are needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use msrnn_models::Model;
use msrnn_models::config::ModelConfig;
use msrnn_models::tokenizer::TextOptions;

use crate::device::DeviceName;
use crate::error::BenchError;
use crate::experiment::manifest::Source;
use crate::precision::Precision;
use crate::{bundled, open};

/// Models by name, of which the last one used stays open.
#[derive(Debug)]
pub struct Models {
    names: Vec<String>,
    directories: Vec<OnceLock<Option<PathBuf>>>,
    device: DeviceName,
    precision: Precision,
    reading: TextOptions,
    open: Mutex<Option<(usize, Arc<Model>)>>,
}

impl Models {
    /// Model directories, names on the hub, or `bundled`, on a device. Nothing is opened or fetched yet.
    pub fn new(models: &[PathBuf], device: DeviceName, precision: Precision) -> Self {
        Self {
            names: models.iter().map(|path| path.display().to_string()).collect(),
            directories: models.iter().map(|_| OnceLock::new()).collect(),
            device,
            precision,
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

    /// The directory of the model of that index, fetched if need be; none for the bundled one.
    ///
    /// # Errors
    ///
    /// When it is neither here nor on the hub.
    pub fn directory(&self, index: usize) -> Result<Option<&Path>, BenchError> {
        if self.directories[index].get().is_none() {
            let found = open::directory(Path::new(&self.names[index]))?;
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
        let mut open = self.open.lock().expect("opening a model does not panic");
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
            Some(directory) => Source::of_files(name, &files(directory)?),
        };
        self.names.iter().enumerate().map(source).collect()
    }
}

/// The files of a model directory that decide what it computes.
fn files(directory: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let failed = |source| BenchError::Read { path: directory.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "json" || ending == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
