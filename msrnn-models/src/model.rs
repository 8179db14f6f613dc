//! A model directory, or a GGUF file, as a whole: decoder, tokenizer, and where a text ends.

use std::path::Path;

use burn::tensor::Device;

use crate::checkpoint;
use crate::config;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::file::read_text;
use crate::gguf::{self, Gguf};
use crate::storage::Storage;
use crate::tokenizer::{TOKENIZER, TextOptions, Tokenizer};

/// Name of the file that says which tokens end a text.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// A model and what belongs to it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The weights.
    pub decoder: Decoder,
    /// Absent where the files have none that is read; ids still work.
    pub tokenizer: Option<Tokenizer>,
    /// Why the tokenizer is absent, where there is more to say than that the directory has no `tokenizer.json`.
    pub no_tokenizer: Option<String>,
    /// Tokens that end a generated text.
    pub eos_token_ids: Vec<u32>,
    /// Tensors in the files that the model does not use.
    pub unused: Vec<String>,
    /// What was read otherwise than `config.json` says, as sentences.
    pub notes: Vec<String>,
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

impl Model {
    /// Weights alone: no tokenizer, and no token that ends a text.
    pub fn of(decoder: Decoder) -> Self {
        Self {
            decoder,
            tokenizer: None,
            no_tokenizer: None,
            eos_token_ids: Vec::new(),
            unused: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Loads a Hugging Face model directory or a GGUF file, weights and states held as `storage` says. Weights in blocks
    /// of few bits are taken out of them.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged or of an unsupported model; see
    /// [`checkpoint::load`] and [`Gguf::open`].
    pub fn load(path: &Path, storage: impl Into<Storage>, device: &Device) -> Result<Self, ModelError> {
        if gguf::is_gguf(path) {
            return Self::of_gguf(&Gguf::open(path)?, storage, device);
        }
        let directory = path;
        if !directory.is_dir() {
            return Err(ModelError::NoDirectory(directory.into()));
        }
        let loaded = checkpoint::load(directory, storage, device)?;
        let config = loaded.decoder.config();
        let tokenizer = match directory.join(TOKENIZER).exists() {
            true => Some(Tokenizer::read(directory, config.bos_token_id)?),
            false => None,
        };
        let path = directory.join(GENERATION_CONFIG);
        // As in transformers: where the file is, it alone decides, and a text has no end if it names none.
        let eos_token_ids = match path.exists() {
            true => {
                let text = read_text(&path)?;
                config::ends(&text).map_err(|reason| ModelError::Config { path, reason })?
            }
            false => config.eos_token_ids.clone(),
        };
        Ok(Self {
            decoder: loaded.decoder,
            tokenizer,
            no_tokenizer: None,
            eos_token_ids,
            unused: loaded.unused,
            notes: loaded.notes,
        })
    }

    /// The model of a GGUF file. Where its vocabulary is none that is read it has no tokenizer, and says so.
    ///
    /// # Errors
    ///
    /// As [`checkpoint::load_gguf`].
    pub fn of_gguf(gguf: &Gguf, storage: impl Into<Storage>, device: &Device) -> Result<Self, ModelError> {
        // Before the weights: making a tokenizer takes memory that is free again when they come.
        let bos = gguf.config()?.0.bos_token_id;
        let name = gguf.path().display().to_string();
        let tokenizer = gguf
            .vocabulary()
            .and_then(|vocabulary| Tokenizer::of_vocabulary(&name, vocabulary, bos))
            .map_err(|error| error.to_string());
        let loaded = checkpoint::load_gguf(gguf, storage, device)?;
        let eos_token_ids = loaded.decoder.config().eos_token_ids.clone();
        Ok(Self {
            decoder: loaded.decoder,
            no_tokenizer: tokenizer.as_ref().err().cloned(),
            tokenizer: tokenizer.ok(),
            eos_token_ids,
            unused: loaded.unused,
            notes: loaded.notes,
        })
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
        Ok(Self {
            decoder: loaded.decoder,
            tokenizer: Some(tokenizer),
            no_tokenizer: None,
            eos_token_ids,
            unused: loaded.unused,
            notes: loaded.notes,
        })
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// When the files had none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.tokenizer.as_ref().ok_or_else(|| match &self.no_tokenizer {
            // It is the message of such an error.
            Some(reason) => ModelError::Tokenizer(reason.strip_prefix("tokenizer: ").unwrap_or(reason).to_owned()),
            None => ModelError::Tokenizer(format!(
                "the model directory has no {TOKENIZER}; add it, or give token ids instead of text"
            )),
        })
    }

    /// The same model, whose tokenizer, if it has one, reads texts in another way.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::with`].
    pub fn with_text(mut self, options: TextOptions) -> Result<Self, ModelError> {
        self.tokenizer = self.tokenizer.map(|tokenizer| tokenizer.with(options)).transpose()?;
        Ok(self)
    }

    /// What was found in the files that their user should know: sentences for a warning each.
    pub fn warnings(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let Some(tokenizer) = &self.tokenizer else { return notes };
        let (ids, vocab_size) = (tokenizer.end_of_ids(), self.decoder.config().vocab_size);
        notes.extend_from_slice(tokenizer.notes());
        if ids > vocab_size {
            notes.push(format!(
                "{TOKENIZER} has ids up to {} and the model an embedding for {vocab_size}; a text that needs one of the \
                 others is refused (added tokens that the model was not resized for, or files of two models)",
                ids - 1
            ));
        }
        notes
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
