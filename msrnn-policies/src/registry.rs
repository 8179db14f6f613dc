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
        text
    }
}

/// What `explain full` says.
pub fn explain_full() -> String {
    format!(
        "{:<13} full\n{:<13} The vanilla transformer: every row stays, g(t) = t.\n{:<13} Omit nothing. Takes no number of states.\n{:<13} Vaswani et al. 2017, arXiv 1706.03762; as an unbounded multi-state RNN in Oren et al. 2024, arXiv 2401.06104, section 3.1\n",
        "name", "idea", "rule", "citation"
    )
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
