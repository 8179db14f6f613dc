//! Packed rows as numbers, a few at a time.

use burn::backend::flex::FlexTensor;
use pulp::bytemuck;

use super::access::{open, open_int};
use super::number::{Index, Stored};
use super::rows::{Rows, Scratch};
use super::wide;
use crate::packing::{Bits, Per};
use crate::simd::Real;
use crate::state::packed::{Of, Packed};
use crate::state::rounding::{Codes, Grid};

/// Numbers that are unpacked in a loop of fixed length.
const AT_ONCE: usize = 32;

/// The codes of keys or of values, opened.
pub(super) struct OpenedCodes {
    words: FlexTensor,
    scales: FlexTensor,
    lows: FlexTensor,
    grid: Grid,
    /// Places of whole rows of a head.
    pub(super) places: usize,
    /// By batch row.
    whole_from: Vec<usize>,
}

/// A tensor that fills its buffer.
pub(super) fn whole(x: FlexTensor) -> FlexTensor {
    match x.layout().contiguous_offsets() {
        Some((0, end)) if end * x.dtype().size() == x.bytes().len() => x,
        _ => x.to_contiguous(),
    }
}

impl OpenedCodes {
    pub(super) fn of(packed: &Packed, of: Of, head_dim: usize) -> Self {
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
    pub(super) fn head<'a, T, G: Stored<T>, I: Index>(
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
pub(super) struct PackedRows<'a, G, I> {
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
    pub(super) fn beside<S>(self, whole: &'a [S]) -> Unpacked<'a, S, G, I> {
        Unpacked { rows: self, whole }
    }

    /// The place where the row of that slot and position is written.
    pub(super) fn place_of_new(&self, slot: usize, position: usize) -> usize {
        (if self.grid.per == Per::Token { position } else { slot }) % self.places
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

/// f32 or f64, made of a code.
pub(super) trait OfCode: Real {
    fn of_code(code: i32) -> Self;
}

impl OfCode for f32 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        code as Self
    }
}

impl OfCode for f64 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        Self::from(code)
    }
}

/// The rows of one head, whole and packed.
pub(super) struct Unpacked<'a, S, G, I> {
    rows: PackedRows<'a, G, I>,
    whole: &'a [S],
}

impl<T: OfCode, S: Stored<T>, G: Stored<T>, I: Index> Rows<T> for Unpacked<'_, S, G, I> {
    fn read<'b>(&'b self, first: usize, n: usize, scratch: &'b mut Scratch<T>) -> &'b [T] {
        let Self { rows: PackedRows { codes, scales, lows, grid, .. }, whole } = self;
        let Grid { bits, group, per, head_dim: d } = *grid;
        let (lines, each) = match per {
            Per::Token => (first..first + n, grid.parts()),
            Per::Channel => (first / group..(first + n).div_ceil(group), d),
        };
        let Scratch { rows, scales: wide_scales, lows: wide_lows } = scratch;
        for (from, to) in [(scales, &mut *wide_scales), (lows, &mut *wide_lows)] {
            to.resize(lines.len() * each, T::ZERO);
            G::load_all(&from[lines.start * each..lines.end * each], to);
        }
        rows.resize(n * d, T::ZERO);
        let bytes = bits.words(d) * size_of::<u32>();
        let codes = codes[first * bytes..][..n * bytes].chunks_exact(bytes);
        wide(
            #[inline(always)]
            || {
                for ((slot, row), codes) in (first..).zip(rows.chunks_exact_mut(d)).zip(codes) {
                    match self.rows.held(slot) {
                        Held::Not => row.fill(T::ZERO),
                        Held::Whole(place) => S::load_all(&whole[place * d..][..d], row),
                        Held::Packed => {
                            let line = if per == Per::Token { slot } else { slot / group } - lines.start;
                            let (scales, lows) = (&wide_scales[line * each..], &wide_lows[line * each..]);
                            match per {
                                Per::Token => unpack(codes, bits, row, group, |part| (scales[part], lows[part])),
                                Per::Channel => unpack_by_channel(codes, bits, row, scales, lows),
                            }
                        }
                    }
                }
            },
        );
        rows
    }
}

/// A row whose groups of neighbouring numbers have a scale and a low each.
#[inline(always)]
fn unpack<T: OfCode>(codes: &[u8], bits: Bits, row: &mut [T], group: usize, of_part: impl Fn(usize) -> (T, T)) {
    let mut i = 0;
    while i < row.len() {
        let (run, byte, part) = (i / codes.len(), i % codes.len(), i / group);
        // To the end of the group, or of the bits of the bytes that the numbers are in.
        let end = row.len().min((run + 1) * codes.len()).min((part + 1) * group);
        let (scale, low) = of_part(part);
        let (bytes, numbers) = (&codes[byte..byte + end - i], &mut row[i..end]);
        let (by, mask) = ((run * bits.number()) as u32, bits.highest() as i32);
        let (bytes32, bytes1) = bytes.as_chunks::<AT_ONCE>();
        let (numbers32, numbers1) = numbers.as_chunks_mut::<AT_ONCE>();
        for (numbers, bytes) in numbers32.iter_mut().zip(bytes32) {
            for (number, &byte) in numbers.iter_mut().zip(bytes) {
                *number = T::of_code((i32::from(byte) >> by) & mask) * scale + low;
            }
        }
        for (number, &byte) in numbers1.iter_mut().zip(bytes1) {
            *number = T::of_code((i32::from(byte) >> by) & mask) * scale + low;
        }
        i = end;
    }
}

/// A row whose every number has a scale and a low, shared with its neighbours in other rows.
#[inline(always)]
fn unpack_by_channel<T: OfCode>(codes: &[u8], bits: Bits, row: &mut [T], scales: &[T], lows: &[T]) {
    let runs = row.chunks_mut(codes.len()).zip(scales.chunks(codes.len())).zip(lows.chunks(codes.len()));
    for (run, ((numbers, scales), lows)) in runs.enumerate() {
        let (by, mask) = ((run * bits.number()) as u32, bits.highest() as i32);
        for (((number, &byte), &scale), &low) in numbers.iter_mut().zip(codes).zip(scales).zip(lows) {
            *number = T::of_code((i32::from(byte) >> by) & mask) * scale + low;
        }
    }
}
