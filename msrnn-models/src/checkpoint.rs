//! A Hugging Face model directory: `config.json` and one or more safetensors files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::weights::{self, Named};

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
}

/// Loads the weights of a model directory in `dtype`.
///
/// Files are memory-mapped and converted tensor by tensor, in parallel, so that beside the mapped
/// checkpoint only the converted weights take memory.
///
/// # Errors
///
/// When a file is missing or damaged, a tensor is missing, of the wrong shape or of a dtype that
/// cannot be read. Nothing is filled in silently.
pub fn load(directory: &Path, dtype: DType, device: &Device) -> Result<Loaded, ModelError> {
    let config = ModelConfig::read(&directory.join(CONFIG))?;
    let shards = Shards::open(directory)?;
    shards.decoder(&config, dtype, device)
}

/// A checkpoint in memory: the text of `config.json` and the bytes of one safetensors file.
///
/// # Errors
///
/// As [`load`].
pub fn from_bytes(config: &str, weights: &[u8], dtype: DType, device: &Device) -> Result<Loaded, ModelError> {
    let config = ModelConfig::parse(config).map_err(|reason| ModelError::Config { path: CONFIG.into(), reason })?;
    let shards = Shards { directory: "bundled".into(), files: vec![(WEIGHTS.into(), Bytes::Borrowed(weights))] };
    shards.decoder(&config, dtype, device)
}

/// Writes `config.json` and `model.safetensors` in the decoder's dtype. Each file appears whole or
/// not at all.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn save(directory: &Path, decoder: &Decoder) -> Result<(), ModelError> {
    std::fs::create_dir_all(directory).map_err(|source| ModelError::Write { path: directory.into(), source })?;
    let config = serde_json::to_string_pretty(&decoder.config().to_json()).expect("a configuration is JSON");
    write_whole(&directory.join(CONFIG), config.as_bytes())?;
    write_whole(&directory.join(WEIGHTS), &to_bytes(decoder))
}

/// The decoder's weights as one safetensors file.
pub fn to_bytes(decoder: &Decoder) -> Vec<u8> {
    let data = weights::named_data(decoder);
    let views = data.iter().map(|(named, data)| {
        let dtype = match data.dtype() {
            DType::F64 => Dtype::F64,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            _ => Dtype::F32,
        };
        let view = TensorView::new(dtype, named.shape.clone(), data.as_bytes());
        (named.name.clone(), view.expect("a tensor's bytes fit its shape"))
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
    use std::io::Write;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&partial);
        ModelError::Write { path: path.into(), source }
    })
}

/// The safetensors files of one checkpoint.
struct Shards<'a> {
    directory: PathBuf,
    files: Vec<(PathBuf, Bytes<'a>)>,
}

enum Bytes<'a> {
    Mapped(Mmap),
    Borrowed(&'a [u8]),
}

impl Bytes<'_> {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Borrowed(bytes) => bytes,
        }
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards<'static> {
    fn open(directory: &Path) -> Result<Self, ModelError> {
        let index = directory.join(INDEX);
        let names: BTreeSet<String> = if index.exists() {
            let text =
                std::fs::read_to_string(&index).map_err(|source| ModelError::Read { path: index.clone(), source })?;
            let parsed: Index = serde_json::from_str(&text)
                .map_err(|e| ModelError::Damaged { path: index.clone(), reason: e.to_string() })?;
            parsed.weight_map.into_values().collect()
        } else {
            BTreeSet::from([WEIGHTS.to_owned()])
        };
        let map = |name: String| {
            let path = directory.join(name);
            let file = File::open(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
            // SAFETY: the checkpoint is opened read-only; a file that another process truncates
            // while it is mapped is outside what any reader of memory-mapped weights can handle.
            let bytes = unsafe { Mmap::map(&file) };
            let bytes = bytes.map_err(|source| ModelError::Read { path: path.clone(), source })?;
            Ok((path, Bytes::Mapped(bytes)))
        };
        Ok(Self { directory: directory.into(), files: names.into_iter().map(map).collect::<Result<_, ModelError>>()? })
    }
}

impl Shards<'_> {
    fn decoder(&self, config: &ModelConfig, dtype: DType, device: &Device) -> Result<Loaded, ModelError> {
        let mut found = BTreeMap::new();
        for (path, bytes) in &self.files {
            let damaged = |e: safetensors::SafeTensorError| ModelError::Damaged {
                path: path.clone(),
                reason: format!("not a whole safetensors file ({e})"),
            };
            for (name, view) in SafeTensors::deserialize(bytes.get()).map_err(damaged)?.tensors() {
                found.insert(name, view);
            }
        }
        let wanted = weights::tensors(config);
        let missing: Vec<String> =
            wanted.iter().filter(|named| !found.contains_key(&named.name)).map(|named| named.name.clone()).collect();
        if !missing.is_empty() {
            return Err(ModelError::MissingTensors { path: self.directory.clone(), names: missing });
        }
        let data = wanted
            .par_iter()
            .map(|named| self.convert(named, &found[&named.name], dtype))
            .collect::<Result<Vec<_>, _>>()?;
        let used: BTreeSet<&str> = wanted.iter().map(|named| named.name.as_str()).collect();
        let unused = found.into_keys().filter(|name| !used.contains(name.as_str())).collect();
        Ok(Loaded { decoder: weights::decoder(config, data, dtype, device), unused })
    }

    fn convert(&self, named: &Named, view: &TensorView<'_>, dtype: DType) -> Result<TensorData, ModelError> {
        if view.shape() != named.shape {
            return Err(ModelError::Shape {
                path: self.directory.clone(),
                name: named.name.clone(),
                found: view.shape().to_vec(),
                expected: named.shape.clone(),
            });
        }
        let shape = named.shape.clone();
        let data = match view.dtype() {
            Dtype::F64 => TensorData::new(values(view.data(), f64::from_le_bytes), shape),
            Dtype::F32 => TensorData::new(values(view.data(), f32::from_le_bytes), shape),
            // The common case, 16-bit weights computed in f32, in one pass.
            Dtype::F16 if dtype == DType::F32 => {
                TensorData::new(values(view.data(), |b| f16::from_le_bytes(b).to_f32()), shape)
            }
            Dtype::BF16 if dtype == DType::F32 => {
                TensorData::new(values(view.data(), |b| bf16::from_le_bytes(b).to_f32()), shape)
            }
            Dtype::F16 => TensorData::new(values(view.data(), f16::from_le_bytes), shape),
            Dtype::BF16 => TensorData::new(values(view.data(), bf16::from_le_bytes), shape),
            other => {
                return Err(ModelError::Dtype {
                    path: self.directory.clone(),
                    name: named.name.clone(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        Ok(data.convert_dtype(dtype))
    }
}

/// The little-endian values in `bytes`, which need not be aligned.
fn values<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|chunk| read(chunk.try_into().expect("a chunk of N bytes"))).collect()
}
