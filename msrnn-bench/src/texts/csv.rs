//! CSV: a text per row, in the column that the head names so.

use super::File;
use super::json::missing;
use super::rows::{More, Rows};
use crate::error::BenchError;
use crate::input::read_text;

/// The texts of a file, named by file and row, from 1, the head not counted.
///
/// # Errors
///
/// When the file cannot be read, has no such column, or a row has another number of cells than the head.
pub(super) fn read(file: &File<'_>, rows: &mut Rows<'_>) -> Result<(), BenchError> {
    let content = read_text(file.path)?;
    let damaged = |e: csv::Error| file.wrong(format!("{e}; expected comma-separated rows below a head, quoted by \""));
    let mut reader = csv::Reader::from_reader(content.as_bytes());
    let head = reader.headers().map_err(damaged)?;
    let mut columns = head.iter().enumerate().filter(|(_, name)| *name == file.field).map(|(column, _)| column);
    let column = columns.next().ok_or_else(|| file.wrong(missing(file.field, head.iter())))?;
    if columns.next().is_some() {
        return Err(file.wrong(format!("several columns are called {:?}; rename all but one", file.field)));
    }
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(damaged)?;
        let more = rows.push(|| format!("{}:{}", file.name, index + 1), Some(record[column].to_owned()));
        if more.map_err(|what| file.wrong(what))? == More::Enough {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::texts::tests::{of, pairs};

    #[test]
    fn a_row_is_a_text_with_its_line_breaks_and_quotes() {
        let found = of("t.csv", "\u{feff}text,id\r\none,1\r\n\"two, \"\"so\"\"\nlines\",2\r\n,3\r\nfour,4\r\n");
        assert_eq!(pairs(&found), [("t.csv:1", "one"), ("t.csv:2", "two, \"so\"\nlines"), ("t.csv:4", "four")]);
        assert_eq!(found.unwrap().skipped.empty, 1);
    }

    #[test]
    fn of_columns_with_the_same_name_none_is_taken_for_the_text() {
        let error = of("t.csv", "text,id,text\na,1,b\n").unwrap_err().to_string();
        assert!(error.contains("several columns are called \"text\""), "{error}");
        assert_eq!(pairs(&of("t.csv", "id,text,id\n1,a,2\n")), [("t.csv:1", "a")]);
    }

    #[test]
    fn a_column_that_is_not_there_and_ragged_rows_are_refused() {
        for (content, words) in
            [("body;id\na;1\n", ["‘field’", "body;id"]), ("text,id\na,1\nb\n", ["line: 3", "2 fields"])]
        {
            let error = of("t.csv", content).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)) && error.contains("t.csv"), "{error}");
        }
    }
}
