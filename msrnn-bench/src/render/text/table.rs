//! Tables as aligned columns.

use std::fmt::Write;

use crate::figure::Cell;
use crate::render::{decimal, printable};

/// Before the best number of a column.
const BEST: &str = "*";

pub(super) fn draw(columns: &[String], rows: &[Vec<Cell>]) -> String {
    let head = columns.iter().map(|head| printable(head)).collect();
    let cell = |cell: &Cell| match cell {
        Cell::Number { value, error, decimals, best } => {
            let mark = if *best { BEST } else { "" };
            mark.to_owned()
                + &decimal(*value, *decimals)
                + &error.map_or_else(String::new, |e| format!(" ±{}", decimal(e, *decimals)))
        }
        Cell::Text(text) => printable(text),
    };
    let rows = rows.iter().map(|row| row.iter().map(cell).collect());
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Columns padded to their widest cell; the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let _ = if column == 0 { write!(text, "{cell}{pad}") } else { write!(text, "  {pad}{cell}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let columns = ["policy", "perplexity"].map(str::to_owned);
        let rows = [
            vec![Cell::text("full"), Cell::number(4.25, Some(0.5))],
            vec![Cell::text("tova@64"), Cell::number(4.5, Some(0.5)).marked()],
            vec![Cell::text("window@64"), Cell::number(f64::NAN, None)],
        ];
        let expected = "policy        perplexity\nfull        4.250 ±0.500\ntova@64    *4.500 ±0.500\n\
                        window@64            NaN\n";
        assert_eq!(draw(&columns, &rows), expected);
    }
}
