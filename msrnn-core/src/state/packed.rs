//! Rows of a state that are packed, and the newest beside them that are whole.
//!
//! A packed state has a code for every slot, and keeps its whole rows apart, in the tensors that are else those of all
//! rows: a row whose number is i at place i mod the most that can be whole. That number is its position where rows are
//! told by position (per token), and its slot where they are told by slot (per channel). So a row that is packed moves nothing,
//! and one that goes frees its slot as in any state.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::rounding::{Codes, Grid};
use super::{EMPTY, MultiState, StateShape};
use crate::packing::{Packing, Per, Side};
use crate::precision::{accumulation, narrow, read};
use crate::tensors::Rows;

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
    /// The same state, which is empty, holding its rows as a plan says.
    pub(crate) fn holding(mut self, packing: Option<Packing>) -> Self {
        self.packing = packing;
        self.pack_empty();
        self
    }

    /// Makes an empty state hold rows as it should.
    fn pack_empty(&mut self) {
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
        for (of, rows) in [(Of::Keys, keys), (Of::Values, values)] {
            self.fill(of, rows);
        }
    }

    fn whole(&self, of: Of) -> &Tensor<2> {
        match of {
            Of::Keys => &self.keys,
            Of::Values => &self.values,
        }
    }

    fn whole_mut(&mut self, of: Of) -> &mut Tensor<2> {
        match of {
            Of::Keys => &mut self.keys,
            Of::Values => &mut self.values,
        }
    }

    /// Rows that have come, by which it is told how many are packed: by batch row.
    fn came(&self, per: Per) -> &[usize] {
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
    fn numbers(&self, per: Per, slots: usize) -> Tensor<2, Int> {
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
    fn of_heads(&self, by_row: &[usize], columns: usize) -> Tensor<2, Int> {
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
        let place = numbers.clamp_min(0).remainder_scalar(places as i64) + first.reshape([rows, 1]).expand([rows, slots]);
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
            self.pack_up_to(&mut packed, of, &due);
            packed.whole_from[of as usize] = due;
        }
        self.packed = Some(packed);
    }

    /// Rounds the rows of numbers below `due` that are whole.
    fn pack_up_to(&self, packed: &mut Packed, of: Of, due: &[usize]) {
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

    /// Takes over the rows of all slots, `[rows · slots, head_dim]`, packed and whole anew as their numbers say.
    fn fill(&mut self, of: Of, rows: Tensor<2>) {
        let mut packed = self.packed.take().expect("a packed state is filled");
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (heads, slots, side) = (batch * kv_heads, self.slots, *packed.side(of));
        let due: Vec<usize> = self.came(side.per).iter().map(|&came| side.packed(came)).collect();
        let wide = accumulation(dtype).into();
        let rounded = packed.grid(of, head_dim).round(read(rows.clone(), wide).reshape([heads, slots, head_dim]), dtype);
        *packed.codes_mut(of) = rounded;
        self.fill_whole(side, of, rows, &due);
        packed.whole_from[of as usize] = due;
        self.packed = Some(packed);
    }

    /// Writes the whole ones among the rows of all slots, and zeros elsewhere.
    fn fill_whole(&mut self, side: Side, of: Of, rows: Tensor<2>, from: &[usize]) {
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (heads, slots, places, device) = (batch * kv_heads, self.slots, side.whole(), self.device());
        let numbers = self.numbers(side.per, slots).into_data().convert::<i64>();
        let numbers: &[i64] = numbers.as_slice().expect("numbers of rows are integers");
        let (mut source, mut to) = (Vec::new(), Vec::new());
        for (index, &number) in numbers.iter().enumerate() {
            let (head, slot) = (index / slots, index % slots);
            let row = head / kv_heads;
            // Per channel the slot behind the last row counts as one, and holds none here.
            let counted = side.per == Per::Token || slot < self.held[row];
            if counted && number >= from[row] as i64 {
                source.push(index as i64);
                to.push((head * places + number as usize % places) as i64);
            }
        }
        let empty = Tensor::zeros([heads * places, head_dim], (&device, dtype));
        *self.whole_mut(of) = match source.len() {
            0 => empty,
            n => {
                let index = |rows: Vec<i64>| Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &device);
                let rows = narrow(rows.select(0, index(source)), dtype);
                empty.select_assign(0, index(to), rows, IndexingUpdateOp::Assign)
            }
        };
    }

    /// Replaces rows by others: of packed ones those that differ are rounded anew. `[batch, kv_heads, slots, head_dim]`
    pub(crate) fn set_packed(&mut self, new: Rows) {
        let mut packed = self.packed.take().expect("a packed state's rows are set");
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (heads, slots) = (batch * kv_heads, self.slots);
        for (of, new) in [(Of::Keys, new.keys), (Of::Values, new.values)] {
            let new = new.reshape([heads, slots, head_dim]);
            let before = self.unpacked(&packed, of).reshape([heads, slots, head_dim]);
            let differ = new.clone().not_equal(before).any_dim(2).reshape([heads * slots, 1]);
            let side = *packed.side(of);
            assert_eq!(side.per, Per::Token, "rows that share scales are not replaced one by one");
            let grid = packed.grid(of, head_dim);
            let rounded = grid.round(new.clone(), dtype);
            let codes = packed.codes_mut(of);
            let of_words = differ.clone().expand(codes.words.dims());
            let of_lines = differ.expand(codes.scales.dims());
            codes.words.inplace(|words| words.mask_where(of_words, rounded.words));
            codes.scales.inplace(|scales| scales.mask_where(of_lines.clone(), rounded.scales));
            codes.lows.inplace(|lows| lows.mask_where(of_lines, rounded.lows));
            let from = packed.whole_from(of).to_vec();
            self.fill_whole(side, of, new.reshape([heads * slots, head_dim]), &from);
        }
        self.packed = Some(packed);
    }

    /// Makes room for slots, from `old` to `self.slots`.
    pub(crate) fn grow_packed(&mut self, old: usize) {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (heads, slots) = (batch * kv_heads, self.slots);
        let Some(packed) = &mut self.packed else { return };
        for of in Of::BOTH {
            let grid = packed.grid(of, head_dim);
            let codes = packed.codes_mut(of);
            let words = grid.bits.words(head_dim);
            codes.words.inplace(|x| {
                let more = Tensor::zeros([heads, slots - old, words], (&x.device(), x.dtype()));
                Tensor::cat(vec![x.reshape([heads, old, words]), more], 1).reshape([heads * slots, words])
            });
            let ([before, each], [after, _]) = (grid.scales(old), grid.scales(slots));
            if after == before {
                continue;
            }
            let grow = |x: Tensor<2>| {
                let more = Tensor::zeros([heads, after - before, each], (&x.device(), x.dtype()));
                Tensor::cat(vec![x.reshape([heads, before, each]), more], 1).reshape([heads * after, each])
            };
            codes.scales.inplace(grow);
            codes.lows.inplace(grow);
        }
    }

    /// Keeps the rows of the given slots only, `[rows · slots]` of them, before slots and what is held are counted anew:
    /// per token as they are, per channel read, to be rounded anew by [`MultiState::packed_cut`].
    pub(crate) fn cut_packed(&mut self, keep: &Tensor<1, Int>) -> [Option<Tensor<2>>; 2] {
        let Some(mut packed) = self.packed.take() else { return [None, None] };
        let head_dim = self.shape.head_dim;
        let kept = Of::BOTH.map(|of| match packed.side(of).per {
            Per::Token => {
                let codes = packed.codes_mut(of);
                codes.words.inplace(|words| words.select(0, keep.clone()));
                codes.scales.inplace(|scales| scales.select(0, keep.clone()));
                codes.lows.inplace(|lows| lows.select(0, keep.clone()));
                None
            }
            Per::Channel => {
                let all = self.unpacked(&packed, of);
                let [batch, kv_heads, slots, _] = all.dims();
                Some(all.reshape([batch * kv_heads * slots, head_dim]).select(0, keep.clone()))
            }
        });
        self.packed = Some(packed);
        kept
    }

    /// Rounds what [`MultiState::cut_packed`] kept, once slots and rows held are counted, and packs what is due.
    pub(crate) fn packed_cut(&mut self, kept: [Option<Tensor<2>>; 2]) {
        for (of, kept) in Of::BOTH.into_iter().zip(kept) {
            if let Some(rows) = kept {
                self.fill(of, rows);
            }
        }
        self.pack_due();
    }

    /// Forgets the rows of a batch row.
    pub(crate) fn reset_packed(&mut self, row: usize) {
        let StateShape { batch, kv_heads, .. } = self.shape;
        let Some(mut packed) = self.packed.take() else { return };
        let of_row = |lines: usize| {
            let each = lines / (batch * kv_heads) * kv_heads;
            row * each..(row + 1) * each
        };
        for of in Of::BOTH {
            let whole = of_row(self.whole(of).dims()[0]);
            self.whole_mut(of).inplace(|x| x.slice_fill([whole], 0));
            let codes = packed.codes_mut(of);
            let (words, lines) = (of_row(codes.words.dims()[0]), of_row(codes.scales.dims()[0]));
            codes.words.inplace(|x| x.slice_fill([words], 0));
            codes.scales.inplace(|x| x.slice_fill([lines.clone()], 0));
            codes.lows.inplace(|x| x.slice_fill([lines], 0));
            packed.whole_from[of as usize][row] = 0;
        }
        self.packed = Some(packed);
    }

    /// What one head of a packed state holds: its whole rows, and its codes.
    pub(crate) fn packed_head(&self, index: usize) -> Option<(Tensor<2>, Tensor<2>, Packed)> {
        let packed = self.packed.as_ref()?;
        let heads = self.shape.batch * self.shape.kv_heads;
        let row = index / self.shape.kv_heads;
        let own = |x: &Tensor<2>| {
            let each = x.dims()[0] / heads;
            x.clone().narrow(0, index * each, each)
        };
        let codes = |codes: &Codes| {
            let each = codes.words.dims()[0] / heads;
            let words = codes.words.clone().narrow(0, index * each, each);
            Codes { words, scales: own(&codes.scales), lows: own(&codes.lows) }
        };
        let whole_from = packed.whole_from.each_ref().map(|from| vec![from[row]]);
        let (keys, values) = (codes(&packed.keys), codes(&packed.values));
        let of_head = Packed { packing: packed.packing, keys, values, whole_from };
        Some((own(&self.keys), own(&self.values), of_head))
    }
}
