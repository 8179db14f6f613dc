//! The multi-state H of one attention layer: rows of keys and values, written in place.
//!
//! Rows live in *slots*. A bounded state of k rows has k + 1 slots, allocated once. Between two
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
//! fills up, slot j holds the row of position j and the free slot is the count, so an unbounded
//! state is the same thing with a bound that is never reached and slots that grow geometrically.
//!
//! Which slot is free, how many tokens were seen and what the policy remembers are tensors on the
//! device: a step reads nothing back.

use burn::tensor::{Bool, DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::policy::{Compression, Granularity, Memory, Rows};
use crate::precision::{accumulation, narrow};

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
    /// dtype of keys and values.
    pub dtype: DType,
}

/// Positions that one token omitted, `[batch, groups, rows]`, −1 for nothing; none where no batch
/// row omitted anything. A step omits one row, the cut after a prefill many.
pub type Omitted = Option<Tensor<3, Int>>;

/// The multi-state of one layer. `clone` is a fork: the two go on independently.
#[derive(Clone, Debug)]
pub struct MultiState {
    pub(crate) shape: StateShape,
    pub(crate) granularity: Granularity,
    /// k, or none when unbounded.
    pub(crate) states: Option<usize>,
    pub(crate) slots: usize,
    /// `[batch · kv_heads · slots, head_dim]`: flat, so that a row is written by one index.
    pub(crate) keys: Tensor<2>,
    pub(crate) values: Tensor<2>,
    /// `[batch · groups, slots]`, −1 where a slot is empty.
    pub(crate) positions: Tensor<2, Int>,
    /// The policy's memory, `[batch · groups, slots]` a channel.
    pub(crate) memory: Vec<Tensor<2>>,
    /// The free slot, `[batch · groups, 1]`.
    pub(crate) free: Tensor<2, Int>,
    /// Tokens seen, `[batch · groups, 1]`: the position of the next row.
    pub(crate) next: Tensor<2, Int>,
    /// Tokens seen by each batch row. The host knows them, since every step adds one.
    pub(crate) seen: Vec<usize>,
    /// Most rows held between two steps.
    pub(crate) max_rows: usize,
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

    /// An empty state under a compression.
    pub fn new(shape: StateShape, compression: &Compression, device: &Device) -> Self {
        let (states, slots) = match compression.states() {
            Some(states) => (Some(states), states + 1),
            None => (None, FIRST_SLOTS),
        };
        let granularity = compression.granularity();
        let groups = shape.batch * granularity.groups(shape.kv_heads);
        let rows = shape.batch * shape.kv_heads * slots;
        let wide: DType = accumulation(shape.dtype).into();
        let zeros = || Tensor::zeros([rows, shape.head_dim], (device, shape.dtype));
        Self {
            keys: zeros(),
            values: zeros(),
            positions: Tensor::full([groups, slots], EMPTY, device),
            memory: (0..compression.memory()).map(|_| Tensor::zeros([groups, slots], (device, wide))).collect(),
            free: Tensor::zeros([groups, 1], device),
            next: Tensor::zeros([groups, 1], device),
            seen: vec![0; shape.batch],
            max_rows: 0,
            omitted: None,
            first_omission: vec![None; shape.batch],
            unscored: None,
            granularity,
            states,
            slots,
            shape,
        }
    }

    /// What the state is made for.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// The bound k, or none.
    pub fn states(&self) -> Option<usize> {
        self.states
    }

    /// Slots allocated per row and head.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Independent decisions per batch row: 1 when layer-wise, `kv_heads` when head-wise.
    pub fn groups(&self) -> usize {
        self.granularity.groups(self.shape.kv_heads)
    }

