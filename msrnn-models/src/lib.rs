//! Checkpoints of Llama and of architectures like it ([`config::Architecture`]) as multi-state RNNs.
//!
//! A Hugging Face model directory becomes a [`Decoder`](decoder::Decoder), which computes the
//! vanilla transformer, and a [`Recurrent`](recurrent::Recurrent), which computes the same weights
//! step by step with a bounded or unbounded state.
//!
//! - [`config`]: `config.json`; [`weights`]: names and shapes; [`checkpoint`]: safetensors files
//! - [`gguf`]: all of a model in GGUF files; [`convert`]: from one form to the other
//! - [`decoder`]: the layers, with [`linear`], [`matrix`], [`norm`] and [`rotary`]; [`storage`]: in which
//!   dtypes they are held
//! - [`recurrent`]: steps, scans and prefill; [`placement`]: positions for extrapolation; [`length`]: how far
//!   they go
//! - [`model`]: a directory as a whole; [`tokenizer`], [`sampling`], [`generate`]: text in and out; [`spans`]: which
//!   bytes of a text its tokens stand for
//! - [`chat`]: conversations as text, by the model's own template
//! - [`logprobs`]: how likely tokens were
//! - [`session`]: a text that is read and written by turns; [`stop`]: texts that end one
//! - [`trouble`]: logits that are no numbers
//! - [`batched`]: many generations side by side, refilled from a queue
//! - [`captured`]: steps that a GPU is given all at once
//! - [`protocol`]: strict, or prefill then strict
//! - [`whole`]: files that appear whole, and have one writer

pub mod batched;
pub mod captured;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod contained;
pub mod convert;
pub mod decoder;
pub mod error;
mod file;
pub mod generate;
pub mod gguf;
pub mod length;
pub mod linear;
pub mod logprobs;
pub mod matrix;
pub mod model;
pub mod norm;
pub mod placement;
pub mod protocol;
pub mod recurrent;
pub mod rotary;
pub mod sampling;
pub mod session;
pub mod spans;
pub mod stop;
pub mod storage;
pub mod tokenizer;
pub mod trouble;
pub mod weights;
pub mod whole;

pub use model::Model;
