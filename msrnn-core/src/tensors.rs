//! Rules in tensor code, and what they are shown.

use std::fmt::Debug;

use burn::tensor::{Bool, FloatDType, Int, Tensor};

use crate::layer::Decides;
use crate::precision::{softmax, widen};

/// A rule in tensor code, for what has no scalar form: it scores rows, and may change others before one goes.
///
/// A rule has no mutable state of its own. What it must remember about a row it keeps in its
/// [`memory`](Tensors::memory), which the multi-state carries along with the row. Under a policy that cuts at
/// every token such a rule is asked token by token, which is slow; between rarer cuts nothing is asked and
/// tokens run as whole blocks.
pub trait Tensors: Debug + Send + Sync {
    /// What [`Tensors::score`] must be shown. Asking for less makes a step cheaper.
    fn sees(&self) -> Sees {
        Sees::NOTHING
    }

    /// Values remembered per row: channels of [`Memory`], each zero when a row is new.
    fn memory(&self) -> usize {
        0
    }

    /// Scores the rows that took part in the current step, the new one included: the rows with the
    /// lowest scores are omitted, of equal ones the oldest. +∞ protects a row; NaN is not allowed: where a row
    /// has to go, it makes what the step attends to NaN.
    /// Before any of them goes a row that no later query sees: one that the model's own sliding window
    /// has passed. A rule does not see to that, nor to what its plan protects.
    ///
    /// Called once a token, after attention, whenever a row has to go; a rule with memory is
    /// called on every token from the first. Slots where `view.positions()` is negative are empty
    /// and their scores do not matter.
    ///
    /// Returns `[batch, groups, rows]`.
    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3>;

    /// Whether [`Tensors::rewrite`] does anything.
    fn rewrites(&self) -> bool {
        false
    }

    /// Changes keys and values before the row in slot `omitted` goes: merges it into others, or anything.
    ///
    /// `omitted`: `[batch, groups, n]` slots, −1 where fewer go.
    fn rewrite(&self, _view: &View, _omitted: &Tensor<3, Int>, _rows: &mut Rows) {}
}

/// Keys and values of a state, for a rule that rewrites them.
#[derive(Debug)]
pub struct Rows {
    /// `[batch, kv_heads, rows, head_dim]`, as they are held: rotated by the original positions, or not yet where rows are
    /// numbered anew at every step.
    pub keys: Tensor<4>,
    /// `[batch, kv_heads, rows, head_dim]`
    pub values: Tensor<4>,
}

/// What a rule in tensor code must be shown beside the positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sees {
    /// The current query's attention weights.
    pub weights: bool,
    /// The current query's logits.
    pub logits: bool,
    /// The keys held.
    pub keys: bool,
    /// The values held.
    pub values: bool,
    /// The weights of that many of the latest queries, computed anew on the rows held.
    pub queries: usize,
}

impl Sees {
    /// Positions only.
    pub const NOTHING: Self = Self { weights: false, logits: false, keys: false, values: false, queries: 0 };
    /// The current query's attention weights.
    pub const WEIGHTS: Self = Self { weights: true, ..Self::NOTHING };
    /// The keys held.
    pub const KEYS: Self = Self { keys: true, ..Self::NOTHING };
    /// The values held.
    pub const VALUES: Self = Self { values: true, ..Self::NOTHING };

    /// The weights of the latest `n` queries.
    pub const fn queries(n: usize) -> Self {
        Self { queries: n, ..Self::NOTHING }
    }

    /// This and also `other`.
    pub const fn and(self, other: Self) -> Self {
        Self {
            weights: self.weights || other.weights,
            logits: self.logits || other.logits,
            keys: self.keys || other.keys,
            values: self.values || other.values,
            queries: if self.queries > other.queries { self.queries } else { other.queries },
        }
    }
}

