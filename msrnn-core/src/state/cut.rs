//! Back to k rows at once.

use burn::tensor::{Int, Tensor, TensorData};

use super::{EMPTY, FIRST_SLOTS, MultiState, StateShape};

impl MultiState {
    /// Counts the token that was appended last, at whose step rows go: keeps the given slots only, in their order,
    /// which become the first ones.
    ///
    /// `keep`: per batch row and group the slots that stay, ascending; in all groups of a batch row equally many.
    /// The rows must be in the first slots, as they are in a state whose slots fill up in order.
    pub(crate) fn advance_cutting(&mut self, keep: &[Vec<Vec<usize>>]) {
        let most_rows = self.max_rows;
        self.advance_whole();
        self.cut(keep);
        self.max_rows = self.held.iter().copied().fold(most_rows, usize::max);
    }

    fn cut(&mut self, keep: &[Vec<Vec<usize>>]) {
        let StateShape { batch, kv_heads, .. } = self.shape;
        let (old, groups, device) = (self.slots, self.groups(), self.device());
        let kept: Vec<usize> = keep.iter().map(|groups| groups.first().map_or(0, Vec::len)).collect();
        let most = kept.iter().max().copied().unwrap_or(0);
        let limit = self.bound.as_ref().and_then(|bound| bound.limit());
        let more = self.bound.as_ref().and_then(|bound| bound.room_after_cut()).map_or(FIRST_SLOTS, |room| room + 1);
        let slots = limit.map_or(most + more, |limit| limit.max(most));
        let cut: Vec<bool> = kept.iter().zip(&self.held).map(|(kept, held)| kept < held).collect();

        // What an empty slot holds does not matter.
        let slot_of = |row: usize, group: usize, slot: usize| keep[row][group].get(slot).copied();
        let mut rows = Vec::with_capacity(batch * kv_heads * slots);
        for row in 0..batch {
            for head in 0..kv_heads {
                let group = if groups == 1 { 0 } else { head };
                let first = (row * kv_heads + head) * old;
                rows.extend((0..slots).map(|slot| (first + slot_of(row, group, slot).unwrap_or(0)) as i64));
            }
        }
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [batch * kv_heads * slots]), &device);
        let packed = self.cut_packed(&rows, slots);
        if self.packed.is_none() {
            self.keys.inplace(|keys| keys.select(0, rows.clone()));
            self.values.inplace(|values| values.select(0, rows));
        }

        let before = self.positions.to_data().convert::<i64>();
        let before: &[i64] = before.as_slice().expect("positions are integers");
        if self.omitted.is_some() {
            self.log_cut(keep, &cut, before);
        }
        let place = |i: usize, slot: usize| slot_of(i / groups, i % groups, slot);
        let positions = (0..batch * groups)
            .flat_map(|i| (0..slots).map(move |slot| place(i, slot).map_or(EMPTY, |slot| before[i * old + slot])));
        let integers = |values: Vec<i64>, dims| Tensor::<2, Int>::from_data(TensorData::new(values, dims), &device);
        self.positions = integers(positions.collect(), [batch * groups, slots]);
        if let Some(memory) = &mut self.memory {
            let channels = memory.dims()[0];
            let from = (0..batch * groups).flat_map(|i| (0..slots).map(move |slot| place(i, slot).unwrap_or(0) as i64));
            let from = integers(from.collect(), [batch * groups, slots]).reshape([1, batch * groups, slots]);
            memory.inplace(|memory| memory.gather(2, from.expand([channels, batch * groups, slots])));
        }
        let free = (0..batch * groups).map(|i| kept[i / groups] as i64).collect();
        self.free = integers(free, [batch * groups, 1]);
        for (row, _) in cut.iter().enumerate().filter(|(_, cut)| **cut) {
            self.omits(row, self.seen[row] - 1);
        }
        self.held = kept;
        self.slots = slots;
        if self.packed.is_some() {
            self.packed_cut(packed, &cut);
        }
    }

    /// Writes down which positions go, as omitted by the newest token.
    fn log_cut(&mut self, keep: &[Vec<Vec<usize>>], cut: &[bool], positions: &[i64]) {
        let (batch, groups, slots) = (self.shape.batch, self.groups(), self.slots);
        let gone = |row: usize, group: usize| {
            let kept = &keep[row][group];
            let of = (row * groups + group) * slots;
            (0..self.held[row]).filter(|slot| kept.binary_search(slot).is_err()).map(move |slot| positions[of + slot])
        };
        let most = (0..batch).map(|row| gone(row, 0).count()).max().unwrap_or(0);
        let mut all = Vec::with_capacity(batch * groups * most);
        for row in 0..batch {
            for group in 0..groups {
                let before = all.len();
                all.extend(gone(row, group));
                all.resize(before + most, EMPTY);
            }
        }
        let all = Tensor::from_data(TensorData::new(all, [batch, groups, most]), &self.device());
        let log = self.omitted.as_mut().expect("it is recorded");
        *log.last_mut().expect("a token was counted") = cut.contains(&true).then_some(all);
    }
}
