//! The keys of a JSON object, each read as what it must be, with errors that name key and value.

use serde_json::{Map, Value};

/// What a file says about a key. A key that is absent and one that is null mean different things: the first is
/// filled in by the architecture's default.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said<T> {
    /// There is no such key.
    Absent,
    /// It is null.
    Null,
    /// It has a value.
    Is(T),
}

impl<T> Said<T> {
    /// The value; none where the key is absent or null.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Said::Is(value) => Some(value),
            Said::Absent | Said::Null => None,
        }
    }

    /// The value, or `default` where the key is absent.
    pub(crate) fn or_default(self, key: &str, default: T) -> Result<T, String> {
        match self {
            Said::Is(value) => Ok(value),
            Said::Absent => Ok(default),
            Said::Null => {
                Err(format!("`{key}` is null; give a value, or remove the key for the architecture's default"))
            }
        }
    }
}

/// A JSON object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// The value of a key, read by `read`, which says what it expected if it cannot.
    fn read<T>(self, key: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Said<T>, String> {
        match self.0.get(key) {
            None => Ok(Said::Absent),
            Some(Value::Null) => Ok(Said::Null),
            Some(value) => {
                read(value).map(Said::Is).ok_or_else(|| format!("`{key}` is {}; expected {expected}", shown(value)))
            }
        }
    }

    /// Whether there is such a key, and it is not null.
    pub(crate) fn has(self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_null())
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(self, key: &str, most: usize) -> Result<Said<usize>, String> {
        let count = self.read(key, "a whole number", |value| {
            // A negative number is one too, for a message of its own.
            value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
        })?;
        match count {
            Said::Is(count) if count < 1 => Err(format!("`{key}` is {count}; it must be positive")),
            Said::Is(count) if count > most as i128 => {
                Err(format!("`{key}` is {count}, which is beyond reason; the limit is {most}"))
            }
            Said::Is(count) => Ok(Said::Is(count as usize)),
            Said::Absent => Ok(Said::Absent),
            Said::Null => Ok(Said::Null),
        }
    }

    /// A whole number from 0 on.
    pub(crate) fn whole(self, key: &str) -> Result<Said<usize>, String> {
        self.read(key, "a whole number from 0 on", |value| usize::try_from(value.as_u64()?).ok())
    }

    /// A number.
    pub(crate) fn number(self, key: &str) -> Result<Said<f64>, String> {
        self.read(key, "a number", Value::as_f64)
    }

    /// True or false.
    pub(crate) fn flag(self, key: &str) -> Result<Said<bool>, String> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A text.
    pub(crate) fn text(self, key: &str) -> Result<Said<&'a str>, String> {
        self.read(key, "a text", Value::as_str)
    }

    /// Texts.
    pub(crate) fn texts(self, key: &str) -> Result<Said<Vec<&'a str>>, String> {
        self.read(key, "a list of texts", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// Ones and zeros, or true and false.
    pub(crate) fn flags(self, key: &str) -> Result<Said<Vec<bool>>, String> {
        let flag = |value: &Value| match value.as_u64() {
            Some(number @ (0 | 1)) => Some(number == 1),
            _ => value.as_bool(),
        };
        self.read(key, "a list of 0 and 1", |value| value.as_array()?.iter().map(flag).collect())
    }

    /// An object.
    pub(crate) fn object(self, key: &str) -> Result<Said<Keys<'a>>, String> {
        self.read(key, "an object", |value| value.as_object().map(Keys))
    }

    /// A token id. A negative one, which some files have for "none", is none.
    pub(crate) fn id(self, key: &str) -> Result<Said<Option<u32>>, String> {
        self.read(key, "a token id or null", id)
    }

    /// One token id or several. Negative ones, which no token has, are left out.
    pub(crate) fn ids(self, key: &str) -> Result<Said<Vec<u32>>, String> {
        self.read(key, "a token id, a list of them, or null", |value| match value {
            Value::Array(values) => {
                let ids: Option<Vec<Option<u32>>> = values.iter().map(id).collect();
                Some(ids?.into_iter().flatten().collect())
            }
            value => Some(id(value)?.into_iter().collect()),
        })
    }
}

fn id(value: &Value) -> Option<Option<u32>> {
    match value.as_i64()? {
        ..0 => Some(None),
        id => u32::try_from(id).ok().map(Some),
    }
}

/// A value for a message, cut where it is long.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        let Value::Object(map) = serde_json::json!({ "null": null, "one": 1 }) else { unreachable!() };
        let read = |key| Keys(&map).count(key, 8).unwrap();
        assert_eq!((read("none"), read("null"), read("one")), (Said::Absent, Said::Null, Said::Is(1)));
        assert_eq!(read("none").or_default("none", 7), Ok(7));
        assert!(read("null").or_default("null", 7).unwrap_err().contains("`null` is null"));
    }

    #[test]
    fn what_is_no_whole_number_in_range_is_named_with_its_value() {
        for (value, words) in [
            ("4096.0", "is 4096.0; expected a whole number"),
            ("\"8\"", "is \"8\"; expected a whole number"),
            ("true", "is true; expected"),
            ("-1", "is -1; it must be positive"),
            ("0", "is 0; it must be positive"),
            ("99", "the limit is 8"),
            ("1e30", "expected a whole number"),
            ("[1]", "is [1]; expected"),
        ] {
            let value: Value = serde_json::from_str(&format!("{{\"key\": {value}}}")).unwrap();
            let error = Keys(value.as_object().unwrap()).count("key", 8).unwrap_err();
            assert!(error.contains("`key`") && error.contains(words), "{error}");
        }
    }
}
