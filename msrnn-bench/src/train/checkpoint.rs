//! Checkpoints of a training run: weights and optimiser state of one step, whole or absent.

use std::path::{Path, PathBuf};

use burn::optim::ModuleOptimizer;
use burn::tensor::{DType, Device};
use msrnn_models::checkpoint as model;
use msrnn_models::decoder::Decoder;

use crate::error::BenchError;

const PREFIX: &str = "step-";
const OPTIMIZER: &str = "optimizer.bpk";

fn place(directory: &Path, step: usize) -> PathBuf {
    directory.join(format!("{PREFIX}{step:06}"))
}

/// The last step of which `directory` holds a whole checkpoint.
pub(super) fn latest(directory: &Path) -> Result<Option<usize>, BenchError> {
    let read = |source| BenchError::Read { path: directory.into(), source };
    let mut latest = None;
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<usize>().ok());
        latest = latest.max(step);
    }
    Ok(latest)
}

/// Writes the checkpoint of `step` and drops the earlier ones.
pub(super) fn save(
    directory: &Path,
    step: usize,
    decoder: &Decoder,
    optimizer: &ModuleOptimizer,
) -> Result<(), BenchError> {
    let partial = directory.join("partial");
    let write = |source| BenchError::Write { path: partial.clone(), source };
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(write)?;
    }
    let before = latest(directory)?;
    model::save(&partial, decoder)?;
    optimizer.save(partial.join(OPTIMIZER)).map_err(|e| BenchError::Train(format!("{}: {e}", partial.display())))?;
    std::fs::rename(&partial, place(directory, step)).map_err(write)?;
    if let Some(before) = before {
        std::fs::remove_dir_all(place(directory, before)).map_err(write)?;
    }
    Ok(())
}

/// Reads the checkpoint of `step`.
pub(super) fn load(
    directory: &Path,
    step: usize,
    device: &Device,
    optimizer: ModuleOptimizer,
) -> Result<(Decoder, ModuleOptimizer), BenchError> {
    let place = place(directory, step);
    let decoder = model::load(&place, DType::F32, device)?.decoder;
    let optimizer = optimizer.load(place.join(OPTIMIZER)).map_err(|e| {
        BenchError::Train(format!("{}: {e}; delete this folder to go on from an earlier state", place.display()))
    })?;
    Ok((decoder, optimizer))
}

/// Writes the trained model into `directory` itself.
pub(super) fn finish(directory: &Path, decoder: &Decoder) -> Result<(), BenchError> {
    Ok(model::save(directory, decoder)?)
}
