//! PG-19's layout: books as `train/`, `validation/` and `test/ID.txt`, with `metadata.csv` beside
//! them, one line per book without a head: id, title, year of publication, address.
//!
//! Rae et al. 2019, arXiv 1911.05507; <https://github.com/google-deepmind/pg19>.

use std::collections::HashMap;
use std::path::Path;

use super::directory;
use super::rows::Rows;
use crate::error::BenchError;
use crate::input::read_text;

const METADATA: &str = "metadata.csv";
const TEST: &str = "test";

/// Whether a path is a directory of that layout.
pub(super) fn is_layout(path: &Path) -> bool {
    path.join(METADATA).is_file() && path.join(TEST).is_dir()
}

/// Reads the books of the test split, by file name, with their titles where the metadata has them.
///
/// # Errors
///
/// When a book or the metadata cannot be read.
pub(super) fn read(root: &Path, field: &str, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    let titles = titles(&root.join(METADATA))?;
    let name = |below: &str| {
        let id = below.strip_suffix(".gz").unwrap_or(below).strip_suffix(".txt");
        match id.and_then(|id| titles.get(id)) {
            Some(title) => format!("{TEST}/{below}: {title}"),
            None => format!("{TEST}/{below}"),
        }
    };
    directory(&root.join(TEST), &name, field, rows)
}

/// Titles by id.
fn titles(path: &Path) -> Result<HashMap<String, String>, BenchError> {
    let wrong = |e: csv::Error| {
        BenchError::Input(format!(
            "{}: {e}; expected lines of id, title, year and address, as PG-19 has them",
            path.display()
        ))
    };
    let text = read_text(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut titles = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        if let (Some(id), Some(title)) = (record.get(0), record.get(1)) {
            titles.insert(id.to_owned(), title.to_owned());
        }
    }
    Ok(titles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::FIELD;
    use crate::texts::tests::{of_path, pairs};

    #[test]
    fn the_test_split_is_read_with_its_titles_and_without_hidden_files() {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "test"] {
            std::fs::create_dir(root.path().join(split)).unwrap();
        }
        std::fs::write(root.path().join("train/1.txt"), "of the other split").unwrap();
        std::fs::write(root.path().join("test/20.txt"), "twenty").unwrap();
        std::fs::write(root.path().join("test/3.txt"), "three").unwrap();
        std::fs::write(root.path().join("test/._20.txt"), b"\0\x05\x16\x07").unwrap();
        std::fs::write(root.path().join(METADATA), "\u{feff}20,\"Twenty, or so\",1901,y\n1,One,1900,x\n").unwrap();
        let found = of_path(root.path(), FIELD);
        assert_eq!(pairs(&found), [("test/20.txt: Twenty, or so", "twenty"), ("test/3.txt", "three")]);
        assert_eq!(found.unwrap().skipped.hidden, 1);

        std::fs::write(root.path().join(METADATA), b"1,\xff\n").unwrap();
        let error = of_path(root.path(), FIELD).unwrap_err().to_string();
        assert!(error.contains(METADATA) && error.contains("not UTF-8"), "{error}");
    }
}
