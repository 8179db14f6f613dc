//! What can go wrong in an evaluation; every message says the remedy.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A model, tokenizer or text.
    #[error(transparent)]
    Model(#[from] msrnn_models::error::ModelError),
    /// A state or budget.
    #[error(transparent)]
    Core(#[from] msrnn_core::Error),
    /// A policy spec.
    #[error(transparent)]
    Spec(#[from] msrnn_policies::SpecError),
    /// Training.
    #[error("training: {0}")]
    Train(String),
    /// A file could not be read.
    #[error("cannot read {}: {source}; check the path and who may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}; choose another place or free some space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A download was interrupted.
    #[error("interrupted while files were fetched; what has come is kept, and the same command goes on")]
    Interrupted,
    /// Whoever read standard output has closed it.
    #[error("nobody reads standard output any more")]
    NobodyReads,
    /// A request that cannot be met.
    #[error("{0}")]
    Input(String),
}
