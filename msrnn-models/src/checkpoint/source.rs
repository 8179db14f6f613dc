//! The tensors of a checkpoint one by one, for who makes something else of them than a model.

use std::path::Path;

use burn::tensor::{DType, TensorData};

use super::read::Form;
use super::shards::{Found, Shards};
use super::{Wanted, of_directory};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::{self, Gguf};
use crate::weights::{Data, Stored, stored};

/// A checkpoint, opened.
pub(crate) struct Source {
    shards: Shards<'static>,
    places: Vec<Found>,
    /// What it is a checkpoint of.
    pub(crate) config: ModelConfig,
    /// Where it is one in GGUF files.
    pub(crate) gguf: Option<Gguf>,
    /// Tensors in the files that the model does not use, by name.
    pub(crate) unused: Vec<String>,
    /// What was read otherwise than the configuration says, as sentences.
    pub(crate) notes: Vec<String>,
}

impl Source {
    /// Opens a Hugging Face model directory or a GGUF file.
    ///
    /// # Errors
    ///
    /// As [`super::load`].
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let (shards, mut config, mut notes, gguf) = if gguf::is_gguf(path) {
            let gguf = Gguf::open(path)?;
            let (config, notes) = gguf.config()?;
            (Shards::of_gguf(&gguf, &config), config, notes, Some(gguf))
        } else if path.is_dir() {
            let (shards, config) = of_directory(path)?;
            (shards, config, Vec::new(), None)
        } else {
            return Err(ModelError::NoDirectory(path.into()));
        };
        notes.append(&mut shards.untie(&mut config, DType::F32)?);
        let Wanted { places, unused } = shards.wanted(&config)?;
        Ok(Self { shards, places, config, gguf, unused, notes })
    }

    /// Its tensors as a file has them.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        stored(&self.config)
    }

    /// The values of a tensor, one part below the other.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a value is no number or none of `dtype`.
    pub(crate) fn read(&self, stored: &Stored, dtype: DType) -> Result<Vec<TensorData>, ModelError> {
        let read = self.shards.read(&self.places[stored.parts.clone()], |_| Form::Float(dtype))?;
        Ok(read.into_iter().map(Data::values).collect())
    }
}
