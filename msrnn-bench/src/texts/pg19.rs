//! PG-19's layout: books as `train/`, `validation/` and `test/ID.txt`, with `metadata.csv` beside
//! them, one line per book without a head: id, title, year of publication, address.
//!
//! Rae et al. 2019, arXiv 1911.05507; <https://github.com/google-deepmind/pg19>.

use std::collections::HashMap;
use std::path::Path;

use super::{Text, directory};
use crate::error::BenchError;

const METADATA: &str = "metadata.csv";
const TEST: &str = "test";

/// Whether a path is a directory of that layout.
pub fn is_layout(path: &Path) -> bool {
    path.join(METADATA).is_file() && path.join(TEST).is_dir()
}

/// The books of the test split, by file name, with their titles where the metadata has them.
///
/// # Errors
///
/// When a book or the metadata cannot be read.
pub fn read(root: &Path) -> Result<Vec<Text>, BenchError> {
    let titles = titles(&root.join(METADATA))?;
    let books = directory(&root.join(TEST))?.into_iter().map(|Text { name, text }| {
        let title = name.strip_suffix(".txt").and_then(|id| titles.get(id));
        Text { name: title.map_or_else(|| format!("{TEST}/{name}"), |title| format!("{TEST}/{name}: {title}")), text }
    });
    Ok(books.collect())
}

/// Titles by id.
fn titles(path: &Path) -> Result<HashMap<String, String>, BenchError> {
    let wrong = |e: csv::Error| {
        BenchError::Input(format!(
            "{}: {e}; expected lines of id, title, year and address, as PG-19 has them",
            path.display()
        ))
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(path).map_err(wrong)?;
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
    use crate::hub::Downloads;
    use crate::texts;

    #[test]
    fn the_test_split_is_read_with_its_titles() {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "test"] {
            std::fs::create_dir(root.path().join(split)).unwrap();
        }
        std::fs::write(root.path().join("train/1.txt"), "of the other split").unwrap();
        std::fs::write(root.path().join("test/20.txt"), "twenty").unwrap();
        std::fs::write(root.path().join("test/3.txt"), "three").unwrap();
        std::fs::write(root.path().join(METADATA), "1,One,1900,x\n20,\"Twenty, or so\",1901,y\n").unwrap();
        let texts = texts::read(&[root.path().into()], texts::FIELD, &Downloads::UNWATCHED).unwrap();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|text| (&*text.name, &*text.text)).collect();
        assert_eq!(pairs, [("test/20.txt: Twenty, or so", "twenty"), ("test/3.txt", "three")]);

        std::fs::write(root.path().join(METADATA), b"1,\xff\n").unwrap();
        let error = texts::read(&[root.path().into()], texts::FIELD, &Downloads::UNWATCHED).unwrap_err().to_string();
        assert!(error.contains(METADATA) && error.contains("as PG-19 has them"), "{error}");
    }
}
