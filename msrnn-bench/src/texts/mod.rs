//! Texts as data: files, directories, JSON, CSV, parquet, and PG-19's layout.
//!
//! What a path is, is told by what lies there and by its ending, within `.gz` or `.zst` where it is packed:
//!
//! - a directory with `metadata.csv` and `test/`: PG-19, the books of its test split (`pg19`)
//! - any other directory: all files below it of the kinds named here, by name; hidden ones are passed over
//! - `.jsonl`, `.ndjson`: one text per line; `.json`: one value with texts in it (`json`)
//! - `.csv`, `.parquet`: one text per row (`csv`, `parquet`)
//! - everything else: one text in UTF-8, unless it is known, or seen, to be none (`kind`)
//!
//! A text is used as it is: nothing is stripped or normalised but a byte order mark at its beginning. Rows without a
//! character are passed over with a count, or put together with the others ([`Wanted::join`]).

mod csv;
mod json;
mod kind;
mod parquet;
mod pg19;
mod rows;
mod value;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

pub use self::rows::Skipped;
pub(crate) use self::rows::separator;
use crate::error::BenchError;
use crate::hub::{Downloads, locate_data};
use crate::input::read_text;
use crate::memory;
use crate::source::Source;
use crate::stories::{Split, Stories};
use kind::Kind;
use rows::{More, Rows};

/// Field of a JSON object, or column of a table, that holds the text unless told otherwise.
pub(crate) const FIELD: &str = "text";

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
    /// Name and hash of what is scored, however it was packed, for a manifest.
    pub fn source(&self) -> Source {
        Source::of_bytes(&self.name, [(FIELD, self.text.as_bytes())])
    }
}

/// Which texts are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Files and directories, or files of the Hugging Face hub (`hf:org/dataset/path`).
    pub paths: &'a [PathBuf],
    /// Field of a JSON object, or column of a table, that holds the text.
    pub field: &'a str,
    /// What is put between all files and rows, which then are one text; empty rows count.
    pub join: Option<&'a str>,
    /// Only so many texts, the first; of rows that are joined, so many rows.
    pub limit: Option<usize>,
    /// Who watches what has to be fetched.
    pub downloads: Downloads,
}

impl<'a> Wanted<'a> {
    /// All texts of some paths, each by itself.
    pub fn new(paths: &'a [PathBuf]) -> Self {
        Self { paths, field: FIELD, join: None, limit: None, downloads: Downloads::UNWATCHED }
    }
}

/// Texts, and what was passed over on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one.
    pub texts: Vec<Text>,
    /// Rows and files that are none.
    pub skipped: Skipped,
}

/// A file of texts that is being read.
struct File<'a> {
    path: &'a Path,
    /// What its texts are called.
    name: &'a str,
    field: &'a str,
}

impl File<'_> {
    fn wrong(&self, what: String) -> BenchError {
        BenchError::Input(format!("{}: {what}", self.path.display()))
    }

    fn read(&self, kind: Kind, rows: &mut Rows<'_>) -> Result<(), BenchError> {
        match kind {
            Kind::Lines => json::read_lines(self, rows),
            Kind::Json => json::read(self, rows),
            Kind::Csv => csv::read(self, rows),
            Kind::Parquet => parquet::read(self, rows),
            Kind::Text => {
                let text = read_text(self.path)?;
                match kind::structured(&text) {
                    Some(what) => Err(self.wrong(what.into())),
                    None => rows.push(|| self.name.to_owned(), Some(text)).map(|_| ()).map_err(|e| self.wrong(e)),
                }
            }
        }
    }
}

/// The texts of some paths, in the order of the paths and within a directory by name.
///
/// # Errors
///
/// When a path cannot be read, is known to be no text, is not UTF-8, or has no such field; when there is no text;
/// and when two texts have the same name.
pub fn read(wanted: &Wanted<'_>) -> Result<Found, BenchError> {
    let mut rows = Rows::new(wanted.join, wanted.limit.unwrap_or(usize::MAX));
    for given in wanted.paths {
        if rows.more() == More::Enough {
            break;
        }
        let path = locate_data(given, &wanted.downloads)?;
        match path.is_dir() {
            true if pg19::is_layout(&path) => pg19::read(&path, wanted.field, &mut rows)?,
            true => directory(&path, &str::to_owned, wanted.field, &mut rows)?,
            false => {
                let file = File { path: &path, name: &name(&path), field: wanted.field };
                let kind = kind::given(&path).map_err(|what| file.wrong(what))?;
                file.read(kind, &mut rows)?;
            }
        }
    }
    let paths: Vec<String> = wanted.paths.iter().map(|path| path.display().to_string()).collect();
    let whole: Vec<String> = wanted.paths.iter().map(|path| name(path)).collect();
    let (texts, skipped) = rows.finish(&whole.join(" and "));
    if texts.is_empty() {
        let passed = if skipped.is_nothing() { String::new() } else { format!(", only {skipped}") };
        return Err(BenchError::Input(format!(
            "{}: there is no text{passed}; give a text, or files or a directory of {}, also as .gz or .zst",
            paths.join(", "),
            kind::READ
        )));
    }
    let mut names = HashSet::new();
    match texts.iter().find(|text| !names.insert(&text.name)) {
        None => Ok(Found { texts, skipped }),
        Some(twice) => Err(BenchError::Input(format!(
            "two texts are called {:?}; give each once, or the directory that both are in",
            twice.name
        ))),
    }
}

