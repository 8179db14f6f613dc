//! Texts as they come out of files: kept, passed over, or put together.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Text;
use crate::memory;

/// What lay among the texts and was not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skipped {
    /// Rows and files without a character, and rows that are null.
    #[serde(skip_serializing_if = "is_zero")]
    pub empty: usize,
    /// Files and directories of a directory whose names begin with a dot.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: usize,
    /// Other files of a directory that hold no texts, by ending.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, usize>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Skipped {
    /// Whether everything was used.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// `3 empty rows, 2 hidden files, 2 files of other kinds (1 .arrow, 1 .md)`
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if self.empty > 0 {
            parts.push(count(self.empty, "empty text"));
        }
        if self.hidden > 0 {
            parts.push(count(self.hidden, "hidden file"));
        }
        if !self.other.is_empty() {
            let kinds: Vec<String> = self.other.iter().map(|(ending, n)| format!("{n} {ending}")).collect();
            let files = count(self.other.values().sum(), "file");
            parts.push(format!("{files} of other kinds ({})", kinds.join(", ")));
        }
        f.write_str(&parts.join(", "))
    }
}

/// What to do about texts that are too many.
const TOO_MUCH: &str = "take the first ones, with ‘limit’, or cut the file into smaller ones";

/// Whether more rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Wanted,
    Enough,
}

/// Where rows go as they are read.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// What is put between rows that become one text.
    join: Option<&'a str>,
    limit: usize,
    joined: String,
    /// Rows seen, empty ones among them.
    rows: usize,
    pub(super) texts: Vec<Text>,
    pub(super) skipped: Skipped,
    /// Bytes that the texts take, and may take.
    taken: u64,
    most: u64,
}

impl<'a> Rows<'a> {
    pub(super) fn new(join: Option<&'a str>, limit: usize) -> Self {
        let (joined, texts, skipped) = (String::new(), Vec::new(), Skipped::default());
        Self { join, limit, joined, rows: 0, texts, skipped, taken: 0, most: memory::for_texts() }
    }

    /// Takes a row, of which null has no text.
    ///
    /// # Errors
    ///
    /// Says that rows with null cannot be joined, without saying which; or that all rows together are more than the
    /// memory at hand allows for.
    pub(super) fn push(&mut self, name: impl FnOnce() -> String, text: Option<String>) -> Result<More, String> {
        let name = if self.join.is_none() && text.as_ref().is_some_and(|text| !text.is_empty()) {
            name()
        } else {
            String::new()
        };
        let beside = if self.join.is_some() { 0 } else { name.len() + size_of::<Text>() };
        self.taken = self.taken.saturating_add((text.as_ref().map_or(0, String::len) + beside) as u64);
        if self.taken > self.most {
            return Err(memory::beyond(self.most, "with this row the texts are", TOO_MUCH).to_string());
        }
        match (self.join, text) {
            (Some(_), None) => return Err("is null, and nothing can be joined to null; remove the row".into()),
            (Some(separator), Some(text)) => {
                if self.rows > 0 {
                    self.joined.push_str(separator);
                }
                self.joined.push_str(&text);
                // Joined all the same, but worth saying.
                self.skipped.empty += usize::from(text.is_empty());
            }
            (None, Some(text)) if !text.is_empty() => self.texts.push(Text { name, text }),
            (None, _) => self.skipped.empty += 1,
        }
        self.rows += 1;
        Ok(self.more())
    }

    /// Whether more rows are wanted.
    pub(super) fn more(&self) -> More {
        let have = if self.join.is_some() { self.rows } else { self.texts.len() };
        if have < self.limit { More::Wanted } else { More::Enough }
    }

    /// The texts, and what was passed over. `whole`: the name of a joined text.
    pub(super) fn finish(mut self, whole: &str) -> (Vec<Text>, Skipped) {
        if let Some(separator) = self.join
            && !self.joined.is_empty()
        {
            let (rows, empty) = (self.rows, std::mem::take(&mut self.skipped.empty));
            let name = format!("{whole}: {rows} rows ({empty} of them empty) joined by {separator:?}");
            self.texts.push(Text { name, text: self.joined });
        }
        (self.texts, self.skipped)
    }
}

