//! The safetensors files of a checkpoint, and which of them holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use burn::tensor::DType;
use memmap2::Mmap;
use msrnn_core::kernels::Format;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::Deserialize;

use super::directory::is_pointer;
use super::read::Form;
use super::{INDEX, WEIGHTS};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::file::read_text;
use crate::gguf::{Gguf, RowOrder, order};

/// The files of one checkpoint, opened.
pub(super) struct Shards<'a> {
    pub(super) directory: PathBuf,
    pub(super) files: Vec<Shard<'a>>,
    /// All tensors by name.
    pub(super) found: BTreeMap<String, Found>,
    /// Tensors of files that the index has elsewhere, or nowhere: `name (file)`.
    pub(super) stale: Vec<String>,
}

/// One of the files: mapped for its header, read for its tensors, so that their pages do not stay
/// in this process beside the weights. It may be a GGUF file, whose header was read before.
pub(super) struct Shard<'a> {
    pub(super) path: PathBuf,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    /// For its header.
    Mapped(Mmap),
    Closed,
    Borrowed(&'a [u8]),
}

/// Where a tensor lies: in which file, from which byte on.
#[derive(Clone)]
pub(super) struct Found {
    /// As the file has it.
    pub(super) name: String,
    pub(super) shard: usize,
    pub(super) start: usize,
    /// Which of the tensor's rows is the first, where this is a part of it.
    pub(super) first: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stored: Stored,
    /// Of its rows.
    pub(super) order: RowOrder,
}

/// In which form the values of a tensor are stored.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    /// As safetensors have them.
    Safetensors(Dtype),
    /// As GGUF files have them.
    Gguf(Format),
}

impl Found {
    /// Number of values.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Values of a row, which is what is put in another order: of a vector whose values are, one; of others, all.
    pub(super) fn columns(&self) -> usize {
        match self.order {
            RowOrder::Pairs { .. } => self.shape[1..].iter().product(),
            RowOrder::Same => self.shape.last().copied().unwrap_or(1),
        }
    }

    /// The form in which it is held as it is stored: a matrix in its blocks or its float dtype, one of 64 bits and
    /// everything else in 32.
    pub(super) fn form(&self) -> Form {
        match self.stored {
            _ if self.shape.len() != 2 => Form::Float(DType::F32),
            Stored::Safetensors(Dtype::F16) | Stored::Gguf(Format::F16) => Form::Float(DType::F16),
            Stored::Safetensors(Dtype::BF16) | Stored::Gguf(Format::BF16) => Form::Float(DType::BF16),
            Stored::Safetensors(_) | Stored::Gguf(Format::F32) => Form::Float(DType::F32),
            Stored::Gguf(format) => Form::Blocks(format),
        }
    }

    /// Rows of it, from the `first` on, as a tensor of that shape.
    pub(super) fn rows(&self, first: usize, shape: Vec<usize>) -> Self {
        let columns: usize = self.shape[1..].iter().product();
        let bytes = match self.stored {
            Stored::Safetensors(Dtype::F64) => 8 * columns,
            Stored::Safetensors(Dtype::F32) => 4 * columns,
            Stored::Safetensors(_) => 2 * columns,
            Stored::Gguf(format) => format.bytes(columns).expect("a row of a file"),
        };
        Self { start: self.start + first * bytes, first, shape, ..self.clone() }
    }
}

