//! A model directory as a whole: decoder, tokenizer, and where a text ends.

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;

use crate::checkpoint;
use crate::config::Ids;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::file::read_text;
use crate::storage::Storage;
use crate::tokenizer::{TOKENIZER, Tokenizer};

/// Name of the file that says which tokens end a text.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// A model and what belongs to it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The weights.
    pub decoder: Decoder,
    /// Absent where the directory has no `tokenizer.json`; ids still work.
    pub tokenizer: Option<Tokenizer>,
    /// Tokens that end a generated text.
    pub eos_token_ids: Vec<u32>,
    /// Tensors in the files that the model does not use.
    pub unused: Vec<String>,
}

/// The files of a model in memory, for one that is part of a program.
#[derive(Clone, Copy, Debug)]
pub struct ModelFiles<'a> {
    /// `config.json`
    pub config: &'a str,
    /// `model.safetensors`
    pub weights: &'a [u8],
    /// `tokenizer.json`
    pub tokenizer: &'a [u8],
}

#[derive(Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: Ids,
}

impl Model {
    /// Loads a Hugging Face model directory, weights and states held as `storage` says.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged or of an unsupported model; see
    /// [`checkpoint::load`].
    pub fn load(directory: &Path, storage: impl Into<Storage>, device: &Device) -> Result<Self, ModelError> {
        if !directory.is_dir() {
            return Err(ModelError::NoDirectory(directory.into()));
        }
        let loaded = checkpoint::load(directory, storage, device)?;
        let config = loaded.decoder.config();
        let tokenizer = match directory.join(TOKENIZER).exists() {
            true => Some(Tokenizer::read(directory, config.bos_token_id)?),
            false => None,
        };
        let mut eos_token_ids = config.eos_token_ids.clone();
        let path = directory.join(GENERATION_CONFIG);
        if path.exists() {
            let text = read_text(&path)?;
            let generation: GenerationConfig =
                serde_json::from_str(&text).map_err(|e| ModelError::Config { path, reason: e.to_string() })?;
            let ids = generation.eos_token_id.into_vec();
            if !ids.is_empty() {
                eos_token_ids = ids;
            }
        }
        Ok(Self { decoder: loaded.decoder, tokenizer, eos_token_ids, unused: loaded.unused })
    }

    /// A model from files in memory.
    ///
    /// # Errors
    ///
    /// As [`Model::load`].
    pub fn from_files(
        files: &ModelFiles<'_>,
        storage: impl Into<Storage>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let loaded = checkpoint::from_bytes(files.config, files.weights, storage, device)?;
        let config = loaded.decoder.config();
        let tokenizer = Tokenizer::from_bytes(files.tokenizer, config.bos_token_id)?;
        let eos_token_ids = config.eos_token_ids.clone();
        Ok(Self { decoder: loaded.decoder, tokenizer: Some(tokenizer), eos_token_ids, unused: loaded.unused })
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// When the directory had none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.tokenizer.as_ref().ok_or_else(|| {
            ModelError::Tokenizer(format!(
                "the model directory has no {TOKENIZER}; add it, or give token ids instead of text"
            ))
        })
    }

    /// Checks that every id has an embedding.
    ///
    /// # Errors
    ///
    /// Names the first id that has none.
    pub fn check_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        let vocab_size = self.decoder.config().vocab_size;
        match ids.iter().position(|&id| id as usize >= vocab_size) {
            Some(index) => Err(ModelError::TokenId { id: ids[index], index, vocab_size }),
            None => Ok(()),
        }
    }
}
