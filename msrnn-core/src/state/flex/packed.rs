//! Packed rows as numbers, a few at a time.

use burn::backend::flex::FlexTensor;
use pulp::{Arch, bytemuck};

use super::coded::{Coded, OfCode};
use crate::kernels::flex::access::{open, open_int};
use crate::kernels::flex::number::{Index, Stored};
use crate::kernels::flex::rows::{AS_HELD, Part, Rows, Scratch, WIDENED};
use crate::kernels::flex::tile::At;
use crate::kernels::flex::wide;
use crate::packing::Per;
use crate::state::packed::{Of, Packed};
use crate::state::rounding::{Codes, Grid};

/// The codes of keys or of values, opened.
pub(crate) struct OpenedCodes {
    words: FlexTensor,
    scales: FlexTensor,
    lows: FlexTensor,
    grid: Grid,
    /// Places of whole rows of a head.
    pub(crate) places: usize,
    /// By batch row.
    whole_from: Vec<usize>,
}

/// A tensor that fills its buffer.
pub(crate) fn whole(x: FlexTensor) -> FlexTensor {
    match x.layout().contiguous_offsets() {
        Some((0, end)) if end * x.dtype().size() == x.bytes().len() => x,
        _ => x.to_contiguous(),
    }
}

impl OpenedCodes {
    pub(crate) fn of(packed: &Packed, of: Of, head_dim: usize) -> Self {
        let Codes { words, scales, lows } = packed.codes(of).clone();
        Self {
            words: whole(open_int(words)),
            scales: whole(open(scales)),
            lows: whole(open(lows)),
            grid: packed.grid(of, head_dim),
            places: packed.side(of).whole(),
            whole_from: packed.whole_from(of).to_vec(),
        }
    }

    /// Those of one head. `positions`: of its slots.
    pub(crate) fn head<'a, T, G: Stored<T>, I: Index>(
        &'a self,
        index: usize,
        [kv_heads, slots]: [usize; 2],
        positions: &'a [I],
    ) -> PackedRows<'a, G, I> {
        let Grid { bits, head_dim, .. } = self.grid;
        let bytes = bits.words(head_dim) * size_of::<u32>();
        let [lines, each] = self.grid.scales(slots);
        let words: &[i32] = self.words.storage();
        let codes: &[u8] = bytemuck::cast_slice(words);
        let of = |x: &'a FlexTensor| &G::of(x)[index * lines * each..][..lines * each];
        PackedRows {
            codes: &codes[index * slots * bytes..][..slots * bytes],
            scales: of(&self.scales),
            lows: of(&self.lows),
            grid: self.grid,
            places: self.places,
            from: self.whole_from[index / kv_heads] as i64,
            positions,
        }
    }
}

/// The rows of one head.
pub(crate) struct PackedRows<'a, G, I> {
    codes: &'a [u8],
    scales: &'a [G],
    lows: &'a [G],
    grid: Grid,
    places: usize,
    /// The number from which on rows are whole.
    from: i64,
    positions: &'a [I],
}

/// How a slot's row is held.
enum Held {
    Not,
    Packed,
    /// At this place.
    Whole(usize),
}

impl<'a, G, I: Index> PackedRows<'a, G, I> {
    /// With the head's rows that are whole, by place.
    pub(crate) fn beside<S>(self, whole: &'a [S]) -> Unpacked<'a, S, G, I> {
        Unpacked { rows: self, whole }
    }

    /// The place where the row of that slot and position is written.
    pub(crate) fn place_of_new(&self, slot: usize, position: usize) -> usize {
        (if self.grid.per == Per::Token { position } else { slot }) % self.places
    }

    /// Whether all of these slots have rows that are packed.
    fn all_packed(&self, first: usize, n: usize) -> bool {
        let positions = &self.positions[first..first + n];
        let before = match self.grid.per {
            Per::Token => self.from,
            Per::Channel if (first + n) as i64 > self.from => return false,
            Per::Channel => i64::MAX,
        };
        // Not by the first that is not: so it is a loop of wide registers.
        wide(
            #[inline(always)]
            || positions.iter().fold(true, |all, p| all & (p.get() >= 0) & (p.get() < before)),
        )
    }

    /// The slots that have no row, or one that is whole.
    fn others(&self, first: usize, n: usize) -> impl Iterator<Item = (usize, Held)> {
        let none = self.all_packed(first, n);
        let slots = if none { first..first } else { first..first + n };
        slots.map(|slot| (slot, self.held(slot))).filter(|(_, held)| !matches!(held, Held::Packed))
    }

    fn held(&self, slot: usize) -> Held {
        let position = self.positions[slot].get();
        let number = if self.grid.per == Per::Token { position } else { slot as i64 };
        match position {
            ..0 => Held::Not,
            _ if number >= self.from => Held::Whole(number as usize % self.places),
            _ => Held::Packed,
        }
    }
}

/// The rows of one head, whole and packed.
pub(crate) struct Unpacked<'a, S, G, I> {
    rows: PackedRows<'a, G, I>,
    whole: &'a [S],
}

