//! What can go wrong with a checkpoint, a tokenizer or a text; every message says the remedy.

use std::path::PathBuf;

use crate::trouble::BadLogits;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read.
    #[error("cannot read {}: {source}; expected a Hugging Face model directory with config.json, *.safetensors and tokenizer.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}; nothing was left half-written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` does not describe a supported model.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Which key, and what is supported.
        reason: String,
    },
    /// A safetensors file or its index is damaged.
    #[error("{}: {reason}; download the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tensors that the model needs are in no file.
    #[error("{}: {} missing: {}; the checkpoint is incomplete or of another architecture", path.display(), plural(names.len(), "tensor is", "tensors are"), list(names))]
    MissingTensors {
        /// The model directory.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor's shape contradicts `config.json`.
    #[error("{}: tensor {name} has shape {found:?} where config.json implies {expected:?}; config and weights are of different models", path.display())]
    Shape {
        /// The model directory.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What the file holds.
        found: Vec<usize>,
        /// What the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor's dtype cannot be read.
    #[error("{}: tensor {name} has dtype {dtype}; supported are F64, F32, F16 and BF16 (a quantised checkpoint must be converted first)", path.display())]
    Dtype {
        /// The model directory.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What the file holds.
        dtype: String,
    },
    /// Rows of weights that 8-bit blocks do not fit.
    #[error(
        "weights in int8 share a scale {block} by {block}, and rows of {input} are no multiple of that; choose f32, f16 or bf16"
    )]
    Blocks {
        /// Values of a row.
        input: usize,
        /// Values that share a scale.
        block: usize,
    },
    /// The tokenizer is missing or damaged, or failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A token id that the model has no embedding for.
    #[error(
        "token id {id} at index {index} is outside the model's vocabulary of {vocab_size}; use ids of this model's tokenizer"
    )]
    TokenId {
        /// The id.
        id: u32,
        /// Where in the sequence.
        index: usize,
        /// How many ids the model has.
        vocab_size: usize,
    },
    /// No model there.
    #[error("{} is no directory; give a Hugging Face model directory, or leave --model out for the bundled model", .0.display())]
    NoDirectory(PathBuf),
    /// A prompt without a token.
    #[error("the prompt is empty and the tokenizer puts nothing before it; give some text")]
    EmptyPrompt,
    /// A batch without rows.
    #[error("a batch of 0 generates nothing; give at least 1 row")]
    EmptyBatch,
    /// A request for no tokens.
    #[error("a request for 0 new tokens is already finished; ask for at least 1")]
    NothingToGenerate,
    /// A protocol that cannot be read.
    #[error(
        "no protocol is called {0:?}; there are strict, prefill:N for the first N tokens of a context, and prefill for all of it"
    )]
    Protocol(String),
    /// Sampling parameters that make no sense.
    #[error("{0}")]
    Sampling(String),
    /// Logits that make no distribution.
    #[error("{place}: {what}, so there is no result; {reason}")]
    Logits {
        /// Which tokens predict there.
        place: String,
        /// What is wrong with them.
        what: BadLogits,
        /// Why, as far as is known, and what would help.
        reason: String,
    },
    /// The state does not fit the request.
    #[error(transparent)]
    Core(#[from] msrnn_core::Error),
}

fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
