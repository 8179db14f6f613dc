//! JSONL: one JSON object per line, one of its fields the text.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Text, name};
use crate::contexts::read_text;
use crate::error::BenchError;

/// The texts of a file, named by file and line. Empty lines are passed over.
///
/// # Errors
///
/// When the file cannot be read or has no line, a line is no object, or its `field` is absent, empty
/// or no string.
pub fn read(path: &Path, field: &str) -> Result<Vec<Text>, BenchError> {
    let content = read_text(path)?;
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let text = |(index, line): (usize, &str)| {
        let wrong = |what: String| BenchError::Input(format!("{}, line {}: {what}", path.display(), index + 1));
        let object: Map<String, Value> = serde_json::from_str(line)
            .map_err(|e| wrong(format!("{e}; expected a JSON object such as {{\"{field}\": \"Once ...\"}}")))?;
        match object.get(field) {
            Some(Value::String(text)) if text.is_empty() => Err(wrong(format!("{field:?} is empty; remove the line"))),
            Some(Value::String(text)) => Ok(Text { name: format!("{}:{}", name(path), index + 1), text: text.clone() }),
            Some(_) => Err(wrong(format!("{field:?} is no string; name a field that holds a text"))),
            None => Err(wrong(missing(field, object.keys().map(String::as_str)))),
        }
    };
    let texts: Vec<Text> = lines.map(text).collect::<Result<_, _>>()?;
    match texts.is_empty() {
        true => Err(BenchError::Input(format!("{}: there is no line with a text; give one", path.display()))),
        false => Ok(texts),
    }
}

/// That there is no such field, and which there are.
pub(super) fn missing<'a>(field: &str, fields: impl Iterator<Item = &'a str>) -> String {
    let fields: Vec<&str> = fields.collect();
    format!("there is no field {field:?}; choose one of these with --field: {}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &str, field: &str) -> Result<Vec<Text>, String> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("texts.jsonl");
        std::fs::write(&path, content).unwrap();
        read(&path, field).map_err(|e| e.to_string())
    }

    #[test]
    fn every_line_is_a_text_named_by_its_line() {
        let texts = of("{\"text\": \"one\", \"id\": 7}\n\n{\"text\": \"zwei\\n\"}\n", "text").unwrap();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|text| (&*text.name, &*text.text)).collect();
        assert_eq!(pairs, [("texts.jsonl:1", "one"), ("texts.jsonl:3", "zwei\n")]);
    }

    #[test]
    fn errors_name_line_field_and_remedy() {
        for (content, words) in [
            ("{\"text\": \"a\"}\n{\"body\": \"b\", \"id\": 1}", ["line 2", "body, id"]),
            ("{\"text\": 5}", ["line 1", "no string"]),
            ("{\"text\": \"\"}", ["line 1", "remove the line"]),
            ("[1]", ["line 1", "expected a JSON object"]),
            ("\n\n", ["texts.jsonl", "no line"]),
        ] {
            let error = of(content, "text").unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{content:?}: {error}");
        }
    }
}
