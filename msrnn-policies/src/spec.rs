//! A policy and its bound as one word: `tova@512`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use msrnn_core::budget::Budget;
use msrnn_core::policy::{Compression, Policy};
use serde::{Deserialize, Serialize};

use crate::error::SpecError;
use crate::registry;

/// `full`, or `NAME@BUDGET` such as `window+4@512`, `tova@25%` or `h2o@64MiB`.
///
/// A name alone (`tova`) is a spec whose budget is still to be given.
///
/// ```
/// use msrnn_policies::PolicySpec;
///
/// let spec: PolicySpec = "window+4@512".parse()?;
/// assert_eq!(spec.to_string(), "window+4@512");
/// assert_eq!(spec.compression(4096, |_| 1)?.states(), Some(512));
/// assert!("window+4@4".parse::<PolicySpec>()?.compression(4096, |_| 1).is_err());
/// # Ok::<(), msrnn_policies::SpecError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PolicySpec {
    policy: Option<Arc<dyn Policy>>,
    budget: Option<Budget>,
}

impl PolicySpec {
    /// The unbounded state.
    pub const fn full() -> Self {
        Self { policy: None, budget: None }
    }

    /// Whether nothing is ever omitted.
    pub fn is_full(&self) -> bool {
        self.policy.is_none()
    }

    /// Name and parameters, without the budget.
    pub fn name(&self) -> String {
        self.policy.as_ref().map_or_else(|| "full".into(), |policy| policy.name())
    }

    /// The policy; none for `full`.
    pub fn policy(&self) -> Option<Arc<dyn Policy>> {
        self.policy.clone()
    }

    /// The budget as written, if any.
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// The same policy under another budget; `full` stays as it is.
    #[must_use]
    pub fn with_budget(&self, budget: Budget) -> Self {
        match self.policy {
            Some(_) => Self { policy: self.policy.clone(), budget: Some(budget) },
            None => self.clone(),
        }
    }

    /// The same spec with a seed for what draws at random and names none of its own. Seed 0 is the one that is
    /// drawn with where none is named, and leaves the name as it is.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        match (self.name().as_str(), seed) {
            ("random", 1..) => Self { policy: Some(Arc::new(crate::Random { seed: Some(seed) })), ..self },
            _ => self,
        }
    }

    /// The policy with its budget resolved to a number of states.
    ///
    /// `bytes_per_state`: of one row in all layers, given the policy.
    ///
    /// # Errors
    ///
    /// When a budget is needed and absent, comes to nothing, or is below what the policy needs.
    pub fn compression(
        &self,
        context: usize,
        bytes_per_state: impl Fn(&dyn Policy) -> usize,
    ) -> Result<Compression, SpecError> {
        let Some(policy) = &self.policy else { return Ok(Compression::Unbounded) };
        let budget = self.budget.ok_or_else(|| SpecError::NoBudget(policy.name()))?;
        let states = budget.resolve(context, bytes_per_state(policy.as_ref()))?;
        Ok(Compression::bounded(policy.clone(), states)?)
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match self.budget {
            Some(budget) => write!(f, "@{budget}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for PolicySpec {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.budget == other.budget
    }
}

impl FromStr for PolicySpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, budget) = match text.split_once('@') {
            Some((name, budget)) => (name, Some(budget)),
            None => (text, None),
        };
        match (name, budget) {
            ("full", None) => Ok(Self::full()),
            ("full", Some(budget)) => Err(SpecError::FullBounded(budget.into())),
            _ => {
                let policy = registry::policy(name)?;
                Ok(Self { policy: Some(policy), budget: budget.map(str::parse).transpose()? })
            }
        }
    }
}

impl From<PolicySpec> for String {
    fn from(spec: PolicySpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for PolicySpec {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_policy_round_trips_through_text_json_and_toml() {
        for entry in registry::entries() {
            for budget in ["", "@512", "@25%", "@64MiB"] {
                let text = format!("{}{budget}", entry.example);
                let spec: PolicySpec = text.parse().unwrap();
                assert_eq!(spec.to_string(), text);
                let json = serde_json::to_string(&spec).unwrap();
                assert_eq!(serde_json::from_str::<PolicySpec>(&json).unwrap(), spec);
                #[derive(Serialize, Deserialize)]
                struct Table {
                    policy: PolicySpec,
                }
                let table = toml::to_string(&Table { policy: spec.clone() }).unwrap();
                assert_eq!(toml::from_str::<Table>(&table).unwrap().policy, spec);
            }
        }
    }

    #[test]
    fn a_seed_that_is_named_stays_whatever_is_given_beside_it() {
        let seeded = |text: &str, seed| text.parse::<PolicySpec>().unwrap().seeded(seed).to_string();
        for (text, seed, expected) in [
            ("random:0@8", 7, "random:0@8"),
            ("random:3@8", 7, "random:3@8"),
            ("random@8", 7, "random:7@8"),
            ("random@8", 0, "random@8"),
            ("tova@8", 7, "tova@8"),
        ] {
            assert_eq!(seeded(text, seed), expected, "{text} --seed {seed}");
        }
    }

    #[test]
    fn bad_specs_say_what_would_be_good() {
        let message = |text: &str| text.parse::<PolicySpec>().unwrap_err().to_string();
        assert!(message("tovaa@5").contains("tova-head"));
        assert!(message("window+x@5").contains("window+4"));
        assert!(message("full@5").contains("full"));
        assert!(message("tova@").contains("64MiB"));
        let states = |text: &str| text.parse::<PolicySpec>().unwrap().compression(100, |_| 1).unwrap_err().to_string();
        assert!(states("tova").contains("tova@512"));
        assert!(states("tova@0").contains("at least one"));
        assert!(states("window+4@4").contains("window+4@5"));
        assert!(states("tova+2@1").contains("tova+2@3"));
    }
}