/// What a rule is shown of one step: the rows that took part, and nothing that comes later.
#[derive(Debug)]
pub struct View {
    pub(crate) decides: Decides,
    pub(crate) states: usize,
    pub(crate) layer: usize,
    /// The first KV head, of a state of one head.
    pub(crate) first_head: usize,
    /// The model's sliding window, where it may have passed rows for good.
    pub(crate) window: Option<i64>,
    /// The dtype of weights and scores.
    pub(crate) wide: FloatDType,
    /// `[batch, kv_heads, group, rows]`
    pub(crate) weights: Option<Tensor<4>>,
    pub(crate) logits: Option<Tensor<4>>,
    pub(crate) keys: Option<Tensor<4>>,
    pub(crate) values: Option<Tensor<4>>,
    pub(crate) latest: Option<Latest>,
    /// `[batch, groups, rows]`
    pub(crate) positions: Tensor<3, Int>,
    /// `[batch, groups, 1]`
    pub(crate) now: Tensor<3, Int>,
}

/// What the latest queries make of the rows held.
#[derive(Debug)]
pub(crate) struct Latest {
    /// `[batch, kv_heads, group, queries, rows]`, scaled
    pub(crate) logits: Tensor<5>,
    /// Rows that a query does not see, of the same shape.
    pub(crate) hidden: Tensor<5, Bool>,
}

/// Rows in the order of their positions, empty slots before them.
#[derive(Clone, Debug)]
pub struct Chronological {
    /// `[batch, groups, rows]`
    order: Tensor<3, Int>,
    back: Tensor<3, Int>,
}

impl Chronological {
    /// Values by slot, `[batch, heads, rows]`, in the order of positions. `heads`: a multiple of the groups, those of
    /// a group side by side.
    pub fn sorted(&self, by_slot: Tensor<3>) -> Tensor<3> {
        let order = Self::of_heads(&self.order, by_slot.dims());
        by_slot.gather(2, order)
    }

    /// The reverse of [`Chronological::sorted`].
    pub fn by_slot(&self, sorted: Tensor<3>) -> Tensor<3> {
        let back = Self::of_heads(&self.back, sorted.dims());
        sorted.gather(2, back)
    }

    /// Of one batch row alone.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        Self { order: self.order.clone().narrow(0, row, 1), back: self.back.clone().narrow(0, row, 1) }
    }

    fn of_heads(order: &Tensor<3, Int>, [batch, heads, rows]: [usize; 3]) -> Tensor<3, Int> {
        let groups = order.dims()[1];
        let order = order.clone().reshape([batch, groups, 1, rows]);
        order.expand([batch, groups, heads / groups, rows]).reshape([batch, heads, rows])
    }
}

impl View {
    /// k, the number of states left by a cut.
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

