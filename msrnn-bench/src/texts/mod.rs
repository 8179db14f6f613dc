//! Texts as data: files, directories, JSONL, parquet, and PG-19's layout.
//!
//! What a path is, is told by what lies there and by its ending:
//!
//! - a directory with `metadata.csv` and `test/`: PG-19, the books of its test split ([`pg19`])
//! - any other directory: all `.txt` files below it, by name
//! - `.jsonl`, `.ndjson`: one text per line ([`jsonl`]); `.parquet`: one text per row ([`parquet`])
//! - everything else: one text in UTF-8
//!
//! A text is used as it is: nothing is stripped or normalised.

pub mod jsonl;
pub mod parquet;
pub mod pg19;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::contexts::read_text;
use crate::error::BenchError;
use crate::experiment::manifest::Source;
use crate::hub::{Downloads, locate_data};
use crate::stories::{Split, Stories};

/// Field of a JSONL line, or column of a parquet file, that holds the text unless told otherwise.
pub const FIELD: &str = "text";

/// A text and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file's name, relative to the directory that was given, with line or row where it has
    /// several. The same on every machine.
    pub name: String,
    /// The text; never empty.
    pub text: String,
}

impl Text {
    /// Name and hash, for a manifest.
    pub fn source(&self) -> Source {
        Source::of_bytes(&self.name, [(FIELD, self.text.as_bytes())])
    }
}

/// The texts of some paths, or of files of the Hugging Face hub (`hf:org/dataset/path`), in the order of
/// the paths and within a directory by name.
///
/// # Errors
///
/// When a path cannot be read, has no text, or a text is empty or not UTF-8; when `field` is no
/// field of a JSONL or parquet file; and when two texts have the same name.
pub fn read(paths: &[PathBuf], field: &str, downloads: &Downloads) -> Result<Vec<Text>, BenchError> {
    let mut texts = Vec::new();
    for path in paths {
        texts.extend(of_path(&locate_data(&path.to_string_lossy(), downloads)?, field)?);
    }
    let mut names = HashSet::new();
    match texts.iter().find(|text| !names.insert(&text.name)) {
        None => Ok(texts),
        Some(twice) => Err(BenchError::Input(format!(
            "two texts are called {:?}; give each once, or the directory that both are in",
            twice.name
        ))),
    }
}

fn of_path(path: &Path, field: &str) -> Result<Vec<Text>, BenchError> {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        _ if pg19::is_layout(path) => pg19::read(path),
        _ if path.is_dir() => directory(path),
        "jsonl" | "ndjson" => jsonl::read(path, field),
        "parquet" => parquet::read(path, field),
        _ => Ok(vec![Text { name: name(path), text: read_text(path)? }]),
    }
}

/// All `.txt` files below a directory.
fn directory(root: &Path) -> Result<Vec<Text>, BenchError> {
    let mut texts = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| BenchError::Read {
            path: e.path().unwrap_or(root).into(),
            source: e
                .into_io_error()
                .unwrap_or_else(|| std::io::Error::other("a link leads back to its own directory")),
        })?;
        let path = entry.path();
        let is_text = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt"));
        if is_text && entry.file_type().is_file() {
            let below = path.strip_prefix(root).unwrap_or(path);
            let parts: Vec<_> = below.iter().map(OsStr::to_string_lossy).collect();
            texts.push(Text { name: parts.join("/"), text: read_text(path)? });
        }
    }
    match texts.is_empty() {
        true => Err(BenchError::Input(format!(
            "{}: there is no .txt file in this directory or below; give a directory of texts, or files one by one",
            root.display()
        ))),
        false => Ok(texts),
    }
}

/// Held-out stories of the bundled generator, of roughly `words` words each.
pub fn stories(seed: u64, stories: usize, words: usize) -> Vec<Text> {
    Stories::new(Split::Test, seed)
        .with_words(words)
        .take(stories)
        .enumerate()
        .map(|(index, story)| Text { name: format!("story {index} of seed {seed}"), text: story.text })
        .collect()
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[PathBuf], field: &str) -> Result<Vec<Text>, BenchError> {
        super::read(paths, field, &Downloads::UNWATCHED)
    }

    fn names(texts: &[Text]) -> Vec<&str> {
        texts.iter().map(|text| text.name.as_str()).collect()
    }

    #[test]
    fn directories_are_read_recursively_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("b")).unwrap();
        for (file, text) in [("b/two.txt", "2"), ("c.TXT", "3"), ("a.txt", "1"), ("notes.md", "no text of ours")] {
            std::fs::write(root.path().join(file), text).unwrap();
        }
        let texts = read(&[root.path().into()], FIELD).unwrap();
        assert_eq!(names(&texts), ["a.txt", "b/two.txt", "c.TXT"]);
        assert_eq!(texts.iter().map(|text| text.text.as_str()).collect::<String>(), "123");
        // As printed by sha256sum.
        assert_eq!(texts[0].source().sha256[FIELD], "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b");

        let one = root.path().join("a.txt");
        let error = read(&[one.clone(), root.path().into()], FIELD).unwrap_err().to_string();
        assert!(error.contains("\"a.txt\""), "{error}");
        assert_eq!(names(&read(&[one], FIELD).unwrap()), ["a.txt"]);
    }

    #[test]
    fn what_is_no_text_is_named_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let nothing = root.path().join("nothing");
        std::fs::create_dir(&nothing).unwrap();
        let cases = [
            (file("latin.txt", b"caf\xe9"), "iconv"),
            (file("empty.txt", b""), "give a text"),
            (nothing, "no .txt file"),
            (root.path().join("absent.txt"), "check the path"),
            (file("broken.parquet", b"PAR1 or not"), "parquet"),
        ];
        for (path, remedy) in cases {
            let error = read(std::slice::from_ref(&path), FIELD).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn stories_of_one_seed_have_different_names_and_texts() {
        let texts = stories(3, 2, 200);
        assert!(texts[0].name != texts[1].name && texts[0].text != texts[1].text);
        assert_eq!(texts, stories(3, 2, 200));
    }
}
