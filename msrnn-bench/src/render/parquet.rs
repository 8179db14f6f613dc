//! The data of a figure as parquet: the columns of the CSV, with their types.

use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::Type;

use super::frame::{Column, Frame, Values};
use crate::error::BenchError;

/// A parquet file of one row group, compressed with snappy. Words are UTF-8 strings, numbers are
/// doubles and may be null, flags are booleans. `about`: keys and values of the file's metadata.
///
/// # Errors
///
/// Never in practice: it writes to memory.
pub(crate) fn parquet(frame: &Frame, about: &[(&str, &str)]) -> Result<Vec<u8>, BenchError> {
    write(frame, about).map_err(|e| BenchError::Input(format!("the data cannot be written as parquet: {e}")))
}

fn write(frame: &Frame, about: &[(&str, &str)]) -> Result<Vec<u8>, ParquetError> {
    let fields: Vec<Arc<Type>> = frame.columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder("figure").with_fields(fields).build()?);
    let about = about.iter().map(|&(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(about))
        .set_created_by(concat!("msrnn ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    if frame.rows() > 0 {
        let mut group = writer.next_row_group()?;
        for column in &frame.columns {
            let Some(mut out) = group.next_column()? else { break };
            match &column.values {
                Values::Text(values) => {
                    let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(value.as_str())).collect();
                    out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
                }
                Values::Number(values) => {
                    let present: Vec<f64> = values.iter().flatten().copied().collect();
                    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                    out.typed::<DoubleType>().write_batch(&present, Some(&levels), None)?;
                }
                Values::Flag(values) => {
                    out.typed::<BoolType>().write_batch(values, None, None)?;
                }
            }
            out.close()?;
        }
        group.close()?;
    }
    writer.into_inner()
}

fn field(column: &Column) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical, repetition) = match column.values {
        Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
        Values::Number(_) => (Physical::DOUBLE, None, Repetition::OPTIONAL),
        Values::Flag(_) => (Physical::BOOLEAN, None, Repetition::REQUIRED),
    };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_logical_type(logical).with_repetition(repetition).build()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::Field;
    use ::parquet::schema::types::ColumnDescPtr;
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    fn read(bytes: &[u8]) -> Frame {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let empty = |column: &ColumnDescPtr| match column.physical_type() {
            Physical::BYTE_ARRAY => Values::Text(Vec::new()),
            Physical::DOUBLE => Values::Number(Vec::new()),
            _ => Values::Flag(Vec::new()),
        };
        let column = |column: &ColumnDescPtr| Column { name: column.name().to_owned(), values: empty(column) };
        let mut frame = Frame { columns: schema.columns().iter().map(column).collect() };
        for row in reader.get_row_iter(None).unwrap() {
            for (column, (_, field)) in frame.columns.iter_mut().zip(row.unwrap().get_column_iter()) {
                match (&mut column.values, field) {
                    (Values::Text(values), Field::Str(text)) => values.push(text.clone()),
                    (Values::Number(values), Field::Double(number)) => values.push(Some(*number)),
                    (Values::Number(values), Field::Null) => values.push(None),
                    (Values::Flag(values), Field::Bool(flag)) => values.push(*flag),
                    (_, field) => panic!("{field:?} in {}", column.name),
                }
            }
        }
        frame
    }

    proptest! {
        /// What is written is what is read, with its types.
        #[test]
        fn parquet_is_read_back_equal(content in sample::contents()) {
            let frame = Frame::of(&content);
            prop_assume!(!frame.columns.is_empty());
            prop_assert_eq!(read(&parquet(&frame, &[("title", "a title")]).unwrap()), frame);
        }
    }
}
