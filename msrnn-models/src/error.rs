//! What can go wrong with a checkpoint, a tokenizer or a text; every message says the remedy.

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use msrnn_core::state::MultiState;

use crate::recurrent::Positions;
use crate::rotary::Rotary;
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
    #[error("{}: {} missing: {}; the checkpoint is incomplete or of another architecture{hint}", path.display(), plural(names.len(), "tensor is", "tensors are"), list(names))]
    MissingTensors {
        /// The model directory.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
        /// What the files have instead, as far as that is known; empty, or text that goes on the sentence.
        hint: String,
    },
    /// Files of an index are not there.
    #[error("{}: {} missing: {}; download what is missing, all of them are needed", path.display(), plural(names.len(), "file of this index is", "files of this index are"), list(names))]
    MissingShards {
        /// The index.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// What was given is a model in a form that is not read.
    #[error("{}: {reason}", path.display())]
    OtherForm {
        /// The directory, or the file that tells.
        path: PathBuf,
        /// What it is, and what to do.
        reason: String,
    },
    /// A file is not there but where to get it is.
    #[error("{} is a Git LFS pointer and not the file itself; run `git lfs pull` in its repository, or download the file", .0.display())]
    Pointer(PathBuf),
    /// A weight is not a number.
    #[error("{}: tensor {name} holds {value} at {index:?}, with which every result is meaningless; the file is damaged or was saved by a training that had failed", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Where in the tensor.
        index: Vec<usize>,
        /// NaN or an infinity.
        value: f64,
    },
    /// A weight is too large for the precision that was asked for.
    #[error("{}: tensor {name} holds {value:e} at {index:?}, which is more than {dtype} can hold; load the model in {instead}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Where in the tensor.
        index: Vec<usize>,
        /// The weight.
        value: f64,
        /// What it does not fit in.
        dtype: &'static str,
        /// What it fits in.
        instead: &'static str,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("{}: tensor {name} has shape {found:?} where the configuration implies {expected:?}; configuration and weights are of different models", path.display())]
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
    /// A chat template that is missing or damaged, or refuses a conversation.
    #[error("chat template: {0}")]
    Chat(String),
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
    #[error("{} is no directory{}; give a Hugging Face model directory or a GGUF file, or leave ‘model’ out for the bundled model", .0.display(), file(.0))]
    NoDirectory(PathBuf),
    /// A prompt without a token.
    #[error("the prompt is empty and the tokenizer puts nothing before it; give some text, or ‘bos’ always")]
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
    /// A policy that cuts once, after the prompt, where no token is a prompt.
    #[error(
        "{0} cuts once, after the prompt, and under the strict protocol there is none, so that nothing would ever go; take the protocol prefill or prefill:N, or cut again and again, as in every(128, ..)"
    )]
    NoPrompt(String),
    /// A policy that says how rows are numbered, in a run that says it otherwise.
    #[error("{policy} numbers rows by {said} positions, and the run asks for {asked} ones; leave one of the two out")]
    PositionsTwice {
        /// The policy.
        policy: String,
        /// What it says.
        said: Positions,
        /// What the run asks for.
        asked: Positions,
    },
    /// A saved session that is not one of this model's.
    #[error("this is no state of the model: {0}; it is damaged or of another model")]
    Session(String),
    /// Texts that end a generation and make no sense.
    #[error("a stop text is empty; give it a character, or leave it out")]
    EmptyStop,
    /// Packed rows on a device that cannot hold their scales.
    #[error("{0} holds scales of packed rows in f16, which this device does not have; take ‘device’ cpu")]
    PackedScales(String),
    /// A matrix on a device that has no buffer for it.
    #[error(
        "tensor {name} takes {} MiB in {dtype:?} where it is computed with, and the device's largest buffer has {} MiB; take a narrower dtype, or ‘device’ cpu",
        bytes.div_ceil(1 << 20), most >> 20
    )]
    Buffer {
        /// Its name.
        name: String,
        /// Its bytes.
        bytes: u64,
        /// What it is computed with in.
        dtype: DType,
        /// Bytes of the largest buffer.
        most: u64,
    },
    /// Sampling parameters that make no sense.
    #[error("{0}")]
    Sampling(String),
    /// Positions that the rotary tables do not have.
    #[error(
        "{tokens} tokens come to {in_use} positions, which end at {}; take fewer tokens, or a bounded policy with in-state positions, which go on with the rows held only",
        Rotary::LIMIT
    )]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Positions in use.
        in_use: usize,
    },
    /// More tokens than a state counts.
    #[error("{0} tokens are more than a state counts, {most}; take fewer", most = MultiState::MOST_TOKENS)]
    TooManyTokens(usize),
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

/// What a file that was given for a directory is.
fn file(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors" | "json") if path.is_file() => " but a file of one; give the directory that it is in",
        _ => "",
    }
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
