//! Packed rows, multiplied as they are: codes become numbers in registers, scales are taken in once a group.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd, bytemuck};

use super::access::{open, open_int};
use super::dot::{Dot, ROWS, add_rows};
use super::number::{Index, Stored};
use super::wide;
use crate::packing::{Bits, Per};
use crate::simd::Real;
use crate::state::packed::{Of, Packed};
use crate::state::rounding::{Codes, Grid};

/// Rows whose scales are widened at once.
const AT_ONCE: usize = 64;

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

/// f32 or f64, made of a code.
pub(super) trait OfCode: Real {
    fn of_code(code: u8) -> Self;
}

impl OfCode for f32 {
    #[inline(always)]
    fn of_code(code: u8) -> Self {
        Self::from(code)
    }
}

impl OfCode for f64 {
    #[inline(always)]
    fn of_code(code: u8) -> Self {
        Self::from(code)
    }
}

/// Buffers of a head.
struct Buffers<T> {
    /// Codes of a few rows.
    codes: Vec<T>,
    scales: Vec<T>,
    lows: Vec<T>,
    /// A row that is whole.
    row: Vec<T>,
}

impl<T: Real> Buffers<T> {
    fn new() -> Self {
        Self { codes: Vec::new(), scales: Vec::new(), lows: Vec::new(), row: Vec::new() }
    }
}

impl<G, I: Index> PackedRows<'_, G, I> {
    /// The place of a row that is whole; none of one that is packed, or of an empty slot.
    fn place(&self, slot: usize) -> Option<usize> {
        let position = self.positions[slot].get();
        let number = if self.grid.per == Per::Token { position } else { slot as i64 };
        (position >= 0 && number >= self.from).then(|| number as usize % self.places)
    }

    /// Whether a slot holds a packed row.
    fn is_packed(&self, slot: usize) -> bool {
        self.positions[slot].get() >= 0 && self.place(slot).is_none()
    }

    /// The place where the row of that slot and position is written.
    pub(super) fn place_of_new(&self, slot: usize, position: usize) -> usize {
        (if self.grid.per == Per::Token { position } else { slot }) % self.places
    }

    /// Codes of some rows from a slot on, as numbers, `[n, numbers of a row's bytes]`.
    #[inline(always)]
    fn codes<T: OfCode>(&self, slot: usize, n: usize, numbers: &mut Vec<T>) -> usize {
        let Grid { bits, head_dim, .. } = self.grid;
        let bytes = bits.words(head_dim) * size_of::<u32>();
        let stride = bytes * 8 / bits.number();
        numbers.resize(n * stride, T::ZERO);
        let rows = self.codes[slot * bytes..(slot + n) * bytes].chunks_exact(bytes);
        for (row, numbers) in rows.zip(numbers.chunks_exact_mut(stride)) {
            match bits {
                Bits::Eight => run::<T, 0xff>(row, numbers, 0),
                Bits::Four => {
                    let (first, second) = numbers.split_at_mut(bytes);
                    run::<T, 0xf>(row, first, 0);
                    run::<T, 0xf>(row, second, 4);
                }
                Bits::Two => {
                    for (i, numbers) in numbers.chunks_exact_mut(bytes).enumerate() {
                        run::<T, 0x3>(row, numbers, 2 * i as u32);
                    }
                }
            }
        }
        stride
    }
}

/// The numbers that are in some bits of bytes.
#[inline(always)]
fn run<T: OfCode, const MASK: u8>(bytes: &[u8], numbers: &mut [T], by: u32) {
    for (number, byte) in numbers.iter_mut().zip(bytes) {
        *number = T::of_code((byte >> by) & MASK);
    }
}

/// Products of all rows with all queries of a group: weights `[group, rows]`.
pub(super) struct PackedLogits<'a, T, S, G, I> {
    /// `[group, head_dim]`
    pub(super) query: &'a [T],
    pub(super) rows: &'a PackedRows<'a, G, I>,
    /// Whole rows by place.
    pub(super) whole: &'a [S],
    pub(super) weights: &'a mut [T],
}

