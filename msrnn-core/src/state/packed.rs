//! Rows of a state that are packed, and the newest beside them that are whole.
//!
//! A packed state has a code for every slot, and keeps its whole rows apart, in the tensors that are else those of all
//! rows: a row whose number is i at place i mod the most that can be whole. That number is its position where rows are
//! told by position (per token), and its slot where they are told by slot (per channel). So a row that is packed moves nothing,
//! and one that goes frees its slot as in any state.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

#[cfg(feature = "flex")]
use super::flex;
use super::rounding::{Codes, Grid};
use super::{EMPTY, MultiState, StateShape};
#[cfg(feature = "flex")]
use crate::kernels;
use crate::kernels::read;
use crate::packing::{Packing, Per, Side};
use crate::precision::{accumulation, narrow};

/// What a packed state has beside its whole rows.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) packing: Packing,
    pub(crate) keys: Codes,
    pub(crate) values: Codes,
    /// Rows of which number on are whole, of keys and of values, by batch row.
    pub(crate) whole_from: [Vec<usize>; 2],
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Keys,
    Values,
}

impl Of {
    pub(crate) const BOTH: [Self; 2] = [Self::Keys, Self::Values];
}

impl Packed {
    pub(crate) fn side(&self, of: Of) -> &Side {
        match of {
            Of::Keys => &self.packing.keys,
            Of::Values => &self.packing.values,
        }
    }

    pub(crate) fn codes(&self, of: Of) -> &Codes {
        match of {
            Of::Keys => &self.keys,
            Of::Values => &self.values,
        }
    }

    pub(crate) fn codes_mut(&mut self, of: Of) -> &mut Codes {
        match of {
            Of::Keys => &mut self.keys,
            Of::Values => &mut self.values,
        }
    }

    pub(crate) fn grid(&self, of: Of, head_dim: usize) -> Grid {
        Grid::of(&self.packing, self.side(of), head_dim)
    }

    pub(crate) fn whole_from(&self, of: Of) -> &[usize] {
        &self.whole_from[of as usize]
    }

    /// Bytes of codes and scales.
    pub(crate) fn bytes(&self) -> usize {
        let of = |codes: &Codes| {
            let scales = codes.scales.shape().num_elements() + codes.lows.shape().num_elements();
            codes.words.shape().num_elements() * codes.words.dtype().size() + scales * codes.scales.dtype().size()
        };
        of(&self.keys) + of(&self.values)
    }
}

impl MultiState {
    /// Whether steps read packed rows as they are where this state lies.
    pub(crate) fn is_read_packed(&self) -> bool {
        #[cfg(feature = "flex")]
        if kernels::allowed() {
            return flex::packs(self);
        }
        false
    }

    /// Rounds rows whose moment has come, in the host's memory; false where there is no kernel for it.
    fn pack_in_memory(&self, packed: &mut Packed, of: Of, due: &[usize]) -> bool {
        #[cfg(feature = "flex")]
        if self.is_read_packed() {
            flex::pack(self, packed, of, due);
            return true;
        }
        let _ = (packed, of, due);
        false
    }

    /// The same state, which is empty, holding its rows as a plan says.
    pub(crate) fn holding(mut self, packing: Option<Packing>) -> Self {
        self.packing = packing;
        self.pack_empty();
        self
    }

    /// Makes an empty state hold rows as it should.
    pub(super) fn pack_empty(&mut self) {
        let Some(packing) = self.packing else { return };
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (rows, device) = (batch * kv_heads, self.device());
        let codes = |side: &Side| Grid::of(&packing, side, head_dim).zeros(rows, self.slots, dtype, &device);
        let (keys, values) = (codes(&packing.keys), codes(&packing.values));
        let whole = |side: &Side| Tensor::zeros([rows * side.whole(), head_dim], (&device, dtype));
        (self.keys, self.values) = (whole(&packing.keys), whole(&packing.values));
        self.packed = Some(Packed { packing, keys, values, whole_from: [vec![0; batch], vec![0; batch]] });
    }

