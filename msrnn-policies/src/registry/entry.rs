//! What is said about a policy beside what its plan says itself.

use std::fmt;
use std::sync::Arc;

use msrnn_core::policy::{Layer, Policy};
use serde::Serialize;

use super::describe;
use crate::error::SpecError;
use crate::needs;
use crate::text::Arguments;

/// Makes a policy of what is written behind its name.
pub type Make = Arc<dyn Fn(&Arguments<'_>) -> Result<Arc<dyn Policy>, SpecError> + Send + Sync>;

/// A policy that can be named.
#[derive(Clone)]
pub struct Entry {
    /// Name as it is written in a spec. `window+i` is the form with protected first tokens: `window+4`.
    pub name: &'static str,
    /// A name that parses, and is that of the policy it makes: `window+4`.
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
    /// How it is made.
    pub make: Make,
}

/// Where an entry does not say more.
const UNSAID: &str = "Not said.";

impl Entry {
    /// A policy without parameters. What is to be said about it is left to say.
    pub fn new(name: &'static str, policy: impl Policy + 'static) -> Self {
        let policy: Arc<dyn Policy> = Arc::new(policy);
        Self::with_arguments(name, name, move |_| Ok(policy.clone()))
    }

    /// A policy with parameters, and an example of how it is written.
    pub fn with_arguments(
        name: &'static str,
        example: &'static str,
        make: impl Fn(&Arguments<'_>) -> Result<Arc<dyn Policy>, SpecError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            example,
            idea: UNSAID,
            rule: UNSAID,
            cost: UNSAID,
            citation: UNSAID,
            differences: UNSAID,
            make: Arc::new(make),
        }
    }

    pub(crate) fn make(&self, arguments: &Arguments<'_>) -> Result<Arc<dyn Policy>, SpecError> {
        (self.make)(arguments)
    }

    /// The policy of [`Entry::example`], without what may be registered beside it.
    ///
    /// # Panics
    ///
    /// When the example does not parse, which [`Registry::check`](super::Registry::check) refuses.
    pub fn policy(&self) -> Arc<dyn Policy> {
        let alone = super::Registry { entries: vec![self.clone()] };
        alone.policy(self.example).expect("an entry's example parses")
    }

    /// What the policy is shown, in words.
    pub fn sees(&self) -> String {
        if self.policy().foresight().is_some() {
            return "the rest of the text".into();
        }
        describe::sees(&self.policy().plan(&Layer::only(describe::STATES)))
    }

    /// Who decides, in words.
    pub fn decides(&self) -> &'static str {
        describe::decides(&self.policy().plan(&Layer::only(describe::STATES)))
    }

    /// Bytes that the policy remembers per state and decision, beside key, value and position.
    pub fn bytes_per_state(&self) -> usize {
        let layer = Layer::only(describe::STATES);
        describe::bytes_per_state(&self.policy().plan(&layer), &layer)
    }

    /// Everything about the policy, as data.
    pub fn description(&self) -> Description {
        let Self { name, example, idea, rule, cost, citation, differences, .. } = *self;
        let (sees, decides, bytes_per_state) = (self.sees(), self.decides(), self.bytes_per_state());
        let needs = needs::fewest_states(self.policy().as_ref());
        Description { name, example, idea, rule, sees, decides, bytes_per_state, needs, cost, citation, differences }
    }

    /// Everything about the policy, as text.
    pub fn explain(&self) -> String {
        let policy = self.policy();
        let plan = policy.plan(&Layer::only(describe::STATES));
        let mut text = describe::Lines::default();
        text.line("name", self.name);
        text.line("idea", self.idea);
        text.line("rule", self.rule);
        text.line("sees", &self.sees());
        text.line("decides", &format!("once per {}", self.decides()));
        text.line("cuts", &describe::cuts(&plan));
        text.line("cost per step", self.cost);
        text.line("memory", &describe::memory(&plan, self.bytes_per_state()));
        text.line("needs", &format!("{} needs {}", self.example, describe::needs(policy.as_ref())));
        text.line("citation", self.citation);
        text.line("differences", self.differences);
        text.line("own window", describe::OWN_WINDOW);
        text.text
    }
}

/// What is said about an entry: its fields, and what follows from the policy of its example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// [`Entry::name`]
    pub name: &'static str,
    /// [`Entry::example`]
    pub example: &'static str,
    /// [`Entry::idea`]
    pub idea: &'static str,
    /// [`Entry::rule`]
    pub rule: &'static str,
    /// [`Entry::sees`]
    pub sees: String,
    /// [`Entry::decides`]
    pub decides: &'static str,
    /// [`Entry::bytes_per_state`]
    pub bytes_per_state: usize,
    /// The fewest states.
    pub needs: Option<usize>,
    /// [`Entry::cost`]
    pub cost: &'static str,
    /// [`Entry::citation`]
    pub citation: &'static str,
    /// [`Entry::differences`]
    pub differences: &'static str,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("example", &self.example).finish_non_exhaustive()
    }
}
