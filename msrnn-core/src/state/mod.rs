//! The multi-state H of one attention layer: rows of keys and values, written in place.
//!
//! Rows live in *slots*. A state that is cut at every token has k + 1 slots, allocated once. Between two
//! steps exactly one slot is free; inside a step none is:
//!
//! ```text
//!   append    the new row is written into the free slot             k + 1 rows
//!   attend    over all of them                                      k + 1 rows
//!   omit      one row goes, its slot becomes the free one           k rows
//! ```
//!
//! Nothing is concatenated, gathered or copied, and the shape of a step never changes. Slots are
//! therefore not in chronological order; a row's age is read from its position. While the state
//! fills up, slot j holds the j-th row and the free slot is the count, so an unbounded
//! state is the same thing with a bound that is never reached and slots that grow geometrically.
//!
//! A state that is cut every n tokens has k + n slots, which fill up in order; a cut moves the k rows that
//! stay to the front.
//!
//! Which slot is free, how many tokens were seen and what the policy remembers are tensors on the
//! device: a step reads nothing back.
//!
//! - `slots.rs`: rows come and go; the only place that writes rows of burn's operations
//! - `cut.rs`: back to k rows at once
//! - `ragged.rs`: heads that hold different numbers of rows
//! - `packed.rs`, `repacked.rs`: rows in fewer bits, by `rounding.rs`
//! - `block.rs`: what is left of a block whose decisions were made on the host
//! - [`snapshot`]: saved and restored

mod block;
pub(crate) mod bound;
mod cut;
#[cfg(feature = "flex")]
pub(crate) mod flex;
pub(crate) mod packed;
mod ragged;
mod repacked;
mod replayed;
pub(crate) mod rounding;
mod slots;
pub mod snapshot;

use std::sync::Arc;

use burn::tensor::{Bool, DType, Device, Int, Tensor};

pub(crate) use block::Left;
use bound::Bound;

use crate::compression::Compression;
use crate::merging::Threshold;
use crate::packing::Packing;
use crate::policy::{Decides, Plan};
use crate::precision::accumulation;
use crate::score::Initial;
use crate::tensors::Memory;
use packed::{Of, Packed};
use ragged::ByHead;

/// Position of a slot that holds no row.
pub(crate) const EMPTY: i64 = -1;

/// Slots that an unbounded state starts with.
const FIRST_SLOTS: usize = 16;

/// What a state is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct StateShape {
    /// Independent states, one a batch row.
    pub batch: usize,
    /// KV heads; keys and values are never expanded to query heads.
    pub kv_heads: usize,
    /// Channels of a key and of a value.
    pub head_dim: usize,
    /// Which layer of the stack this is, counted from 0.
    pub layer: usize,
    /// Layers of the stack.
    pub layers: usize,
    /// dtype of keys and values.
    pub dtype: DType,
}

/// Positions that one token omitted, `[batch, groups, rows]`, −1 for nothing; none where no batch
/// row omitted anything. A step of a state that is cut at every token omits one row, other cuts many.
pub type Omitted = Option<Tensor<3, Int>>;

