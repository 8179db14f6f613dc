//! A Hugging Face model directory: `config.json` and one or more safetensors files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{AllocationProperty, DType, Device, TensorData};
use half::{bf16, f16};
use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo, TensorView};
use serde::Deserialize;

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::file::read_text;
use crate::storage::{Storage, Weights};
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
/// Files are read on all cores into one region of memory in which the weights stay, so that they are
/// in memory once. bf16 and f16 stay as they are if `dtype` is theirs.
///
/// # Errors
///
/// When a file is missing or damaged, a tensor is missing, of the wrong shape or of a dtype that
/// cannot be read. Nothing is filled in silently.
pub fn load(directory: &Path, storage: impl Into<Storage>, device: &Device) -> Result<Loaded, ModelError> {
    let config = ModelConfig::read(&directory.join(CONFIG))?;
    let shards = Shards::open(directory)?;
    shards.decoder(&config, storage.into(), device)
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
    let config = ModelConfig::parse(config).map_err(|reason| ModelError::Config { path: CONFIG.into(), reason })?;
    let shards = Shards {
        directory: "bundled".into(),
        files: vec![Shard { path: WEIGHTS.into(), bytes: Bytes::Borrowed(weights) }],
    };
    shards.decoder(&config, storage.into(), device)
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
    files: Vec<Shard<'a>>,
}

/// One of the files: mapped for its header, read for its tensors, so that their pages do not stay
/// in this process beside the weights.
struct Shard<'a> {
    path: PathBuf,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    Mapped(Mmap),
    Borrowed(&'a [u8]),
}

/// Where a tensor lies: in which file, from which byte on.
struct Found {
    shard: usize,
    start: usize,
    info: TensorInfo,
}

impl Shard<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Borrowed(bytes) => bytes,
        }
    }

    /// Fills `buffer` from `start` on.
    fn read(&self, start: usize, buffer: &mut [u8]) -> std::io::Result<()> {
        match &self.bytes {
            Bytes::Mapped(_) => {
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(start as u64))?;
                file.read_exact(buffer)
            }
            Bytes::Borrowed(bytes) => {
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
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
            let text = read_text(&index)?;
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
            Ok(Shard { path, bytes: Bytes::Mapped(bytes) })
        };
        Ok(Self { directory: directory.into(), files: names.into_iter().map(map).collect::<Result<_, ModelError>>()? })
    }
}

impl Shards<'_> {
    fn decoder(&self, config: &ModelConfig, storage: Storage, device: &Device) -> Result<Loaded, ModelError> {
        storage.check(config)?;
        let mut found = self.find()?;
        let wanted = weights::tensors(config);
        let missing: Vec<String> =
            wanted.iter().filter(|named| !found.contains_key(&named.name)).map(|named| named.name.clone()).collect();
        if !missing.is_empty() {
            return Err(ModelError::MissingTensors { path: self.directory.clone(), names: missing });
        }
        let places: Vec<Found> = wanted.iter().filter_map(|named| found.remove(&named.name)).collect();
        for (named, place) in wanted.iter().zip(&places) {
            self.check(named, &place.info)?;
        }
        let decoder: Result<Decoder, ModelError> = match storage.weights {
            Weights::Float(dtype) => {
                weights::decoder(config, self.read(&places, dtype)?.into_iter().map(Ok), storage, device)
            }
            // One by one: of the values that are rounded, no more than one tensor is in memory.
            Weights::Int8 => {
                let data = places.chunks(1).map(|place| Ok(self.read(place, DType::F32)?.remove(0)));
                weights::decoder(config, data, storage, device)
            }
        };
        Ok(Loaded { decoder: decoder?, unused: found.into_keys().collect() })
    }

    /// All tensors by name.
    fn find(&self) -> Result<BTreeMap<String, Found>, ModelError> {
        let mut found = BTreeMap::new();
        for (shard, file) in self.files.iter().enumerate() {
            let (header, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(|e| ModelError::Damaged {
                path: file.path.clone(),
                reason: format!("not a whole safetensors file ({e})"),
            })?;
            for (name, info) in metadata.tensors() {
                let start = size_of::<u64>() + header + info.data_offsets.0;
                found.insert(name, Found { shard, start, info: info.clone() });
            }
        }
        Ok(found)
    }

    fn check(&self, named: &Named, info: &TensorInfo) -> Result<(), ModelError> {
        if info.shape != named.shape {
            return Err(ModelError::Shape {
                path: self.directory.clone(),
                name: named.name.clone(),
                found: info.shape.clone(),
                expected: named.shape.clone(),
            });
        }
        match info.dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(ModelError::Dtype {
                path: self.directory.clone(),
                name: named.name.clone(),
                dtype: format!("{other:?}"),
            }),
        }
    }

    /// Reads tensors into one region of memory, on all cores, converting them to `dtype`.
    fn read(&self, places: &[Found], dtype: DType) -> Result<Vec<TensorData>, ModelError> {
        let elements = |place: &Found| place.info.shape.iter().product::<usize>();
        let mut starts = Vec::with_capacity(places.len());
        let mut total = 0;
        for place in places {
            starts.push(total);
            total += (elements(place) * dtype.size()).next_multiple_of(ALIGNMENT);
        }
        let failed = |path: &Path, source| ModelError::Read { path: path.into(), source };
        let mut region = huge_pages(total).map_err(|source| failed(&self.directory, source))?;

        // By place: pieces of its part of the region, and which of its elements they begin with.
        let mut pieces = Vec::new();
        let mut rest = &mut region[..];
        for place in places {
            let size = elements(place) * dtype.size();
            let (part, after) = rest.split_at_mut(size.next_multiple_of(ALIGNMENT));
            rest = after;
            let of_place = part[..size].chunks_mut(PIECE * dtype.size()).enumerate();
            pieces.extend(of_place.map(|(index, piece)| (place, index * PIECE, piece)));
        }
        pieces.into_par_iter().try_for_each(|(place, first, piece)| {
            let file = &self.files[place.shard];
            read_as(file, place, first, piece, dtype).map_err(|source| failed(&file.path, source))
        })?;

        let region = bytes::Bytes::from_owner(region);
        let data = places.iter().zip(starts).map(|(place, start)| {
            let part = region.slice(start..start + elements(place) * dtype.size());
            let part = burn::tensor::Bytes::from_shared(part, AllocationProperty::Native);
            TensorData::from_bytes(part, place.info.shape.clone(), dtype)
        });
        Ok(data.collect())
    }
}

