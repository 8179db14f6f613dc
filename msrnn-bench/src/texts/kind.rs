//! What kind of file holds texts, by its name and by how its content looks.

use std::ffi::OsStr;
use std::path::Path;

use serde::de::IgnoredAny;

use crate::input::packing;

/// How texts lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole file is one.
    Text,
    /// A JSON value per line.
    Lines,
    /// One JSON value.
    Json,
    /// A table with a head.
    Csv,
    /// A table in columns.
    Parquet,
}

/// Files of a directory that are read, and what else is. Each also as `.gz` and `.zst`.
pub(super) const READ: &str = ".txt, .jsonl, .ndjson, .json, .csv and .parquet";

/// Endings of files that are more than a text, or none, and what to do with them.
const OTHERS: [(&[&str], &str); 7] = [
    (&["tsv"], "write it as .csv or .jsonl, which know what a line break within a text is"),
    (
        &["xml", "html", "htm", "xhtml", "rtf", "pdf", "doc", "docx", "odt", "epub", "mobi", "djvu", "ps"],
        "take the text out of it and give that as .txt; markup that is to be scored as it is goes into a .jsonl",
    ),
    (&["zip", "7z", "rar", "tar", "tgz", "tbz2", "txz"], "unpack it and give the files or the directory"),
    (&["xz", "bz2", "lz4", "br", "lzma", "z"], "unpack it, or pack it as .gz or .zst"),
    (
        &["arrow", "feather", "avro", "orc", "h5", "hdf5", "tfrecord", "msgpack", "pkl", "pickle", "sqlite", "db"],
        "write its texts as .parquet or .jsonl",
    ),
    (&["xls", "xlsx", "ods", "yaml", "yml", "toml", "ipynb"], "write its texts as .csv or .jsonl"),
    (
        &["safetensors", "gguf", "ggml", "bin", "pt", "pth", "onnx", "npy", "npz"],
        "it holds numbers; give a text, or token ids as a JSON array with ‘ids’",
    ),
];

/// The ending of a file's name in lower case, without `.gz` or `.zst` after it; empty where there is none.
pub(super) fn ending(path: &Path) -> String {
    let inner = packing(path).and_then(|_| path.file_stem()).map(Path::new);
    inner.unwrap_or(path).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

/// The kind of a file that was found in a directory; none where such files are passed over.
pub(super) fn known(path: &Path) -> Option<Kind> {
    match ending(path).as_str() {
        "txt" => Some(Kind::Text),
        "jsonl" | "ndjson" => Some(Kind::Lines),
        "json" => Some(Kind::Json),
        "csv" => Some(Kind::Csv),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    }
}

/// The kind of a file that was given by its name: one of an ending of its own is a text.
///
/// # Errors
///
/// Says the remedy for a file that is known to be none.
pub(super) fn given(path: &Path) -> Result<Kind, String> {
    if let Some(kind) = known(path) {
        return Ok(kind);
    }
    let ending = ending(path);
    match OTHERS.iter().find(|(endings, _)| endings.contains(&ending.as_str())) {
        Some((_, remedy)) => Err(format!("a .{ending} is not scored as a text; {remedy}")),
        None => Ok(Kind::Text),
    }
}

/// What a text looks like that is none, with the remedy; none where it is prose, or code, or anything else.
///
/// JSON throughout, or JSON in every line, are records under a wrong name; a page of HTML or XML is told by how it
/// begins.
pub(super) fn structured(text: &str) -> Option<&'static str> {
    let beginning: String = text.trim_start().chars().take(14).collect::<String>().to_ascii_lowercase();
    if ["<!doctype html", "<html", "<?xml"].iter().any(|mark| beginning.starts_with(mark)) {
        return Some(
            "this is HTML or XML; take the text out of it and give that, or put it into a .jsonl to score the markup",
        );
    }
    if !beginning.starts_with(['{', '[']) {
        return None;
    }
    let json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    if json(text) {
        return Some("all of this is one JSON value; give it a name that ends in .json, or token ids with ‘ids’");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let record = |line: &str| line.starts_with(['{', '[']) && json(line);
    lines.all(record).then_some("every line of this is JSON; give it a name that ends in .jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_the_ending_within_the_packing() {
        for (name, kind) in [
            ("a.txt", Kind::Text),
            ("a.TXT.gz", Kind::Text),
            ("a.jsonl.zst", Kind::Lines),
            ("a.ndjson", Kind::Lines),
            ("a.json.gz", Kind::Json),
            ("a.csv", Kind::Csv),
            ("a.parquet.gz", Kind::Parquet),
            ("wiki.test.raw", Kind::Text),
            ("notes.md", Kind::Text),
            ("book", Kind::Text),
            ("book.gz", Kind::Text),
        ] {
            assert_eq!(given(Path::new(name)), Ok(kind), "{name}");
        }
        assert_eq!(known(Path::new("notes.md")), None);
    }

    #[test]
    fn what_is_known_to_be_no_text_is_refused_with_a_remedy_packed_or_not() {
        for ending in OTHERS.iter().flat_map(|(endings, _)| *endings) {
            for name in [format!("a.{ending}"), format!("a.{}.gz", ending.to_uppercase())] {
                let error = given(Path::new(&name)).unwrap_err();
                assert!(error.contains(&format!(".{ending}")) && error.contains(';'), "{error}");
            }
        }
    }

    #[test]
    fn records_and_markup_under_the_name_of_a_text_are_seen_and_prose_is_not() {
        for (text, says) in [
            ("{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n", ".jsonl"),
            ("[1]\n[2]\n", ".jsonl"),
            (" [\"a\", \"b\"]", ".json"),
            ("{\n \"text\": 3\n}\n", ".json"),
            ("\n<!DOCTYPE html><p>404", "HTML"),
            ("<?xml version=\"1.0\"?>", "XML"),
        ] {
            let found = structured(text).unwrap_or_default();
            assert!(found.contains(says), "{text}: {found}");
        }
        for prose in ["", "Once upon", "[Illustration]\nOnce", "{a}", "{\"a\": 1}\nOnce upon", "<b>Once</b>", "3\n4\n"]
        {
            assert_eq!(structured(prose), None, "{prose}");
        }
    }
}