/// The multi-state of one layer. `clone` is a fork: the two go on independently.
#[derive(Clone, Debug)]
pub struct MultiState {
    pub(crate) shape: StateShape,
    /// What bounds it; none when nothing ever goes.
    pub(crate) bound: Option<Arc<Bound>>,
    /// How it holds rows; none as they were computed.
    pub(crate) packing: Option<Packing>,
    pub(crate) slots: usize,
    /// Which KV head of the layer is the first: not 0 of heads that are states of their own.
    pub(crate) first_head: usize,
    /// `[batch · kv_heads · slots, head_dim]`: flat, so that a row is written by one index. Of a packed state the
    /// places of whole rows, see `packed.rs`.
    pub(crate) keys: Tensor<2>,
    pub(crate) values: Tensor<2>,
    /// The rows that are packed. None where all are held as they were computed, and while a prompt is attended.
    pub(crate) packed: Option<Packed>,
    /// `[batch · groups, slots]`, −1 where a slot is empty.
    pub(crate) positions: Tensor<2, Int>,
    /// What is carried with every row, `[channels, batch · groups, slots]`; none without channels.
    pub(crate) memory: Option<Tensor<3>>,
    /// From which similarity on rows are merged, of thresholds that move, `[batch, units, mergings]`; none without such.
    pub(crate) thresholds: Option<Tensor<3>>,
    /// The free slot, `[batch · groups, 1]`.
    pub(crate) free: Tensor<2, Int>,
    /// Tokens seen, `[batch · groups, 1]`: the position of the next row.
    pub(crate) next: Tensor<2, Int>,
    /// Tokens seen by each batch row. The host knows them, since every step adds one.
    pub(crate) seen: Vec<usize>,
    /// Rows held by each batch row and head.
    pub(crate) held: Vec<usize>,
    /// Most rows held between two steps.
    pub(crate) max_rows: usize,
    /// The latest queries, `[batch, heads, queries, head_dim]`, scaled; none unless the rule looks at them.
    pub(crate) latest: Option<Tensor<4>>,
    /// One state for every batch row and head, in that order, where heads have plans of their own, and once heads that
    /// compete for the budget were cut. Then the rows are in these, and this state's own tensors hold nothing.
    pub(crate) heads: Vec<MultiState>,
    /// What heads do that have plans of their own: they cut themselves.
    by_head: Option<Arc<ByHead>>,
    /// What every token since the last look omitted, while it is recorded.
    pub(crate) omitted: Option<Vec<Omitted>>,
    /// Per batch row, the position of the token at whose step a row first went.
    pub(crate) first_omission: Vec<Option<usize>>,
    /// Decisions that were once made on scores that are not numbers, `[batch, groups, 1]`; none so far if absent.
    pub(crate) unscored: Option<Tensor<3, Bool>>,
}

impl MultiState {
    /// Tokens that a state can count, 2,147,483,647: positions have 32 bits on some devices, and are held
    /// against that number where one is the lowest.
    pub const MOST_TOKENS: usize = i32::MAX as usize;

    /// An empty state under a compression, which is asked for this layer's plan.
    pub fn new(shape: StateShape, compression: &Compression, device: &Device) -> Self {
        match Bound::plan(compression, &shape) {
            None => Self::bounded(shape, None, None, device),
            Some((policy, plan)) => Self::under(&policy, &plan, shape, device),
        }
    }

    /// The same under a plan.
    fn under(policy: &str, plan: &Plan, shape: StateShape, device: &Device) -> Self {
        let bound = Bound::of(policy, plan, &shape);
        let mut state = Self::bounded(shape, bound, plan.packing, device);
        state.set_heads(policy, plan);
        state
    }

    fn bounded(shape: StateShape, bound: Option<Arc<Bound>>, packing: Option<Packing>, device: &Device) -> Self {
        let slots = bound.as_ref().and_then(|bound| bound.limit()).unwrap_or(FIRST_SLOTS);
        let decides = bound.as_ref().map_or(Decides::Layer, |bound| bound.decides());
        let channels = bound.as_ref().map_or(0, |bound| bound.channels().len());
        let groups = shape.batch * decides.groups(shape.kv_heads);
        let rows = shape.batch * shape.kv_heads * slots;
        let wide: DType = accumulation(shape.dtype).into();
        let zeros = || Tensor::zeros([rows, shape.head_dim], (device, shape.dtype));
        Self {
            keys: zeros(),
            values: zeros(),
            positions: Tensor::full([groups, slots], EMPTY, device),
            memory: (channels > 0).then(|| Tensor::zeros([channels, groups, slots], (device, wide))),
            free: Tensor::zeros([groups, 1], device),
            next: Tensor::zeros([groups, 1], device),
            seen: vec![0; shape.batch],
            held: vec![0; shape.batch],
            max_rows: 0,
            latest: None,
            thresholds: Self::unset_thresholds(&shape, bound.as_deref(), device),
            heads: Vec::new(),
            by_head: None,
            omitted: None,
            first_omission: vec![None; shape.batch],
            unscored: None,
            bound,
            packing: None,
            packed: None,
            first_head: 0,
            slots,
            shape,
        }
        .holding(packing)
    }

    /// Thresholds that move, before any cut.
    fn unset_thresholds(shape: &StateShape, bound: Option<&Bound>, device: &Device) -> Option<Tensor<3>> {
        let dims = bound?.thresholds(shape.batch, shape.kv_heads)?;
        let wide: DType = accumulation(shape.dtype).into();
        Some(Tensor::full(dims, Threshold::UNSET, (device, wide)))
    }

    /// What the state is made for.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// How keys and values are held; none as they were computed.
    pub fn packing(&self) -> Option<Packing> {
        self.packing
    }

    /// The bound k of this layer, or none.
    pub fn states(&self) -> Option<usize> {
        self.bound.as_ref().map(|bound| bound.states)
    }