    /// Tokens seen by each batch row.
    pub fn seen(&self) -> &[usize] {
        &self.seen
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

    /// Whether the next step has the same shape as the one after it: every batch row is full.
    pub fn is_steady(&self) -> bool {
        self.all_full()
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
        self.positions.clone().reshape([self.shape.batch, self.groups(), self.slots])
    }

    /// Keys in every slot, `[batch, kv_heads, slots, head_dim]`.
    ///
    /// Drop the tensor before the next step: while it lives, that step must copy the state.
    pub fn keys(&self) -> Tensor<4> {
        self.four(&self.keys)
    }

    /// Values in every slot; see [`MultiState::keys`].
    pub fn values(&self) -> Tensor<4> {
        self.four(&self.values)
    }

    fn four(&self, rows: &Tensor<2>) -> Tensor<4> {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        rows.clone().reshape([batch, kv_heads, self.slots, head_dim])
    }

    /// Positions held, oldest first, per batch row and group. Reads the device.
    pub fn held(&self) -> Vec<Vec<Vec<i64>>> {
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

    /// Bytes allocated: keys, values, positions, the policy's memory and the counters.
    pub fn bytes(&self) -> usize {
        let int = self.positions.dtype().size();
        let rows = 2 * self.keys.shape().num_elements() * self.shape.dtype.size();
        let positions = self.positions.shape().num_elements() * int;
        let memory: usize = self.memory.iter().map(|m| m.shape().num_elements() * m.dtype().size()).sum();
        let counters = 2 * self.free.shape().num_elements() * int;
        rows + positions + memory + counters
    }

    /// Forgets everything in one batch row, which starts again at position 0.
    pub fn reset(&mut self, row: usize) {
        let (groups, per_row) = (self.groups(), self.shape.kv_heads * self.slots);
        let of_row = row * groups..(row + 1) * groups;
        let rows = row * per_row..(row + 1) * per_row;
        self.keys.inplace(|keys| keys.slice_fill([rows.clone()], 0));
        self.values.inplace(|values| values.slice_fill([rows], 0));
        self.positions.inplace(|positions| positions.slice_fill([of_row.clone()], EMPTY));
        for channel in &mut self.memory {
            channel.inplace(|channel| channel.slice_fill([of_row.clone()], 0));
        }
        self.free.inplace(|free| free.slice_fill([of_row.clone()], 0));
        self.next.inplace(|next| next.slice_fill([of_row], 0));
        self.seen[row] = 0;
        self.first_omission[row] = None;
        if let Some(unscored) = self.unscored.take() {
            let dims = unscored.dims();
            let of_row = Tensor::zeros([1, dims[1], dims[2]], &unscored.device());
            self.unscored = Some(unscored.int().slice_assign([row..row + 1, 0..dims[1], 0..dims[2]], of_row).bool());
        }
    }

    /// Takes note that a row goes at the step of the token at that position.
    pub(crate) fn omits(&mut self, row: usize, position: usize) {
        self.first_omission[row].get_or_insert(position);
    }

    /// Takes note that `n` tokens come of which those that find the state full make a row go.
    pub(crate) fn omit_where_full(&mut self, n: usize) {
        for row in 0..self.shape.batch {
            if let Some(states) = self.states.filter(|states| self.seen[row] + n > *states) {
                self.omits(row, self.seen[row].max(states));
            }
        }
    }

    /// From now on keeps which positions are omitted, until [`MultiState::take_omitted`].
    pub fn record_omissions(&mut self) {
        self.omitted.get_or_insert_default();
    }

    /// What every token since the last call omitted, oldest first. Empty unless it is recorded.
    pub fn take_omitted(&mut self) -> Vec<Omitted> {
        self.omitted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Rows that take part in the next step, the new one included: slots `0..rows`.
    pub(crate) fn rows_in_step(&self) -> usize {
        (self.seen.iter().max().map_or(0, |seen| seen + 1)).min(self.slots)
    }

    /// Whether a batch row has to omit a row in the next step.
    pub(crate) fn is_full(&self, row: usize) -> bool {
        self.states.is_some_and(|states| self.seen[row] >= states)
    }

    pub(crate) fn any_full(&self) -> bool {
        (0..self.shape.batch).any(|row| self.is_full(row))
    }

    pub(crate) fn all_full(&self) -> bool {
        (0..self.shape.batch).all(|row| self.is_full(row))
    }

    /// Whether every batch row has seen equally many tokens.
    pub(crate) fn is_level(&self) -> bool {
        self.seen.iter().all(|&seen| seen == self.seen[0])
    }

    /// Slots that are empty, `[batch, groups, rows]`, of the first `rows`.
    pub(crate) fn empty(&self, rows: usize) -> Tensor<3, Bool> {
        self.positions().narrow(2, 0, rows).lower_elem(0)
    }

    /// Position of the token that is being attended, `[batch, groups, 1]`.
    pub(crate) fn now(&self) -> Tensor<3, Int> {
        self.next.clone().reshape([self.shape.batch, self.groups(), 1])
    }

    /// The policy's memory of the first `rows` slots. To be returned.
    pub(crate) fn lend_memory(&mut self, rows: usize) -> Memory {
        let dims = [self.shape.batch, self.groups(), rows];
        let whole = rows == self.slots;
        let lend = |channel: &mut Tensor<2>| match whole {
            true => channel.extract().reshape(dims),
            false => channel.clone().narrow(1, 0, rows).reshape(dims),
        };
        Memory { channels: self.memory.iter_mut().map(lend).collect() }
    }

    pub(crate) fn return_memory(&mut self, memory: Memory, rows: usize) {
        let groups = self.shape.batch * self.groups();
        let whole = rows == self.slots;
        for (channel, returned) in self.memory.iter_mut().zip(memory.channels) {
            let returned = returned.reshape([groups, rows]);
            match whole {
                true => *channel = returned,
                false => channel.inplace(|channel| channel.slice_assign([0..groups, 0..rows], returned)),
            }
        }
    }

    /// Replaces all keys and values.
    pub(crate) fn set_rows(&mut self, rows: Rows) {
        let dims = self.keys.dims();
        self.keys = rows.keys.reshape(dims);
        self.values = rows.values.reshape(dims);
    }

    /// Makes room for `rows` rows in an unbounded state, which else is copied whenever its slots are used
    /// up. A bounded state has its slots from the start, and stays as it is.
    pub fn reserve(&mut self, rows: usize) {
        if self.states.is_none() {
            // And the free slot.
            self.grow(rows + 1);
        }
    }

    /// Makes room for `rows` slots. Only states in chronological order can be given room.
    pub(crate) fn grow(&mut self, rows: usize) {
        if rows <= self.slots {
            return;
        }
        let slots = match self.states {
            None => rows.max(2 * self.slots),
            Some(_) => rows,
        };
        let (old, added, device) = (self.slots, slots - self.slots, self.device());
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let is_empty = self.seen.iter().all(|&seen| seen == 0);
        let grow = |rows: Tensor<2>| {
            if is_empty {
                return Tensor::zeros([batch * kv_heads * slots, head_dim], (&device, dtype));
            }
            let more = Tensor::zeros([batch * kv_heads, added, head_dim], (&device, dtype));
            Tensor::cat(vec![rows.reshape([batch * kv_heads, old, head_dim]), more], 1)
                .reshape([batch * kv_heads * slots, head_dim])
        };
        self.keys.inplace(grow);
        self.values.inplace(grow);
        let groups = batch * self.groups();
        self.positions.inplace(|p| Tensor::cat(vec![p, Tensor::full([groups, added], EMPTY, &device)], 1));
        for channel in &mut self.memory {
            let more = Tensor::zeros([groups, added], (&device, channel.dtype()));
            channel.inplace(|channel| Tensor::cat(vec![channel, more], 1));
        }
        self.slots = slots;
    }

    /// Writes one row per batch row and head into the free slots. `[batch, kv_heads, head_dim]`
    pub(crate) fn append(&mut self, key: Tensor<3>, value: Tensor<3>) {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (rows, groups) = (batch * kv_heads, self.groups());
        let device = self.device();
        let first = Tensor::<1, Int>::arange(0..rows as i64, &device).mul_scalar(self.slots as i64);
        let free = self.free.clone().reshape([batch, groups]).expand([batch, kv_heads]).reshape([rows]);
        let slot = first + free;
        let assign = IndexingUpdateOp::Assign;
        let stored = |row: Tensor<3>| narrow(row.reshape([rows, head_dim]), dtype);
        let (key, value) = (stored(key), stored(value));
        self.keys.inplace(|keys| keys.select_assign(0, slot.clone(), key, assign));
        self.values.inplace(|values| values.select_assign(0, slot, value, assign));
        let (free, next) = (self.free.clone(), self.next.clone());
        self.positions.inplace(|positions| positions.scatter(1, free.clone(), next, assign));
        for channel in &mut self.memory {
            let zero = Tensor::zeros(free.dims(), (&device, channel.dtype()));
            channel.inplace(|channel| channel.scatter(1, free.clone(), zero, assign));
        }
    }

    /// Writes a block of rows into slots that are still empty: `[batch, kv_heads, n, head_dim]`.
    /// Every batch row must have seen equally many tokens and have room for them all.
    pub(crate) fn append_block(&mut self, key: Tensor<4>, value: Tensor<4>) {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (first, n, slots) = (self.seen[0], key.dims()[2], self.slots);
        debug_assert!(self.is_level() && first + n <= slots);
        let block = [0..batch * kv_heads, first..first + n, 0..head_dim];
        let write = |rows: Tensor<2>, new: Tensor<4>| {
            rows.reshape([batch * kv_heads, slots, head_dim])
                .slice_assign(block.clone(), narrow(new.reshape([batch * kv_heads, n, head_dim]), dtype))
                .reshape([batch * kv_heads * slots, head_dim])
        };
        self.keys.inplace(|keys| write(keys, key));
        self.values.inplace(|values| write(values, value));
        let groups = batch * self.groups();
        let new = Tensor::<1, Int>::arange(first as i64..(first + n) as i64, &self.device());
        let new = new.reshape([1, n]).expand([groups, n]);
        self.positions.inplace(|positions| positions.slice_assign([0..groups, first..first + n], new));
    }

    /// Counts one more token, and frees the slot of the `omitted` row in the batch rows that are
    /// full: `[batch, groups, 1]`, none when no batch row is.
    pub(crate) fn advance(&mut self, omitted: Option<Tensor<3, Int>>) {
        let (batch, groups) = (self.shape.batch, self.groups());
        let all_full = self.all_full();
        if omitted.is_some() {
            for row in (0..batch).filter(|&row| self.is_full(row)).collect::<Vec<_>>() {
                self.omits(row, self.seen[row]);
            }
        }
        self.next.inplace(|next| next.add_scalar(1));
        let mut gone = None;
        // Slots fill up in order: until a state is full the next free one is the number of tokens.
        self.free = match omitted {
            None => self.next.clone(),
            Some(slot) => {
                let slot = slot.reshape([batch * groups, 1]);
                let states = self.states.expect("only a bounded state omits") as i64;
                let filling = (!all_full).then(|| self.next.clone().lower_equal_elem(states));
                if self.omitted.is_some() {
                    let position = self.positions.clone().gather(1, slot.clone());
                    let position = match &filling {
                        Some(filling) => position.mask_fill(filling.clone(), EMPTY),
                        None => position,
                    };
                    gone = Some(position.reshape([batch, groups, 1]));
                }
                let free = match filling {
                    Some(filling) => slot.mask_where(filling, self.next.clone()),
                    None => slot,
                };
                let empty = Tensor::full([batch * groups, 1], EMPTY, &self.next.device());
                let assign = IndexingUpdateOp::Assign;
                self.positions.inplace(|positions| positions.scatter(1, free.clone(), empty, assign));
                free
            }
        };
        if let Some(log) = &mut self.omitted {
            log.push(gone);
        }
        self.count(1);
    }

    /// Counts a block of tokens that [`MultiState::append_block`] wrote, none of them omitted.
    pub(crate) fn advance_block(&mut self, n: usize) {
        self.next.inplace(|next| next.add_scalar(n as i64));
        self.free = self.next.clone();
        if let Some(log) = &mut self.omitted {
            log.extend(std::iter::repeat_n(None, n));
        }
        self.count(n);
    }

    pub(crate) fn count(&mut self, n: usize) {
        for seen in &mut self.seen {
            *seen += n;
            self.max_rows = self.max_rows.max((*seen).min(self.slots - usize::from(self.states.is_some())));
        }
        if self.states.is_none() {
            let most = self.seen.iter().max().copied().unwrap_or(0);
            self.grow(most + 1);
        }
    }

    /// Keeps the given slots only, oldest first, and goes back to k + 1 slots.
    ///
    /// `keep`: slots per batch row and group, k each. The state must be in chronological order, as
    /// it is after a block.
    pub(crate) fn cut(&mut self, keep: &[Vec<Vec<usize>>], states: usize) {
        let StateShape { batch, kv_heads, .. } = self.shape;
        let (old, slots, groups, device) = (self.slots, states + 1, self.groups(), self.device());
        (0..batch).for_each(|row| self.omits(row, self.seen[row] - 1));
        // The last slot is the free one; what it holds does not matter.
        let slot_of = |row: usize, group: usize, slot: usize| keep[row][group].get(slot).copied().unwrap_or(0);
        let mut rows = Vec::with_capacity(batch * kv_heads * slots);
        for row in 0..batch {
            for head in 0..kv_heads {
                let group = if groups == 1 { 0 } else { head };
                rows.extend((0..slots).map(|slot| ((row * kv_heads + head) * old + slot_of(row, group, slot)) as i64));
            }
        }
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [batch * kv_heads * slots]), &device);
        self.keys.inplace(|keys| keys.select(0, rows.clone()));
        self.values.inplace(|values| values.select(0, rows));

        let kept: Vec<i64> = (0..batch * groups)
            .flat_map(|i| (0..slots).map(move |slot| slot_of(i / groups, i % groups, slot) as i64))
            .collect();
        let kept = Tensor::<2, Int>::from_data(TensorData::new(kept, [batch * groups, slots]), &device);
        if let Some(log) = &mut self.omitted {
            let gone: Vec<i64> = keep.iter().flatten().flat_map(|kept| absent(kept, self.seen[0])).collect();
            let n = self.seen[0] - states;
            let gone = Tensor::from_data(TensorData::new(gone, [batch, groups, n]), &device);
            *log.last_mut().expect("a block was recorded") = Some(gone);
        }
        self.positions.inplace(|positions| {
            let free = Tensor::full([batch * groups, 1], EMPTY, &device);
            positions.gather(1, kept.clone()).slice_assign([0..batch * groups, states..slots], free)
        });
        for channel in &mut self.memory {
            channel.inplace(|channel| channel.gather(1, kept.clone()));
        }
        self.free = Tensor::full([batch * groups, 1], states as i64, &device);
        self.slots = slots;
    }
}

/// The numbers below `n` that are not in `kept`, which is ascending.
fn absent(kept: &[usize], n: usize) -> impl Iterator<Item = i64> {
    (0..n).filter(|slot| kept.binary_search(slot).is_err()).map(|slot| slot as i64)
}
