//! The contract of a compression policy.
//!
//! A policy decides which row a full state omits. Most policies only [`score`](Policy::score) the
//! rows, with tensor operations, and the one with the lowest score goes; such a policy is a few
//! lines, names no device and no batch, and serves steps, blocks, prefill and every backend as it
//! is. The general level, [`rewrite`](Policy::rewrite), may change the state before the row goes:
//! merge it into others, quantise, anything.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor};

use crate::device_score::DeviceScore;
use crate::error::Error;

/// A rule that bounds a multi-state: which row goes when there is one too many.
///
/// A policy has no mutable state of its own. What it must remember about a row it keeps in its
/// [`memory`](Policy::memory), which the multi-state carries along with the row.
pub trait Policy: Debug + Send + Sync {
    /// Name and parameters as they are written before the `@` of a spec, such as `window+4`.
    fn name(&self) -> String;

    /// What [`Policy::score`] must be shown. Asking for less makes a step cheaper.
    fn sees(&self) -> Sees {
        Sees::NOTHING
    }

    /// Whether all KV heads of a layer omit the same position, or each its own.
    fn granularity(&self) -> Granularity;

    /// Values remembered per row: channels of [`Memory`], each zero when a row is new.
    fn memory(&self) -> usize {
        0
    }

    /// Fewest states with which the rule makes sense.
    fn min_states(&self) -> usize {
        1
    }

    /// Scores the rows that took part in the current step, the new one included: the row with the
    /// lowest score is omitted, on equal scores the oldest. +∞ protects a row; NaN is not allowed: where a row
    /// has to go, it makes what the step attends to NaN.
    /// Before any of them goes a row that no later query sees: one that the model's own sliding window
    /// has passed. A policy does not see to that.
    ///
    /// Called once a token, after attention, whenever a row has to go; a policy with memory is
    /// called on every token from the first. Slots where `view.positions()` is negative are empty
    /// and their scores do not matter.
    ///
    /// Returns `[batch, groups, rows]`.
    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3>;

    /// The same scores on the host, if the policy can give them: scans are then several times
    /// faster. Must agree with [`Policy::score`], which the laws check.
    fn on_host(&self) -> Option<&dyn ScoreOnHost> {
        None
    }

    /// The same scores as data, if they have such a form: GPUs then decide without asking the host.
    /// `states`: k; `layer`: which of the stack, counted from 0. Must agree with [`Policy::score`],
    /// which the laws check.
    fn on_device(&self, _states: usize, _layer: usize) -> Option<DeviceScore> {
        None
    }

    /// Whether [`Policy::rewrite`] does anything.
    fn rewrites(&self) -> bool {
        false
    }

    /// The general level: changes keys and values before the row in slot `omitted` goes.
    ///
    /// `omitted`: `[batch, groups, 1]`. Called on full states only.
    fn rewrite(&self, _view: &View, _omitted: &Tensor<3, Int>, _rows: &mut Rows) {}
}

/// Keys and values of a state, for a policy that rewrites them.
#[derive(Debug)]
pub struct Rows {
    /// `[batch, kv_heads, rows, head_dim]`, rotated as the model stores them.
    pub keys: Tensor<4>,
    /// `[batch, kv_heads, rows, head_dim]`
    pub values: Tensor<4>,
}

/// What a policy must be shown beside the positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sees {
    /// The current query's attention weights.
    pub weights: bool,
    /// The keys held.
    pub keys: bool,
    /// The values held.
    pub values: bool,
}

impl Sees {
    /// Positions only.
    pub const NOTHING: Self = Self { weights: false, keys: false, values: false };
    /// The current query's attention weights.
    pub const WEIGHTS: Self = Self { weights: true, ..Self::NOTHING };
    /// The keys held.
    pub const KEYS: Self = Self { keys: true, ..Self::NOTHING };
    /// The values held.
    pub const VALUES: Self = Self { values: true, ..Self::NOTHING };