    /// Lets an empty state hold all rows whole, as a prompt needs that is attended before it is rounded.
    pub(crate) fn unpack(&mut self) {
        if self.packed.take().is_none() {
            return;
        }
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let zeros = || Tensor::zeros([batch * kv_heads * self.slots, head_dim], (&self.keys.device(), dtype));
        (self.keys, self.values) = (zeros(), zeros());
    }

    /// Packs what came since [`MultiState::unpack`].
    pub(crate) fn pack(&mut self) {
        if self.is_ragged() {
            return self.heads.iter_mut().for_each(Self::pack);
        }
        if self.packed.is_some() || self.packing.is_none() {
            return;
        }
        let (keys, values) = (self.keys.clone(), self.values.clone());
        self.pack_empty();
        let all = vec![true; self.shape.batch];
        for (of, rows) in [(Of::Keys, keys), (Of::Values, values)] {
            self.fill(of, rows, &all);
        }
    }

    pub(super) fn whole(&self, of: Of) -> &Tensor<2> {
        match of {
            Of::Keys => &self.keys,
            Of::Values => &self.values,
        }
    }

    pub(super) fn whole_mut(&mut self, of: Of) -> &mut Tensor<2> {
        match of {
            Of::Keys => &mut self.keys,
            Of::Values => &mut self.values,
        }
    }

    /// Rows that have come, by which it is told how many are packed: by batch row.
    pub(crate) fn came(&self, per: Per) -> &[usize] {
        match per {
            Per::Token => &self.seen,
            Per::Channel => &self.held,
        }
    }

    /// How many tokens can come before rows are packed, at least one; no limit where nothing is.
    pub(crate) fn until_packed(&self) -> usize {
        let Some(packed) = &self.packed else { return usize::MAX };
        let left = |of| {
            let side = packed.side(of);
            let each = self.came(side.per).iter().zip(packed.whole_from(of));
            each.map(|(came, from)| (from + side.whole()).saturating_sub(*came)).min().unwrap_or(usize::MAX)
        };
        Of::BOTH.into_iter().map(left).min().unwrap_or(usize::MAX).max(1)
    }

    /// The number of the row in every slot, `[rows, slots]`, −1 where there is none. `slots`: at least as many as there are.
    pub(super) fn numbers(&self, per: Per, slots: usize) -> Tensor<2, Int> {
        let StateShape { batch, kv_heads, .. } = self.shape;
        let rows = batch * kv_heads;
        match per {
            Per::Token => {
                let groups = self.groups();
                let dims = [batch, groups, kv_heads / groups, self.slots];
                let positions = self.positions.clone().reshape([batch, groups, 1, self.slots]).expand(dims);
                positions.reshape([rows, self.slots])
            }
            Per::Channel => {
                // One more than is held, which a step has written and not counted.
                let of_row = |row: usize| {
                    let last = self.held[row / kv_heads];
                    (0..slots).map(move |slot| if slot <= last { slot as i64 } else { EMPTY })
                };
                let data: Vec<i64> = (0..rows).flat_map(of_row).collect();
                Tensor::from_data(TensorData::new(data, [rows, slots]), &self.device())
            }
        }
    }

    /// A number for each batch row, for each of its heads: `[rows, columns]`
    pub(super) fn of_heads(&self, by_row: &[usize], columns: usize) -> Tensor<2, Int> {
        let kv_heads = self.shape.kv_heads;
        let data: Vec<i64> = by_row.iter().flat_map(|&x| std::iter::repeat_n(x as i64, kv_heads)).collect();
        let rows = data.len();
        Tensor::<2, Int>::from_data(TensorData::new(data, [rows, 1]), &self.device()).expand([rows, columns])
    }

    /// What lies at the places of whole rows of these numbers, `[rows, slots, head_dim]` in the accumulation dtype.
    fn at_places(&self, of: Of, numbers: Tensor<2, Int>) -> Tensor<3> {
        let [rows, slots] = numbers.dims();
        let places = self.whole(of).dims()[0] / rows;
        let first = Tensor::<1, Int>::arange(0..rows as i64, &self.device()).mul_scalar(places as i64);
        let place =
            numbers.clamp_min(0).remainder_scalar(places as i64) + first.reshape([rows, 1]).expand([rows, slots]);
        let wide = accumulation(self.shape.dtype).into();
        read(self.whole(of).clone().select(0, place.reshape([rows * slots])), wide).reshape([
            rows,
            slots,
            self.shape.head_dim,
        ])
    }

