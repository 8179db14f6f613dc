//! Tensors from files into memory, converted on the way, and checked on the way.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{AllocationProperty, DType, TensorData};
use half::{bf16, f16};
use memmap2::MmapMut;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::shards::{Found, Shard, Shards, Stored};
use crate::error::ModelError;
use crate::gguf::RowOrder;
use crate::gguf::blocks::{BlockTensor, Format};

impl Shards<'_> {
    /// Reads tensors into one region of memory, on all cores, converting them to `dtype`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or a value is no number or none of `dtype`; of several the first in the order of
    /// `places`.
    pub(super) fn read(&self, places: &[Found], dtype: DType) -> Result<Vec<TensorData>, ModelError> {
        let elements = Found::elements;
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
            let length = piece(place);
            let of_place = part[..size].chunks_mut(length * dtype.size()).enumerate();
            pieces.extend(of_place.map(|(index, piece)| (place, index * length, piece)));
        }
        // While a piece is in the cache it costs next to nothing to look at it once more.
        let read = |(place, first, piece): (&Found, usize, &mut [u8])| {
            let file = &self.files[place.shard];
            match read_as(file, place, first, piece, dtype) {
                Err(source) => Some(failed(&file.path, source)),
                Ok(()) if all_finite(piece, dtype) => None,
                Ok(()) => Some(refusal(file, place, first, piece, dtype)),
            }
        };
        if let Some(error) = pieces.into_par_iter().find_map_first(read) {
            return Err(error);
        }

        let region = bytes::Bytes::from_owner(region);
        let data = places.iter().zip(starts).map(|(place, start)| {
            let part = region.slice(start..start + elements(place) * dtype.size());
            let part = burn::tensor::Bytes::from_shared(part, AllocationProperty::Native);
            TensorData::from_bytes(part, place.shape.clone(), dtype)
        });
        Ok(data.collect())
    }

    /// Whether two tensors of one shape are the same in `dtype`.
    pub(super) fn same(&self, a: &Found, b: &Found, dtype: DType) -> Result<bool, ModelError> {
        let elements = a.elements();
        let piece = |place: &Found, first: usize, count: usize| {
            let file = &self.files[place.shard];
            let mut piece = vec![0; count * dtype.size()];
            let read = read_as(file, place, first, &mut piece, dtype);
            read.map(|()| piece).map_err(|source| ModelError::Read { path: file.path.clone(), source })
        };
        let differ = (0..elements.div_ceil(PIECE)).into_par_iter().map(|index| {
            let (first, count) = (index * PIECE, PIECE.min(elements - index * PIECE));
            Ok(piece(a, first, count)? != piece(b, first, count)?)
        });
        match differ.find_map_first(|result| result.map(|differ| differ.then_some(())).transpose()) {
            Some(Err(error)) => Err(error),
            found => Ok(found.is_none()),
        }
    }
}

/// Whether no value of a piece in `dtype` is NaN or infinite: such have all bits of the exponent set.
fn all_finite(piece: &[u8], dtype: DType) -> bool {
    fn none<const N: usize>(piece: &[u8], special: impl Fn([u8; N]) -> bool) -> bool {
        // Without a branch per value, so that it is as fast as memory.
        !piece.chunks_exact(N).fold(false, |found, bytes| found | special(bytes.try_into().expect("N bytes")))
    }
    match dtype {
        DType::F64 => none(piece, |bytes| u64::from_ne_bytes(bytes) & 0x7ff0 << 48 == 0x7ff0 << 48),
        DType::F16 => none(piece, |bytes| u16::from_ne_bytes(bytes) & 0x7c00 == 0x7c00),
        DType::BF16 => none(piece, |bytes| u16::from_ne_bytes(bytes) & 0x7f80 == 0x7f80),
        _ => none(piece, |bytes| u32::from_ne_bytes(bytes) & 0x7f80 << 16 == 0x7f80 << 16),
    }
}

