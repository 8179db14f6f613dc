//! Parquet: one text per row, in one of the columns.

use msrnn_models::contained::contained;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::File;
use super::json::missing;
use super::rows::{More, Rows};
use crate::error::BenchError;
use crate::input::{packing, read_bytes};
use crate::memory;

/// The texts of a file, named by file and row, from 1.
///
/// # Errors
///
/// When the file cannot be read, is no parquet or uses a codec other than snappy and zstd, or the column is absent
/// or no string in some row.
pub(super) fn read(file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    match packing(file.path) {
        Some(_) => read_from(bytes::Bytes::from(read_bytes(file.path)?), file, rows),
        None => {
            let opened = std::fs::File::open(file.path);
            read_from(opened.map_err(|source| BenchError::Read { path: file.path.into(), source })?, file, rows)
        }
    }
}

/// [`rows_of`], and the library's panics on some damaged files as errors.
fn read_from(content: impl ChunkReader + 'static, file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    contained(|| rows_of(content, file, rows))
        .unwrap_or_else(|panic| Err(file.wrong(format!("{panic}; the file is damaged, fetch or write it again"))))
}

fn rows_of(content: impl ChunkReader + 'static, file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    let column = file.field;
    let damaged = |e: ParquetError| {
        file.wrong(format!("{e}; expected a whole parquet file, uncompressed or with snappy or zstd: write it again"))
    };
    let reader = SerializedFileReader::new(content).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    // Only that column is read.
    let fields = schema.get_fields();
    let wanted = fields.iter().find(|field| field.name() == column);
    let wanted = wanted.ok_or_else(|| file.wrong(missing(column, fields.iter().map(|field| field.name()))))?;
    let claimed = of_column(reader.metadata(), column);
    memory::check(
        claimed,
        &format!("{}: the column {column:?}", file.path.display()),
        "write its texts into smaller files",
    )?;
    let projection =
        Type::group_type_builder(schema.name()).with_fields(vec![wanted.clone()]).build().map_err(damaged)?;
    let found = reader.get_row_iter(Some(projection)).map_err(damaged)?;
    for (index, row) in found.with_batch_size(BATCH).enumerate() {
        let row = row.map_err(damaged)?;
        let number = index + 1;
        let no_text = |what: &str| file.wrong(format!("row {number}: {column:?} {what}"));
        let text =
            match row.get_column_iter().next() {
                Some((_, Field::Str(text))) => Some(text.clone()),
                // Strings written without saying so.
                Some((_, Field::Bytes(bytes))) => Some(String::from_utf8(bytes.data().to_vec()).map_err(|e| {
                    no_text(&format!("is not UTF-8 at byte {}; convert it", e.utf8_error().valid_up_to()))
                })?),
                Some((_, Field::Null)) | None => None,
                Some(_) => return Err(no_text("is no string; name a column of texts")),
            };
        let more = rows.push(|| format!("{}:{number}", file.name), text);
        if more.map_err(|what| no_text(&what))? == More::Enough {
            break;
        }
    }
    Ok(())
}

/// Values that the library holds at a time. A value may be written as the one before it and nothing more, so that many
/// at a time are many times the page that they are in.
const BATCH: usize = 8;

/// Bytes of the largest column of that name in a group of rows, as the file claims.
fn of_column(metadata: &ParquetMetaData, column: &str) -> u64 {
    let of = |group: &RowGroupMetaData| {
        let columns =
            group.columns().iter().filter(|found| found.column_path().parts().first().is_some_and(|n| n == column));
        columns.map(|found| u64::try_from(found.uncompressed_size()).unwrap_or(u64::MAX)).max()
    };
    metadata.row_groups().iter().filter_map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::texts::tests::{of_path, pairs};

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
                let found = of_path(&path, "body");
                assert_eq!(pairs(&found), [("books.parquet:1", "one"), ("books.parquet:2", "zwölf")]);
            }
        }
    }

    #[test]
    fn empty_rows_and_null_are_counted_and_a_packed_file_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("books.parquet");
        write(&path, STRINGS, &[Some(b""), Some(b"one"), None, Some(b"two")], Compression::SNAPPY);
        let packed = root.path().join("books.parquet.zst");
        std::fs::write(&packed, zstd::stream::encode_all(&*std::fs::read(&path).unwrap(), 1).unwrap()).unwrap();
        let (found, same) = (of_path(&path, "body"), of_path(&packed, "body"));
        assert_eq!(pairs(&found), [("books.parquet:2", "one"), ("books.parquet:4", "two")]);
        assert_eq!(pairs(&same), [("books.parquet.zst:2", "one"), ("books.parquet.zst:4", "two")]);
        assert_eq!(found.unwrap().skipped.empty, 2);
    }

    #[test]
    fn errors_name_row_column_and_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("books.parquet");
        type Case = (&'static [Option<&'static [u8]>], &'static str, &'static str, [&'static str; 2]);
        let cases: [Case; 5] = [
            (&[Some(b"a")], STRINGS, "text", ["id, body", "‘field’"]),
            (&[Some(b""), None], STRINGS, "body", ["books.parquet", "2 empty texts"]),
            (&[Some(b"a")], STRINGS, "id", ["row 1", "no string"]),
            (&[Some(b"caf\xe9")], BYTES, "body", ["row 1", "not UTF-8 at byte 3"]),
            (&[], STRINGS, "body", ["books.parquet", "no text"]),
        ];
        for (texts, schema, column, words) in cases {
            write(&path, schema, texts, Compression::SNAPPY);
            let error = of_path(&path, column).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
