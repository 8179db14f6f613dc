//! All policies, as tables.

use std::fmt::Write;

use super::{Entry, Registry};

const HEADER: [&str; 5] = ["policy", "sees", "decides per", "bytes per state", "idea"];

fn rows(registry: &Registry) -> Vec<[String; 5]> {
    let full = ["full", "nothing", "-", "0", "The vanilla transformer: a state that grows."].map(String::from);
    let policy = |entry: &Entry| {
        let bytes = entry.bytes_per_state().to_string();
        [entry.name.into(), entry.sees(), entry.decides().into(), bytes, entry.idea.into()]
    };
    std::iter::once(full).chain(registry.entries().map(policy)).collect()
}

pub(super) fn aligned(registry: &Registry) -> String {
    let mut rows = rows(registry);
    rows.insert(0, HEADER.map(String::from));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

pub(super) fn markdown(registry: &Registry) -> String {
    let mut text = format!("| {} |\n|---|---|---|---|---|\n", HEADER.join(" | "));
    for row in rows(registry) {
        let _ = writeln!(text, "| `{}` | {} |", row[0], row[1..].join(" | "));
    }
    text
}
