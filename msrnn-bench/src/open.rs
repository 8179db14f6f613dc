//! What `--model` names: the bundled model, a directory, a GGUF file, or either of them on the hub.

use std::path::{Path, PathBuf};

use msrnn_core::kernels::Activations;
use msrnn_models::Model;
use msrnn_models::checkpoint::{CONFIG, Outline};
use msrnn_models::config::ModelConfig;
use msrnn_models::gguf::{self, Gguf};
use msrnn_models::storage::Storage;

use crate::device::DeviceName;
use crate::error::BenchError;
use crate::hub::Downloads;
use crate::precision::Precision;
use crate::{bundled, hub};

/// Whether the name is that of the bundled model.
pub fn is_bundled(name: &Path) -> bool {
    name.as_os_str() == bundled::NAME
}

/// The directory that a model's files are in, or its GGUF file, fetched from the hub if need be; none for the bundled
/// one.
///
/// # Errors
///
/// When there is no such directory, file or repository, or it cannot be fetched.
pub fn directory(name: &Path, downloads: &Downloads) -> Result<Option<PathBuf>, BenchError> {
    match is_bundled(name) {
        true => Ok(None),
        false => hub::locate(name, downloads).map(Some),
    }
}

/// As [`directory`], of a model that is on the disk, for who needs its files.
///
/// # Errors
///
/// As [`directory`], and when it is the bundled model.
pub fn files(name: &Path, downloads: &Downloads) -> Result<PathBuf, BenchError> {
    directory(name, downloads)?.ok_or_else(|| {
        BenchError::Input("the bundled model is part of the command; give a model's directory or a GGUF file".into())
    })
}

/// The configuration of the model of a [`directory`], without opening its weights.
///
/// # Errors
///
/// When it cannot be read.
pub fn config(directory: Option<&Path>) -> Result<ModelConfig, BenchError> {
    match directory {
        None => bundled::config(),
        Some(file) if gguf::is_gguf(file) => Ok(Gguf::open(file)?.config()?.0),
        Some(directory) => Ok(ModelConfig::read(&directory.join(CONFIG))?),
    }
}

/// What the model of a [`directory`] is and how much its weights take, held as `storage` says, without reading them.
///
/// # Errors
///
/// When it cannot be loaded, as far as its weights do not say it.
pub(crate) fn outline(directory: Option<&Path>, storage: Storage) -> Result<Outline, BenchError> {
    match directory {
        None => bundled::outline(storage),
        Some(directory) => Ok(Outline::read(directory, storage)?),
    }
}

/// Opens the model of a [`directory`] on a device. Says so where it leaves tensors of the files unused.
///
/// # Errors
///
/// When it cannot be loaded, or the device is not there.
pub fn open(directory: Option<&Path>, device: DeviceName, precision: Precision) -> Result<Model, BenchError> {
    let on = device.open()?;
    let storage = precision.on(&on, device)?;
    let model = match directory {
        None => bundled::load(storage, &on)?,
        Some(directory) => Model::load(directory, storage, &on)?,
    };
    if storage.activations != Activations::Float && !model.decoder.matrices().iter().any(|matrix| matrix.rounds()) {
        let (wanted, dtype) = match storage.activations {
            Activations::Bf16 => ("bf16", "bf16"),
            _ => ("blocks", "int8"),
        };
        return Err(BenchError::Input(format!(
            "{} has no matrix in {wanted}, so that no activation would be rounded; choose ‘dtype’ {dtype}, or leave out \
             ‘activations’",
            directory.map_or_else(|| "the bundled model".into(), |directory| directory.display().to_string())
        )));
    }
    for note in model.warnings() {
        tracing::warn!("{note}");
    }
    if !model.unused.is_empty() {
        let shown: Vec<&str> = model.unused.iter().take(5).map(String::as_str).collect();
        tracing::warn!(
            "the model does not use {} tensors of the checkpoint: {} …",
            model.unused.len(),
            shown.join(", ")
        );
    }
    Ok(model)
}
