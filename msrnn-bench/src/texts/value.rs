//! Texts out of JSON as it is read: a value is gone when its text is there, so that a file of small values does not
//! become many times its size in memory.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::File;
use super::json::{expected, missing};
use super::rows::{More, Rows};
use crate::error::BenchError;

/// Names of fields that are kept to be said, at most.
const SHOWN: usize = 64;

/// The text of a value, none where it is null, or what is wrong with it.
pub(super) type Found = Result<Option<String>, String>;

/// A value that is a row: a string, or an object with a field that is one.
#[derive(Clone, Copy)]
pub(super) struct Row<'f> {
    pub(super) field: &'f str,
}

/// The field of such an object: a string.
struct Field<'f>(&'f str);

/// Everything but strings, null and objects is wrong in a way of its own.
macro_rules! no_texts {
    ($number:expr, $other:expr) => {
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($number(self))
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($number(self))
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($number(self))
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($other(self))
        }
    };
}

fn pass_over_seq<'d, A: SeqAccess<'d>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn pass_over_map<'d, A: MapAccess<'d>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl Row<'_> {
    fn number(self) -> Found {
        Err(format!("a number is no text; {}, or token ids with ‘ids’", expected(self.field)))
    }

    fn other(self) -> Found {
        Err(format!("no text; {}", expected(self.field)))
    }
}

impl<'d> DeserializeSeed<'d> for Row<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'d>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Row<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found, E> {
        Ok(Ok(Some(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Found, E> {
        Ok(Ok(Some(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, seq: A) -> Result<Found, A::Error> {
        pass_over_seq(seq).map(|()| self.other())
    }

    fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut names = BTreeSet::new();
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                // The last one counts, as everywhere.
                found = Some(map.next_value_seed(Field(self.field))?);
            } else {
                map.next_value::<IgnoredAny>()?;
                if names.len() < SHOWN {
                    names.insert(key);
                }
            }
        }
        Ok(found.unwrap_or_else(|| Err(missing(self.field, names.iter().map(String::as_str)))))
    }

    no_texts!(Self::number, Self::other);
}

impl Field<'_> {
    fn no_string(self) -> Found {
        Err(format!("{:?} is no string; name a field that holds a text", self.0))
    }
}

impl<'d> DeserializeSeed<'d> for Field<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'d>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Field<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found, E> {
        Ok(Ok(Some(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, seq: A) -> Result<Found, A::Error> {
        pass_over_seq(seq).map(|()| self.no_string())
    }

    fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Found, A::Error> {
        pass_over_map(map).map(|()| self.no_string())
    }

    no_texts!(Self::no_string, Self::no_string);
}

/// A file that is one value: rows of an array, or of an object's column, go where rows go as they come.
pub(super) struct Whole<'a, 'r, 'j> {
    pub(super) file: &'a File<'a>,
    pub(super) rows: &'r mut Rows<'j>,
    /// How the reading ended before the end: because there are enough rows, or one is wrong.
    pub(super) ended: Option<Result<(), BenchError>>,
}

impl Whole<'_, '_, '_> {
    /// Reads the value: the text of an object that is one, none where there were rows. An error may be that the reading
    /// has ended, which is in `ended`.
    pub(super) fn read<'d, D: Deserializer<'d>>(&mut self, json: D) -> Result<Option<Found>, D::Error> {
        json.deserialize_any(Top(self))
    }

    /// Takes the elements of an array as rows.
    fn take<'d, A: SeqAccess<'d>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        let file = self.file;
        let mut number = 0;
        while let Some(text) = seq.next_element_seed(Row { field: file.field })? {
            number += 1;
            let wrong = |what: String| file.wrong(format!("element {number}: {what}"));
            let more = text.and_then(|text| self.rows.push(|| format!("{}:{number}", file.name), text));
            self.ended = match more.map_err(wrong) {
                Ok(More::Wanted) => continue,
                Ok(More::Enough) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            return Err(A::Error::custom("ended"));
        }
        Ok(())
    }
}

/// The value itself.
struct Top<'w, 'a, 'r, 'j>(&'w mut Whole<'a, 'r, 'j>);

impl Top<'_, '_, '_, '_> {
    fn other(self) -> Option<Found> {
        Some(Err("expected an array of strings or objects, or one object".into()))
    }
}

impl<'d> Visitor<'d> for Top<'_, '_, '_, '_> {
    type Value = Option<Found>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(self.other())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(self.other())
    }

    fn visit_seq<A: SeqAccess<'d>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.0.take(seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let field = self.0.file.field;
        let mut names = BTreeSet::new();
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != field {
                map.next_value::<IgnoredAny>()?;
                if names.len() < SHOWN {
                    names.insert(key);
                }
            } else if found.is_some() {
                let twice = self.0.file.wrong(format!("{field:?} is there twice; leave one out"));
                self.0.ended = Some(Err(twice));
                return Err(A::Error::custom("ended"));
            } else {
                found = Some(map.next_value_seed(Column(self.0))?);
            }
        }
        Ok(found.unwrap_or_else(|| Some(Err(missing(field, names.iter().map(String::as_str))))))
    }

    no_texts!(Self::other, Self::other);
}

/// The field of an object that is the whole file: a text, or a column of rows, as pandas and `Dataset.to_dict` write it.
struct Column<'w, 'a, 'r, 'j>(&'w mut Whole<'a, 'r, 'j>);

impl Column<'_, '_, '_, '_> {
    fn no_string(self) -> Option<Found> {
        Some(Field(self.0.file.field).no_string())
    }
}

impl<'d> DeserializeSeed<'d> for Column<'_, '_, '_, '_> {
    type Value = Option<Found>;

    fn deserialize<D: Deserializer<'d>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Column<'_, '_, '_, '_> {
    type Value = Option<Found>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Ok(Some(text.to_owned()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Some(Ok(None)))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.0.take(seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Self::Value, A::Error> {
        pass_over_map(map).map(|()| self.no_string())
    }

    no_texts!(Self::no_string, Self::no_string);
}
