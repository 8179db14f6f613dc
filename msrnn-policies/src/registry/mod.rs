//! The policies that can be named: help, `explain`, completions and the README's table come from here.
//!
//! A [`Registry`] is a value. [`Registry::default`] holds the built-in policies; [`Registry::with`] adds one:
//!
//! ```
//! use msrnn_core::policy::{Layer, Plan, Policy};
//! use msrnn_core::score::value_norm;
//! use msrnn_policies::registry::{Entry, Registry};
//!
//! #[derive(Debug)]
//! struct ShortestValue;
//!
//! impl Policy for ShortestValue {
//!     fn name(&self) -> String {
//!         "shortest-value".into()
//!     }
//!
//!     fn plan(&self, layer: &Layer) -> Plan {
//!         Plan::by_score(layer, value_norm())
//!     }
//! }
//!
//! let registry = Registry::default().with(Entry { idea: "What is short adds little.", ..Entry::new("shortest-value", ShortestValue) });
//! let spec = registry.spec("protect(shortest-value, newest=4)@512")?;
//! assert_eq!(spec.name(), "protect(shortest-value, newest=4)");
//! # Ok::<(), msrnn_policies::SpecError>(())
//! ```
//!
//! Where a text is all there is, as on a command line or in a manifest, it is read with the registry of the
//! process: the one that was [installed](Registry::install), or the built-in policies if none was. The functions of
//! this module speak of that one.

mod describe;
mod entry;
mod table;

use std::sync::{Arc, OnceLock};

use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_core::policy::Policy;

pub use entry::{Description, Entry, Make};

use crate::error::SpecError;
use crate::spec::PolicySpec;
use crate::text;

static INSTALLED: OnceLock<Registry> = OnceLock::new();

/// Policies by name, in the order in which they are listed.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Default for Registry {
    /// The built-in policies.
    fn default() -> Self {
        let files = [
            crate::window::entries,
            crate::h2o::entries,
            crate::tova::entries,
            crate::random::entries,
            crate::field::entries,
        ];
        Self { entries: files.iter().flat_map(|entries| entries()).collect() }
    }
}

impl Registry {
    /// One more policy. It takes the place of one that has its name.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        match self.entries.iter_mut().find(|known| known.name == entry.name) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// Makes this the registry of the process, with which every text is read. Once, before anything else.
    ///
    /// # Errors
    ///
    /// When an entry cannot be written in a spec, or policies were read already.
    pub fn install(self) -> Result<(), SpecError> {
        self.check()?;
        INSTALLED.set(self).map_err(|_| SpecError::InstalledTooLate)
    }

    /// The registry of the process.
    pub fn current() -> &'static Self {
        INSTALLED.get_or_init(Self::default)
    }

    /// Whether all entries can be written.
    ///
    /// # Errors
    ///
    /// When a name means something else or is no name, or an example is not the name of what it makes.
    pub fn check(&self) -> Result<(), SpecError> {
        for entry in &self.entries {
            let wrong = |problem: String| Err(SpecError::Entry { name: entry.name.into(), problem });
            let base = entry.name.strip_suffix("+i").unwrap_or(entry.name);
            if !text::is_name(base) {
                return wrong("a name begins with a letter and goes on with letters, digits, _ and -; a number of protected first tokens is written +i".into());
            }
            if text::RESERVED.iter().any(|(name, _)| *name == base) {
                return wrong("the name means something already; choose another".into());
            }
            match self.policy(entry.example) {
                Err(error) => {
                    return wrong(format!("its example {:?} is not read: {}", entry.example, error.one_line()));
                }
                Ok(policy) if policy.name() != entry.example => {
                    let problem = format!(
                        "its example {:?} makes a policy named {:?}; let them be the same",
                        entry.example,
                        policy.name()
                    );
                    return wrong(problem);
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// All policies but `full`, which bounds nothing, and those that are made of others.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entry that is written so, letters included.
    pub(crate) fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entry of a policy's name, written with its letters or with numbers.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.named(name).or_else(|| text::entry_of(self, name.trim()))
    }

    /// Reads a spec.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn spec(&self, text: &str) -> Result<PolicySpec, SpecError> {
        PolicySpec::read(self, text)
    }

    /// The policy of a text without budget, such as `window+4` or `every(128, tova)`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has a budget or is `full`.
    pub fn policy(&self, text: &str) -> Result<Arc<dyn Policy>, SpecError> {
        let spec = self.spec(text)?;
        match (spec.policy(), spec.budget()) {
            (Some(policy), None) => Ok(policy),
            (Some(policy), Some(budget)) => {
                Err(SpecError::BudgetHere { policy: policy.name(), budget: budget.to_string() })
            }
            (None, _) => Err(SpecError::FullHere),
        }
    }

    /// A policy with its number of states, for tests and examples.
    ///
    /// # Errors
    ///
    /// When the text cannot be read, or the policy needs more states.
    pub fn compression(&self, text: &str, states: usize) -> Result<Compression, SpecError> {
        crate::spec::bounded(self.policy(text)?, states)
    }

    /// Everything about a policy, as text: of an entry what it says about itself, and of every other what follows
    /// from its plan.
    ///
    /// # Errors
    ///
    /// When there is no such policy.
    pub fn explain(&self, text: &str) -> Result<String, SpecError> {
        if let Some(entry) = self.entry(text) {
            return Ok(entry.explain());
        }
        let spec = self.spec(text)?;
        // What no run takes is not told of as if one did.
        if let (Some(policy), Some(Budget::States(states))) = (spec.policy(), spec.budget()) {
            crate::spec::bounded(policy, states)?;
        }
        if let (Some(entry), Some(budget)) = (self.entry(text::without_budget(text)), spec.budget()) {
            return Ok(entry.explain() + &describe::budget(budget));
        }
        Ok(match spec.policy() {
            None => describe::FULL.into(),
            Some(policy) => describe::explain(policy.as_ref(), spec.budget()),
        })
    }

    /// All policies, as an aligned table.
    pub fn table(&self) -> String {
        table::aligned(self)
    }

    /// All policies, as a Markdown table.
    pub fn markdown(&self) -> String {
        table::markdown(self)
    }
}

/// [`Registry::entries`] of the process.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    Registry::current().entries()
}

/// [`Registry::policy`] of the process.
///
/// # Errors
///
/// As there.
pub fn policy(text: &str) -> Result<Arc<dyn Policy>, SpecError> {
    Registry::current().policy(text)
}

/// [`Registry::entry`] of the process.
pub fn entry(name: &str) -> Option<&'static Entry> {
    Registry::current().entry(name)
}

/// [`Registry::compression`] of the process.
///
/// # Errors
///
/// As there.
pub fn compression(text: &str, states: usize) -> Result<Compression, SpecError> {
    Registry::current().compression(text, states)
}

/// [`Registry::explain`] of the process.
///
/// # Errors
///
/// As there.
pub fn explain(text: &str) -> Result<String, SpecError> {
    Registry::current().explain(text)
}

/// [`Registry::table`] of the process.
pub fn table() -> String {
    Registry::current().table()
}

/// [`Registry::markdown`] of the process.
pub fn markdown() -> String {
    Registry::current().markdown()
}