/// Why a piece, read into `dtype` from the element `first` on, is not all finite.
fn refusal(file: &Shard<'_>, place: &Found, first: usize, piece: &[u8], dtype: DType) -> ModelError {
    let of_piece = piece.chunks_exact(dtype.size()).position(|value| !all_finite(value, dtype)).unwrap_or(0);
    let mut stored = [0; size_of::<f64>()];
    let offset = first + of_piece;
    if let Err(source) = read_as(file, place, offset, &mut stored, DType::F64) {
        return ModelError::Read { path: file.path.clone(), source };
    }
    let (path, name) = (file.path.clone(), place.name.clone());
    let (value, mut index) = (f64::from_ne_bytes(stored), index(offset, &place.shape));
    if let Some(row) = index.first_mut() {
        *row += place.first;
    }
    if !value.is_finite() {
        return ModelError::NotFinite { path, name, index, value };
    }
    let dtype = match dtype {
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        _ => "f32",
    };
    let instead = match value.abs() {
        value if value > f64::from(f32::MAX) => "f64",
        value if dtype == "f16" && (bf16::from_f64(value)).is_finite() => "bf16 or f32",
        _ => "f32",
    };
    ModelError::TooLarge { path, name, index, value, dtype, instead }
}

/// The element that is the `offset`-th of a tensor.
fn index(mut offset: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let along = offset % length;
            offset /= length;
            along
        })
        .collect();
    index.reverse();
    index
}

/// Where tensors begin, so that the widest registers read them at aligned addresses.
const ALIGNMENT: usize = 64;

/// Elements that one task reads, about.
const PIECE: usize = 1 << 20;

/// Elements of a tensor that one task reads: of one whose rows are not read as they are, whole rows, and whole heads
/// where these are what is in another order.
fn piece(place: &Found) -> usize {
    let together = match place.order {
        RowOrder::Pairs { head_dim } => head_dim,
        RowOrder::Same => 1,
    };
    match place.columns().saturating_mul(together) {
        unit if matches!(place.stored, Stored::Gguf(_)) && unit <= PIECE => PIECE / unit * unit,
        _ => PIECE,
    }
}

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
    let stored = match (place.stored, place.order) {
        (Stored::Safetensors(stored), _) => stored,
        (Stored::Gguf(Format::F32), RowOrder::Same) => Dtype::F32,
        (Stored::Gguf(Format::F16), RowOrder::Same) => Dtype::F16,
        (Stored::Gguf(Format::BF16), RowOrder::Same) => Dtype::BF16,
        (Stored::Gguf(format), _) => return read_blocks(file, place, format, first, piece, dtype),
    };
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

/// As [`read_as`], of rows in blocks or in another order.
fn read_blocks(
    file: &Shard<'_>,
    place: &Found,
    format: Format,
    first: usize,
    piece: &mut [u8],
    dtype: DType,
) -> std::io::Result<()> {
    let (columns, count) = (place.columns(), piece.len() / dtype.size());
    let rows = first / columns..(first + count).div_ceil(columns);
    let tensor = blocks(file, place, format, rows)?;
    let mut values = vec![0.0; columns];
    let (mut done, mut skipped) = (0, first % columns);
    for row in 0..tensor.rows() {
        tensor.dequantize_row(row, &mut values);
        let some = &values[skipped..columns.min(skipped + count - done)];
        let part = &mut piece[done * dtype.size()..(done + some.len()) * dtype.size()];
        write_as(some.iter().map(|value| f64::from(*value)), part, dtype);
        (done, skipped) = (done + some.len(), 0);
    }
    Ok(())
}

/// Some rows of a tensor as they are stored, in Hugging Face's order.
fn blocks(file: &Shard<'_>, place: &Found, format: Format, rows: Range<usize>) -> std::io::Result<BlockTensor> {
    let columns = place.columns();
    let bytes = format.bytes(columns).expect("a row of a file");
    let sources: Vec<usize> = rows.map(|row| place.order.source(row)).collect();
    let first = sources.iter().copied().min().unwrap_or(0);
    let end = sources.iter().copied().max().map_or(0, |last| last + 1);
    let mut buffer = vec![0; (end - first) * bytes];
    file.read(place.start + first * bytes, &mut buffer)?;
    let blocks = match place.order {
        RowOrder::Same => buffer,
        RowOrder::Pairs { .. } => {
            sources.iter().flat_map(|row| &buffer[(row - first) * bytes..(row - first + 1) * bytes]).copied().collect()
        }
    };
    Ok(BlockTensor { format, columns, blocks })
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
