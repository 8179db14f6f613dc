//! Whether figures are what they should be. They may come from a file that somebody edited.

use std::collections::BTreeSet;

use crate::error::BenchError;
use crate::figure::{Cell, Content, Figure};

/// Checks figures that are shown together: names that can be file names and are unique, cells and
/// values as many as columns, finite numbers.
///
/// # Errors
///
/// Names the first figure that is not as it should be, and how.
pub(crate) fn check<'a>(figures: impl IntoIterator<Item = &'a Figure>) -> Result<(), BenchError> {
    let mut seen = BTreeSet::new();
    for figure in figures {
        let wrong = |what: &str| Err(BenchError::Input(format!("figure {:?}: {what}", figure.id)));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if figure.id.is_empty() || figure.id.len() > 100 || !figure.id.bytes().all(plain) {
            return wrong("give it an id of 1 to 100 lower-case letters, digits and hyphens");
        }
        if figure.id.starts_with("page-") {
            return wrong("page-… names parts of the report; give it another id");
        }
        if !seen.insert(&figure.id) {
            return wrong("two figures have this id; give each its own");
        }
        if !finite(&figure.content) {
            return wrong("a number is not finite; leave such values out or say them in words");
        }
        match &figure.content {
            Content::Table { columns, rows } => {
                if rows.iter().any(|row| row.len() != columns.len()) {
                    return wrong("every row needs as many cells as there are columns");
                }
            }
            Content::Lines { .. } | Content::Passages { .. } => {}
            Content::Bars { groups, series, .. } => {
                let fits = |length: usize| length == groups.len();
                if !series.iter().all(|s| fits(s.values.len()) && (s.errors.is_empty() || fits(s.errors.len()))) {
                    return wrong("every series needs as many values as there are groups, and as many errors or none");
                }
            }
            Content::HeatMap { columns, rows, panels, .. } => {
                let fits = |values: &Vec<Vec<Option<f64>>>| {
                    values.len() == rows.len() && values.iter().all(|row| row.len() == columns.len())
                };
                if !panels.iter().all(|panel| fits(&panel.values)) {
                    return wrong("every panel needs as many values as there are rows and columns");
                }
            }
        }
    }
    Ok(())
}

fn finite(content: &Content) -> bool {
    let all = |values: &[Option<f64>]| values.iter().flatten().all(|value| value.is_finite());
    match content {
        Content::Table { rows, .. } => rows.iter().flatten().all(|cell| match cell {
            Cell::Number { value, error, .. } => value.is_finite() && error.is_none_or(f64::is_finite),
            Cell::Text(_) => true,
        }),
        Content::Lines { lines, .. } => lines
            .iter()
            .flat_map(|line| &line.points)
            .all(|point| point.x.is_finite() && point.y.is_finite() && point.error.is_none_or(f64::is_finite)),
        Content::Bars { series, .. } => series.iter().all(|series| all(&series.values) && all(&series.errors)),
        Content::HeatMap { columns, rows, panels, .. } => {
            columns.iter().chain(rows).all(|value| value.is_finite())
                && panels.iter().flat_map(|panel| &panel.values).all(|row| all(row))
        }
        Content::Passages { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;
    use crate::figure::{Axis, Line, Panel, Point, Series};

    fn refusal(id: &str, content: Content) -> String {
        let figure = Figure { id: id.to_owned(), title: String::new(), caption: String::new(), content };
        check([&figure]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = |cells| Content::Table { columns: vec!["a".to_owned()], rows: vec![vec![Cell::empty(); cells]] };
        for id in ["", "../up", "A", "a b", &"a".repeat(101)] {
            assert!(refusal(id, table(1)).contains("hyphens"), "{id:?}");
        }
        assert!(refusal("a", table(2)).contains("cells"));
        assert!(refusal("page-notes", table(1)).contains("another"));
        let points = vec![Point { x: 1.0, y: f64::NAN, error: None }];
        let lines = vec![Line { name: String::new(), reference: false, points }];
        let axis = Axis::linear("");
        let lines = Content::Lines { x: axis.clone(), y: axis.clone(), lines };
        assert!(refusal("a", lines).contains("finite"));
        let series = vec![Series { name: String::new(), values: Vec::new(), errors: Vec::new() }];
        let bars = Content::Bars { groups: vec![String::new()], y: axis.clone(), series };
        assert!(refusal("a", bars).contains("groups"));
        let panels = vec![Panel { name: String::new(), values: vec![vec![None; 2]] }];
        let map = Content::HeatMap {
            panel: String::new(),
            x: axis.clone(),
            columns: vec![0.0],
            y: axis,
            rows: vec![0.0],
            value: String::new(),
            panels,
        };
        assert!(refusal("a", map).contains("rows and columns"));
        let figure = Figure { id: "a".to_owned(), title: String::new(), caption: String::new(), content: table(1) };
        assert!(check([&figure, &figure]).unwrap_err().to_string().contains("own"));
    }

    proptest! {
        /// The figures of the property tests are as they should be.
        #[test]
        fn the_samples_pass(figure in sample::figures()) {
            prop_assert!(check([&figure]).is_ok());
        }
    }
}