/// All files below a directory that hold texts, each named by `name` of its path within.
fn directory(root: &Path, name: &dyn Fn(&str) -> String, field: &str, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    let mut walk = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|e| BenchError::Read {
            path: e.path().unwrap_or(root).into(),
            source: e
                .into_io_error()
                .unwrap_or_else(|| std::io::Error::other("a link leads back to its own directory")),
        })?;
        // What a file manager leaves behind (`._a.txt`, `.DS_Store`), and what a tool keeps for itself (`.cache`).
        if entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.') {
            rows.skipped.hidden += 1;
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let Some(kind) = kind::known(path) else {
            let ending = kind::ending(path);
            let ending = if ending.is_empty() { "without ending".into() } else { format!(".{ending}") };
            *rows.skipped.other.entry(ending).or_default() += 1;
            continue;
        };
        if kind != Kind::Parquet && entry.metadata().is_ok_and(|data| data.len() == 0) {
            rows.push(String::new, Some(String::new())).map_err(BenchError::Input)?;
        } else {
            let below = path.strip_prefix(root).unwrap_or(path);
            let parts: Vec<_> = below.iter().map(OsStr::to_string_lossy).collect();
            File { path, name: &name(&parts.join("/")), field }.read(kind, rows)?;
        }
        if rows.more() == More::Enough {
            break;
        }
    }
    Ok(())
}

/// Words of a story that is written, at most: the generator counts them again with every paragraph.
pub(crate) const MOST_WORDS: usize = 1 << 17;

