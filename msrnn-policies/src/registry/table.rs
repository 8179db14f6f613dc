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
    // What holds rows in fewer bits is made of any policy, or of none.
    let packed = ["int8(p), int4(p), int2(p)", "as p", "as p", "as p", "As p, or full, with rows in 8, 4 or 2 bits."];
    let kivi = ["kivi", "nothing", "-", "0", "A state that grows, its older rows in 2 or 4 bits."];
    let held = [packed, kivi].map(|row| row.map(String::from));
    std::iter::once(full).chain(registry.entries().map(policy)).chain(held).collect()
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
