//! The one list of policies: command help, `explain` and the README's table come from it.
//!
//! A new policy is a file with a struct, its [`Policy`] and its entries, and one line in
//! [`entries`].

use std::fmt::Write;
use std::sync::Arc;

use msrnn_core::policy::{Compression, Granularity, Policy};

use crate::error::SpecError;

/// What is said about a policy beside what its [`Policy`] says itself.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name as it is written in a spec, with letters for parameters: `window+i`.
    pub name: &'static str,
    /// A name that parses: `window+4`.
    pub example: &'static str,
    /// Why it might work, in a sentence.
    pub idea: &'static str,
    /// What it does, exactly.
    pub rule: &'static str,
    /// Work per step and layer beside attention.
    pub cost: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// Where this implementation differs from that source.
    pub differences: &'static str,
    /// The policy of a name, none when the name is not of this entry.
    pub parse: Parse,
}

/// Parses a policy's name; none when the name belongs to another entry.
pub type Parse = fn(&str) -> Option<Result<Arc<dyn Policy>, SpecError>>;

/// All policies but `full`, which bounds nothing.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    [crate::window::ENTRIES, crate::h2o::ENTRIES, crate::tova::ENTRIES, crate::random::ENTRIES].into_iter().flatten()
}

/// The policy of a name such as `window+4`.
///
/// # Errors
///
/// When no entry knows the name, or a parameter is not a number.
pub fn policy(name: &str) -> Result<Arc<dyn Policy>, SpecError> {
    entries().find_map(|entry| (entry.parse)(name)).unwrap_or_else(|| Err(SpecError::unknown(name)))
}

/// The entry of a policy's name, written with its letters or with numbers.
pub fn entry(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name || (entry.parse)(name).is_some())
}

/// What a model's sliding window means under every policy.
const OWN_WINDOW: &str = "In a model with a sliding window of W tokens, a row that no later query sees, because it is \
     W − 1 tokens old, goes before all others under every policy, protected or not (k ≥ W − 1 states therefore give the \
     full state's results, and sinks last W tokens); the TOVA authors' code leaves such rows to their \
     scores. Where positions are in-state or gap-compressed, the policy alone decides.";

impl Entry {
    /// The policy of [`Entry::example`].
    pub fn policy(&self) -> Arc<dyn Policy> {
        (self.parse)(self.example).and_then(Result::ok).expect("an entry's example parses")
    }

    /// What the policy is shown, in words.
    pub fn sees(&self) -> String {
        let sees = self.policy().sees();
        let parts = [(sees.weights, "the current query's weights"), (sees.keys, "keys"), (sees.values, "values")];
        let seen: Vec<&str> = parts.into_iter().filter_map(|(sees, what)| sees.then_some(what)).collect();
        match seen.is_empty() {
            true => "positions only".into(),
            false => format!("positions, {}", seen.join(", ")),
        }
    }

    /// Who decides, in words.
    pub fn decides(&self) -> &'static str {
        match self.policy().granularity() {
            Granularity::Layer => "layer",
            Granularity::KvHead => "KV head",
        }
    }

    /// Bytes that the policy remembers per state and decision, beside key, value and position.
    pub fn bytes_per_state(&self) -> usize {
        4 * self.policy().memory()
    }

    /// Everything about the policy, as text.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        let mut line = |title: &str, value: &str| {
            let _ = writeln!(text, "{title:<13} {value}");
        };
        line("name", self.name);
        line("idea", self.idea);
        line("rule", self.rule);
        line("sees", &self.sees());
        line("decides", &format!("once per {}", self.decides()));
        line("cost per step", self.cost);
        line("memory", &format!("{} bytes per state and decision", self.bytes_per_state()));
        line("needs", &format!("{} needs k ≥ {}", self.example, self.policy().min_states()));
        line("citation", self.citation);
        line("differences", self.differences);
        line("own window", OWN_WINDOW);
        text
    }
}

/// Everything about the policy of a name, as text.
///
/// # Errors
///
/// When there is no such policy.
pub fn explain(name: &str) -> Result<String, SpecError> {
    match name {
        "full" => Ok(FULL.into()),
        _ => entry(name).map(Entry::explain).ok_or_else(|| SpecError::unknown(name)),
    }
}

const FULL: &str = "\
name          full
idea          The vanilla transformer: a state that grows, g(t) = t.
rule          Omit nothing. Takes no number of states.
citation      Oren et al. 2024, arXiv 2401.06104, section 3.1
";

const HEADER: [&str; 5] = ["policy", "sees", "decides per", "bytes per state", "idea"];

fn rows() -> Vec<[String; 5]> {
    let full = ["full", "nothing", "-", "0", "The vanilla transformer: a state that grows."].map(String::from);
    let policy = |entry: &Entry| {
        let bytes = entry.bytes_per_state().to_string();
        [entry.name.into(), entry.sees(), entry.decides().into(), bytes, entry.idea.into()]
    };
    std::iter::once(full).chain(entries().map(policy)).collect()
}

/// All policies, as an aligned table.
pub fn table() -> String {
    let mut rows = rows();
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

/// All policies, as a Markdown table.
pub fn markdown() -> String {
    let mut text = format!("| {} |\n|---|---|---|---|---|\n", HEADER.join(" | "));
    for row in rows() {
        let _ = writeln!(text, "| `{}` | {} |", row[0], row[1..].join(" | "));
    }
    text
}

/// The number behind `prefix`, when `text` starts with it.
pub(crate) fn number_after(text: &str, prefix: &str) -> Option<Result<usize, SpecError>> {
    let number = text.strip_prefix(prefix)?;
    Some(number.parse().map_err(|_| SpecError::Parameter { name: text.into(), text: number.into() }))
}

/// A compression of a policy by name, for tests and examples.
///
/// # Errors
///
/// When the name is unknown or needs more states.
pub fn compression(name: &str, states: usize) -> Result<Compression, SpecError> {
    Ok(Compression::bounded(policy(name)?, states)?)
}