    /// Keys or values of all slots, `[batch, kv_heads, slots, head_dim]` in the accumulation dtype.
    pub(crate) fn unpacked(&self, packed: &Packed, of: Of) -> Tensor<4> {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (rows, slots) = (batch * kv_heads, self.slots);
        let numbers = self.numbers(packed.side(of).per, slots);
        let whole = numbers.clone().greater_equal(self.of_heads(packed.whole_from(of), slots));
        let whole = whole.reshape([rows, slots, 1]).expand([rows, slots, head_dim]);
        let codes = packed.grid(of, head_dim).read(packed.codes(of), rows, dtype);
        codes.mask_where(whole, self.at_places(of, numbers)).reshape([batch, kv_heads, slots, head_dim])
    }

    /// Writes new rows to the places of whole ones. `[batch, kv_heads, n, head_dim]`, n as many as have room.
    pub(crate) fn write_whole(&mut self, packed: &Packed, of: Of, new: Tensor<4>) {
        let [batch, kv_heads, n, head_dim] = new.dims();
        let places = packed.side(of).whole();
        let came = self.came(packed.side(of).per);
        let to = (0..batch * kv_heads).flat_map(|row| {
            let first = came[row / kv_heads];
            (first..first + n).map(move |number| (row * places + number % places) as i64)
        });
        let to = Tensor::<1, Int>::from_data(TensorData::new(to.collect(), [batch * kv_heads * n]), &self.device());
        let new = narrow(new.reshape([batch * kv_heads * n, head_dim]), self.shape.dtype);
        self.whole_mut(of).inplace(|whole| whole.select_assign(0, to, new, IndexingUpdateOp::Assign));
    }

    /// Packs the rows whose moment has come.
    pub(crate) fn pack_due(&mut self) {
        let Some(mut packed) = self.packed.take() else { return };
        for of in Of::BOTH {
            let side = *packed.side(of);
            let due: Vec<usize> = self.came(side.per).iter().map(|&came| side.packed(came)).collect();
            if due.iter().zip(packed.whole_from(of)).all(|(due, from)| due <= from) {
                continue;
            }
            if !self.pack_in_memory(&mut packed, of, &due) {
                self.pack_up_to(&mut packed, of, &due);
            }
            packed.whole_from[of as usize] = due;
        }
        self.packed = Some(packed);
    }

    /// Rounds the rows of numbers below `due` that are whole.
    pub(crate) fn pack_up_to(&self, packed: &mut Packed, of: Of, due: &[usize]) {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (rows, slots) = (batch * kv_heads, self.slots);
        let (per, grid) = (packed.side(of).per, packed.grid(of, head_dim));
        let numbers = self.numbers(per, slots);
        let rounded = grid.round(self.at_places(of, numbers.clone()), dtype);
        let from = self.of_heads(packed.whole_from(of), slots);
        let now = numbers.clone().greater_equal(from).bool_and(numbers.lower(self.of_heads(due, slots)));
        let [lines, each] = grid.scales(slots);
        let of_lines = match per {
            Per::Token => now.clone().reshape([rows * slots, 1]),
            // Whole groups are packed, from the first row of one on.
            Per::Channel => {
                let first = Tensor::<1, Int>::arange(0..lines as i64, &self.device()).mul_scalar(grid.group as i64);
                let first = first.reshape([1, lines]).expand([rows, lines]);
                let from = self.of_heads(packed.whole_from(of), lines);
                let now = first.clone().greater_equal(from).bool_and(first.lower(self.of_heads(due, lines)));
                now.reshape([rows * lines, 1])
            }
        };
        let words = grid.bits.words(head_dim);
        let of_words = now.reshape([rows * slots, 1]).expand([rows * slots, words]);
        let of_lines = of_lines.expand([rows * lines, each]);
        let codes = packed.codes_mut(of);
        codes.words.inplace(|words| words.mask_where(of_words, rounded.words));
        codes.scales.inplace(|scales| scales.mask_where(of_lines.clone(), rounded.scales));
        codes.lows.inplace(|lows| lows.mask_where(of_lines, rounded.lows));
    }
}
