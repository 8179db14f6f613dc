//! The filter `tojson` as transformers has it: Python's `json.dumps`, without HTML escapes.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::engine::Json;

/// A value as JSON; `ensure_ascii`, `indent`, `separators` and `sort_keys` are those of `json.dumps`.
///
/// # Errors
///
/// When it holds something that JSON has not.
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let options = Json::of(&options)?;
    let (item, key) = options.separators.clone().unwrap_or_else(|| {
        let item = if options.indent.is_some() { "," } else { ", " };
        (item.to_owned(), ": ".to_owned())
    });
    let mut made = Writer { options, item, key, text: String::new() };
    made.write(&value, 0)?;
    Ok(made.text)
}

struct Writer {
    options: Json,
    item: String,
    key: String,
    text: String,
}

/// How deep values may nest: as deep as Python goes, nearly.
const DEEPEST: usize = 200;

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is nested too deep"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.all("[", "]", items.len(), depth, |writer, at| writer.write(&items[at], depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.options.sort_keys {
                    keys.sort();
                }
                self.all("{", "}", keys.len(), depth, |writer, at| {
                    writer.string(&keys[at].to_string());
                    let separator = writer.key.clone();
                    writer.text.push_str(&separator);
                    writer.write(&value.get_item(&keys[at])?, depth + 1)
                })?;
            }
            kind => {
                let what = format!("tojson: {kind} is not JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
        Ok(())
    }

    fn all(
        &mut self,
        open: &str,
        close: &str,
        count: usize,
        depth: usize,
        mut one: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push_str(open);
        for at in 0..count {
            if at > 0 {
                let separator = self.item.clone();
                self.text.push_str(&separator);
            }
            self.line(depth + 1);
            one(self, at)?;
        }
        if count > 0 {
            self.line(depth);
        }
        self.text.push_str(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.options.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    /// Integers as they are; others as Python shows them.
    fn number(&mut self, value: &Value) {
        match value.is_integer() {
            true => self.text.push_str(&value.to_string()),
            false => match value.to_string().as_str() {
                "inf" => self.text.push_str("Infinity"),
                "-inf" => self.text.push_str("-Infinity"),
                shown => self.text.push_str(shown),
            },
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for sign in text.chars() {
            match sign {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                sign if sign < ' ' || (self.options.ensure_ascii && !(' '..='~').contains(&sign)) => {
                    for unit in sign.encode_utf16(&mut [0; 2]) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                sign => self.text.push(sign),
            }
        }
        self.text.push('"');
    }
}
