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
pub use crate::layer::{Decides, Layer};
use crate::merging::{Merging, Threshold};
use crate::packing::{Packing, Per, Side};
use crate::placement::Positions;
use crate::score::{Op, Program, Score};
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

    /// The two runs of a ceiling, which is told of a text what no policy can know; none, as of every policy that can be
    /// used. Every call begins anew, for one text or one batch of texts of equal length.
    fn foresight(&self) -> Option<Foresight> {
        None
    }
}

/// How a ceiling is run.
#[derive(Clone, Debug)]
pub struct Foresight {
    /// Runs over the text first. Nothing goes under it, whatever k is.
    pub first: Arc<dyn Policy>,
    /// Knows what the first has seen, and bounds the state.
    pub then: Arc<dyn Policy>,
}

impl Foresight {
    /// The same with another policy made of the one that bounds.
    #[must_use]
    pub fn map(self, make: impl FnOnce(Arc<dyn Policy>) -> Arc<dyn Policy>) -> Self {
        Self { then: make(self.then), ..self }
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
    /// How rows are numbered, and rotated by their numbers; none where that is left to the run.
    pub positions: Option<Positions>,
    /// How rows that go are merged into rows that stay, one after the other; not at all if empty.
    pub merging: Vec<Merging>,
    /// In how many bits keys and values are held; none as they were computed.
    pub packing: Option<Packing>,
    /// How many layers, and KV heads of a layer, are named: there must be as many.
    pub named: Named,
    /// What every KV head of the layer does by itself, in their order, each with a k of its own: then nothing of the above
    /// counts but `positions`, and `decides` is [`Decides::KvHead`]; see [`Plan::by_head`]. Empty where all heads do the same, as they usually do.
    pub heads: Vec<Plan>,
}

/// Layers and KV heads that a plan names, counted from 0: one more than the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Of the stack.
    pub layers: usize,
    /// Of the layer.
    pub heads: usize,
}

