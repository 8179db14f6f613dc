//! The data of a figure as named columns, for CSV and parquet.
//!
//! Plots become long tables with one row per point, bar or cell, and fixed column names. A table
//! keeps its own columns, with one more beside each that has standard errors.

use crate::figure::{Cell, Content};

/// Columns of equal length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// In order; names are unique.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    /// Its head.
    pub name: String,
    /// One per row.
    pub values: Values,
}

/// Values of one type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Words.
    Text(Vec<String>),
    /// Numbers, none where there is no value.
    Number(Vec<Option<f64>>),
    /// Yes or no.
    Flag(Vec<bool>),
}

impl Values {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Number(values) => values.len(),
            Self::Flag(values) => values.len(),
        }
    }
}

impl Frame {
    /// The data of a figure:
    ///
    /// - lines: `line`, `reference`, `x`, `y`, `error`
    /// - bars: `group`, `series`, `value`, `error`
    /// - heat map: `panel`, `x`, `y`, `value`
    /// - passages: `passage`, `by`, `remark`, `text`
    /// - table: its own columns; `HEAD standard error` beside those with errors
    pub(crate) fn of(content: &Content) -> Self {
        match content {
            Content::Table { columns, rows } => table(columns, rows),
            Content::Lines { lines, .. } => {
                let points = || lines.iter().flat_map(|line| line.points.iter().map(move |point| (line, point)));
                Self::new([
                    ("line", Values::Text(points().map(|(line, _)| line.name.clone()).collect())),
                    ("reference", Values::Flag(points().map(|(line, _)| line.reference).collect())),
                    ("x", Values::Number(points().map(|(_, point)| Some(point.x)).collect())),
                    ("y", Values::Number(points().map(|(_, point)| Some(point.y)).collect())),
                    ("error", Values::Number(points().map(|(_, point)| point.error).collect())),
                ])
            }
            Content::Bars { groups, series, .. } => {
                let bars = || {
                    let bar = |index| series.iter().map(move |series| (index, series));
                    (0..groups.len()).flat_map(bar)
                };
                let error =
                    |(index, series): (usize, &crate::figure::Series)| series.errors.get(index).copied().flatten();
                Self::new([
                    ("group", Values::Text(bars().map(|(index, _)| groups[index].clone()).collect())),
                    ("series", Values::Text(bars().map(|(_, series)| series.name.clone()).collect())),
                    ("value", Values::Number(bars().map(|(index, series)| series.values[index]).collect())),
                    ("error", Values::Number(bars().map(error).collect())),
                ])
            }
            Content::HeatMap { columns, rows, panels, .. } => {
                let cells = || {
                    panels.iter().flat_map(move |panel| {
                        rows.iter().zip(&panel.values).flat_map(move |(&y, values)| {
                            columns.iter().zip(values).map(move |(&x, &value)| (panel, x, y, value))
                        })
                    })
                };
                Self::new([
                    ("panel", Values::Text(cells().map(|(panel, ..)| panel.name.clone()).collect())),
                    ("x", Values::Number(cells().map(|(_, x, ..)| Some(x)).collect())),
                    ("y", Values::Number(cells().map(|(_, _, y, _)| Some(y)).collect())),
                    ("value", Values::Number(cells().map(|(.., value)| value).collect())),
                ])
            }
            Content::Passages { passages } => {
                let texts =
                    || passages.iter().flat_map(|passage| passage.texts.iter().map(move |text| (passage, text)));
                Self::new([
                    ("passage", Values::Text(texts().map(|(passage, _)| passage.title.clone()).collect())),
                    ("by", Values::Text(texts().map(|(_, text)| text.by.clone()).collect())),
                    ("remark", Values::Text(texts().map(|(_, text)| text.remark.clone()).collect())),
                    ("text", Values::Text(texts().map(|(_, text)| text.text.clone()).collect())),
                ])
            }
        }
    }

    fn new<const N: usize>(columns: [(&str, Values); N]) -> Self {
        Self { columns: columns.map(|(name, values)| Column { name: name.to_owned(), values }).into() }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }
}

fn table(heads: &[String], rows: &[Vec<Cell>]) -> Frame {
    let mut columns: Vec<Column> = Vec::new();
    let mut add = |name: String, values: Values| {
        let taken = |name: &str| columns.iter().any(|column| column.name == name);
        let numbered = (2..).map(|n| format!("{name} {n}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name);
        columns.push(Column { name, values });
    };
    for (index, head) in heads.iter().enumerate() {
        let cells = || rows.iter().map(|row| &row[index]);
        let numeric = cells().all(|cell| number(cell).is_ok()) && cells().any(|cell| number(cell) != Ok(None));
        let values = match numeric {
            true => Values::Number(cells().map(|cell| number(cell).unwrap_or(None)).collect()),
            false => Values::Text(cells().map(words).collect()),
        };
        add(head.clone(), values);
        let error = |cell: &Cell| if let Cell::Number { error, .. } = cell { *error } else { None };
        if cells().any(|cell| error(cell).is_some()) {
            add(format!("{head} standard error"), Values::Number(cells().map(error).collect()));
        }
    }
    Frame { columns }
}

/// The number in a cell, none where it is empty, and an error where it holds words. Infinities and
/// NaN are words in a cell and numbers here.
fn number(cell: &Cell) -> Result<Option<f64>, ()> {
    match cell {
        Cell::Number { value, .. } => Ok(Some(*value)),
        Cell::Text(text) => match text.as_str() {
            "" => Ok(None),
            "inf" | "-inf" | "NaN" => Ok(text.parse().ok()),
            _ => Err(()),
        },
    }
}

fn words(cell: &Cell) -> String {
    match cell {
        Cell::Number { value, .. } => value.to_string(),
        Cell::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_columns_with_errors_beside_them() {
        let heads = ["policy", "ppl", "ppl", "what"].map(str::to_owned);
        let rows = [
            vec![Cell::text("full"), Cell::number(2.5, Some(0.25)), Cell::count(1), Cell::count(7)],
            vec![Cell::text("tova"), Cell::number(f64::INFINITY, None), Cell::empty(), Cell::text("none")],
        ];
        let frame = table(&heads, &rows);
        let names: Vec<&str> = frame.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["policy", "ppl", "ppl standard error", "ppl 2", "what"]);
        assert_eq!(frame.columns[1].values, Values::Number(vec![Some(2.5), Some(f64::INFINITY)]));
        assert_eq!(frame.columns[2].values, Values::Number(vec![Some(0.25), None]));
        assert_eq!(frame.columns[3].values, Values::Number(vec![Some(1.0), None]));
        assert_eq!(frame.columns[4].values, Values::Text(vec!["7".to_owned(), "none".to_owned()]));
    }
}
