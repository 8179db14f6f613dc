//! The contract of a compression policy: a plan, which is data.
//!
//! A policy is asked once for every layer what it does there: its [`Plan`]. The plan says *when* a state is cut
//! back to k rows, who decides, what is protected, and by which [`Rule`] the rows that go are chosen. Most rules
//! are a [`Score`], an expression over what is known of a row, which is fast on every road; what has no such form
//! is tensor code ([`Tensors`]). Policies that change other policies, such as "every n tokens", change their plans.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::needs::{fewest_states, lacking};
use crate::packing::Packing;
use crate::score::{Program, Score};
pub use crate::tensors::{Memory, Rows, Sees, Tensors, View};

/// A rule that bounds a multi-state.
///
/// ```
/// use msrnn_core::policy::{Layer, Plan, Policy};
/// use msrnn_core::score::value_norm;
///
/// /// Omits the row with the shortest value, head by head.
/// #[derive(Debug)]
/// struct ShortestValue;
///
/// impl Policy for ShortestValue {
///     fn name(&self) -> String {
///         "shortest-value".into()
///     }
///
///     fn plan(&self, layer: &Layer) -> Plan {
///         Plan::by_score(layer, value_norm()).per_head()
///     }
/// }
/// ```
pub trait Policy: Debug + Send + Sync {
    /// Name and parameters as they are written before the `@` of a spec, such as `window+4`.
    fn name(&self) -> String;

    /// What a layer does under this policy. Asked once, when the layer's state is made; it must depend on
    /// `layer` alone.
    fn plan(&self, layer: &Layer) -> Plan;
}

/// The layer that a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which of the stack, counted from 0.
    pub index: usize,
    /// How many there are.
    pub layers: usize,
    /// KV heads of the layer.
    pub kv_heads: usize,
    /// k as it was asked for: the mean over the layers.
    pub states: usize,
}

impl Layer {
    /// The only layer of a stack of one.
    pub fn only(states: usize) -> Self {
        Self { index: 0, layers: 1, kv_heads: 1, states }
    }
}

/// What a layer does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// k of this layer: how many rows are left by a cut. None where nothing ever goes.
    pub states: Option<usize>,
    /// Which rows go.
    pub rule: Rule,
    /// Who decides.
    pub decides: Decides,
    /// Whether the KV heads compete for the layer's budget, so that some hold more rows than others: then the share of
    /// k that every head keeps at least. Only of plans in which every KV head decides and several rows go at once.
    pub pooled: Option<f64>,
    /// When rows go.
    pub cut: Cut,
    /// Rows of the first that many tokens of the text never go. They count inside k.
    pub first: usize,
    /// The newest that many rows never go. They count inside k.
    pub newest: usize,
    /// In how many bits keys and values are held; none as they were computed.
    pub packing: Option<Packing>,
}

/// How the rows that go are chosen.
#[derive(Clone, Debug)]
pub enum Rule {
    /// The lowest score goes, of equal ones the oldest.
    Score(Score),
    /// The same, by scores of tensor code, which may change other rows before one goes.
    Tensors(Arc<dyn Tensors>),
}

impl From<Score> for Rule {
    fn from(score: Score) -> Self {
        Self::Score(score)
    }
}

/// How many independent decisions a layer makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decides {
    /// One for the whole layer: the same position leaves every KV head.
    Layer,
    /// One for each KV head.
    KvHead,
}

impl Decides {
    /// Decisions of a layer with that many KV heads.
    pub fn groups(self, kv_heads: usize) -> usize {
        match self {
            Self::Layer => 1,
            Self::KvHead => kv_heads,
        }
    }
}

/// When a state is cut back to k rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Whenever there are k + n rows: every n tokens once k are held. With n = 1, after every token, a state
    /// is a bounded multi-state RNN in the sense of the paper.
    Every(usize),
    /// Once, after the prompt, of which no row goes before. Then the state grows.
    AfterPrompt,
}

impl Cut {
    /// After every token.
    pub const EVERY_TOKEN: Self = Self::Every(1);
}

impl Plan {
    /// The lowest score goes, one decision for the layer, after every token, nothing protected.
    pub fn by_score(layer: &Layer, keep: crate::score::Expr) -> Self {
        Self::by_rule(layer, Score::of(keep).into())
    }

    /// The same by any rule.
    pub fn by_rule(layer: &Layer, rule: Rule) -> Self {
        Self {
            states: Some(layer.states),
            rule,
            decides: Decides::Layer,
            pooled: None,
            cut: Cut::EVERY_TOKEN,
            first: 0,
            newest: 0,
            packing: None,
        }
    }

    /// The same by tensor code.
    pub fn by_tensors(layer: &Layer, rule: impl Tensors + 'static) -> Self {
        Self::by_rule(layer, Rule::Tensors(Arc::new(rule)))
    }

    /// Every KV head decides for itself.
    #[must_use]
    pub fn per_head(self) -> Self {
        Self { decides: Decides::KvHead, ..self }
    }

    /// The KV heads of the layer share its k · heads rows: those of highest score stay, whichever head's they are, but
    /// of every head the best `floor` · k, and at least one unless the floor is 0.
    #[must_use]
    pub fn pooled(self, floor: f64) -> Self {
        Self { pooled: Some(floor), decides: Decides::KvHead, ..self }
    }

