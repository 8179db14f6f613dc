//! A plan as a layer's state carries it out: asked of the policy once, its score compiled.

use std::sync::Arc;

use crate::compression::Compression;
use crate::policy::{Cut, Decides, Layer, Plan, Rule};
use crate::score::{Initial, Program};
use crate::state::StateShape;
use crate::tensors::{Sees, Tensors};

/// What bounds one layer's state.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// The policy's name.
    pub(crate) policy: String,
    pub(crate) plan: Plan,
    /// k of this layer.
    pub(crate) states: usize,
    rule: Compiled,
    /// Whether others cut: the layer one of its heads, where they compete, or heads that have plans of their own their layer.
    cut_by_others: bool,
}

#[derive(Clone, Debug)]
enum Compiled {
    Program(Program),
    Tensors(Arc<dyn Tensors>),
}

impl Bound {
    /// What a layer does; none where all rows stay as they come.
    pub(crate) fn plan(compression: &Compression, shape: &StateShape) -> Option<(String, Plan)> {
        let (policy, states) = compression.planned()?;
        let layer = Layer { index: shape.layer, layers: shape.layers, kv_heads: shape.kv_heads, states };
        Some((policy.name(), policy.plan(&layer)))
    }

    /// The bound of a layer, or of one head that has a plan of its own; none where nothing ever goes.
    ///
    /// # Panics
    ///
    /// When the policy's score refers to what it does not remember in this layer and not in a stack of one, where
    /// [`Compression::bounded`] looked.
    pub(crate) fn of(policy: &str, plan: &Plan, shape: &StateShape) -> Option<Arc<Self>> {
        let states = plan.states?;
        let rule = match &plan.rule {
            Rule::Score(score) => {
                let (index, layers, kv_heads) = (shape.layer, shape.layers, shape.kv_heads);
                let layer = Layer { index, layers, kv_heads, states };
                Compiled::Program(Program::new(score, &layer).unwrap_or_else(|error| panic!("{error}")))
            }
            Rule::Tensors(tensors) => Compiled::Tensors(tensors.clone()),
        };
        let (policy, cut_by_others) = (policy.to_owned(), !plan.heads.is_empty());
        Some(Arc::new(Self { policy, plan: plan.clone(), states, rule, cut_by_others }))
    }

    /// The same for one head of a layer whose heads compete.
    pub(crate) fn of_head(&self) -> Arc<Self> {
        Arc::new(Self { cut_by_others: true, ..self.clone() })
    }

    /// How many rows every head keeps at least, where heads compete.
    pub(crate) fn safe(&self) -> Option<usize> {
        let floor = self.plan.pooled?;
        let share = (self.states as f64 * floor) as usize;
        Some(if floor > 0.0 { share.max(1) } else { 0 })
    }

    /// The score as a program, if it is data.
    pub(crate) fn program(&self) -> Option<&Program> {
        match &self.rule {
            Compiled::Program(program) => Some(program),
            Compiled::Tensors(_) => None,
        }
    }

    /// The rule in tensor code, if it is that.
    pub(crate) fn tensors(&self) -> Option<&dyn Tensors> {
        match &self.rule {
            Compiled::Program(_) => None,
            Compiled::Tensors(tensors) => Some(tensors.as_ref()),
        }
    }

    /// Rows that may come before the next cut, where that is known.
    pub(crate) fn room_after_cut(&self) -> Option<usize> {
        self.plan.slots().map(|slots| slots - self.states)
    }

    /// Whether a row goes at every token once the state is full.
    pub(crate) fn is_strict(&self) -> bool {
        self.plan.cut == Cut::EVERY_TOKEN && !self.cut_by_others
    }

    /// Rows at which a state is cut.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.plan.slots().filter(|_| !self.cut_by_others)
    }

    /// Whether rows that go are merged into others.
    pub(crate) fn merges(&self) -> bool {
        !self.plan.merging.is_empty()
    }

    /// Numbers of thresholds that move, `[batch, units, mergings]`, of so many KV heads; none where none moves.
    pub(crate) fn thresholds(&self, batch: usize, kv_heads: usize) -> Option<[usize; 3]> {
        self.plan.thresholds(kv_heads).map(|[units, mergings]| [batch, units, mergings])
    }

    pub(crate) fn decides(&self) -> Decides {
        self.plan.decides
    }

    /// Channels of numbers carried with every row, and what they hold of a new one.
    pub(crate) fn channels(&self) -> Vec<Initial> {
        match &self.rule {
            Compiled::Program(program) => program.channels.clone(),
            Compiled::Tensors(tensors) => vec![Initial::Zero; tensors.memory()],
        }
    }

    /// Whether the rule has to be shown every token.
    pub(crate) fn remembers(&self) -> bool {
        match &self.rule {
            Compiled::Program(program) => program.remembers(),
            Compiled::Tensors(tensors) => tensors.memory() > 0,
        }
    }

    /// What the rule is shown as tensors.
    pub(crate) fn sees(&self) -> Sees {
        match &self.rule {
            Compiled::Program(program) => program.sees(),
            Compiled::Tensors(tensors) => tensors.sees(),
        }
    }
}