impl<T: OfCode + Dot<T> + Parts, S: Stored<T>, G: Stored<T>, I: Index> WithSimd for PackedLogits<'_, T, S, G, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Self { query, rows, whole, weights } = self;
        let Grid { group, per, head_dim: d, .. } = rows.grid;
        let queries = query.len() / d;
        let count = weights.len() / queries;
        let mut buffers = Buffers::<T>::new();
        let each = rows.grid.scales(0)[1];
        // Per token: sums of a query's parts. Per channel: a query times the scales, and its product with the lows.
        let sums: Vec<T> = match per {
            Per::Token => {
                query.chunks_exact(d).flat_map(|q| q.chunks(group).map(|q| q.iter().copied().sum())).collect()
            }
            Per::Channel => Vec::new(),
        };
        let mut scaled = vec![T::ZERO; if per == Per::Channel { query.len() } else { 0 }];
        let mut beside = vec![T::ZERO; queries];
        let step = if per == Per::Token { AT_ONCE } else { group };
        for start in (0..count).step_by(step) {
            let n = step.min(count - start);
            let lines = if per == Per::Token { start..start + n } else { start / group..start / group + 1 };
            for (from, to) in [(rows.scales, &mut buffers.scales), (rows.lows, &mut buffers.lows)] {
                to.resize(lines.len() * each, T::ZERO);
                G::load_all(&from[lines.start * each..lines.end * each], to);
            }
            if per == Per::Channel {
                for (i, q) in query.chunks_exact(d).enumerate() {
                    let scaled = &mut scaled[i * d..][..d];
                    scaled
                        .iter_mut()
                        .zip(q)
                        .zip(&buffers.scales)
                        .for_each(|((scaled, &q), &scale)| *scaled = q * scale);
                    beside[i] = T::dot(simd, &buffers.lows, q);
                }
            }
            for first in (0..n).step_by(ROWS) {
                let few = ROWS.min(n - first);
                let stride = rows.codes(start + first, few, &mut buffers.codes);
                for (i, codes) in buffers.codes.chunks_exact(stride).enumerate() {
                    let (row, codes) = (start + first + i, &codes[..d]);
                    for (j, q) in query.chunks_exact(d).enumerate() {
                        weights[j * count + row] = match per {
                            Per::Token => {
                                let of = (first + i) * each..(first + i + 1) * each;
                                let (scales, lows) = (&buffers.scales[of.clone()], &buffers.lows[of]);
                                let sums = &sums[j * each..][..each];
                                let beside: T = lows.iter().zip(sums).map(|(&low, &sum)| low * sum).sum();
                                T::by_parts(simd, codes, q, scales, group) + beside
                            }
                            Per::Channel => T::dot(simd, codes, &scaled[j * d..][..d]) + beside[j],
                        };
                    }
                }
            }
        }
        buffers.row.resize(d, T::ZERO);
        for slot in 0..count {
            if let Some(place) = rows.place(slot) {
                S::load_all(&whole[place * d..][..d], &mut buffers.row);
                for (j, q) in query.chunks_exact(d).enumerate() {
                    weights[j * count + slot] = T::dot(simd, &buffers.row, q);
                }
            }
        }
    }
}

