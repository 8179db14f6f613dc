//! Packed rows in other places: after a cut, after a prompt, where rows were changed, in more slots, and head by head.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::packed::{Of, Packed};
use super::rounding::Codes;
use super::{MultiState, StateShape};
use crate::kernels::read;
use crate::packing::{Per, Side};
use crate::precision::{accumulation, narrow};
use crate::tensors::Rows;

impl MultiState {
    /// Takes over the rows of all slots, `[rows · slots, head_dim]`, packed and whole anew as their numbers say, in the
    /// batch rows that are `anew`.
    pub(super) fn fill(&mut self, of: Of, rows: Tensor<2>, anew: &[bool]) {
        let mut packed = self.packed.take().expect("a packed state is filled");
        let StateShape { batch, kv_heads, head_dim, dtype, .. } = self.shape;
        let (heads, slots, side) = (batch * kv_heads, self.slots, *packed.side(of));
        let due: Vec<usize> = self.came(side.per).iter().map(|&came| side.packed(came)).collect();
        let due = due.into_iter().zip(packed.whole_from(of)).zip(anew);
        let due: Vec<usize> = due.map(|((due, &from), &anew)| if anew { due } else { from }).collect();
        let wide = accumulation(dtype).into();
        let rounded =
            packed.grid(of, head_dim).round(read(rows.clone(), wide).reshape([heads, slots, head_dim]), dtype);
        let (codes, whole) = (packed.codes_mut(of), self.whole(of).clone());
        self.fill_whole(side, of, rows, &due);
        if anew.contains(&false) {
            let anew = self.of_heads(&anew.iter().map(|&anew| usize::from(anew)).collect::<Vec<_>>(), 1);
            let lines = |dims: [usize; 2]| {
                let each = [heads, dims[0] / heads, dims[1]];
                anew.clone().greater_elem(0).reshape([heads, 1, 1]).expand(each).reshape(dims)
            };
            let of_scales = lines(codes.scales.dims());
            codes.words = codes.words.clone().mask_where(lines(codes.words.dims()), rounded.words);
            codes.scales = codes.scales.clone().mask_where(of_scales.clone(), rounded.scales);
            codes.lows = codes.lows.clone().mask_where(of_scales, rounded.lows);
            let new = self.whole(of).clone();
            *self.whole_mut(of) = whole.mask_where(lines(new.dims()), new);
        } else {
            *codes = rounded;
        }
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
            codes.scales.inplace(|x| grid.with_slots(x, [old, slots]));
            codes.lows.inplace(|x| grid.with_slots(x, [old, slots]));
        }
    }

    /// Keeps the rows of the given slots only, `[rows · slots]` of them, before slots and what is held are counted anew:
    /// per token as they are, per channel read, to be rounded anew by [`MultiState::packed_cut`]. `slots`: that there will be.
    pub(crate) fn cut_packed(&mut self, keep: &Tensor<1, Int>, slots: usize) -> [Option<Tensor<2>>; 2] {
        let Some(mut packed) = self.packed.take() else { return [None, None] };
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (heads, old) = (batch * kv_heads, self.slots);
        let kept = Of::BOTH.map(|of| {
            let (per, grid) = (packed.side(of).per, packed.grid(of, head_dim));
            let kept = (per == Per::Channel)
                .then(|| self.unpacked(&packed, of).reshape([heads * old, head_dim]).select(0, keep.clone()));
            let codes = packed.codes_mut(of);
            codes.words.inplace(|words| words.select(0, keep.clone()));
            let lines = |x: Tensor<2>| match per {
                Per::Token => x.select(0, keep.clone()),
                // Of batch rows in which nothing goes, whose rows stay where they are.
                Per::Channel => grid.with_slots(x, [old, slots]),
            };
            codes.scales.inplace(lines);
            codes.lows.inplace(lines);
            kept
        });
        self.packed = Some(packed);
        kept
    }

    /// Rounds what [`MultiState::cut_packed`] kept in the batch rows that were `cut`, once slots and rows held are
    /// counted, and packs what is due.
    pub(crate) fn packed_cut(&mut self, kept: [Option<Tensor<2>>; 2], cut: &[bool]) {
        for (of, kept) in Of::BOTH.into_iter().zip(kept) {
            if let Some(rows) = kept.filter(|_| cut.contains(&true)) {
                self.fill(of, rows, cut);
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
