//! Tensors from files into memory, converted on the way, and checked on the way.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{AllocationProperty, DType, TensorData};
use half::{bf16, f16};
use memmap2::MmapMut;
use msrnn_core::kernels::Format;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::shards::{Found, Shard, Shards, Stored};
use crate::error::ModelError;
use crate::gguf::RowOrder;
use crate::weights::Data;

/// How a tensor is held in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Its values in a float dtype.
    Float(DType),
    /// A matrix in blocks, as a file has it.
    Blocks(Format),
}

impl Form {
    /// Bytes of so many values; of blocks, of whole ones.
    pub(super) fn bytes(self, elements: usize) -> usize {
        match self {
            Form::Float(dtype) => elements * dtype.size(),
            Form::Blocks(format) => format.bytes(elements).expect("a tensor of a file"),
        }
    }
}

impl Shards<'_> {
    /// Reads tensors into one region of memory, on all cores, each into its `form`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or a value is no number or none of the form's dtype; of several the first in the order
    /// of `places`.
    pub(super) fn read(&self, places: &[Found], form: impl Fn(&Found) -> Form) -> Result<Vec<Data>, ModelError> {
        let sizes: Vec<(Form, usize)> =
            places.iter().map(|place| (form(place), form(place).bytes(place.elements()))).collect();
        let mut starts = Vec::with_capacity(places.len());
        let mut total = 0;
        for (_, size) in &sizes {
            starts.push(total);
            total += size.next_multiple_of(ALIGNMENT);
        }
        let failed = |path: &Path, source| ModelError::Read { path: path.into(), source };
        let mut region = huge_pages(total).map_err(|source| failed(&self.directory, source))?;

        // By place: pieces of its part of the region, and which of its elements they begin with.
        let mut pieces = Vec::new();
        let mut rest = &mut region[..];
        for (place, &(form, size)) in places.iter().zip(&sizes) {
            let (part, after) = rest.split_at_mut(size.next_multiple_of(ALIGNMENT));
            rest = after;
            let length = match form {
                Form::Float(_) => piece(place),
                Form::Blocks(_) => piece(place).next_multiple_of(place.columns().max(1)),
            };
            let of_place = part[..size].chunks_mut(form.bytes(length).max(1)).enumerate();
            pieces.extend(of_place.map(|(index, piece)| (place, form, index * length, piece)));
        }
        // While a piece is in the cache it costs next to nothing to look at it once more.
        let read = |(place, form, first, piece): (&Found, Form, usize, &mut [u8])| {
            let file = &self.files[place.shard];
            let finite = match form {
                Form::Float(dtype) => read_as(file, place, first, piece, dtype).map(|()| all_finite(piece, dtype)),
                Form::Blocks(format) => copy_blocks(file, place, format, first, piece),
            };
            match finite {
                Err(source) => Some(failed(&file.path, source)),
                Ok(true) => None,
                Ok(false) => Some(refusal(file, place, first, piece, form)),
            }
        };
        if let Some(error) = pieces.into_par_iter().find_map_first(read) {
            return Err(error);
        }

        let region = bytes::Bytes::from_owner(region);
        let data = places.iter().zip(starts).zip(sizes).map(|((place, start), (form, size))| {
            let part = region.slice(start..start + size);
            let part = burn::tensor::Bytes::from_shared(part, AllocationProperty::Native);
            match form {
                Form::Float(dtype) => Data::Values(TensorData::from_bytes(part, place.shape.clone(), dtype)),
                Form::Blocks(format) => {
                    let rows = place.shape[0];
                    Data::Blocks(TensorData::from_bytes(part, [rows, size / rows.max(1)], DType::U8), format)
                }
            }
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

/// Why a piece, read from the element `first` on, is not all finite in its form.
fn refusal(file: &Shard<'_>, place: &Found, first: usize, piece: &[u8], form: Form) -> ModelError {
    let (of_piece, dtype) = match form {
        Form::Float(dtype) => (piece.chunks_exact(dtype.size()).position(|value| !all_finite(value, dtype)), dtype),
        Form::Blocks(format) => (values_of(format, piece).iter().position(|value| !value.is_finite()), DType::F32),
    };
    let of_piece = of_piece.unwrap_or(0);
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
    let blocks = blocks(file, place, format, rows)?;
    let mut values = vec![0.0; columns];
    let (mut done, mut skipped) = (0, first % columns);
    for row in blocks.chunks_exact(format.bytes(columns).expect("a row of a file")) {
        format.dequantize(row, &mut values);
        let some = &values[skipped..columns.min(skipped + count - done)];
        let part = &mut piece[done * dtype.size()..(done + some.len()) * dtype.size()];
        write_as(some.iter().map(|value| f64::from(*value)), part, dtype);
        (done, skipped) = (done + some.len(), 0);
    }
    Ok(())
}

/// Copies whole rows of blocks, from the element `first` on, into `piece`; whether all of their values are finite.
fn copy_blocks(
    file: &Shard<'_>,
    place: &Found,
    format: Format,
    first: usize,
    piece: &mut [u8],
) -> std::io::Result<bool> {
    let row = first / place.columns();
    let rows = format.values(piece.len()) / place.columns();
    match place.order {
        RowOrder::Same => {
            let bytes = format.bytes(place.columns()).expect("a row of a file");
            file.read(place.start + row * bytes, piece)?;
        }
        RowOrder::Pairs { .. } => piece.copy_from_slice(&blocks(file, place, format, row..row + rows)?),
    }
    Ok(format.finite(piece))
}

fn values_of(format: Format, blocks: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; format.values(blocks.len())];
    format.dequantize(blocks, &mut values);
    values
}

/// The blocks of some rows of a tensor, in Hugging Face's order.
fn blocks(file: &Shard<'_>, place: &Found, format: Format, rows: Range<usize>) -> std::io::Result<Vec<u8>> {
    let bytes = format.bytes(place.columns()).expect("a row of a file");
    let sources: Vec<usize> = rows.map(|row| place.order.source(row)).collect();
    let first = sources.iter().copied().min().unwrap_or(0);
    let end = sources.iter().copied().max().map_or(0, |last| last + 1);
    let mut buffer = vec![0; (end - first) * bytes];
    file.read(place.start + first * bytes, &mut buffer)?;
    Ok(match place.order {
        RowOrder::Same => buffer,
        RowOrder::Pairs { .. } => {
            sources.iter().flat_map(|row| &buffer[(row - first) * bytes..(row - first + 1) * bytes]).copied().collect()
        }
    })
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