    /// Which KV head of the layer decides, counted from 0, where every head does: `[1, groups, 1]`.
    pub fn head(&self) -> Tensor<3, Int> {
        let (groups, first) = (self.positions.dims()[1], self.first_head as i64);
        Tensor::<1, Int>::arange(first..first + groups as i64, &self.positions.device()).reshape([1, groups, 1])
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

    /// Slots that hold no row: `[batch, groups, rows]`.
    pub fn empty(&self) -> Tensor<3, Bool> {
        self.first(0)
    }

    /// Rows that no later query sees, `[batch, groups, rows]`; none where there can be none. They go first,
    /// whatever they score.
    pub(crate) fn dead(&self) -> Option<Tensor<3, Bool>> {
        self.window.map(|window| self.age().greater_equal_elem(window - 1))
    }

    /// A value per query head as one per decision, by the mean over those that share it.
    fn shared(&self, of_heads: Tensor<4>) -> Tensor<3> {
        let [batch, kv_heads, group, rows] = of_heads.dims();
        match self.decides {
            Decides::Layer => {
                of_heads.reshape([batch, 1, kv_heads * group, rows]).mean_dim(2).reshape([batch, 1, rows])
            }
            Decides::KvHead if group == 1 => of_heads.reshape([batch, kv_heads, rows]),
            Decides::KvHead => of_heads.mean_dim(2).reshape([batch, kv_heads, rows]),
        }
    }

    /// The current query's softmax weights on the rows, averaged over the query heads that share a
    /// decision: all of the layer, or the group of each KV head. `[batch, groups, rows]`, in at
    /// least f32; each sums to one.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::WEIGHTS`].
    pub fn weights(&self) -> Tensor<3> {
        self.shared(self.head_weights())
    }

    /// The highest of these weights instead of their mean: `[batch, groups, rows]`.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::WEIGHTS`].
    pub fn max_weights(&self) -> Tensor<3> {
        let weights = self.head_weights();
        let [batch, kv_heads, group, rows] = weights.dims();
        match self.decides {
            Decides::Layer => weights.reshape([batch, 1, kv_heads * group, rows]).max_dim(2).reshape([batch, 1, rows]),
            Decides::KvHead => weights.max_dim(2).reshape([batch, kv_heads, rows]),
        }
    }

    /// The current query's scaled logits, averaged as [`View::weights`]; what a hidden row has does not matter.
    ///
    /// # Panics
    ///
    /// When the rule does not see logits.
    pub fn logits(&self) -> Tensor<3> {
        self.shared(self.logits.clone().expect("a rule that looks at logits says that it sees them"))
    }

    /// The current query's softmax weights per query head: `[batch, kv_heads, group, rows]`.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::WEIGHTS`].
    pub fn head_weights(&self) -> Tensor<4> {
        self.weights.clone().expect("a rule that looks at weights declares Sees::WEIGHTS")
    }

    /// The softmax weights of the latest queries on the rows held, each query's own last, per query head:
    /// `[batch, kv_heads, group, queries, rows]`. Zero where a query came before the row, and of queries from
    /// before the text.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::queries`].
    pub fn latest_weights(&self) -> Tensor<5> {
        let Latest { logits, hidden } = self.latest();
        let dims = logits.dims();
        let nothing = hidden.clone().all_dim(4).expand(dims);
        softmax(logits.clone().mask_fill(hidden.clone(), f32::NEG_INFINITY)).mask_fill(nothing, 0.0)
    }

    /// The same before the softmax, −∞ where a query does not see a row.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::queries`].
    pub fn latest_logits(&self) -> Tensor<5> {
        let Latest { logits, hidden } = self.latest();
        widen(logits.clone()).mask_fill(hidden.clone(), f32::NEG_INFINITY)
    }

    fn latest(&self) -> &Latest {
        self.latest.as_ref().expect("a rule that looks at the latest queries declares Sees::queries")
    }

    /// The order of positions, for rules that look at neighbours.
    pub fn chronological(&self) -> Chronological {
        let int = self.positions.dtype().into();
        let order = self.positions.clone().argsort(2);
        let back = order.clone().argsort(2).cast::<burn::tensor::IntDType>(int);
        Chronological { order: order.cast::<burn::tensor::IntDType>(int), back }
    }

    /// The keys, rotated by the positions in use: `[batch, kv_heads, rows, head_dim]`.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::KEYS`].
    pub fn keys(&self) -> Tensor<4> {
        self.keys.clone().expect("a rule that looks at keys declares Sees::KEYS")
    }

    /// The values: `[batch, kv_heads, rows, head_dim]`.
    ///
    /// # Panics
    ///
    /// When the rule does not declare [`Sees::VALUES`].
    pub fn values(&self) -> Tensor<4> {
        self.values.clone().expect("a rule that looks at values declares Sees::VALUES")
    }
}

/// What a rule remembers of every row: channels of `[batch, groups, rows]`, in at least f32.
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
    /// When the rule declares no such channel.
    pub fn update(&mut self, channel: usize, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let slot = self.channels.get_mut(channel).expect("a rule declares its memory channels");
        slot.inplace(f);
        slot.clone()
    }

    /// A channel.
    ///
    /// # Panics
    ///
    /// When the rule declares no such channel.
    pub fn get(&self, channel: usize) -> Tensor<3> {
        self.channels.get(channel).expect("a rule declares its memory channels").clone()
    }
}