impl Named {
    fn and(self, other: Self) -> Self {
        Self { layers: self.layers.max(other.layers), heads: self.heads.max(other.heads) }
    }
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
            positions: None,
            merging: Vec::new(),
            packing: None,
            named: Named::default(),
            heads: Vec::new(),
        }
    }

    /// What nothing ever goes under.
    pub fn full(layer: &Layer) -> Self {
        Self { states: None, ..Self::by_score(layer, crate::score::number(0.0)) }
    }

    /// A plan for every KV head of a layer.
    pub fn by_head(layer: &Layer, heads: Vec<Self>) -> Self {
        let states = heads.iter().filter_map(|head| head.states).max();
        let named = heads.iter().fold(Named::default(), |all, head| all.and(head.named));
        Self { states, named, heads, ..Self::full(layer) }.per_head()
    }

    /// The plans that are carried out: of every head, or the one of all.
    pub fn parts(&self) -> &[Self] {
        match &self.heads[..] {
            [] => std::slice::from_ref(self),
            heads => heads,
        }
    }

    /// The same of every head that has a plan of its own.
    fn mapped(mut self, map: impl Fn(Self) -> Self) -> Self {
        self.heads = self.heads.into_iter().map(&map).collect();
        map(self)
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
        Self { pooled: Some(floor), ..self }.per_head()
    }

    /// Protects the rows of the first tokens and the newest rows, beside those that are protected already.
    #[must_use]
    pub fn protecting(self, first: usize, newest: usize) -> Self {
        self.mapped(|plan| Self { first: plan.first.max(first), newest: plan.newest.max(newest), ..plan })
    }

    /// By which positions rows are rotated.
    #[must_use]
    pub fn numbered(self, positions: Positions) -> Self {
        Self { positions: Some(positions), ..self }
    }

    /// Merges rows that go into rows that stay, after what is merged already.
    #[must_use]
    pub fn merging(self, merging: Merging) -> Self {
        self.mapped(|mut plan| {
            plan.merging.push(merging);
            plan
        })
    }

    /// Whether rows change as others go.
    pub fn rewrites(&self) -> bool {
        let rewrites = |plan: &Self| {
            !plan.merging.is_empty() || matches!(&plan.rule, Rule::Tensors(tensors) if tensors.rewrites())
        };
        self.parts().iter().any(rewrites)
    }

    /// When rows go.
    #[must_use]
    pub fn cut(self, cut: Cut) -> Self {
        self.mapped(|plan| Self { cut, ..plan })
    }

    /// How keys and values are held.
    #[must_use]
    pub fn packed(self, packing: Packing) -> Self {
        self.mapped(|plan| Self { packing: Some(packing), ..plan })
    }

    /// Names layers and heads, beside those that are named already.
    #[must_use]
    pub fn naming(self, named: Named) -> Self {
        Self { named: self.named.and(named), ..self }
    }

    /// Whether the layers and heads that it names are there.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub fn check_named(&self, policy: &dyn Policy, layer: &Layer) -> Result<(), Error> {
        let each = [("layer", self.named.layers, layer.layers), ("KV head", self.named.heads, layer.kv_heads)];
        match each.into_iter().find(|(_, named, there)| named > there) {
            Some((one, named, there)) => Err(Error::NotThere { policy: policy.name(), one, index: named - 1, there }),
            None => Ok(()),
        }
    }

    /// Rows of each head that the layer makes room for, which is how many it holds before a cut, the most of any head; none
    /// where one grows.
    pub fn slots(&self) -> Option<usize> {
        let slots = |plan: &Self| match (plan.states, plan.cut) {
            (Some(states), Cut::Every(n)) => Some(states.saturating_add(n)),
            _ => None,
        };
        self.parts().iter().map(slots).try_fold(0, |most, slots| Some(most.max(slots?)))
    }

    /// Numbers that are carried with every row for each decision, beside key, value and position.
    pub fn carried(&self, layer: &Layer) -> usize {
        let carried = |plan: &Self| match &plan.rule {
            Rule::Score(score) => Program::new(score, layer).map_or(0, |program| program.memory()),
            Rule::Tensors(tensors) => tensors.memory(),
        };
        self.parts().iter().map(carried).max().unwrap_or(0)
    }

    /// How many of the latest queries of every head are kept, in the accumulation dtype, for the rule to look at.
    pub fn queries(&self) -> usize {
        let queries = |plan: &Self| match (plan.states, &plan.rule) {
            (Some(_), Rule::Tensors(tensors)) => tensors.sees().queries,
            _ => 0,
        };
        self.parts().iter().map(queries).max().unwrap_or(0)
    }

    /// Numbers of thresholds that move, which a batch row of that many KV heads carries: `[units, mergings]`, a unit being
    /// the layer, or each of its heads where they compete. None without such.
    pub fn thresholds(&self, kv_heads: usize) -> Option<[usize; 2]> {
        let units = if self.pooled.is_some() { kv_heads } else { 1 };
        let moves = self.merging.iter().any(|merging| matches!(merging.threshold, Threshold::Moving(_)));
        moves.then_some([units, self.merging.len()])
    }

    /// Whether rows go once, after the prompt, in some head.
    pub fn cuts_after_prompt(&self) -> bool {
        self.parts().iter().any(|plan| plan.states.is_some() && plan.cut == Cut::AfterPrompt)
    }

    /// Whether rows are packed in some head.
    pub fn packs(&self) -> bool {
        self.parts().iter().any(|plan| plan.packing.is_some())
    }

    /// Whether it can be carried out in that layer.
    ///
    /// # Errors
    ///
    /// When it cuts at no token, heads would compete for one row, heads that have plans of their own would do what only a
    /// layer does, rows cannot be packed as it says, or the score cannot be computed, as one that looks at the head where the
    /// layer decides.
    pub fn check(&self, policy: &dyn Policy, layer: &Layer) -> Result<(), Error> {
        if !self.heads.is_empty() {
            let alone = |head: &Self| head.heads.is_empty() && head.pooled.is_none() && head.positions.is_none();
            let whole = self.pooled.is_some() || self.decides != Decides::KvHead;
            if whole || self.heads.len() != layer.kv_heads || !self.heads.iter().all(alone) {
                return Err(Error::Heads(policy.name()));
            }
            let layer = Layer { kv_heads: 1, ..*layer };
            return self.heads.iter().try_for_each(|head| head.check(policy, &layer));
        }
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
        self.check_packing(policy)?;
        if let Rule::Score(score) = &self.rule {
            let program = Program::new(score, layer)?;
            if program.uses(Op::Head) && self.decides == Decides::Layer {
                return Err(Error::HeadOfLayer(policy.name()));
            }
        }
        Ok(())
    }

    /// Whether a layer can hold its rows so.
    ///
    /// # Errors
    ///
    /// Unless groups have numbers and fit into what is packed at once, and keys are packed per channel only
    /// where slots fill up in order and no row changes.
    pub fn check_packing(&self, policy: &dyn Policy) -> Result<(), Error> {
        if !self.heads.is_empty() {
            return self.heads.iter().try_for_each(|head| head.check_packing(policy));
        }
        let Some(packing) = &self.packing else { return Ok(()) };
        let Packing { group, keys, values, .. } = packing;
        let fits = |side: &Side| side.every > 0 && (side.per == Per::Token || side.every.is_multiple_of(*group));
        if *group == 0 || !fits(keys) || !fits(values) || values.per == Per::Channel {
            return Err(Error::PackedGroups(policy.name()));
        }
        if keys.per == Per::Channel && self.states.is_some() {
            if self.cut == Cut::EVERY_TOKEN {
                return Err(Error::PackedEveryToken(policy.name()));
            }
            if self.rewrites() {
                return Err(Error::PackedRewritten(policy.name()));
            }
        }
        Ok(())
    }

    /// Fewest states with which some row may go at every cut; of heads that have plans of their own their parts know it.
    pub fn fewest_states(&self) -> usize {
        let first = if self.first > 0 { self.first.saturating_add(1) } else { 1 };
        first.max(self.first.saturating_add(self.newest))
    }
}
