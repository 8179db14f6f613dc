//! From nothing to a first token.

use std::time::Instant;

use msrnn_core::compression::Compression;
use msrnn_models::Model;
use serde::Serialize;

use crate::error::BenchError;
use crate::speed::decode::DecodeLoop;
use crate::speed::workload::Conditions;

/// How long a model takes to be there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Startup {
    /// Until its weights are loaded, or drawn at random.
    pub load_seconds: f64,
    /// Until the logits of a first token are on the host, loading included.
    pub first_token_seconds: f64,
}

/// Opens a model and feeds it a token.
///
/// # Errors
///
/// When it cannot be opened.
pub(crate) fn start(
    open: impl FnOnce() -> Result<Model, BenchError>,
    conditions: Conditions,
) -> Result<(Model, Startup), BenchError> {
    let started = Instant::now();
    let model = open()?;
    let load_seconds = started.elapsed().as_secs_f64();
    DecodeLoop::new(&model.decoder, Compression::Unbounded, 1, conditions.seed).step();
    Ok((model, Startup { load_seconds, first_token_seconds: started.elapsed().as_secs_f64() }))
}