/// Held-out stories of the bundled generator, of roughly `words` words each.
///
/// # Errors
///
/// When they would be too long or too many.
pub fn stories(seed: u64, stories: usize, words: usize) -> Result<Vec<Text>, BenchError> {
    if words > MOST_WORDS {
        return Err(BenchError::Input(format!(
            "stories of {words} words are not written, {MOST_WORDS} are the most; give a shorter ‘context’, or a ‘text’"
        )));
    }
    // Letters, then ids and bytes.
    let bytes = memory::product(&[stories, words, 16]);
    let what = format!("{stories} stories of {words} words");
    memory::check(bytes, &what, "give fewer ‘stories’ or a shorter ‘context’")?;
    let all = Stories::new(Split::Test, seed)
        .with_words(words)
        .take(stories)
        .enumerate()
        .map(|(index, story)| Text { name: format!("story {index} of seed {seed}"), text: story.text });
    Ok(all.collect())
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a path.
    pub(super) fn of_path(path: &Path, field: &str) -> Result<Found, BenchError> {
        read(&Wanted { field, ..Wanted::new(&[path.into()]) })
    }

    /// The texts of a file of that name and content.
    pub(super) fn of(name: &str, content: &str) -> Result<Found, BenchError> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(name), content).unwrap();
        of_path(&root.path().join(name), FIELD)
    }

    /// Names and texts.
    pub(super) fn pairs(found: &Result<Found, BenchError>) -> Vec<(&str, &str)> {
        let found = found.as_ref().unwrap_or_else(|e| panic!("{e}"));
        found.texts.iter().map(|text| (&*text.name, &*text.text)).collect()
    }

    /// A directory with these files.
    fn place(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn directories_are_read_recursively_by_name() {
        let root = place(&[("b/two.txt", b"2"), ("c.TXT", b"3"), ("a.txt", b"1"), ("notes.md", b"no text of ours")]);
        let found = of_path(root.path(), FIELD);
        assert_eq!(pairs(&found), [("a.txt", "1"), ("b/two.txt", "2"), ("c.TXT", "3")]);
        let found = found.unwrap();
        assert_eq!(found.skipped.to_string(), "1 file of other kinds (1 .md)");
        // As printed by sha256sum.
        let hash = &found.texts[0].source().sha256[FIELD];
        assert_eq!(hash, "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b");

        let one = root.path().join("a.txt");
        let error = read(&Wanted::new(&[one.clone(), root.path().into()])).unwrap_err().to_string();
        assert!(error.contains("\"a.txt\""), "{error}");
        assert_eq!(pairs(&of_path(&one, FIELD)), [("a.txt", "1")]);
    }

    #[test]
    fn hidden_files_and_directories_are_passed_over_with_a_count() {
        let root = place(&[
            ("a.txt", b"1"),
            ("._a.txt", b"\0\x05\x16\x07 of a Mac"),
            (".DS_Store", b"\0"),
            (".cache/b.txt", b"no"),
            ("below/.c.jsonl", b"no"),
        ]);
        let found = of_path(root.path(), FIELD);
        assert_eq!(pairs(&found), [("a.txt", "1")]);
        assert_eq!(found.unwrap().skipped, Skipped { hidden: 4, ..Skipped::default() });
        // What is given by its name is meant.
        let hidden = place(&[(".hidden/.notes.txt", b"mine")]);
        assert_eq!(pairs(&of_path(&hidden.path().join(".hidden/.notes.txt"), FIELD)), [(".notes.txt", "mine")]);
    }

    #[test]
    fn a_directory_takes_every_kind_and_says_what_it_does_not() {
        let packed = crate::input::tests::gzip(b"{\"text\": \"five\"}");
        let root = place(&[
            ("1.csv", b"id,text\n7,one\n"),
            ("2.json", b"[\"two\"]"),
            ("3.jsonl", b"{\"text\": \"three\"}\n"),
            ("4.txt", b"\xef\xbb\xbffour"),
            ("5.jsonl.gz", &packed),
            ("6.txt", b""),
            ("7.arrow", b"ARROW1"),
            ("LICENSE", b"no"),
        ]);
        let found = of_path(root.path(), FIELD);
        let texts: Vec<&str> = pairs(&found).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["one", "two", "three", "four", "five"]);
        let shown = found.unwrap().skipped.to_string();
        assert_eq!(shown, "1 empty text, 2 files of other kinds (1 .arrow, 1 without ending)");
    }

    #[test]
    fn a_text_is_the_same_source_however_it_was_packed() {
        let root = place(&[("a.txt", b"Once"), ("b.txt", b"\xef\xbb\xbfOnce"), ("c.jsonl", b"{\"text\": \"Once\"}")]);
        std::fs::write(root.path().join("d.txt.gz"), crate::input::tests::gzip(b"Once")).unwrap();
        let found = of_path(root.path(), FIELD).unwrap();
        let hashes: HashSet<String> = found.texts.iter().map(|text| text.source().sha256[FIELD].clone()).collect();
        assert_eq!((found.texts.len(), hashes.len()), (4, 1));
    }

    #[test]
    fn files_and_rows_are_joined_in_their_order_and_a_limit_ends_the_reading() {
        let root = place(&[("a.txt", b"1"), ("b.jsonl", b"{\"text\": \"\"}\n{\"text\": \"2\"}\n"), ("c.txt", b"\xff")]);
        let paths = ["a.txt", "b.jsonl", "c.txt"].map(|name| root.path().join(name));
        let wanted = Wanted { join: Some("--"), limit: Some(3), ..Wanted::new(&paths) };
        let found = read(&wanted).unwrap();
        assert_eq!((found.texts.len(), found.texts[0].text.as_str()), (1, "1----2"));
        assert!(found.texts[0].name.contains("3 rows (1 of them empty) joined by \"--\""), "{:?}", found.texts);
        // The third file is not even looked at, until it is wanted.
        let few = read(&Wanted { limit: Some(2), ..Wanted::new(&paths) });
        assert_eq!(pairs(&few), [("a.txt", "1"), ("b.jsonl:2", "2")]);
        assert!(read(&Wanted::new(&paths)).unwrap_err().to_string().contains("c.txt"));
    }

    #[test]
    fn what_is_no_text_is_named_with_a_remedy() {
        let root = place(&[
            ("latin.txt", b"caf\xe9"),
            ("empty.txt", b""),
            ("broken.parquet", b"PAR1 or not"),
            ("table.tsv", b"a\tb"),
            ("page.txt", b"<!doctype html>"),
            ("records.txt", b"{\"text\": \"a\"}\n{\"text\": \"b\"}"),
            ("wide.txt", b"\xff\xfea\0"),
            ("archive.zip", b"PK"),
        ]);
        std::fs::create_dir(root.path().join("nothing")).unwrap();
        let cases = [
            ("latin.txt", "iconv"),
            ("empty.txt", "give a text"),
            ("nothing", "a directory of .txt, .jsonl"),
            ("absent.txt", "check the path"),
            ("broken.parquet", "parquet"),
            ("table.tsv", ".csv or .jsonl"),
            ("page.txt", "HTML"),
            ("records.txt", ".jsonl"),
            ("wide.txt", "UTF-16"),
            ("archive.zip", "unpack it"),
        ];
        for (name, remedy) in cases {
            let path = root.path().join(name);
            let error = of_path(&path, FIELD).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn stories_of_one_seed_have_different_names_and_texts() {
        let texts = stories(3, 2, 200).unwrap();
        assert!(texts[0].name != texts[1].name && texts[0].text != texts[1].text);
        assert_eq!(texts, stories(3, 2, 200).unwrap());
        let error = stories(3, 1, MOST_WORDS + 1).unwrap_err().to_string();
        assert!(error.contains("‘context’"), "{error}");
    }
}