    /// Slots allocated per row and head; the most of any, where heads hold different numbers of rows.
    pub fn slots(&self) -> usize {
        self.heads.iter().map(Self::slots).max().unwrap_or(self.slots)
    }

    /// Rows of each head at which the state is cut back to k; none where it grows.
    pub fn cut_at(&self) -> Option<usize> {
        if self.is_by_head() {
            return self.heads.iter().map(Self::cut_at).try_fold(0, |most, at| Some(most.max(at?)));
        }
        self.bound.as_ref().and_then(|bound| bound.limit())
    }

    /// Slots allocated per row and head, on average over the heads.
    pub fn mean_slots(&self) -> f64 {
        match self.heads.len() {
            0 => self.slots as f64,
            heads => self.heads.iter().map(|head| head.slots).sum::<usize>() as f64 / heads as f64,
        }
    }

    /// What is bounded by itself: every head that has a plan of its own, or all of them as one.
    pub fn parts(&self) -> &[Self] {
        match self.is_by_head() {
            true => &self.heads,
            false => std::slice::from_ref(self),
        }
    }

    pub(crate) fn decides(&self) -> Decides {
        if self.is_by_head() {
            return Decides::KvHead;
        }
        self.bound.as_ref().map_or(Decides::Layer, |bound| bound.decides())
    }

    /// Independent decisions per batch row: 1 when layer-wise, `kv_heads` when head-wise.
    pub fn groups(&self) -> usize {
        self.decides().groups(self.shape.kv_heads)
    }

    /// Tokens seen by each batch row.
    pub fn seen(&self) -> &[usize] {
        &self.seen
    }

    /// Rows held by each head of each batch row, on average over the heads.
    pub fn rows_held(&self) -> &[usize] {
        &self.held
    }

    /// Most rows that were carried from one step to the next so far.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Per batch row, the position of the token at whose step a row first went; none where every row that came
    /// is still held. What tokens after it attend to is less than all that came before them.
    pub fn first_omission(&self) -> &[Option<usize>] {
        &self.first_omission
    }

    /// Whether the next step has the same shape as the one after it: a row goes in every batch row.
    pub fn is_steady(&self) -> bool {
        if self.is_by_head() {
            return self.heads.iter().all(Self::is_steady);
        }
        self.is_strict() && self.all_full()
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.keys.device()
    }

    /// Positions of the next `n` tokens of every batch row, `[batch, n]`.
    pub fn ahead(&self, n: usize) -> Tensor<2, Int> {
        let (batch, groups) = (self.shape.batch, self.groups());
        let next = self.next.clone().reshape([batch, groups]).narrow(1, 0, 1).expand([batch, n]);
        if n == 1 {
            return next;
        }
        next + Tensor::<1, Int>::arange(0..n as i64, &self.device()).reshape([1, n]).expand([batch, n])
    }

    /// Original position of the row in every slot, −1 where it is empty: `[batch, groups, slots]`.
    pub fn positions(&self) -> Tensor<3, Int> {
        if self.is_ragged() {
            return self.padded_positions();
        }
        self.positions.clone().reshape([self.shape.batch, self.groups(), self.slots])
    }

    /// Keys in every slot, `[batch, kv_heads, slots, head_dim]`. Of heads that hold different numbers of rows a copy,
    /// filled up with zeros; of packed rows what they stand for, in the accumulation dtype.
    ///
    /// Drop the tensor before the next step: while it lives, that step must copy the state.
    pub fn keys(&self) -> Tensor<4> {
        match &self.packed {
            _ if self.is_ragged() => self.padded(Self::keys),
            Some(packed) => self.unpacked(packed, Of::Keys),
            None => self.four(&self.keys),
        }
    }

    /// Values in every slot; see [`MultiState::keys`].
    pub fn values(&self) -> Tensor<4> {
        match &self.packed {
            _ if self.is_ragged() => self.padded(Self::values),
            Some(packed) => self.unpacked(packed, Of::Values),
            None => self.four(&self.values),
        }
    }

    fn four(&self, rows: &Tensor<2>) -> Tensor<4> {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        rows.clone().reshape([batch, kv_heads, self.slots, head_dim])
    }

