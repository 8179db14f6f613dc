//! Figures of every kind for property tests: any finite numbers, any text, also none.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::figure::{Axis, Cell, Content, Excerpt, Figure, Line, Panel, Passage, Point, Series};

/// Any finite number; ordinary ones, zero and whole numbers among them often.
pub(crate) fn number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO, -10.0..10.0, (-3i8..100).prop_map(f64::from)]
}

/// Any text, with what HTML, XML, CSV and terminals have trouble with among it often.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let trouble = [
        "",
        "a",
        "tova@64",
        "</script><script>alert(1)</script>",
        "<!--",
        "]]>",
        "&amp;",
        "\"'",
        "a,b\n\"c\"",
        "\u{2028}\u{2029}",
        "\u{0}\u{1b}[31m",
        "\u{fffe}",
        "\u{202e}",
        "é✓漢",
        "=1+1",
        "{{}}",
        "\\u003c",
    ];
    prop_oneof![prop::sample::select(trouble.to_vec()).prop_map(str::to_owned), any::<String>()]
}

fn axis() -> impl Strategy<Value = Axis> {
    (text(), any::<bool>()).prop_map(|(label, log)| Axis { label, log })
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        (number(), option::of(number()), 0usize..8, any::<bool>())
            .prop_map(|(value, error, decimals, best)| Cell::Number { value, error, decimals, best }),
        text().prop_map(Cell::Text),
    ]
}

fn table() -> impl Strategy<Value = Content> {
    vec(text(), 0..4).prop_flat_map(|columns| {
        let row = vec(cell(), columns.len());
        vec(row, 0..4).prop_map(move |rows| Content::Table { columns: columns.clone(), rows })
    })
}

fn lines() -> impl Strategy<Value = Content> {
    let point = (number(), number(), option::of(number())).prop_map(|(x, y, error)| Point { x, y, error });
    let line = (text(), any::<bool>(), vec(point, 0..5)).prop_map(|(name, reference, points)| Line {
        name,
        reference,
        points,
    });
    (axis(), axis(), vec(line, 0..4)).prop_map(|(x, y, lines)| Content::Lines { x, y, lines })
}

fn bars() -> impl Strategy<Value = Content> {
    (vec(text(), 0..4), axis()).prop_flat_map(|(groups, y)| {
        let n = groups.len();
        let errors = prop_oneof![Just(Vec::new()), vec(option::of(number()), n)];
        let series = (text(), vec(option::of(number()), n), errors).prop_map(|(name, values, errors)| Series {
            name,
            values,
            errors,
        });
        vec(series, 0..3).prop_map(move |series| Content::Bars { groups: groups.clone(), y: y.clone(), series })
    })
}

fn heat_map() -> impl Strategy<Value = Content> {
    (vec(number(), 0..5), vec(number(), 0..5)).prop_flat_map(|(columns, rows)| {
        let row = vec(option::of(number()), columns.len());
        let panel = (text(), vec(row, rows.len())).prop_map(|(name, values)| Panel { name, values });
        (text(), axis(), axis(), text(), vec(panel, 0..3)).prop_map(move |(panel, x, y, value, panels)| {
            Content::HeatMap { panel, x, columns: columns.clone(), y, rows: rows.clone(), value, panels }
        })
    })
}

fn passages() -> impl Strategy<Value = Content> {
    let written = (text(), text(), text()).prop_map(|(by, remark, text)| Excerpt { by, remark, text });
    let passage = (text(), vec(written, 0..3)).prop_map(|(title, texts)| Passage { title, texts });
    vec(passage, 0..3).prop_map(|passages| Content::Passages { passages })
}

/// Data of every kind.
pub(crate) fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![table(), lines(), bars(), heat_map(), passages()]
}

/// A figure of every kind.
pub(crate) fn figures() -> impl Strategy<Value = Figure> {
    (text(), text(), contents()).prop_map(|(title, caption, content)| Figure {
        id: "a-figure".to_owned(),
        title,
        caption,
        content,
    })
}