impl<S, G, I: Index> Unpacked<'_, S, G, I> {
    /// The slots from the first on, in parts within which rows may share scales: the first of each, and how many it has.
    fn alike(&self, first: usize, n: usize) -> impl Iterator<Item = (usize, usize)> + use<S, G, I> {
        let Grid { group, per, .. } = self.rows.grid;
        let end = first + n;
        let after = move |first: usize| match per {
            Per::Token => end,
            Per::Channel => end.min((first / group + 1) * group),
        };
        let firsts = std::iter::successors(Some(first), move |&first| Some(after(first)));
        firsts.take_while(move |&first| first < end).map(move |first| (first, after(first) - first))
    }

    /// Such a part, in which rows that are not packed are zeros, or, where they share scales, anything.
    fn coded<'b, T: OfCode>(&'b self, (first, n): (usize, usize), [scales, lows]: [&'b mut Vec<T>; 2]) -> Coded<'b, T>
    where
        G: Stored<T>,
    {
        let PackedRows { codes, scales: held_scales, lows: held_lows, grid, .. } = self.rows;
        let Grid { bits, group, per, head_dim } = grid;
        let (lines, each) = match per {
            Per::Token => (first..first + n, grid.parts()),
            Per::Channel => (first / group..first / group + 1, head_dim),
        };
        for (from, to) in [(held_scales, &mut *scales), (held_lows, &mut *lows)] {
            to.resize(lines.len() * each, T::ZERO);
            G::load_all(&from[lines.start * each..lines.end * each], to);
        }
        if per == Per::Token {
            for (slot, _) in self.rows.others(first, n) {
                let own = (slot - first) * each..(slot - first + 1) * each;
                scales[own.clone()].fill(T::ZERO);
                lows[own].fill(T::ZERO);
            }
        }
        let bytes = bits.words(head_dim) * size_of::<u32>();
        let codes = &codes[first * bytes..][..n * bytes];
        Coded { codes, bits, scales, lows, group: (per == Per::Token).then_some(group), head_dim }
    }
}

impl<T: OfCode, S: Stored<T>, G: Stored<T>, I: Index> Rows<T> for Unpacked<'_, S, G, I> {
    fn at_once(&self) -> usize {
        let Grid { bits, group, per, head_dim } = self.rows.grid;
        let group = (per == Per::Token).then_some(group);
        let form = Coded { codes: &[], bits, scales: &[], lows: &[], group, head_dim };
        if T::in_registers(&form) { AS_HELD } else { WIDENED }
    }

    fn read<'b>(&'b self, first: usize, n: usize, scratch: &'b mut Scratch<T>) -> &'b [T] {
        let d = self.rows.grid.head_dim;
        let Scratch { rows, scales, lows, .. } = scratch;
        rows.resize(n * d, T::ZERO);
        for (slot, n) in self.alike(first, n) {
            let coded = self.coded((slot, n), [&mut *scales, &mut *lows]);
            T::unpack(&coded, &mut rows[(slot - first) * d..][..n * d]);
        }
        for (slot, held) in self.rows.others(first, n) {
            let row = &mut rows[(slot - first) * d..][..d];
            match held {
                Held::Whole(place) => S::load_all(&self.whole[place * d..][..d], row),
                _ => row.fill(T::ZERO),
            }
        }
        rows
    }

    fn products(&self, arch: Arch, query: &[T], part: Part, weights: &mut [T], scratch: &mut Scratch<T>) {
        let Part { first, n, stride, d } = part;
        let Scratch { rows, scales, lows, .. } = scratch;
        for (first, n) in self.alike(first, n) {
            let coded = self.coded((first, n), [&mut *scales, &mut *lows]);
            if !T::products_of_codes(query, &coded, weights, At { stride, first }) {
                rows.resize(n * d, T::ZERO);
                T::unpack(&coded, rows);
                T::products(arch, query, rows, d, weights, At { stride, first });
            }
        }
        rows.resize(d, T::ZERO);
        for (slot, held) in self.rows.others(first, n) {
            match held {
                Held::Whole(place) => {
                    S::load_all(&self.whole[place * d..][..d], rows);
                    T::products(arch, query, rows, d, weights, At { stride, first: slot });
                }
                _ => weights.iter_mut().skip(slot).step_by(stride).for_each(|weight| *weight = T::ZERO),
            }
        }
    }

    fn add_weighted(&self, arch: Arch, weights: &[T], part: Part, sums: &mut [T], scratch: &mut Scratch<T>) {
        let Part { first, n, stride, d } = part;
        if self.rows.grid.per == Per::Channel {
            // What is not packed would be anything.
            return T::add_weighted(arch, weights, At { stride, first }, self.read(first, n, scratch), d, sums);
        }
        let Scratch { rows, scales, lows, .. } = scratch;
        let coded = self.coded((first, n), [scales, lows]);
        if !T::add_codes(weights, At { stride, first }, &coded, sums) {
            rows.resize(n * d, T::ZERO);
            T::unpack(&coded, rows);
            T::add_weighted(arch, weights, At { stride, first }, rows, d, sums);
        }
        rows.resize(d, T::ZERO);
        for (slot, held) in self.rows.others(first, n) {
            if let Held::Whole(place) = held {
                S::load_all(&self.whole[place * d..][..d], rows);
                T::add_weighted(arch, weights, At { stride, first: slot }, rows, d, sums);
            }
        }
    }
}
