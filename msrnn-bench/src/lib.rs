//! Evaluation and training of multi-state RNNs.
pub mod error;
pub mod stories;
pub mod train;
