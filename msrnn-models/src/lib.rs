//! Llama, Mistral and Yi checkpoints as multi-state RNNs.
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod error;
pub mod linear;
pub mod norm;
pub mod rotary;
pub mod tokenizer;
pub mod weights;
