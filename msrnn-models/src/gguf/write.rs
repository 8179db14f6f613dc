//! Writing: what stands before the tensors, as bytes.

use super::header::{ALIGNMENT, MAGIC};
use msrnn_core::kernels::Format;

/// The newest version of the format.
const VERSION: u32 = 3;

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

/// A tensor that will follow.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) name: String,
    /// Rows first, unlike in the file.
    pub(crate) shape: Vec<usize>,
    pub(crate) format: Format,
}

impl Announced {
    /// Bytes that it takes, without what fills up to the next one.
    pub(crate) fn size(&self) -> usize {
        self.format.bytes(self.shape.iter().product()).expect("a tensor that fits into memory")
    }
}

/// Bytes behind so many, up to where the next tensor may begin.
pub(crate) fn filler(size: usize) -> usize {
    size.next_multiple_of(ALIGNMENT) - size
}

/// All that stands before the first tensor. The tensors follow in their order, each with its [`filler`].
pub(crate) fn header(entries: &[(String, Entry)], tensors: &[Announced]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (key, entry) in entries {
        text(&mut bytes, key);
        value(&mut bytes, entry);
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|length| bytes.extend((*length as u64).to_le_bytes()));
        bytes.extend(tensor.format.id().expect("a format of these files").to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += tensor.size() + filler(tensor.size());
    }
    bytes.resize(bytes.len() + filler(bytes.len()), 0);
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn value(bytes: &mut Vec<u8>, entry: &Entry) {
    let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
    let list = |bytes: &mut Vec<u8>, of: u32, count: usize| {
        kind(bytes, 9);
        kind(bytes, of);
        bytes.extend((count as u64).to_le_bytes());
    };
    match entry {
        Entry::U32(value) => {
            kind(bytes, 4);
            bytes.extend(value.to_le_bytes());
        }
        Entry::F32(value) => {
            kind(bytes, 6);
            bytes.extend(value.to_le_bytes());
        }
        Entry::Flag(value) => {
            kind(bytes, 7);
            bytes.push((*value).into());
        }
        Entry::Text(value) => {
            kind(bytes, 8);
            text(bytes, value);
        }
        Entry::Texts(values) => {
            list(bytes, 8, values.len());
            values.iter().for_each(|value| text(bytes, value));
        }
        Entry::F32s(values) => {
            list(bytes, 6, values.len());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        Entry::I32s(values) => {
            list(bytes, 5, values.len());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
    }
}
