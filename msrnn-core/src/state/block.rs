//! What is left of a block whose decisions were made on the host.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::packed::Of;
use super::{EMPTY, MultiState, StateShape};
use crate::precision::narrow;

/// What a block leaves of one decision's rows. Candidates are the rows in the used slots, by slot, and then the
/// new ones.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    /// Of every candidate, −1 for an empty slot.
    pub(crate) positions: &'a [i64],
    /// Whether it is held.
    pub(crate) alive: &'a [bool],
    /// What is carried with every candidate, by channel.
    pub(crate) channels: &'a [Vec<f64>],
    /// By token of the block: position omitted.
    pub(crate) omitted: &'a [Option<i64>],
    /// Whether some decision had to be made on scores that are not numbers.
    pub(crate) unscored: bool,
}

impl MultiState {
    /// Writes the new rows that are left into slots that hold none, and takes over what the decisions left, one
    /// for every batch row and group. `[batch, kv_heads, n, head_dim]`
    pub(crate) fn take_in(&mut self, key: Tensor<4>, value: Tensor<4>, left: &[Left<'_>], used: usize) {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (groups, slots, n, device) = (self.groups(), self.slots, key.dims()[2], self.device());
        let channels = self.channels().len();
        let mut positions = vec![EMPTY; batch * groups * slots];
        let mut memory = vec![0.0; channels * batch * groups * slots];
        let mut free = Vec::with_capacity(batch * groups);
        // Which new row goes where, per decision: (index in the block, slot).
        let mut moves: Vec<Vec<(usize, usize)>> = Vec::with_capacity(left.len());
        for (index, left) in left.iter().enumerate() {
            let of = index * slots;
            let mut empty = (0..slots).filter(|&slot| slot >= used || !left.alive[slot]);
            let mut place = |slot: usize, candidate: usize| {
                positions[of + slot] = left.positions[candidate];
                for (channel, values) in left.channels.iter().enumerate() {
                    memory[(channel * batch * groups) * slots + of + slot] = values[candidate];
                }
            };
            (0..used).filter(|&slot| left.alive[slot]).for_each(|slot| place(slot, slot));
            let survivors = (0..n).filter(|&i| left.alive[used + i]);
            let moved: Vec<(usize, usize)> = survivors.zip(empty.by_ref()).collect();
            moved.iter().for_each(|&(i, slot)| place(slot, used + i));
            moves.push(moved);
            free.push(empty.next().map_or(slots as i64, |slot| slot as i64));
        }

        if let Some(packed) = self.packed.take() {
            self.write_whole(&packed, Of::Keys, key.clone());
            self.write_whole(&packed, Of::Values, value.clone());
            self.packed = Some(packed);
            // A new row is told by its number, whatever its slot.
            moves.iter_mut().for_each(Vec::clear);
        }
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for row in 0..batch {
            for head in 0..kv_heads {
                let group = if groups == 1 { 0 } else { head };
                let of = row * kv_heads + head;
                for &(i, slot) in &moves[row * groups + group] {
                    from.push((of * n + i) as i64);
                    to.push((of * slots + slot) as i64);
                }
            }
        }
        if !from.is_empty() {
            let index = |rows: Vec<i64>| {
                let n = rows.len();
                Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &device)
            };
            let (from, to) = (index(from), index(to));
            let assign = IndexingUpdateOp::Assign;
            let rows = |x: Tensor<4>| {
                narrow(x.reshape([batch * kv_heads * n, head_dim]).select(0, from.clone()), self.shape.dtype)
            };
            let (key, value) = (rows(key), rows(value));
            self.keys.inplace(|keys| keys.select_assign(0, to.clone(), key, assign));
            self.values.inplace(|values| values.select_assign(0, to, value, assign));
        }
        let integers =
            |values: Vec<i64>, dims: [usize; 2]| Tensor::<2, Int>::from_data(TensorData::new(values, dims), &device);
        self.positions = integers(positions, [batch * groups, slots]);
        self.free = integers(free, [batch * groups, 1]);
        if let Some(own) = &mut self.memory {
            let dtype = own.dtype();
            let data = TensorData::new(memory, [channels, batch * groups, slots]).convert_dtype(dtype);
            *own = Tensor::from_data(data, (&device, dtype));
        }
        self.next.inplace(|next| next.add_scalar(n as i64));
        for (index, left) in left.iter().enumerate() {
            let row = index / groups;
            if let Some(first) = left.omitted.iter().position(Option::is_some) {
                self.omits(row, self.seen[row] + first);
            }
        }
        if left.iter().any(|left| left.unscored) {
            self.note_unscored_by(&left.iter().map(|left| left.unscored).collect::<Vec<_>>());
        }
        if let Some(log) = &mut self.omitted {
            log.extend((0..n).map(|i| {
                let gone: Vec<i64> = left.iter().map(|left| left.omitted[i].unwrap_or(EMPTY)).collect();
                let any = gone.iter().any(|&position| position >= 0);
                any.then(|| Tensor::<3, Int>::from_data(TensorData::new(gone, [batch, groups, 1]), &device))
            }));
        }
        match left.iter().any(|left| left.omitted.iter().any(Option::is_some)) {
            true => self.count_omitting(n),
            false => self.count_held(n),
        }
        self.pack_due();
    }
}
