//! What a report shows: tables and plots as data, drawn elsewhere for browser, file and terminal.
//!
//! All numbers are finite, since JSON knows no others.

use serde::{Deserialize, Serialize};

/// A table or plot with its title.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Names its files: lower-case letters, digits and hyphens.
    pub id: String,
    /// What is shown.
    pub title: String,
    /// How to read it, in a sentence or two; may be empty.
    pub caption: String,
    /// The data.
    pub content: Content,
}

/// The data of a figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Content {
    /// Rows of cells under column heads.
    Table {
        /// Heads, one per column.
        columns: Vec<String>,
        /// Every row has as many cells as there are columns.
        rows: Vec<Vec<Cell>>,
    },
    /// Lines over a numeric axis.
    Lines {
        /// Horizontal axis.
        x: Axis,
        /// Vertical axis.
        y: Axis,
        /// One per name.
        lines: Vec<Line>,
    },
    /// Groups of bars.
    Bars {
        /// One per group.
        groups: Vec<String>,
        /// Vertical axis.
        y: Axis,
        /// One per bar within a group.
        series: Vec<Series>,
    },
    /// Grids of values, one shown at a time.
    HeatMap {
        /// What tells the panels apart: `layer`, `policy`.
        panel: String,
        /// Horizontal axis.
        x: Axis,
        /// Coordinates of the columns, ascending.
        columns: Vec<f64>,
        /// Vertical axis.
        y: Axis,
        /// Coordinates of the rows, ascending.
        rows: Vec<f64>,
        /// What a value is, such as `share of heads that hold the position`.
        value: String,
        /// The grids.
        panels: Vec<Panel>,
    },
    /// Texts to be read beside each other.
    Passages {
        /// One per prompt or question.
        passages: Vec<Passage>,
    },
}

/// What several hands wrote on one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// The thing: a question, a seed.
    pub title: String,
    /// What was written.
    pub texts: Vec<Excerpt>,
}

/// A text and who wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excerpt {
    /// A policy with its bound, or `reference`.
    pub by: String,
    /// What is to be said about it, such as its score; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// The text, or its beginning.
    pub text: String,
}

/// Characters of a text that a page shows.
const SHOWN: usize = 1200;

impl Excerpt {
    /// A text, cut where it is long.
    pub fn new(by: impl Into<String>, remark: impl Into<String>, text: &str) -> Self {
        let text = text.trim();
        let text = match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} …", text[..end].trim_end()),
            None => text.to_owned(),
        };
        Self { by: by.into(), remark: remark.into(), text }
    }
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Name with unit.
    pub label: String,
    /// Logarithmic: all values are positive.
    pub log: bool,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number, with its standard error where it has one.
    Number {
        /// The value.
        value: f64,
        /// Its standard error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<f64>,
        /// Decimals to print.
        decimals: usize,
        /// The best of its column, as far as can be told.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        best: bool,
    },
    /// Words; empty where there is nothing to say.
    Text(String),
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// As in the legend.
    pub name: String,
    /// A reference rather than a result: drawn dashed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reference: bool,
    /// By ascending x.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// Standard error of `y`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// Bars of one colour, one per group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// As in the legend.
    pub name: String,
    /// One per group; none where there is no value.
    pub values: Vec<Option<f64>>,
    /// Standard errors, one per group, or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Option<f64>>,
}

/// One grid of a heat map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// `0`, `tova@64`.
    pub name: String,
    /// A row of values per row, one per column; none where there is no value.
    pub values: Vec<Vec<Option<f64>>>,
}

impl Cell {
    /// A number with so many decimals. JSON has no infinities and no NaN: these become words.
    pub fn rounded(value: f64, error: Option<f64>, decimals: usize) -> Self {
        match value.is_finite() {
            true => Self::Number { value, error: error.filter(|error| error.is_finite()), decimals, best: false },
            false => Self::Text(value.to_string()),
        }
    }

    /// A number with three decimals.
    pub fn number(value: f64, error: Option<f64>) -> Self {
        Self::rounded(value, error, 3)
    }

    /// A whole number.
    pub fn count(value: usize) -> Self {
        Self::rounded(value as f64, None, 0)
    }

    /// The same, marked as the best of its column.
    pub fn marked(self) -> Self {
        match self {
            Self::Number { value, error, decimals, .. } => Self::Number { value, error, decimals, best: true },
            words => words,
        }
    }

    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A cell with nothing to say.
    pub fn empty() -> Self {
        Self::Text(String::new())
    }
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true }
    }
}