    /// Positions held, oldest first, per batch row and group. Reads the device.
    pub fn held(&self) -> Vec<Vec<Vec<i64>>> {
        if self.is_ragged() {
            let of_heads: Vec<Vec<i64>> = self.heads.iter().map(|head| head.held().remove(0).remove(0)).collect();
            return of_heads.chunks(self.shape.kv_heads).map(<[_]>::to_vec).collect();
        }
        let data = self.positions.to_data().convert::<i64>();
        let positions: &[i64] = data.as_slice().expect("positions are integers");
        let sorted = |slots: &[i64]| {
            let mut held: Vec<i64> = slots.iter().copied().filter(|&p| p >= 0).collect();
            held.sort_unstable();
            held
        };
        let groups: Vec<Vec<i64>> = positions.chunks(self.slots).map(sorted).collect();
        groups.chunks(self.groups()).map(<[_]>::to_vec).collect()
    }

    /// Bytes allocated: keys, values, packed ones with their scales, positions, what the policy carries, its latest
    /// queries, its thresholds and the counters. Where heads have plans of their own, those of the heads; beside them the layer has a few
    /// integers a head and two empty rows, which are not counted.
    pub fn bytes(&self) -> usize {
        let heads: usize = self.heads.iter().map(Self::bytes).sum();
        if self.is_by_head() {
            return heads;
        }
        let int = self.positions.dtype().size();
        let numbers = self.keys.shape().num_elements() + self.values.shape().num_elements();
        let rows = numbers * self.shape.dtype.size() + self.packed.as_ref().map_or(0, Packed::bytes);
        let positions = self.positions.shape().num_elements() * int;
        let memory = self.memory.as_ref().map_or(0, |m| m.shape().num_elements() * m.dtype().size());
        let latest = self.latest.as_ref().map_or(0, |x| x.shape().num_elements() * x.dtype().size());
        let thresholds = self.thresholds.as_ref().map_or(0, |x| x.shape().num_elements() * x.dtype().size());
        let counters = 2 * self.free.shape().num_elements() * int;
        rows + positions + memory + latest + thresholds + counters + heads
    }

    /// From now on keeps which positions are omitted, until [`MultiState::take_omitted`].
    pub fn record_omissions(&mut self) {
        self.omitted.get_or_insert_default();
        self.heads.iter_mut().for_each(Self::record_omissions);
    }

    /// What every token since the last call omitted, oldest first. Empty unless it is recorded.
    pub fn take_omitted(&mut self) -> Vec<Omitted> {
        let mut omitted = self.omitted.as_mut().map(std::mem::take).unwrap_or_default();
        omitted.extend(self.take_omitted_by_heads());
        omitted
    }

