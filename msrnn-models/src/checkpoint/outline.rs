//! What a model is and how much its weights take, from what its files say of their tensors.

use std::path::Path;

use super::shards::{Found, Shards};
use super::{of_bytes, of_directory};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::{self, Gguf};
use crate::storage::{Storage, Weights};

/// A model before its weights are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// As the model has it once it is loaded.
    pub config: ModelConfig,
    /// Bytes of all weights as they are held then.
    pub weight_bytes: usize,
}

impl Outline {
    /// Of a Hugging Face model directory or a GGUF file, whose weights are to be held as `storage` says. Values are read
    /// only where a head has to be compared with the embedding that it may be.
    ///
    /// # Errors
    ///
    /// As [`load`](super::load), but for what only the values of tensors tell.
    pub fn read(path: &Path, storage: impl Into<Storage>) -> Result<Self, ModelError> {
        if !gguf::is_gguf(path) {
            if !path.is_dir() {
                return Err(ModelError::NoDirectory(path.into()));
            }
            let (shards, config) = of_directory(path)?;
            return Self::of(&shards, config, storage.into());
        }
        let gguf = Gguf::open(path)?;
        let (config, _) = gguf.config()?;
        Self::of(&Shards::of_gguf(&gguf, &config), config, storage.into())
    }

    /// Of a checkpoint in memory; see [`from_bytes`](super::from_bytes).
    ///
    /// # Errors
    ///
    /// As [`Outline::read`].
    pub fn from_bytes(config: &str, weights: &[u8], storage: impl Into<Storage>) -> Result<Self, ModelError> {
        let (shards, config) = of_bytes(config, weights)?;
        Self::of(&shards, config, storage.into())
    }

    fn of(shards: &Shards<'_>, mut config: ModelConfig, storage: Storage) -> Result<Self, ModelError> {
        storage.check(&config)?;
        shards.untie(&mut config, storage.vectors())?;
        let places = shards.wanted(&config)?.places;
        let stored = |place: &Found| place.form().bytes(place.elements());
        let weight_bytes = match storage.weights {
            Weights::Stored => places.iter().map(stored).sum(),
            Weights::Float(_) | Weights::Int8 => storage.weight_bytes(&config),
        };
        Ok(Self { config, weight_bytes })
    }
}
