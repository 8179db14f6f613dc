//! The model that is part of the program: trained by `msrnn train` on the story generator.

use burn::tensor::Device;
use msrnn_models::Model;
use msrnn_models::checkpoint::Outline;
use msrnn_models::config::ModelConfig;
use msrnn_models::model::ModelFiles;
use msrnn_models::storage::Storage;

use crate::error::BenchError;
use crate::source::Source;

/// Its name, as `--model` takes it.
pub const NAME: &str = "bundled";

const FILES: ModelFiles<'static> = ModelFiles {
    config: include_str!("../bundled/config.json"),
    weights: include_bytes!("../bundled/model.safetensors"),
    tokenizer: include_bytes!("../bundled/tokenizer.json"),
};

/// Its configuration.
///
/// # Errors
///
/// Never, as long as a test can load it.
pub fn config() -> Result<ModelConfig, BenchError> {
    ModelConfig::parse(FILES.config).map_err(BenchError::Input)
}

/// What it is and how much its weights take.
///
/// # Errors
///
/// When it cannot be held so.
pub(crate) fn outline(storage: impl Into<Storage>) -> Result<Outline, BenchError> {
    Ok(Outline::from_bytes(FILES.config, FILES.weights, storage)?)
}

/// Loads it.
///
/// # Errors
///
/// When the device cannot hold it.
pub fn load(storage: impl Into<Storage>, device: &Device) -> Result<Model, BenchError> {
    Ok(Model::from_files(&FILES, storage, device)?)
}

/// What is in its files.
pub fn source() -> Source {
    let files = [
        ("config.json", FILES.config.as_bytes()),
        ("model.safetensors", FILES.weights),
        ("tokenizer.json", FILES.tokenizer),
    ];
    Source::of_bytes(NAME, files)
}
