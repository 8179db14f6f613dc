//! What stands before the tensors of a file: its metadata, and where the tensors are. All of it is checked before any
//! of it is used; nothing is allocated by a number that the file gives.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::Cursor;
use super::metadata::{Kind, Value};
use msrnn_core::kernels::Format;

/// How a file begins.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// The versions that are read; they differ in nothing that is here.
const VERSIONS: [u32; 2] = [2, 3];
/// Most keys, and most tensors, of a file.
const KEYS: u64 = 1 << 16;
const TENSORS: u64 = 1 << 20;
/// Longest name of a key or tensor, in bytes.
const NAME: usize = 512;
/// Most dimensions of a tensor.
const DIMENSIONS: u32 = 4;
/// Where tensors begin if the file does not say it: at multiples of so many bytes.
pub(super) const ALIGNMENT: usize = 32;
/// The key that says it.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// One file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<Tensor>,
}

/// Where a tensor is.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Rows first, unlike in the file.
    pub(super) shape: Vec<usize>,
    pub(super) format: Format,
    /// From the beginning of the file.
    pub(super) start: usize,
    /// Bytes.
    pub(super) size: usize,
}

/// Why a file is not read.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// It is damaged.
    Damaged(String),
    /// It is something that is not read, with what to do.
    Other(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl Header {
    /// Reads what stands before the tensors, and sees that every tensor lies in the file and none on another.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.take(4)? != MAGIC {
            return Err(Refusal::Damaged("it does not begin as a GGUF file does".into()));
        }
        let version = cursor.u32()?;
        if !VERSIONS.contains(&version) {
            let what = match version {
                version if VERSIONS.contains(&version.swap_bytes()) => "a big-endian GGUF file".to_owned(),
                version => format!("GGUF version {version}"),
            };
            return Err(Refusal::Other(format!(
                "{what} is not read; versions 2 and 3 are, little-endian: convert the model anew with llama.cpp, or take \
                 a newer file"
            )));
        }
        let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
        if tensors > TENSORS || keys > KEYS {
            return Err(Refusal::Damaged(format!("{keys} keys and {tensors} tensors are beyond reason")));
        }
        let metadata = metadata(&mut cursor, keys)?;
        let alignment = alignment(&metadata)?;
        let mut tensors = (0..tensors).map(|_| tensor(&mut cursor)).collect::<Result<Vec<_>, Refusal>>()?;
        let begin = cursor.at().next_multiple_of(alignment);
        place(&mut tensors, begin, alignment, bytes.len())?;
        Ok(Self { metadata, tensors })
    }
}

fn metadata(cursor: &mut Cursor<'_>, keys: u64) -> Result<BTreeMap<String, Value>, String> {
    let mut metadata = BTreeMap::new();
    for _ in 0..keys {
        let key = name(cursor)?;
        let kind = Kind::of_id(cursor.u32()?).map_err(|id| format!("`{key}` is of type {id}, which there is not"))?;
        let value = Value::read(kind, cursor).map_err(|reason| format!("`{key}`: {reason}"))?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(format!("`{key}` is there twice"));
        }
    }
    Ok(metadata)
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, String> {
    match cursor.text()? {
        name if name.len() <= NAME => Ok(name),
        name => Err(format!("a name of {} bytes is longer than {NAME}", name.len())),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<usize, String> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(value)) => {
            let alignment = usize::try_from(*value).ok().filter(|n| n.is_power_of_two() && *n <= 1 << 20);
            alignment.ok_or_else(|| format!("`{ALIGNMENT_KEY}` is {value}; expected a power of two"))
        }
        Some(_) => Err(format!("`{ALIGNMENT_KEY}` is no whole number")),
    }
}

/// A tensor, whose start is counted from that of all tensors so far.
fn tensor(cursor: &mut Cursor<'_>) -> Result<Tensor, Refusal> {
    let name = name(cursor)?.to_owned();
    let dimensions = cursor.u32()?;
    if !(1..=DIMENSIONS).contains(&dimensions) {
        return Err(Refusal::Damaged(format!("tensor {name} has {dimensions} dimensions; expected 1 to {DIMENSIONS}")));
    }
    let lengths = (0..dimensions).map(|_| cursor.u64()).collect::<Result<Vec<u64>, String>>()?;
    let (id, offset) = (cursor.u32()?, cursor.u64()?);
    let format = Format::of_id(id).map_err(|other| {
        Refusal::Other(format!(
            "tensor {name} is stored as {other}, which is not read; read are {}: take the model in another \
             quantisation, or have llama.cpp write one (`llama-quantize --allow-requantize`)",
            Format::names()
        ))
    })?;
    let impossible = || Refusal::Damaged(format!("tensor {name} has an impossible shape, {lengths:?}"));
    let mut shape = Vec::new();
    let mut elements = 1usize;
    for length in lengths.iter().rev() {
        let length = usize::try_from(*length).ok().filter(|length| *length > 0).ok_or_else(impossible)?;
        elements = elements.checked_mul(length).ok_or_else(impossible)?;
        shape.push(length);
    }
    let columns = shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(format.block()) {
        return Err(Refusal::Damaged(format!(
            "tensor {name} has rows of {columns} values, which are no whole blocks of {}",
            format.name()
        )));
    }
    let size = format.bytes(elements).ok_or_else(impossible)?;
    let start = usize::try_from(offset).map_err(|_| impossible())?;
    Ok(Tensor { name, shape, format, start, size })
}

/// Puts tensors where they are in the file, each inside of it, at its multiple of `alignment`, alone and once.
fn place(tensors: &mut [Tensor], begin: usize, alignment: usize, length: usize) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for tensor in &mut *tensors {
        let Tensor { name, start, size, .. } = tensor;
        if !start.is_multiple_of(alignment) {
            return Err(format!("tensor {name} begins at {start}, no multiple of {alignment}"));
        }
        match begin.checked_add(*start).filter(|at| at.checked_add(*size).is_some_and(|end| end <= length)) {
            Some(at) => *start = at,
            None => return Err(format!("tensor {name} ends behind the file's end (is the download complete?)")),
        }
        if !names.insert(name.as_str()) {
            return Err(format!("tensor {name} is there twice"));
        }
    }
    let mut by_place: Vec<&Tensor> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.start);
    match by_place.windows(2).find(|pair| pair[0].start + pair[0].size > pair[1].start) {
        Some(pair) => Err(format!("tensors {} and {} lie on one another", pair[0].name, pair[1].name)),
        None => Ok(()),
    }
}