/// What stands between rows, of a command line: `\n`, `\t`, `\r` and `\\` are what they are elsewhere.
///
/// # Errors
///
/// Says which others there are not.
pub(crate) fn separator(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match (letter, letter == '\\') {
            (letter, false) => letter,
            _ => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('\\') => '\\',
                other => {
                    let other = other.map_or_else(String::new, String::from);
                    return Err(format!("\\{other} is no escape; there are \\n, \\t, \\r and \\\\"));
                }
            },
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(rows: &mut Rows<'_>, texts: &[&str]) {
        for text in texts {
            rows.push(|| format!("name of {text}"), Some((*text).to_owned())).unwrap();
        }
    }

    #[test]
    fn empty_rows_and_null_are_counted_and_not_kept() {
        let mut rows = Rows::new(None, usize::MAX);
        push(&mut rows, &["", "a", "", " "]);
        rows.push(String::new, None).unwrap();
        let (texts, skipped) = rows.finish("unused");
        let texts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        assert_eq!((texts, skipped.empty), (vec!["a", " "], 3));
        assert_eq!(skipped.to_string(), "3 empty texts");
    }

    #[test]
    fn joined_rows_are_what_join_makes_of_all_of_them() {
        for all in [&["", "a", "", "", "b", ""][..], &["a"], &["", "a"], &["", ""]] {
            let mut rows = Rows::new(Some("\n\n"), usize::MAX);
            push(&mut rows, all);
            let (texts, skipped) = rows.finish("rows");
            assert_eq!(texts.len(), 1);
            assert_eq!(texts[0].text, all.join("\n\n"));
            assert!(skipped.is_nothing(), "an empty row counts in the join");
        }
        let mut rows = Rows::new(Some(""), usize::MAX);
        push(&mut rows, &["", ""]);
        assert!(rows.finish("rows").0.is_empty());
        assert!(Rows::new(Some(""), 9).push(String::new, None).unwrap_err().contains("null"));
    }

    #[test]
    fn a_limit_counts_texts_and_with_join_rows() {
        for (join, want) in [(None, vec!["a", "b"]), (Some("+"), vec!["+a"])] {
            let mut rows = Rows::new(join, 2);
            for text in ["", "a", "b", "c"] {
                if rows.push(String::new, Some(text.into())).unwrap() == More::Enough {
                    break;
                }
            }
            let texts = rows.finish("rows").0;
            assert_eq!(texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), want);
        }
    }

    #[test]
    fn rows_that_are_more_than_memory_allows_for_are_refused_before_they_are_kept() {
        for join in [None, Some("+")] {
            let mut rows = Rows { most: 2000, ..Rows::new(join, usize::MAX) };
            let long = "x".repeat(500);
            let error = (0..9).find_map(|_| rows.push(String::new, Some(long.clone())).err()).unwrap();
            assert!(error.contains("2.0 KiB") && error.contains("‘limit’"), "{error}");
            assert_eq!(rows.rows, if join.is_some() { 4 } else { 3 });
        }
        let mut rows = Rows { most: 0, ..Rows::new(None, usize::MAX) };
        assert!(rows.push(String::new, Some("a".into())).is_err());
    }

    #[test]
    fn escapes_of_a_separator_are_those_that_are_said() {
        assert_eq!(separator(r"\n\n"), Ok("\n\n".into()));
        assert_eq!(separator(r"a\\n\t\r "), Ok("a\\n\t\r ".into()));
        assert_eq!(separator("\n"), Ok("\n".into()));
        for wrong in [r"\x", r"a\"] {
            assert!(separator(wrong).unwrap_err().contains("there are"), "{wrong}");
        }
    }
}