    /// This and also `other`.
    pub const fn and(self, other: Self) -> Self {
        Self {
            weights: self.weights || other.weights,
            keys: self.keys || other.keys,
            values: self.values || other.values,
        }
    }
}

/// How many independent decisions a layer makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One for the whole layer: the same position leaves every KV head.
    Layer,
    /// One for each KV head.
    KvHead,
}

impl Granularity {
    /// Decisions of a layer with that many KV heads.
    pub fn groups(self, kv_heads: usize) -> usize {
        match self {
            Granularity::Layer => 1,
            Granularity::KvHead => kv_heads,
        }
    }
}

/// What a policy is shown of one step: the rows that took part, and nothing that comes later.
#[derive(Debug)]
pub struct View {
    pub(crate) granularity: Granularity,
    pub(crate) states: usize,
    pub(crate) layer: usize,
    /// The model's sliding window, where it may have passed rows for good.
    pub(crate) window: Option<i64>,
    /// `[batch, kv_heads, group, rows]`
    pub(crate) weights: Option<Tensor<4>>,
    pub(crate) keys: Option<Tensor<4>>,
    pub(crate) values: Option<Tensor<4>>,
    /// `[batch, groups, rows]`
    pub(crate) positions: Tensor<3, Int>,
    /// `[batch, groups, 1]`
    pub(crate) now: Tensor<3, Int>,
}

impl View {
    /// k, the number of states carried to the next step.
    pub fn states(&self) -> usize {
        self.states
    }

    /// Which layer of the stack this is, counted from 0.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Original position of every row, −1 in empty slots: `[batch, groups, rows]`.
    pub fn positions(&self) -> Tensor<3, Int> {
        self.positions.clone()
    }

    /// Position t of the current token: `[batch, groups, 1]`.
    pub fn now(&self) -> Tensor<3, Int> {
        self.now.clone()
    }

    /// t − position of every row, 0 for the current token's: `[batch, groups, rows]`.
    pub fn age(&self) -> Tensor<3, Int> {
        self.now.clone().expand(self.positions.dims()) - self.positions.clone()
    }

    /// The newest `n` rows: `[batch, groups, rows]`.
    pub fn newest(&self, n: usize) -> Tensor<3, Bool> {
        self.age().lower_elem(n as i64)
    }

    /// The first `n` tokens of the text: `[batch, groups, rows]`.
    pub fn first(&self, n: usize) -> Tensor<3, Bool> {
        self.positions.clone().lower_elem(n as i64)
    }

    /// Rows that no later query sees, `[batch, groups, rows]`; none where there can be none. They go first,
    /// whatever they score.
    pub(crate) fn dead(&self) -> Option<Tensor<3, Bool>> {
        self.window.map(|window| self.age().greater_equal_elem(window - 1))
    }

    /// The current query's softmax weights on the rows, averaged over the query heads that share a
    /// decision: all of the layer, or the group of each KV head. `[batch, groups, rows]`, in at
    /// least f32; each sums to one.
    ///
    /// # Panics
    ///
    /// When the policy does not declare [`Sees::WEIGHTS`].
    pub fn weights(&self) -> Tensor<3> {
        let weights = self.head_weights();
        let [batch, kv_heads, group, rows] = weights.dims();
        match self.granularity {
            Granularity::Layer => {
                weights.reshape([batch, 1, kv_heads * group, rows]).mean_dim(2).reshape([batch, 1, rows])
            }
            Granularity::KvHead if group == 1 => weights.reshape([batch, kv_heads, rows]),
            Granularity::KvHead => weights.mean_dim(2).reshape([batch, kv_heads, rows]),
        }
    }

    /// The current query's softmax weights per query head: `[batch, kv_heads, group, rows]`.
    ///
    /// # Panics
    ///
    /// When the policy does not declare [`Sees::WEIGHTS`].
    pub fn head_weights(&self) -> Tensor<4> {
        self.weights.clone().expect("a policy that looks at weights declares Sees::WEIGHTS")
    }

