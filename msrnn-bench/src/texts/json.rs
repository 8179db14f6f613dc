//! JSON: a value per line, or one value with many in it. A text is a string, or one of an object's fields.
//!
//! Nothing of a value is kept but its text: [`value`](super::value) reads them one by one.

use serde::de::DeserializeSeed;
use serde_json::Deserializer;

use super::File;
use super::rows::{More, Rows};
use super::value::{Row, Whole};
use crate::error::BenchError;
use crate::input::read_text;

/// The texts of a file with a JSON value per line, named by file and line. Lines without a character are no rows.
///
/// # Errors
///
/// When the file cannot be read, a line is neither string nor object, or the field is absent or no string.
pub(super) fn read_lines(file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    lines(file, &read_text(file.path)?, rows)
}

fn lines(file: &File<'_>, content: &str, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    for (index, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| file.wrong(format!("line {}: {what}", index + 1));
        let mut json = Deserializer::from_str(line);
        let text = Row { field: file.field }.deserialize(&mut json).and_then(|text| json.end().map(|()| text));
        let text = text.map_err(|e| wrong(format!("{e}; {}", expected(file.field))))?.map_err(wrong)?;
        let more = rows.push(|| format!("{}:{}", file.name, index + 1), text);
        if more.map_err(|what| wrong(format!("{:?} {what}", file.field)))? == More::Enough {
            break;
        }
    }
    Ok(())
}

/// The texts of a file that is one JSON value: an array of strings or objects, named by file and number, or one
/// object. Its field may hold an array of strings, which are rows. A file with a value per line under that name,
/// as data sets have them, is read line by line.
///
/// # Errors
///
/// When the file cannot be read, or is none of that; the message says which element or line.
pub(super) fn read(file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    let content = read_text(file.path)?;
    let mut whole = Whole { file, rows, ended: None };
    let mut json = Deserializer::from_str(&content);
    let found = whole.read(&mut json).and_then(|text| json.end().map(|()| text));
    if let Some(ended) = whole.ended {
        return ended;
    }
    match found {
        Ok(None) => Ok(()),
        Ok(Some(text)) => {
            let text = text.map_err(|what| file.wrong(what))?;
            rows.push(|| file.name.to_owned(), text).map(|_| ()).map_err(|what| file.wrong(what))
        }
        Err(whole) => {
            let first = content.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            match serde_json::from_str::<serde::de::IgnoredAny>(first) {
                Ok(_) if first.trim_start().starts_with('{') => lines(file, &content, rows),
                _ => Err(file.wrong(format!("{whole}; expected JSON: an array of strings or objects, or one object"))),
            }
        }
    }
}

pub(super) fn expected(field: &str) -> String {
    format!("expected a string, or a JSON object such as {{\"{field}\": \"Once ...\"}}")
}

/// That there is no such field, and which there are.
pub(super) fn missing<'a>(field: &str, fields: impl Iterator<Item = &'a str>) -> String {
    let fields: Vec<&str> = fields.collect();
    format!("there is no field {field:?}; choose one of these with ‘field’: {}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::texts::tests::{of, pairs};

    #[test]
    fn every_line_is_a_text_named_by_its_line() {
        let found = of("texts.jsonl", "\u{feff}{\"text\": \"one\", \"id\": 7}\n\n{\"text\": \"zwei\\n\"}\n\"drei\"\n");
        assert_eq!(pairs(&found), [("texts.jsonl:1", "one"), ("texts.jsonl:3", "zwei\n"), ("texts.jsonl:4", "drei")]);
    }

    #[test]
    fn an_array_an_object_and_a_column_are_texts_and_lines_under_that_name_too() {
        for (content, expected) in [
            ("[\"one\", \"two\"]", &[("t.json:1", "one"), ("t.json:2", "two")][..]),
            (
                "\u{feff}[{\"text\": \"one\"}, {\"text\": \"two\", \"id\": 3}]",
                &[("t.json:1", "one"), ("t.json:2", "two")],
            ),
            ("{\"text\": \"one\"}", &[("t.json", "one")]),
            ("{\"text\": [\"one\", \"\", null, \"two\"]}", &[("t.json:1", "one"), ("t.json:4", "two")]),
            ("{\"text\": \"one\"}\n{\"text\": \"two\"}\n", &[("t.json:1", "one"), ("t.json:2", "two")]),
        ] {
            assert_eq!(pairs(&of("t.json", content)), expected, "{content}");
        }
    }

    #[test]
    fn errors_name_place_field_and_remedy() {
        for (name, content, words) in [
            ("t.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\", \"id\": 1}", ["line 2", "body, id"]),
            ("t.jsonl", "{\"text\": 5}", ["line 1", "no string"]),
            ("t.jsonl", "[1]", ["line 1", "a JSON object"]),
            ("t.jsonl", "{\"text\": \"a\"}\n{\"text\"", ["line 2", "a JSON object"]),
            ("t.jsonl", "\n\n", ["t.jsonl", "no text"]),
            ("t.json", "[\"a\", {\"body\": 1}]", ["element 2", "‘field’: body"]),
            ("t.json", "[1, 2]", ["element 1", "‘ids’"]),
            ("t.json", "{\"body\": \"a\"}", ["t.json", "‘field’: body"]),
            ("t.json", "[\"a\"", ["t.json", "expected JSON"]),
            ("t.json", "3", ["t.json", "an array of strings"]),
        ] {
            let error = of(name, content).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{content:?}: {error}");
        }
    }
}