    /// Protects the rows of the first tokens and the newest rows, beside those that are protected already.
    #[must_use]
    pub fn protecting(self, first: usize, newest: usize) -> Self {
        Self { first: self.first.max(first), newest: self.newest.max(newest), ..self }
    }

    /// When rows go.
    #[must_use]
    pub fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    /// How keys and values are held.
    #[must_use]
    pub fn packed(self, packing: Packing) -> Self {
        Self { packing: Some(packing), ..self }
    }

    /// Rows of each head that the layer makes room for, which is how many it holds before a cut; none where it grows.
    pub fn slots(&self) -> Option<usize> {
        match (self.states, self.cut) {
            (Some(states), Cut::Every(n)) => Some(states.saturating_add(n)),
            _ => None,
        }
    }

    /// Numbers that are carried with every row for each decision, beside key, value and position.
    pub fn carried(&self, layer: &Layer) -> usize {
        match &self.rule {
            Rule::Score(score) => Program::new(score, layer).map_or(0, |program| program.memory()),
            Rule::Tensors(tensors) => tensors.memory(),
        }
    }

    /// Whether it can be carried out in that layer.
    ///
    /// # Errors
    ///
    /// When it cuts at no token, heads would compete for one row, rows cannot be packed as it says, or the score cannot
    /// be computed.
    pub fn check(&self, policy: &dyn Policy, layer: &Layer) -> Result<(), Error> {
        if let Cut::Every(0) = self.cut {
            return Err(Error::EveryNoTokens(policy.name()));
        }
        if let Some(floor) = self.pooled {
            if self.cut == Cut::EVERY_TOKEN && self.states.is_some() {
                return Err(Error::PooledEveryToken(policy.name()));
            }
            if !(0.0..=1.0).contains(&floor) {
                return Err(Error::Floor(policy.name()));
            }
        }
        if let Some(packing) = &self.packing {
            packing.check(self, policy)?;
        }
        if let Rule::Score(score) = &self.rule {
            Program::new(score, layer)?;
        }
        Ok(())
    }

    /// Fewest states with which some row may go at every cut.
    pub fn fewest_states(&self) -> usize {
        let first = if self.first > 0 { self.first.saturating_add(1) } else { 1 };
        first.max(self.first.saturating_add(self.newest))
    }
}

/// How a multi-state is bounded.
#[derive(Clone, Debug)]
pub enum Compression {
    /// Not at all: the vanilla transformer, g(t) = t.
    Unbounded,
    /// To `states` rows by a policy, g(t) = min(t, k). Made by [`Compression::bounded`].
    Bounded {
        /// Which row goes.
        policy: Arc<dyn Policy>,
        /// k, the mean over the layers.
        states: usize,
    },
    /// Not at all, as [`Compression::Unbounded`], but rows are held as a policy says of which nothing goes in any layer.
    /// Made by [`Compression::held`].
    Held {
        /// How rows are held.
        policy: Arc<dyn Policy>,
    },
}

impl Compression {
    /// At most `states` rows, chosen by `policy`.
    ///
    /// # Errors
    ///
    /// When the policy needs more states than that, or its plan for a stack of one layer cannot be carried out; see
    /// [`Plan::check`].
    pub fn bounded(policy: Arc<dyn Policy>, states: usize) -> Result<Self, Error> {
        if lacking(policy.as_ref(), states, 0) > 0 {
            let needed = fewest_states(policy.as_ref(), 0);
            return Err(Error::TooFewStates { policy: policy.name(), states, needed: needed.unwrap_or(usize::MAX) });
        }
        let layer = Layer::only(states);
        policy.plan(&layer).check(policy.as_ref(), &layer)?;
        Ok(Self::Bounded { policy, states })
    }

    /// Every row, held as `policy` says.
    ///
    /// # Errors
    ///
    /// When its plan for a stack of one layer cannot be carried out, or makes rows go.
    pub fn held(policy: Arc<dyn Policy>) -> Result<Self, Error> {
        let layer = Layer::only(usize::MAX);
        let plan = policy.plan(&layer);
        plan.check(policy.as_ref(), &layer)?;
        match plan.states {
            None => Ok(Self::Held { policy }),
            Some(_) => Err(Error::NotHeld(policy.name())),
        }
    }

    /// The bound k, or none.
    pub fn states(&self) -> Option<usize> {
        match self {
            Self::Unbounded | Self::Held { .. } => None,
            Self::Bounded { states, .. } => Some(*states),
        }
    }

    /// Policy and k, if there is a bound.
    pub fn bound(&self) -> Option<(&dyn Policy, usize)> {
        self.policy().map(|policy| policy.as_ref()).zip(self.states())
    }

    /// The policy and the k that its plans are asked for: without a bound but with a policy, as many as come.
    pub fn planned(&self) -> Option<(&dyn Policy, usize)> {
        self.policy().map(|policy| (policy.as_ref(), self.states().unwrap_or(usize::MAX)))
    }

    /// The policy, if there is one.
    pub fn policy(&self) -> Option<&Arc<dyn Policy>> {
        match self {
            Self::Unbounded => None,
            Self::Bounded { policy, .. } | Self::Held { policy } => Some(policy),
        }
    }
}