    /// Whether a row goes at every token once the state is full.
    pub(crate) fn is_strict(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.is_strict())
    }

    /// Whether it carries numbers of which one may change at any token.
    pub(crate) fn remembers(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.remembers())
    }

    pub(crate) fn channels(&self) -> Vec<Initial> {
        self.bound.as_ref().map_or_else(Vec::new, |bound| bound.channels())
    }

    /// Slots that hold rows are among the first that many.
    pub(crate) fn used(&self) -> usize {
        match self.is_strict() && self.any_full() {
            true => self.slots,
            false => self.held.iter().max().copied().unwrap_or(0),
        }
    }

    /// Rows that take part in the next step, the new one included: slots `0..rows`.
    pub(crate) fn rows_in_step(&self) -> usize {
        (self.held.iter().max().map_or(0, |held| held + 1)).min(self.slots.max(1))
    }

    /// Whether a batch row has to omit rows in the next step.
    pub(crate) fn is_full(&self, row: usize) -> bool {
        self.bound.as_ref().and_then(|bound| bound.limit()).is_some_and(|limit| self.held[row] + 1 >= limit)
    }

    pub(crate) fn any_full(&self) -> bool {
        (0..self.shape.batch).any(|row| self.is_full(row))
    }

    pub(crate) fn all_full(&self) -> bool {
        (0..self.shape.batch).all(|row| self.is_full(row))
    }

    /// How many of the next `n` tokens make no row go in any batch row.
    pub(crate) fn room(&self, n: usize) -> usize {
        match self.bound.as_ref().and_then(|bound| bound.limit()) {
            Some(limit) => self.held.iter().map(|held| (limit - 1).saturating_sub(*held)).min().unwrap_or(0).min(n),
            None => n,
        }
    }

    /// Whether every batch row has seen equally many tokens and holds equally many rows.
    #[cfg(feature = "flex")]
    pub(crate) fn is_level(&self) -> bool {
        self.seen.iter().all(|&seen| seen == self.seen[0]) && self.held.iter().all(|&held| held == self.held[0])
    }

    /// Whether every row that came is held, in its order.
    #[cfg(feature = "flex")]
    pub(crate) fn is_whole(&self) -> bool {
        self.seen == self.held
    }

    /// Position of the newest token but `ahead` that any batch row has seen.
    pub(crate) fn newest(&self, ahead: usize) -> usize {
        self.seen.iter().max().copied().unwrap_or(0) + ahead
    }

    /// Slots that are empty, `[batch, groups, rows]`, of the first `rows`.
    pub(crate) fn empty(&self, rows: usize) -> Tensor<3, Bool> {
        self.positions().narrow(2, 0, rows).lower_elem(0)
    }

    /// Position of the token that is being attended, `[batch, groups, 1]`.
    pub(crate) fn now(&self) -> Tensor<3, Int> {
        self.next.clone().reshape([self.shape.batch, self.groups(), 1])
    }

    /// What is carried with the rows of the first `rows` slots. To be returned.
    pub(crate) fn lend_memory(&self, rows: usize) -> Memory {
        let dims = [self.shape.batch, self.groups(), rows];
        let channel =
            |memory: &Tensor<3>, channel| memory.clone().narrow(0, channel, 1).narrow(2, 0, rows).reshape(dims);
        let channels = self.memory.iter().flat_map(|memory| (0..memory.dims()[0]).map(|c| channel(memory, c)));
        Memory { channels: channels.collect() }
    }

    pub(crate) fn return_memory(&mut self, memory: Memory, rows: usize) {
        let groups = self.shape.batch * self.groups();
        let whole = rows == self.slots;
        let Some(own) = &mut self.memory else { return };
        let channels = memory.channels.len();
        let returned = memory.channels.into_iter().map(|channel| channel.reshape([1, groups, rows])).collect();
        let returned = Tensor::cat(returned, 0);
        match whole {
            true => *own = returned,
            false => own.inplace(|own| own.slice_assign([0..channels, 0..groups, 0..rows], returned)),
        }
    }

    /// Takes note of the latest queries, `[batch, heads, n, head_dim]`, if the rule looks at them.
    pub(crate) fn note_queries(&mut self, query: &Tensor<4>) {
        let wanted = self.bound.as_ref().map_or(0, |bound| bound.sees().queries);
        if wanted == 0 {
            return;
        }
        let [batch, heads, n, head_dim] = query.dims();
        if n >= wanted {
            // A copy, so that the rest of the block is not kept alive with it.
            self.latest = Some(Tensor::cat(vec![query.clone().narrow(2, n - wanted, wanted)], 2));
            return;
        }
        let before = self
            .latest
            .take()
            .unwrap_or_else(|| Tensor::zeros([batch, heads, wanted, head_dim], (&query.device(), query.dtype())));
        self.latest = Some(Tensor::cat(vec![before.narrow(2, n, wanted - n), query.clone()], 2));
    }

    /// Takes note that a row goes at the step of the token at that position.
    pub(crate) fn omits(&mut self, row: usize, position: usize) {
        self.first_omission[row].get_or_insert(position);
    }

    /// Takes note that `n` tokens come of which those that find the state full make a row go.
    pub(crate) fn omit_where_full(&mut self, n: usize) {
        for row in 0..self.shape.batch {
            if let Some(states) = self.states().filter(|states| self.held[row] + n > *states) {
                self.omits(row, self.seen[row] + states.saturating_sub(self.held[row]));
            }
        }
    }

    /// Counts `n` tokens of which none made a row go.
    pub(crate) fn count_held(&mut self, n: usize) {
        for (seen, held) in self.seen.iter_mut().zip(&mut self.held) {
            *seen += n;
            *held += n;
            self.max_rows = self.max_rows.max(*held);
        }
        if self.bound.as_ref().is_none_or(|bound| bound.limit().is_none()) {
            let most = self.held.iter().max().copied().unwrap_or(0);
            self.grow(most + 1);
        }
    }

    /// Counts `n` tokens each of which made a row go where it found the state full.
    pub(crate) fn count_omitting(&mut self, n: usize) {
        match self.states().filter(|_| self.is_strict()) {
            None => self.count_held(n),
            Some(states) => {
                for (seen, held) in self.seen.iter_mut().zip(&mut self.held) {
                    *seen += n;
                    *held = (*held + n).min(states);
                    self.max_rows = self.max_rows.max(*held);
                }
            }
        }
    }
}
