//! Parquet: one text per row, in one of the columns.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::jsonl::missing;
use super::{Text, name};
use crate::error::BenchError;

/// The texts of a file, named by file and row, from 1.
///
/// # Errors
///
/// When the file cannot be read, is no parquet or uses a codec other than snappy and zstd, or
/// `column` is absent, or empty or no string in some row.
pub fn read(path: &Path, column: &str) -> Result<Vec<Text>, BenchError> {
    let file = File::open(path).map_err(|source| BenchError::Read { path: path.into(), source })?;
    let wrong = |what: String| BenchError::Input(format!("{}: {what}", path.display()));
    let damaged = |e: ParquetError| {
        wrong(format!("{e}; expected a whole parquet file, uncompressed or with snappy or zstd: write it again"))
    };
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    // Only that column is read.
    let fields = schema.get_fields();
    let wanted = fields.iter().find(|field| field.name() == column);
    let wanted = wanted.ok_or_else(|| wrong(missing(column, fields.iter().map(|field| field.name()))))?;
    let projection =
        Type::group_type_builder(schema.name()).with_fields(vec![wanted.clone()]).build().map_err(damaged)?;
    let mut texts = Vec::new();
    for (index, row) in reader.get_row_iter(Some(projection)).map_err(damaged)?.enumerate() {
        let row = row.map_err(damaged)?;
        let number = index + 1;
        let no_text = |what: &str| wrong(format!("row {number}: {column:?} {what}"));
        let text = match row.get_column_iter().next() {
            Some((_, Field::Str(text))) => text.clone(),
            // Strings written without saying so.
            Some((_, Field::Bytes(bytes))) => String::from_utf8(bytes.data().to_vec())
                .map_err(|e| no_text(&format!("is not UTF-8 at byte {}; convert it", e.utf8_error().valid_up_to())))?,
            Some((_, Field::Null)) | None => return Err(no_text("is null; remove the row")),
            Some(_) => return Err(no_text("is no string; name a column of texts")),
        };
        if text.is_empty() {
            return Err(no_text("is empty; remove the row"));
        }
        texts.push(Text { name: format!("{}:{number}", name(path)), text });
    }
    match texts.is_empty() {
        true => Err(wrong("there is no row; give one".into())),
        false => Ok(texts),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// A file with a column of numbers and an optional column `body`.
    fn write(path: &Path, schema: &str, texts: &[Option<&[u8]>], compression: Compression) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> = texts.iter().flatten().map(|text| text.to_vec().into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    const STRINGS: &str = "message m { required int64 id; optional binary body (UTF8); }";
    const BYTES: &str = "message m { required int64 id; optional binary body; }";

    #[test]
    fn a_column_is_read_whatever_codec_and_type() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("books.parquet");
        for schema in [STRINGS, BYTES] {
            for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())] {
                write(&path, schema, &[Some(b"one"), Some("zwölf".as_bytes())], compression);
                let texts = read(&path, "body").unwrap();
                let pairs: Vec<(&str, &str)> = texts.iter().map(|text| (&*text.name, &*text.text)).collect();
                assert_eq!(pairs, [("books.parquet:1", "one"), ("books.parquet:2", "zwölf")]);
            }
        }
    }

    #[test]
    fn errors_name_row_column_and_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("books.parquet");
        type Case = (&'static [Option<&'static [u8]>], &'static str, &'static str, [&'static str; 2]);
        let cases: [Case; 6] = [
            (&[Some(b"a")], STRINGS, "text", ["id, body", "--field"]),
            (&[Some(b"a"), None], STRINGS, "body", ["row 2", "null"]),
            (&[Some(b"")], STRINGS, "body", ["row 1", "remove the row"]),
            (&[Some(b"a")], STRINGS, "id", ["row 1", "no string"]),
            (&[Some(b"caf\xe9")], BYTES, "body", ["row 1", "not UTF-8 at byte 3"]),
            (&[], STRINGS, "body", ["books.parquet", "no row"]),
        ];
        for (texts, schema, column, words) in cases {
            write(&path, schema, texts, Compression::SNAPPY);
            let error = read(&path, column).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