/// Where tensors begin, so that the widest registers read them at aligned addresses.
const ALIGNMENT: usize = 64;

/// Elements that one task reads.
const PIECE: usize = 1 << 20;

/// Memory for all weights in one region: they are read from end to end for every token, which is
/// faster where the system backs them by large pages.
fn huge_pages(bytes: usize) -> std::io::Result<MmapMut> {
    let region = MmapMut::map_anon(bytes.max(1))?;
    #[cfg(target_os = "linux")]
    if let Err(error) = region.advise(memmap2::Advice::HugePage) {
        // Some kernels are built without them; pages of the usual size do too.
        let _ = error;
    }
    Ok(region)
}

/// Reads a tensor's elements from the `first` on into `piece`, which is in `dtype`.
fn read_as(file: &Shard<'_>, place: &Found, first: usize, piece: &mut [u8], dtype: DType) -> std::io::Result<()> {
    let stored = place.info.dtype;
    let size = match stored {
        Dtype::F64 => 8,
        Dtype::F32 => 4,
        _ => 2,
    };
    let start = place.start + first * size;
    let same = matches!(
        (stored, dtype),
        (Dtype::F64, DType::F64) | (Dtype::F32, DType::F32) | (Dtype::F16, DType::F16) | (Dtype::BF16, DType::BF16)
    );
    if same && cfg!(target_endian = "little") {
        return file.read(start, piece);
    }
    let mut buffer = vec![0; piece.len() / dtype.size() * size];
    file.read(start, &mut buffer)?;
    match stored {
        Dtype::F64 => write_as(values(&buffer, f64::from_le_bytes), piece, dtype),
        Dtype::F32 => write_as(values(&buffer, |b| f64::from(f32::from_le_bytes(b))), piece, dtype),
        Dtype::F16 => write_as(values(&buffer, |b| f16::from_le_bytes(b).to_f64()), piece, dtype),
        _ => write_as(values(&buffer, |b| bf16::from_le_bytes(b).to_f64()), piece, dtype),
    }
    Ok(())
}

/// Writes values, which f64 holds exactly, as the machine keeps those of `dtype`.
fn write_as(values: impl Iterator<Item = f64>, piece: &mut [u8], dtype: DType) {
    fn all<const N: usize>(values: impl Iterator<Item = f64>, piece: &mut [u8], write: impl Fn(f64) -> [u8; N]) {
        piece.chunks_exact_mut(N).zip(values).for_each(|(bytes, value)| bytes.copy_from_slice(&write(value)));
    }
    match dtype {
        DType::F64 => all(values, piece, f64::to_ne_bytes),
        DType::F16 => all(values, piece, |value| f16::from_f32(value as f32).to_ne_bytes()),
        DType::BF16 => all(values, piece, |value| bf16::from_f32(value as f32).to_ne_bytes()),
        _ => all(values, piece, |value| (value as f32).to_ne_bytes()),
    }
}

/// The little-endian values in `bytes`.
fn values<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.chunks_exact(N).map(move |chunk| read(chunk.try_into().expect("a chunk of N bytes")))
}