    /// The keys, rotated as the model stores them: `[batch, kv_heads, rows, head_dim]`.
    ///
    /// # Panics
    ///
    /// When the policy does not declare [`Sees::KEYS`].
    pub fn keys(&self) -> Tensor<4> {
        self.keys.clone().expect("a policy that looks at keys declares Sees::KEYS")
    }

    /// The values: `[batch, kv_heads, rows, head_dim]`.
    ///
    /// # Panics
    ///
    /// When the policy does not declare [`Sees::VALUES`].
    pub fn values(&self) -> Tensor<4> {
        self.values.clone().expect("a policy that looks at values declares Sees::VALUES")
    }
}

/// What a policy remembers of every row: channels of `[batch, groups, rows]`, in at least f32.
///
/// A channel's value is zero when its row is new, stays with the row, and goes with it.
#[derive(Debug)]
pub struct Memory {
    pub(crate) channels: Vec<Tensor<3>>,
}

impl Memory {
    /// Replaces a channel by `f` of it, and returns the new value.
    ///
    /// # Panics
    ///
    /// When the policy declares no such channel.
    pub fn update(&mut self, channel: usize, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let slot = self.channels.get_mut(channel).expect("a policy declares its memory channels");
        slot.inplace(f);
        slot.clone()
    }

    /// A channel.
    ///
    /// # Panics
    ///
    /// When the policy declares no such channel.
    pub fn get(&self, channel: usize) -> Tensor<3> {
        self.channels.get(channel).expect("a policy declares its memory channels").clone()
    }
}

/// [`Policy::score`] in plain numbers, for policies that need positions and mean weights only.
pub trait ScoreOnHost: Send + Sync {
    /// Scores the rows of one batch row and group. `scores[i]` is that of the row with
    /// `view.positions[i]` and `view.weights[i]`, whose memory is `memory.channels[..][i]`.
    ///
    /// Rows that are no longer held may stand among them, with weight zero; their scores do not
    /// matter.
    fn score(&self, view: &HostView<'_>, memory: &mut HostMemory, scores: &mut [f64]);
}

/// What [`ScoreOnHost`] is shown of one step, one batch row and one group.
#[derive(Clone, Copy, Debug)]
pub struct HostView<'a> {
    /// Position t of the current token.
    pub now: i64,
    /// k
    pub states: usize,
    /// Which layer of the stack this is, counted from 0.
    pub layer: usize,
    /// Original positions, the current token's last.
    pub positions: &'a [i64],
    /// As [`View::weights`]; empty unless the policy declares [`Sees::WEIGHTS`].
    pub weights: &'a [f64],
}

/// As [`Memory`], of one batch row and group.
#[derive(Clone, Debug)]
pub struct HostMemory {
    /// By channel, by row; at least as long as the view's positions.
    pub channels: Vec<Vec<f64>>,
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
        /// k.
        states: usize,
    },
}

impl Compression {
    /// At most `states` rows, chosen by `policy`.
    ///
    /// # Errors
    ///
    /// When the policy needs more states than that.
    pub fn bounded(policy: Arc<dyn Policy>, states: usize) -> Result<Self, Error> {
        let needed = policy.min_states().max(1);
        if states < needed {
            return Err(Error::TooFewStates { policy: policy.name(), states, needed });
        }
        Ok(Self::Bounded { policy, states })
    }

    /// The bound k, or none.
    pub fn states(&self) -> Option<usize> {
        match self {
            Self::Unbounded => None,
            Self::Bounded { states, .. } => Some(*states),
        }
    }

    /// The policy, if there is a bound.
    pub fn policy(&self) -> Option<&Arc<dyn Policy>> {
        match self {
            Self::Unbounded => None,
            Self::Bounded { policy, .. } => Some(policy),
        }
    }

    pub(crate) fn granularity(&self) -> Granularity {
        self.policy().map_or(Granularity::Layer, |policy| policy.granularity())
    }

    pub(crate) fn memory(&self) -> usize {
        self.policy().map_or(0, |policy| policy.memory())
    }
}
