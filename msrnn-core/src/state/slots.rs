//! Rows come into slots and leave them.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};

use super::packed::Of;
use super::{EMPTY, MultiState, StateShape};
use crate::kernels::read;
use crate::merging::Threshold;
use crate::policy::Decides;
use crate::precision::{accumulation, narrow};
use crate::score::Initial;
use crate::tensors::Rows;

impl MultiState {
    /// Forgets everything in one batch row, which starts again at position 0.
    pub fn reset(&mut self, row: usize) {
        let (groups, per_row) = (self.groups(), self.shape.kv_heads * self.slots);
        let of_row = row * groups..(row + 1) * groups;
        if self.is_ragged() {
            self.reset_heads(row);
            self.next.inplace(|next| next.slice_fill([of_row], 0));
            (self.seen[row], self.held[row], self.first_omission[row]) = (0, 0, None);
            return;
        }
        let rows = row * per_row..(row + 1) * per_row;
        if self.packed.is_some() {
            self.reset_packed(row);
        } else {
            self.keys.inplace(|keys| keys.slice_fill([rows.clone()], 0));
            self.values.inplace(|values| values.slice_fill([rows], 0));
        }
        self.positions.inplace(|positions| positions.slice_fill([of_row.clone()], EMPTY));
        if let Some(memory) = &mut self.memory {
            let channels = memory.dims()[0];
            memory.inplace(|memory| memory.slice_fill([0..channels, of_row.clone()], 0));
        }
        if let Some(thresholds) = &mut self.thresholds {
            let own = row..row + 1;
            thresholds.inplace(|thresholds| thresholds.slice_fill([own], Threshold::UNSET));
        }
        self.free.inplace(|free| free.slice_fill([of_row.clone()], 0));
        self.next.inplace(|next| next.slice_fill([of_row], 0));
        self.seen[row] = 0;
        self.held[row] = 0;
        self.first_omission[row] = None;
        if let Some(unscored) = self.unscored.take() {
            let dims = unscored.dims();
            let of_row = Tensor::zeros([1, dims[1], dims[2]], &unscored.device());
            self.unscored = Some(unscored.int().slice_assign([row..row + 1, 0..dims[1], 0..dims[2]], of_row).bool());
        }
    }

    /// Makes room for `rows` rows in a state that grows, which else is copied whenever its slots are used
    /// up. A state with a bound has its slots from the start, and stays as it is.
    pub fn reserve(&mut self, rows: usize) {
        self.heads.iter_mut().for_each(|head| head.reserve(rows));
        if self.bound.as_ref().is_none_or(|bound| bound.limit().is_none()) && !self.is_ragged() {
            // And the free slot.
            self.grow(rows + 1);
        }
    }

    /// Makes room for `rows` slots. Only states whose slots fill up in order can be given room.
    pub(crate) fn grow(&mut self, rows: usize) {
        if rows <= self.slots {
            return;
        }
        let slots = match self.bound.as_ref().and_then(|bound| bound.limit()) {
            None => rows.max(2 * self.slots),
            Some(_) => rows,
        };
        let (old, added, device) = (self.slots, slots - self.slots, self.device());
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let is_empty = self.held.iter().all(|&held| held == 0);
        let grow = |rows: Tensor<2>| {
            if is_empty {
                return Tensor::zeros([batch * kv_heads * slots, head_dim], (&device, dtype));
            }
            let more = Tensor::zeros([batch * kv_heads, added, head_dim], (&device, dtype));
            Tensor::cat(vec![rows.reshape([batch * kv_heads, old, head_dim]), more], 1)
                .reshape([batch * kv_heads * slots, head_dim])
        };
        if self.packed.is_none() {
            self.keys.inplace(grow);
            self.values.inplace(grow);
        }
        let groups = batch * self.groups();
        self.positions.inplace(|p| Tensor::cat(vec![p, Tensor::full([groups, added], EMPTY, &device)], 1));
        if let Some(memory) = &mut self.memory {
            let more = Tensor::zeros([memory.dims()[0], groups, added], (&device, memory.dtype()));
            memory.inplace(|memory| Tensor::cat(vec![memory, more], 2));
        }
        self.slots = slots;
        self.grow_packed(old);
    }

    /// What the channels hold of new rows, `[channels, batch · groups, n]`; none without channels.
    /// key, value: `[batch, kv_heads, n, head_dim]`
    pub(crate) fn initial(&self, key: &Tensor<4>, value: &Tensor<4>) -> Option<Tensor<3>> {
        let channels = self.channels();
        if channels.is_empty() {
            return None;
        }
        let [batch, kv_heads, n, _] = key.dims();
        let wide: DType = accumulation(self.shape.dtype).into();
        let groups = self.groups();
        let norm = |x: &Tensor<4>| {
            let x = read(narrow(x.clone(), self.shape.dtype), wide);
            let of_heads = (x.clone() * x).sum_dim(3).sqrt().reshape([batch, kv_heads, n]);
            let of_deciders = match self.decides() {
                Decides::Layer => of_heads.mean_dim(1),
                Decides::KvHead => of_heads,
            };
            of_deciders.reshape([1, batch * groups, n])
        };
        let channel = |initial: &Initial| match initial {
            Initial::Zero => Tensor::zeros([1, batch * groups, n], (&self.device(), wide)),
            Initial::KeyNorm => norm(key),
            Initial::ValueNorm => norm(value),
        };
        Some(Tensor::cat(channels.iter().map(channel).collect(), 0))
    }

