//! The data of a figure as CSV: a head, then one line per row; empty where there is no value.

use super::frame::{Frame, Values};
use crate::error::BenchError;

/// CSV as in RFC 4180, in UTF-8. Numbers have all their digits.
///
/// # Errors
///
/// Never in practice: it writes to memory.
pub(crate) fn csv(frame: &Frame) -> Result<Vec<u8>, BenchError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let failed = |e: &dyn std::fmt::Display| BenchError::Input(format!("the data cannot be written as CSV: {e}"));
    if frame.columns.is_empty() {
        return Ok(Vec::new());
    }
    writer.write_record(frame.columns.iter().map(|column| &column.name)).map_err(|e| failed(&e))?;
    for row in 0..frame.rows() {
        let field = |values: &Values| match values {
            Values::Text(values) => values[row].clone(),
            Values::Number(values) => values[row].map_or_else(String::new, |value| value.to_string()),
            Values::Flag(values) => values[row].to_string(),
        };
        writer.write_record(frame.columns.iter().map(|column| field(&column.values))).map_err(|e| failed(&e))?;
    }
    writer.into_inner().map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    /// Reads CSV back, with the types of a frame.
    fn read(bytes: &[u8], like: &Frame) -> Frame {
        let mut reader = ::csv::Reader::from_reader(bytes);
        let heads: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let records: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let column = |(index, name): (usize, String)| {
            let fields = records.iter().map(|record| record.get(index).unwrap());
            let values = match like.columns[index].values {
                Values::Text(_) => Values::Text(fields.map(str::to_owned).collect()),
                Values::Number(_) => {
                    Values::Number(fields.map(|field| (!field.is_empty()).then(|| field.parse().unwrap())).collect())
                }
                Values::Flag(_) => Values::Flag(fields.map(|field| field.parse().unwrap()).collect()),
            };
            super::super::frame::Column { name, values }
        };
        Frame { columns: heads.into_iter().enumerate().map(column).collect() }
    }

    proptest! {
        /// What is written is what is read, to the last digit and whatever the text.
        #[test]
        fn csv_is_read_back_equal(content in sample::contents()) {
            let frame = Frame::of(&content);
            prop_assume!(!frame.columns.is_empty());
            prop_assert_eq!(read(&csv(&frame).unwrap(), &frame), frame);
        }
    }
}
