//! Text to token ids and back, by the checkpoint's own `tokenizer.json`.

use std::path::Path;

use tokenizers::Tokenizer as Inner;

use crate::error::ModelError;
use crate::file::read_text;

/// Name of the tokenizer's file in a model directory.
pub const TOKENIZER: &str = "tokenizer.json";

/// A tokenizer of a model directory.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    bos: Option<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model directory. `bos` is the model's first token of a text.
    ///
    /// # Errors
    ///
    /// When the file is missing or is not a tokenizer.
    pub fn read(directory: &Path, bos: Option<u32>) -> Result<Self, ModelError> {
        let path = directory.join(TOKENIZER);
        let inner = Inner::from_bytes(read_text(&path)?)
            .map_err(|e| ModelError::Tokenizer(format!("{}: {e}", path.display())))?;
        Ok(Self { inner, bos })
    }

    /// Parses the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// When they are not a tokenizer.
    pub fn from_bytes(bytes: &[u8], bos: Option<u32>) -> Result<Self, ModelError> {
        let inner = Inner::from_bytes(bytes).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        Ok(Self { inner, bos })
    }

    /// The ids of a text, without any special token.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids that every context of a text starts with: what `tokenizer.json` puts before an empty
    /// text, else the model's BOS where it has one and its tokenizer says nothing.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails on the empty text.
    pub fn prefix(&self) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast("", true).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        let ids: Vec<u32> = encoding.get_ids().to_vec();
        match (ids.is_empty(), self.bos) {
            (true, Some(bos)) => Ok(vec![bos]),
            _ => Ok(ids),
        }
    }

    /// The text of some ids, without special tokens.
    ///
    /// # Errors
    ///
    /// When an id is unknown to the tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(|e| ModelError::Tokenizer(e.to_string()))
    }

    /// Text of a stream of ids, piece by piece.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), shown: String::new() }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// Decodes ids one by one; a character that needs several ids comes with its last.
#[derive(Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    ids: Vec<u32>,
    shown: String,
}

/// Ids that are decoded again with every new one, so that spacing comes out as in one piece.
const MEMORY: usize = 16;

impl TextStream<'_> {
    /// The text that `id` adds.
    ///
    /// # Errors
    ///
    /// When the id is unknown to the tokenizer.
    pub fn push(&mut self, id: u32) -> Result<String, ModelError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        // A replacement character at the end is a character whose other bytes are still to come.
        if text.ends_with('\u{fffd}') || !text.starts_with(&self.shown) {
            return Ok(String::new());
        }
        let piece = text[self.shown.len()..].to_owned();
        self.shown = text;
        if self.ids.len() > 2 * MEMORY {
            self.ids.drain(..MEMORY);
            self.shown = self.tokenizer.decode(&self.ids)?;
        }
        Ok(piece)
    }
}