    /// Writes what the channels hold of one new row per batch row into the free slots.
    pub(crate) fn begin_memory(&mut self, initial: Option<Tensor<3>>) {
        let (Some(memory), Some(initial)) = (&mut self.memory, initial) else { return };
        let [channels, groups, _] = initial.dims();
        let free = self.free.clone().reshape([1, groups, 1]).expand([channels, groups, 1]);
        memory.inplace(|memory| memory.scatter(2, free, initial, IndexingUpdateOp::Assign));
    }

    /// Writes one row per batch row and head into the free slots. `[batch, kv_heads, head_dim]`
    pub(crate) fn append(&mut self, key: Tensor<3>, value: Tensor<3>) {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let one = |x: &Tensor<3>| x.clone().reshape([batch, kv_heads, 1, head_dim]);
        let initial = self.initial(&one(&key), &one(&value));
        self.begin_memory(initial);
        match self.packed.take() {
            Some(packed) => {
                self.write_whole(&packed, Of::Keys, one(&key));
                self.write_whole(&packed, Of::Values, one(&value));
                self.packed = Some(packed);
            }
            None => self.append_row(key, value),
        }
        let (free, next) = (self.free.clone(), self.next.clone());
        self.positions.inplace(|positions| positions.scatter(1, free, next, IndexingUpdateOp::Assign));
    }

    /// Keys and values of the same.
    fn append_row(&mut self, key: Tensor<3>, value: Tensor<3>) {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (rows, groups, device) = (batch * kv_heads, self.groups(), self.device());
        let first = Tensor::<1, Int>::arange(0..rows as i64, &device).mul_scalar(self.slots as i64);
        let free = self.free.clone().reshape([batch, groups]).expand([batch, kv_heads]).reshape([rows]);
        let slot = first + free;
        let assign = IndexingUpdateOp::Assign;
        let stored = |row: Tensor<3>| narrow(row.reshape([rows, head_dim]), dtype);
        let (key, value) = (stored(key), stored(value));
        self.keys.inplace(|keys| keys.select_assign(0, slot.clone(), key, assign));
        self.values.inplace(|values| values.select_assign(0, slot, value, assign));
    }

    /// Replaces all keys and values.
    pub(crate) fn set_rows(&mut self, rows: Rows) {
        if self.packed.is_some() {
            return self.set_packed(rows);
        }
        let dims = self.keys.dims();
        self.keys = rows.keys.reshape(dims);
        self.values = rows.values.reshape(dims);
    }

    /// Counts one more token of a state none of whose rows goes.
    pub(crate) fn advance_holding(&mut self) {
        self.advance_whole();
        self.pack_due();
    }

    /// The same before any row is packed.
    pub(crate) fn advance_whole(&mut self) {
        self.next.inplace(|next| next.add_scalar(1));
        // Slots fill up in order.
        self.free.inplace(|free| free.add_scalar(1));
        if let Some(log) = &mut self.omitted {
            log.push(None);
        }
        self.count_held(1);
    }

    /// Counts one more token, and frees the slot of the `omitted` row in the batch rows that are
    /// full: `[batch, groups, 1]`. Of states that are cut at every token.
    pub(crate) fn advance_omitting(&mut self, omitted: Tensor<3, Int>) {
        let (batch, groups) = (self.shape.batch, self.groups());
        let full: Vec<bool> = (0..batch).map(|row| self.is_full(row)).collect();
        for row in (0..batch).filter(|&row| full[row]) {
            self.omits(row, self.seen[row]);
        }
        let slot = omitted.reshape([batch * groups, 1]);
        let filling = (!full.iter().all(|&full| full)).then(|| {
            let filling: Vec<bool> = full.iter().flat_map(|&full| std::iter::repeat_n(!full, groups)).collect();
            Tensor::<1, burn::tensor::Bool>::from_data(filling.as_slice(), &self.device()).reshape([batch * groups, 1])
        });
        self.next.inplace(|next| next.add_scalar(1));
        if let Some(log) = &mut self.omitted {
            let position = self.positions.clone().gather(1, slot.clone());
            let position = match &filling {
                Some(filling) => position.mask_fill(filling.clone(), EMPTY),
                None => position,
            };
            log.push(Some(position.reshape([batch, groups, 1])));
        }
        let free = match filling {
            Some(filling) => slot.mask_where(filling, self.free.clone().add_scalar(1)),
            None => slot,
        };
        let empty = Tensor::full([batch * groups, 1], EMPTY, &self.next.device());
        self.positions.inplace(|positions| positions.scatter(1, free.clone(), empty, IndexingUpdateOp::Assign));
        self.free = free;
        self.count_omitting(1);
        self.pack_due();
    }
}
