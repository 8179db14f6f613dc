//! Omissions as a parquet table, one row each: `trace.parquet`, which pandas and polars open.
//!
//! ```text
//! model     string   as in --model
//! policy    string   without its bound
//! states    int32    k
//! context   int32    from 0
//! step      int32    position of the token at whose step it went, from 0
//! layer     int32    from 0
//! head      int32    KV head that omitted it, null when the whole layer did
//! position  int32    position of the row that went
//! kept      int32    steps in which it took part, the one that omitted it included
//! mass      double   weight that the step's query gave it, null where it was not measured
//! ```

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::error::BenchError;
use crate::output::OutputFile;

const SCHEMA: &str = "message trace {
    REQUIRED BYTE_ARRAY model (UTF8);
    REQUIRED BYTE_ARRAY policy (UTF8);
    REQUIRED INT32 states;
    REQUIRED INT32 context;
    REQUIRED INT32 step;
    REQUIRED INT32 layer;
    OPTIONAL INT32 head;
    REQUIRED INT32 position;
    REQUIRED INT32 kept;
    OPTIONAL DOUBLE mass;
}";

/// One omission of a context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Step that omitted it.
    pub step: usize,
    /// From 0.
    pub layer: usize,
    /// KV head, none when the layer decides as a whole.
    pub head: Option<usize>,
    /// Position of the row that went.
    pub position: usize,
    /// Its weight, where measured.
    pub mass: Option<f64>,
}

/// A table that is being written, context by context.
pub(crate) struct TraceTable {
    writer: SerializedFileWriter<Sink>,
    path: std::path::PathBuf,
}

impl TraceTable {
    /// An empty table under `NAME.partial`.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub(crate) fn create(path: &Path) -> Result<Self, BenchError> {
        let sink = Sink(OutputFile::create(path)?);
        let writer = || {
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_created_by(concat!("msrnn ", env!("CARGO_PKG_VERSION")).to_owned())
                .build();
            SerializedFileWriter::new(sink, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))
        };
        Ok(Self { writer: writer().map_err(|e| failed(path, e))?, path: path.into() })
    }

    /// Adds the omissions of a context.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(crate) fn add(
        &mut self,
        model: &str,
        policy: &str,
        states: usize,
        context: usize,
        rows: &[Row],
    ) -> Result<(), BenchError> {
        if rows.is_empty() {
            return Ok(());
        }
        let group = self.writer.next_row_group().and_then(|group| write(group, model, policy, states, context, rows));
        group.map_err(|e| failed(&self.path, e))
    }

    /// Ends the table and gives the file its name.
    ///
    /// # Errors
    ///
    /// When the rest cannot be written.
    pub(crate) fn finish(self) -> Result<(), BenchError> {
        let Self { writer, path } = self;
        writer.into_inner().map_err(|e| failed(&path, e))?.0.finish()
    }
}

fn write(
    mut group: SerializedRowGroupWriter<'_, Sink>,
    model: &str,
    policy: &str,
    states: usize,
    context: usize,
    rows: &[Row],
) -> Result<(), ParquetError> {
    let text = |text: &str| vec![ByteArray::from(text); rows.len()];
    let each = |value: &dyn Fn(&Row) -> usize| rows.iter().map(|row| value(row) as i32).collect::<Vec<i32>>();
    column::<ByteArrayType>(&mut group, &text(model), None)?;
    column::<ByteArrayType>(&mut group, &text(policy), None)?;
    column::<Int32Type>(&mut group, &each(&|_| states), None)?;
    column::<Int32Type>(&mut group, &each(&|_| context), None)?;
    column::<Int32Type>(&mut group, &each(&|row| row.step), None)?;
    column::<Int32Type>(&mut group, &each(&|row| row.layer), None)?;
    let heads: Vec<i32> = rows.iter().filter_map(|row| row.head).map(|head| head as i32).collect();
    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.head.is_some())).collect();
    column::<Int32Type>(&mut group, &heads, Some(&levels))?;
    column::<Int32Type>(&mut group, &each(&|row| row.position), None)?;
    column::<Int32Type>(&mut group, &each(&|row| row.step - row.position + 1), None)?;
    let masses: Vec<f64> = rows.iter().filter_map(|row| row.mass).collect();
    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.mass.is_some())).collect();
    column::<DoubleType>(&mut group, &masses, Some(&levels))?;
    group.close()?;
    Ok(())
}

/// Writes the next column. `levels`: 1 where there is a value, of a column that may be null.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Sink>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut out = group.next_column()?.ok_or_else(|| ParquetError::General("one column too many".into()))?;
    out.typed::<T>().write_batch(values, levels, None)?;
    out.close()
}

fn failed(path: &Path, e: ParquetError) -> BenchError {
    BenchError::Write { path: path.into(), source: std::io::Error::other(e) }
}

/// An output file as parquet wants it.
struct Sink(OutputFile);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.put(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        let mass = proptest::option::of(0.0..1.0);
        (0usize..500, 0usize..500, 0usize..40, proptest::option::of(0usize..8), mass).prop_map(
            |(position, later, layer, head, mass)| Row { step: position + later, layer, head, position, mass },
        )
    }

    proptest! {
        /// What is written is what is read.
        #[test]
        fn a_table_is_read_back_equal(contexts in proptest::collection::vec(proptest::collection::vec(row(), 0..20), 0..4)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("trace.parquet");
            let mut table = TraceTable::create(&path).unwrap();
            for (context, rows) in contexts.iter().enumerate() {
                table.add("a model", "tova", 7, context, rows).unwrap();
            }
            table.finish().unwrap();
            let reader = SerializedFileReader::try_from(path.as_path()).unwrap();
            let found: Vec<Vec<Field>> = reader
                .get_row_iter(None)
                .unwrap()
                .map(|row| row.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect())
                .collect();
            let mut expected = Vec::new();
            for (context, rows) in contexts.iter().enumerate() {
                expected.extend(rows.iter().map(|row| {
                    vec![
                        Field::Str("a model".into()),
                        Field::Str("tova".into()),
                        Field::Int(7),
                        Field::Int(context as i32),
                        Field::Int(row.step as i32),
                        Field::Int(row.layer as i32),
                        row.head.map_or(Field::Null, |head| Field::Int(head as i32)),
                        Field::Int(row.position as i32),
                        Field::Int((row.step - row.position) as i32 + 1),
                        row.mass.map_or(Field::Null, Field::Double),
                    ]
                }));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
