//! Packed rows as numbers, a few at a time.

use burn::backend::flex::FlexTensor;
use pulp::bytemuck;

use crate::kernels::flex::access::{open, open_int};
use crate::kernels::flex::number::{Index, Stored};
use crate::kernels::flex::rows::{Rows, Scratch};
use crate::kernels::flex::wide;
use crate::packing::{Bits, Per};
use crate::simd::Real;
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

impl<T: OfCode, S: Stored<T>, G: Stored<T>, I: Index> Rows<T> for Unpacked<'_, S, G, I> {
    fn read<'b>(&'b self, first: usize, n: usize, scratch: &'b mut Scratch<T>) -> &'b [T] {
        let Self { rows: PackedRows { codes, scales, lows, grid, .. }, whole } = self;
        let Grid { bits, group, per, head_dim: d } = *grid;
        let (lines, each) = match per {
            Per::Token => (first..first + n, grid.parts()),
            Per::Channel => (first / group..(first + n).div_ceil(group), d),
        };
        let Scratch { rows, scales: wide_scales, lows: wide_lows, .. } = scratch;
        for (from, to) in [(scales, &mut *wide_scales), (lows, &mut *wide_lows)] {
            to.resize(lines.len() * each, T::ZERO);
            G::load_all(&from[lines.start * each..lines.end * each], to);
        }
        rows.resize(n * d, T::ZERO);
        let bytes = bits.words(d) * size_of::<u32>();
        let codes = &codes[first * bytes..][..n * bytes];
        wide(
            #[inline(always)]
            || {
                for ((slot, row), codes) in (first..).zip(rows.chunks_exact_mut(d)).zip(codes.chunks_exact(bytes)) {
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
        T::unpack(&codes[byte..byte + end - i], In::run(bits, run), &mut row[i..end], scale, low);
        i = end;
    }
}

/// A row whose every number has a scale and a low, shared with its neighbours in other rows.
#[inline(always)]
fn unpack_by_channel<T: OfCode>(codes: &[u8], bits: Bits, row: &mut [T], scales: &[T], lows: &[T]) {
    let runs = row.chunks_mut(codes.len()).zip(scales.chunks(codes.len())).zip(lows.chunks(codes.len()));
    for (run, ((numbers, scales), lows)) in runs.enumerate() {
        T::unpack_each(codes, In::run(bits, run), numbers, scales, lows);
    }
}

/// Which bits of a byte a number is in.
#[derive(Clone, Copy)]
pub(crate) struct In {
    by: u32,
    mask: i32,
}

impl In {
    fn run(bits: Bits, run: usize) -> Self {
        Self { by: (run * bits.number()) as u32, mask: bits.highest() as i32 }
    }

    #[inline(always)]
    fn code(self, byte: u8) -> i32 {
        (i32::from(byte) >> self.by) & self.mask
    }
}

/// f32 or f64, made of codes.
pub(crate) trait OfCode: Real {
    fn of_code(code: i32) -> Self;

    /// Numbers that share scale and low.
    #[inline(always)]
    fn unpack(bytes: &[u8], bits: In, numbers: &mut [Self], scale: Self, low: Self) {
        one_by_one(bytes, bits, numbers, scale, low);
    }

    /// Numbers that have scales and lows of their own.
    #[inline(always)]
    fn unpack_each(bytes: &[u8], bits: In, numbers: &mut [Self], scales: &[Self], lows: &[Self]) {
        each_by_one(bytes, bits, numbers, scales, lows);
    }
}

#[inline(always)]
fn one_by_one<T: OfCode>(bytes: &[u8], bits: In, numbers: &mut [T], scale: T, low: T) {
    for (number, &byte) in numbers.iter_mut().zip(bytes) {
        *number = T::of_code(bits.code(byte)) * scale + low;
    }
}

#[inline(always)]
fn each_by_one<T: OfCode>(bytes: &[u8], bits: In, numbers: &mut [T], scales: &[T], lows: &[T]) {
    for (((number, &byte), &scale), &low) in numbers.iter_mut().zip(bytes).zip(scales).zip(lows) {
        *number = T::of_code(bits.code(byte)) * scale + low;
    }
}

impl OfCode for f64 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        Self::from(code)
    }
}

impl OfCode for f32 {
    #[inline(always)]
    fn of_code(code: i32) -> Self {
        code as Self
    }