/// `attended += Σ weight · row` over all rows: weights `[group, rows]`, attended `[group, head_dim]`.
pub(super) fn add_packed<T: OfCode, S: Stored<T>, G: Stored<T>, I: Index>(
    rows: &PackedRows<'_, G, I>,
    whole: &[S],
    weights: &[T],
    attended: &mut [T],
) {
    let Grid { group, per, head_dim: d, .. } = rows.grid;
    assert_eq!(per, Per::Token, "values are packed per token");
    let queries = attended.len() / d;
    let count = weights.len() / queries;
    let mut buffers = Buffers::<T>::new();
    let each = rows.grid.parts();
    // Of the parts of a row, what all rows' lows add.
    let mut beside = vec![T::ZERO; queries * each];
    let mut packed = [false; AT_ONCE];
    buffers.row.resize(d, T::ZERO);
    wide(
        #[inline(always)]
        || {
            for start in (0..count).step_by(AT_ONCE) {
                let n = AT_ONCE.min(count - start);
                for (from, to) in [(rows.scales, &mut buffers.scales), (rows.lows, &mut buffers.lows)] {
                    to.resize(n * each, T::ZERO);
                    G::load_all(&from[start * each..(start + n) * each], to);
                }
                (0..n).for_each(|i| packed[i] = rows.is_packed(start + i));
                for first in (0..n).step_by(ROWS) {
                    let few = ROWS.min(n - first);
                    let stride = rows.codes(start + first, few, &mut buffers.codes);
                    buffers.codes.resize(ROWS * stride, T::ZERO);
                    let [c0, c1, c2, c3]: [&[T]; ROWS] = std::array::from_fn(|i| &buffers.codes[i * stride..][..d]);
                    for j in 0..queries {
                        let attended = &mut attended[j * d..][..d];
                        for (part, sum) in attended.chunks_mut(group).enumerate() {
                            let mut of_part = [T::ZERO; ROWS];
                            for i in (0..few).filter(|i| packed[first + i]) {
                                let weight = weights[j * count + start + first + i];
                                of_part[i] = weight * buffers.scales[(first + i) * each + part];
                                beside[j * each + part] += weight * buffers.lows[(first + i) * each + part];
                            }
                            let [w0, w1, w2, w3] = of_part;
                            let at = part * group..part * group + sum.len();
                            let codes = c0[at.clone()].iter().zip(&c1[at.clone()]).zip(&c2[at.clone()]).zip(&c3[at]);
                            for (sum, (((&c0, &c1), &c2), &c3)) in sum.iter_mut().zip(codes) {
                                *sum += (w0 * c0 + w1 * c1) + (w2 * c2 + w3 * c3);
                            }
                        }
                    }
                }
            }
            for (attended, beside) in attended.chunks_exact_mut(d).zip(beside.chunks_exact(each)) {
                for (part, &beside) in attended.chunks_mut(group).zip(beside) {
                    part.iter_mut().for_each(|sum| *sum += beside);
                }
            }
            for slot in 0..count {
                if let Some(place) = rows.place(slot) {
                    for (weights, attended) in weights.chunks_exact(count).zip(attended.chunks_exact_mut(d)) {
                        add_rows(attended, &weights[slot..=slot], &whole[place * d..][..d]);
                    }
                }
            }
        },
    );
}

/// Products of codes with a vector, part by part.
pub(super) trait Parts: Real {
    /// Σ over parts of `group` numbers of scale · Σ code · x
    fn by_parts<V: Simd>(simd: V, codes: &[Self], x: &[Self], scales: &[Self], group: usize) -> Self;
}

macro_rules! parts {
    ($real:ident, $split:ident, $splat:ident, $mul_add:ident, $reduce:ident) => {
        impl Parts for $real {
            #[inline(always)]
            fn by_parts<V: Simd>(simd: V, codes: &[$real], x: &[$real], scales: &[$real], group: usize) -> $real {
                let (mut sum, mut rest) = (simd.$splat(0.0), 0.0);
                for ((codes, x), &scale) in codes.chunks(group).zip(x.chunks(group)).zip(scales) {
                    let ((codes, codes_rest), (x, x_rest)) = (V::$split(codes), V::$split(x));
                    let mut part = simd.$splat(0.0);
                    for (&code, &x) in codes.iter().zip(x) {
                        part = simd.$mul_add(code, x, part);
                    }
                    sum = simd.$mul_add(part, simd.$splat(scale), sum);
                    rest += scale * codes_rest.iter().zip(x_rest).map(|(code, x)| code * x).sum::<$real>();
                }
                simd.$reduce(sum) + rest
            }
        }
    };
}

parts!(f32, as_simd_f32s, splat_f32s, mul_add_e_f32s, reduce_sum_f32s);
parts!(f64, as_simd_f64s, splat_f64s, mul_add_e_f64s, reduce_sum_f64s);
