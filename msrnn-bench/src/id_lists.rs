//! Token ids as a JSON array.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::BenchError;
use crate::input::read_text;

/// The ids of a JSON array.
///
/// # Errors
///
/// When the file cannot be read, or is no such array; the message says which element is none.
pub(crate) fn read(path: &Path) -> Result<Vec<u32>, BenchError> {
    let wrong = |what: String| BenchError::Input(format!("{}: {what}", path.display()));
    let expected = "expected a JSON array of token ids such as [1, 42, 7]";
    let text = read_text(path)?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let ids = json.deserialize_seq(Ids).and_then(|ids| json.end().map(|()| ids));
    ids.map_err(|e| wrong(format!("{e}; {expected}")))?.map_err(|(index, shown)| {
        wrong(format!("{shown} at index {index} is no token id, a whole number of 0 or more; {expected}"))
    })
}

/// Ids as they are read, or the index of the first element that is none and what it is instead.
struct Ids;

impl<'d> Visitor<'d> for Ids {
    type Value = Result<Vec<u32>, (usize, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut ids = Vec::new();
        while let Some(Element(element)) = elements.next_element()? {
            match element {
                Ok(id) => ids.push(id),
                Err(shown) => {
                    while elements.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Err((ids.len(), shown)));
                }
            }
        }
        Ok(Ok(ids))
    }
}

/// An element: an id, or what it is instead. Nothing else of it is kept.
struct Element(Result<u32, String>);

impl<'d> Deserialize<'d> for Element {
    fn deserialize<D: Deserializer<'d>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ElementVisitor).map(Self)
    }
}

struct ElementVisitor;

impl<'d> Visitor<'d> for ElementVisitor {
    type Value = Result<u32, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token id")
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Self::Value, E> {
        Ok(u32::try_from(id).map_err(|_| id.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Err(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Err(format!("{number:?}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Err(format!("{:?}", text.chars().take(40).collect::<String>())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Err(value.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Err("null".into()))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err("an array".into()))
    }

    fn visit_map<A: MapAccess<'d>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err("an object".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_numbers_of_a_json_array_and_what_is_not_is_named_by_its_index() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("ids.json");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|e| e.to_string())
        };
        assert_eq!(of("\u{feff}[1, 42, 7]"), Ok(vec![1, 42, 7]));
        for (text, says) in [
            ("[1, -3]", "-3 at index 1"),
            ("[1.0]", "1.0 at index 0"),
            ("[1, 2, 4294967296]", "4294967296 at index 2"),
            ("[1, 2, 1e30]", "at index 2"),
            ("[3, [1, 2]]", "an array at index 1"),
            ("[1, \"2\"]", "\"2\" at index 1"),
            ("{\"ids\": [1]}", "a JSON array of token ids"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(says) && error.contains("[1, 42, 7]") && error.contains("ids.json"), "{error}");
        }
    }
}
