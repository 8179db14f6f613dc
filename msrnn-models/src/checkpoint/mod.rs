//! A Hugging Face model directory, `config.json` and one or more safetensors files; and the weights of GGUF files, which
//! are read in the same way.

mod directory;
mod names;
mod outline;
mod read;
mod shards;
mod source;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::storage::{Storage, Weights};
use crate::weights::{self, Stored};
use crate::whole;

pub(crate) use directory::is_pointer;
use directory::refuse;
use names::Wanted;
pub use outline::Outline;
use read::Form;
use shards::{Found, Shards};
pub(crate) use source::Source;

/// Name of the file of a checkpoint in one piece.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// Name of the model's configuration.
pub const CONFIG: &str = "config.json";

/// A checkpoint, loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub decoder: Decoder,
    /// Tensors in the files that the model does not use, by name.
    pub unused: Vec<String>,
    /// What was read otherwise than the configuration says, as sentences.
    pub notes: Vec<String>,
}

/// Loads the weights of a model directory in `dtype`.
///
/// Files are read on all cores into one region of memory in which the weights stay, so that they are
/// in memory once. bf16 and f16 stay as they are if `dtype` is theirs.
///
/// # Errors
///
/// When a file is missing or damaged, a tensor is missing, of the wrong shape, of a dtype that
/// cannot be read, or holds a value that is no number or that `storage` cannot hold. Nothing is filled in silently.
pub fn load(directory: &Path, storage: impl Into<Storage>, device: &Device) -> Result<Loaded, ModelError> {
    let (shards, config) = of_directory(directory)?;
    decoder(&shards, config, storage.into(), device)
}

/// The files of a model directory, opened, and its configuration.
fn of_directory(directory: &Path) -> Result<(Shards<'static>, ModelConfig), ModelError> {
    refuse(directory)?;
    let config = ModelConfig::read(&directory.join(CONFIG))?;
    Ok((Shards::open(directory)?, config))
}

/// The one file of a checkpoint in memory, opened, and its configuration.
fn of_bytes<'a>(config: &str, weights: &'a [u8]) -> Result<(Shards<'a>, ModelConfig), ModelError> {
    let config = ModelConfig::parse(config).map_err(|reason| ModelError::Config { path: CONFIG.into(), reason })?;
    Ok((Shards::borrowed(weights)?, config))
}

/// Loads the weights of a model in GGUF files as [`load`] does those of a directory, taken out of their blocks unless
/// `storage` has [`Weights::Stored`].
///
/// # Errors
///
/// As [`load`] and [`Gguf::config`].
pub fn load_gguf(gguf: &Gguf, storage: impl Into<Storage>, device: &Device) -> Result<Loaded, ModelError> {
    let (config, mut notes) = gguf.config()?;
    let shards = Shards::of_gguf(gguf, &config);
    let mut loaded = decoder(&shards, config, storage.into(), device)?;
    notes.append(&mut loaded.notes);
    Ok(Loaded { notes, ..loaded })
}

/// The model that the files hold.
fn decoder(
    shards: &Shards<'_>,
    mut config: ModelConfig,
    storage: Storage,
    device: &Device,
) -> Result<Loaded, ModelError> {
    storage.check_on(&config, device)?;
    let notes = shards.untie(&mut config, storage.vectors())?;
    let Wanted { places, unused } = shards.wanted(&config)?;
    let decoder: Result<Decoder, ModelError> = match storage.weights {
        Weights::Float(dtype) => weights::decoder(
            &config,
            shards.read(&places, |_| Form::Float(dtype))?.into_iter().map(Ok),
            storage,
            device,
        ),
        Weights::Stored => {
            weights::decoder(&config, shards.read(&places, Found::form)?.into_iter().map(Ok), storage, device)
        }
        // One by one: of the values that are rounded, no more than one tensor is in memory.
        Weights::Int8 => {
            let data = places.chunks(1).map(|place| Ok(shards.read(place, |_| Form::Float(DType::F32))?.remove(0)));
            weights::decoder(&config, data, storage, device)
        }
    };
    Ok(Loaded { decoder: decoder?, unused, notes })
}

/// A checkpoint in memory: the text of `config.json` and the bytes of one safetensors file.
///
/// # Errors
///
/// As [`load`].
pub fn from_bytes(
    config: &str,
    weights: &[u8],
    storage: impl Into<Storage>,
    device: &Device,
) -> Result<Loaded, ModelError> {
    let (shards, config) = of_bytes(config, weights)?;
    decoder(&shards, config, storage.into(), device)
}

/// Writes `config.json` and `model.safetensors` in the decoder's dtype. Each file appears whole or
/// not at all.
///
/// # Errors
///
/// When the directory cannot be written.
///
/// # Panics
///
/// As [`weights::named_data`].
pub fn save(directory: &Path, decoder: &Decoder) -> Result<(), ModelError> {
    std::fs::create_dir_all(directory).map_err(|source| ModelError::Write { path: directory.into(), source })?;
    let config = serde_json::to_string_pretty(&decoder.config().to_json()).expect("a configuration is JSON");
    write_whole(&directory.join(CONFIG), config.as_bytes())?;
    write_whole(&directory.join(WEIGHTS), &to_bytes(decoder))
}

/// The decoder's weights as one safetensors file.
///
/// # Panics
///
/// As [`weights::named_data`].
pub fn to_bytes(decoder: &Decoder) -> Vec<u8> {
    let data = weights::named_data(decoder);
    let stored = weights::stored(decoder.config());
    let bytes = |parts: Range<usize>| match &data[parts] {
        [(_, one)] => Cow::Borrowed(one.as_bytes()),
        several => Cow::Owned(several.iter().flat_map(|(_, part)| part.as_bytes()).copied().collect()),
    };
    let bytes: Vec<Cow<'_, [u8]>> = stored.iter().map(|stored| bytes(stored.parts.clone())).collect();
    let views = stored.iter().zip(&bytes).map(|(Stored { whole, parts }, bytes)| {
        let dtype = match data[parts.start].1.dtype() {
            DType::F64 => Dtype::F64,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            _ => Dtype::F32,
        };
        let view = TensorView::new(dtype, whole.shape.clone(), bytes);
        (whole.name.clone(), view.expect("a tensor's bytes fit its shape"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("tensors of a model serialise")
}

/// Writes `bytes` to a file beside `path` and renames it, so that `path` is never half-written.
///
/// # Errors
///
/// When the file cannot be written, for example because the disk is full.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    whole::write(path, bytes).map_err(|source| ModelError::Write { path: path.into(), source })
}
