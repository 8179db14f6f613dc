//! The metadata of a file: keys with values of few types, each read as what it must be.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cursor::Cursor;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of so many bytes, with a sign or without.
    Integer {
        bytes: usize,
        signed: bool,
    },
    /// Of so many bytes.
    Float {
        bytes: usize,
    },
    Flag,
    Text,
    Array,
}

impl Kind {
    /// The type of that number; the number where there is none.
    pub(super) fn of_id(id: u32) -> Result<Self, u32> {
        let integer = |bytes, signed| Ok(Self::Integer { bytes, signed });
        match id {
            0 => integer(1, false),
            1 => integer(1, true),
            2 => integer(2, false),
            3 => integer(2, true),
            4 => integer(4, false),
            5 => integer(4, true),
            6 => Ok(Self::Float { bytes: 4 }),
            7 => Ok(Self::Flag),
            8 => Ok(Self::Text),
            9 => Ok(Self::Array),
            10 => integer(8, false),
            11 => integer(8, true),
            12 => Ok(Self::Float { bytes: 8 }),
            other => Err(other),
        }
    }

    /// Bytes of a value; none where values differ in it.
    fn size(self) -> Option<usize> {
        match self {
            Self::Integer { bytes, .. } | Self::Float { bytes } => Some(bytes),
            Self::Flag => Some(1),
            Self::Text | Self::Array => None,
        }
    }
}

/// A value, or where it lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Flag(bool),
    Text(Range<usize>),
    Array { kind: Kind, count: usize, place: Range<usize> },
}

/// Most elements of an array: more than any vocabulary has.
const ELEMENTS: u64 = 1 << 25;

impl Value {
    /// Reads one.
    pub(super) fn read(kind: Kind, cursor: &mut Cursor<'_>) -> Result<Self, String> {
        match kind {
            Kind::Text => {
                let length = cursor.text()?.len();
                Ok(Self::Text(cursor.at() - length..cursor.at()))
            }
            Kind::Array => array(cursor),
            Kind::Flag => match cursor.array()? {
                [0] => Ok(Self::Flag(false)),
                [1] => Ok(Self::Flag(true)),
                [other] => Err(format!("{other} is neither true nor false")),
            },
            Kind::Float { bytes: 4 } => Ok(Self::Float(f32::from_le_bytes(cursor.array()?).into())),
            Kind::Float { .. } => Ok(Self::Float(f64::from_le_bytes(cursor.array()?))),
            Kind::Integer { bytes, signed } => {
                let taken = cursor.take(bytes as u64)?;
                let negative = signed && taken[bytes - 1] & 0x80 != 0;
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide[..bytes].copy_from_slice(taken);
                Ok(Self::Integer(i128::from_le_bytes(wide)))
            }
        }
    }

    /// What it is, for a message.
    fn shown(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Flag(value) => value.to_string(),
            Self::Text(_) => "a text".into(),
            Self::Array { count, .. } => format!("a list of {count}"),
        }
    }
}

fn array(cursor: &mut Cursor<'_>) -> Result<Value, String> {
    let kind = Kind::of_id(cursor.u32()?).map_err(|id| format!("a list of type {id}, which there is not"))?;
    let count = cursor.u64()?;
    if count > ELEMENTS {
        return Err(format!("a list of {count} is beyond reason"));
    }
    let start = cursor.at();
    match (kind, kind.size()) {
        (_, Some(size)) => drop(cursor.take(count * size as u64)?),
        (Kind::Text, None) => {
            for _ in 0..count {
                let length = cursor.u64()?;
                cursor.take(length)?;
            }
        }
        (_, None) => return Err("a list of lists, which no key has".into()),
    }
    Ok(Value::Array { kind, count: count as usize, place: start..cursor.at() })
}

/// A text of a file for a message, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?} …", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The metadata of a file, and its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata<'a> {
    pub(super) values: &'a BTreeMap<String, Value>,
    pub(super) bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// The keys that begin so, without that beginning.
    pub(super) fn keys_behind(self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.keys().filter_map(move |key| key.strip_prefix(prefix))
    }

    fn get<T>(self, key: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>, String> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(format!("`{key}` is {}; expected {expected}", value.shown())),
            },
        }
    }

    /// A text.
    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, String> {
        let place = self.get(key, "a text", |value| match value {
            Value::Text(place) => Some(place.clone()),
            _ => None,
        })?;
        // It was looked at when it was read.
        Ok(place.and_then(|place| std::str::from_utf8(&self.bytes[place]).ok()))
    }

    /// True or false.
    pub(super) fn flag(self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A number.
    pub(super) fn number(self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "a number", |value| match value {
            Value::Float(value) => Some(*value),
            Value::Integer(value) => Some(*value as f64),
            _ => None,
        })
    }

    /// A whole number that is not negative; of a list, the one that all its elements are.
    pub(super) fn count(self, key: &str) -> Result<Option<u64>, String> {
        if let Some(Value::Array { .. }) = self.values.get(key) {
            let counts = self.integers(key)?.unwrap_or_default();
            let first = counts.first().and_then(|first| u64::try_from(*first).ok());
            return match counts.iter().all(|count| Some(count) == counts.first()) {
                true if first.is_some() => Ok(first),
                _ => Err(format!("`{key}` is another number in every layer, and layers that differ are not read")),
            };
        }
        self.get(key, "a whole number", |value| match value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        })
    }

    fn array(self, key: &str, expected: &str, of: impl Fn(Kind) -> bool) -> Result<Option<Array<'a>>, String> {
        let found = self.get(key, expected, |value| match value {
            Value::Array { kind, count, place } if of(*kind) => Some((*kind, *count, place.clone())),
            _ => None,
        })?;
        Ok(found.map(|(kind, count, place)| Array {
            kind,
            count,
            cursor: Cursor::new(&self.bytes[..place.end], place.start),
        }))
    }

    /// A list of texts.
    pub(super) fn texts(self, key: &str) -> Result<Option<Vec<&'a str>>, String> {
        let array = self.array(key, "a list of texts", |kind| kind == Kind::Text)?;
        let texts = array.map(|Array { count, mut cursor, .. }| (0..count).map(|_| cursor.text()).collect());
        texts.transpose().map_err(|reason: String| format!("`{key}`: {reason}"))
    }

    /// A list of whole numbers.
    pub(super) fn integers(self, key: &str) -> Result<Option<Vec<i128>>, String> {
        let array = self.array(key, "a list of whole numbers", |kind| matches!(kind, Kind::Integer { .. }))?;
        array.map(|array| array.values(|value| if let Value::Integer(value) = value { value } else { 0 })).transpose()
    }

    /// A list of floats.
    pub(super) fn numbers(self, key: &str) -> Result<Option<Vec<f64>>, String> {
        let array = self.array(key, "a list of numbers", |kind| matches!(kind, Kind::Float { .. }))?;
        array.map(|array| array.values(|value| if let Value::Float(value) = value { value } else { 0.0 })).transpose()
    }
}

/// A list in the file.
struct Array<'a> {
    kind: Kind,
    count: usize,
    cursor: Cursor<'a>,
}

impl Array<'_> {
    fn values<T>(mut self, of: impl Fn(Value) -> T) -> Result<Vec<T>, String> {
        (0..self.count).map(|_| Value::read(self.kind, &mut self.cursor).map(&of)).collect()
    }
}