    /// By instructions, since loops over bytes are left scalar by the compiler.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn unpack(bytes: &[u8], bits: In, numbers: &mut [Self], scale: Self, low: Self) {
        use std::arch::x86_64::{_mm256_add_ps, _mm256_mul_ps, _mm256_set1_ps};
        if !is_x86_feature_detected!("avx2") {
            return one_by_one(bytes, bits, numbers, scale, low);
        }
        let (bytes8, bytes1) = bytes.as_chunks::<8>();
        let (numbers8, numbers1) = numbers.as_chunks_mut::<8>();
        for (numbers, bytes) in numbers8.iter_mut().zip(bytes8) {
            // SAFETY: the processor has AVX2.
            unsafe {
                let (scale, low) = (_mm256_set1_ps(scale), _mm256_set1_ps(low));
                put(numbers, _mm256_add_ps(_mm256_mul_ps(eight(bytes, bits), scale), low));
            }
        }
        one_by_one(bytes1, bits, numbers1, scale, low);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn unpack_each(bytes: &[u8], bits: In, numbers: &mut [Self], scales: &[Self], lows: &[Self]) {
        use std::arch::x86_64::{_mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps};
        if !is_x86_feature_detected!("avx2") {
            return each_by_one(bytes, bits, numbers, scales, lows);
        }
        let (scales, lows) = (&scales[..numbers.len()], &lows[..numbers.len()]);
        let ((bytes8, bytes1), (scales8, scales1)) = (bytes[..numbers.len()].as_chunks::<8>(), scales.as_chunks::<8>());
        let ((lows8, lows1), (numbers8, numbers1)) = (lows.as_chunks::<8>(), numbers.as_chunks_mut::<8>());
        for (((numbers, bytes), scales), lows) in numbers8.iter_mut().zip(bytes8).zip(scales8).zip(lows8) {
            // SAFETY: the processor has AVX2, and each is eight numbers.
            unsafe {
                let (scales, lows) = (_mm256_loadu_ps(scales.as_ptr()), _mm256_loadu_ps(lows.as_ptr()));
                put(numbers, _mm256_add_ps(_mm256_mul_ps(eight(bytes, bits), scales), lows));
            }
        }
        each_by_one(bytes1, bits, numbers1, scales1, lows1);
    }
}

/// The codes in eight bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn eight(bytes: &[u8; 8], bits: In) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::{
        _mm_cvtsi32_si128, _mm_loadl_epi64, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
        _mm256_set1_epi32, _mm256_srl_epi32,
    };
    // SAFETY: eight bytes are read.
    let wide = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) });
    let codes = _mm256_srl_epi32(wide, _mm_cvtsi32_si128(bits.by as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32(bits.mask)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn put(numbers: &mut [f32; 8], eight: std::arch::x86_64::__m256) {
    // SAFETY: eight numbers are written.
    unsafe { std::arch::x86_64::_mm256_storeu_ps(numbers.as_mut_ptr(), eight) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The reference is in f64, whose loop is the plain one.
        #[test]
        fn rows_are_unpacked_number_by_number(
            codes in prop::collection::vec(any::<u8>(), 4..80), bits in 0..3usize, group in 1..40usize,
            scale in 0.01f32..2.0, low in -3.0f32..3.0,
        ) {
            let bits = [Bits::Two, Bits::Four, Bits::Eight][bits];
            let d = codes.len() * 8 / bits.number() - 1;
            let of = |part: usize| (scale + 0.01 * part as f32, low - 0.01 * part as f32);
            let (mut found, mut expected) = (vec![0.0f32; d], vec![0.0f64; d]);
            let scales: Vec<f32> = (0..d).map(|i| of(i).0).collect();
            let lows: Vec<f32> = (0..d).map(|i| of(i).1).collect();
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
            for by_channel in [false, true] {
                if by_channel {
                    unpack_by_channel(&codes, bits, &mut found, &scales, &lows);
                    unpack_by_channel(&codes, bits, &mut expected, &wide(&scales), &wide(&lows));
                } else {
                    unpack(&codes, bits, &mut found, group, of);
                    unpack(&codes, bits, &mut expected, group, |part| (f64::from(of(part).0), f64::from(of(part).1)));
                }
                for (&found, expected) in found.iter().zip(&expected) {
                    // Half a unit in the last place for each of two operations; a code next to it is off by 0.01.
                    let bound = 1e-6 * (10.0 + 255.0 * f64::from(scale + 7.0));
                    prop_assert!((f64::from(found) - expected).abs() <= bound, "{found} instead of {expected}");
                }
            }
        }
    }
}