impl Shard<'_> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Closed => &[],
            Bytes::Borrowed(bytes) => bytes,
        }
    }

    /// Fills `buffer` from `start` on.
    pub(super) fn read(&self, start: usize, buffer: &mut [u8]) -> std::io::Result<()> {
        match &self.bytes {
            Bytes::Mapped(_) | Bytes::Closed => {
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

    /// The tensors of this file.
    fn tensors(&self, shard: usize) -> Result<Vec<Found>, ModelError> {
        if is_pointer(self.bytes()) {
            return Err(ModelError::Pointer(self.path.clone()));
        }
        let (header, metadata) = SafeTensors::read_metadata(self.bytes()).map_err(|e| ModelError::Damaged {
            path: self.path.clone(),
            reason: format!("not a whole safetensors file ({e})"),
        })?;
        let found = metadata.tensors().into_iter().map(|(name, info)| {
            let start = size_of::<u64>() + header + info.data_offsets.0;
            let stored = Stored::Safetensors(info.dtype);
            Found { name, shard, start, first: 0, shape: info.shape.clone(), stored, order: RowOrder::Same }
        });
        Ok(found.collect())
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards<'static> {
    /// As transformers chooses: the file in one piece where there is one, else the files of the index.
    pub(super) fn open(directory: &Path) -> Result<Self, ModelError> {
        let index = directory.join(INDEX);
        if directory.join(WEIGHTS).exists() || !index.exists() {
            return Self::of(directory.into(), vec![map(directory.join(WEIGHTS))?], |_, _| true);
        }
        let text = read_text(&index)?;
        let damaged = |reason: String| ModelError::Damaged { path: index.clone(), reason };
        let Index { weight_map } = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        if let Some(name) = names.iter().find(|name| !is_shard(name)) {
            return Err(damaged(format!(
                "it names {name:?}, and a part of a checkpoint is a .safetensors file inside the directory"
            )));
        }
        let absent = |name: &&&String| !directory.join(name.as_str()).exists();
        let missing: Vec<String> = names.iter().filter(absent).map(|name| (*name).clone()).collect();
        if !missing.is_empty() {
            return Err(ModelError::MissingShards { path: index, names: missing });
        }
        let names: Vec<&String> = names.into_iter().collect();
        let files = names.iter().map(|name| map(directory.join(name.as_str())));
        let files = files.collect::<Result<Vec<_>, ModelError>>()?;
        Self::of(directory.into(), files, |shard, name| weight_map.get(name) == Some(names[shard]))
    }
}

impl Shards<'static> {
    /// The files of a GGUF model, with the tensors by the names that Hugging Face has for them.
    pub(super) fn of_gguf(gguf: &Gguf, config: &ModelConfig) -> Self {
        let files = gguf.paths().map(|path| Shard { path: path.into(), bytes: Bytes::Closed }).collect();
        let found = gguf.places().map(|place| {
            let found = Found {
                name: place.own_name.to_owned(),
                shard: place.file,
                start: place.start,
                first: 0,
                shape: place.shape.to_vec(),
                stored: Stored::Gguf(place.format),
                order: order(&place.name, config),
            };
            (place.name, found)
        });
        Self { directory: gguf.path().into(), files, found: found.collect(), stale: Vec::new() }
    }
}

impl<'a> Shards<'a> {
    /// A file in memory.
    pub(super) fn borrowed(weights: &'a [u8]) -> Result<Self, ModelError> {
        let file = Shard { path: WEIGHTS.into(), bytes: Bytes::Borrowed(weights) };
        Self::of("bundled".into(), vec![file], |_, _| true)
    }

    /// `holds`: whether a tensor of this name is to be read from that file.
    fn of(directory: PathBuf, files: Vec<Shard<'a>>, holds: impl Fn(usize, &str) -> bool) -> Result<Self, ModelError> {
        let (mut found, mut stale) = (BTreeMap::new(), Vec::new());
        for (shard, file) in files.iter().enumerate() {
            for tensor in file.tensors(shard)? {
                match holds(shard, &tensor.name) {
                    true => drop(found.insert(tensor.name.clone(), tensor)),
                    false => {
                        let file = file.path.file_name().unwrap_or_default().to_string_lossy();
                        stale.push(format!("{} ({file})", tensor.name));
                    }
                }
            }
        }
        stale.sort();
        Ok(Self { directory, files, found, stale })
    }
}

fn map(path: PathBuf) -> Result<Shard<'static>, ModelError> {
    let file = File::open(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
    // SAFETY: the checkpoint is opened read-only; a file that another process truncates
    // while it is mapped is outside what any reader of memory-mapped weights can handle.
    let bytes = unsafe { Mmap::map(&file) };
    let bytes = bytes.map_err(|source| ModelError::Read { path: path.clone(), source })?;
    Ok(Shard { path, bytes: Bytes::Mapped(bytes) })
}

/// Whether an index may name this file.
fn is_shard(name: &str) -> bool {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    inside && !name.contains('\\') && name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_safetensors_file_inside_the_directory() {
        for name in ["model-00001-of-00002.safetensors", "parts/one.safetensors"] {
            assert!(is_shard(name), "{name}");
        }
        for name in [
            "",
            "../model.safetensors",
            "/etc/model.safetensors",
            "a/../../b.safetensors",
            "..\\b.safetensors",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "..",
        ] {
            assert!(!is_shard(name), "{name}");
        }
    }
}
