//! The two sums that a step consists of.
//!
//! Sums over arrays of a fixed size, built by `from_fn`: those become operations on whole registers,
//! which loops that index into arrays do not.

use std::array::from_fn;

use super::number::Stored;
use crate::simd::Real;

/// Values that are added up side by side.
const LANES: usize = 16;

/// Rows that are added up in one pass over their sum.
pub(super) const ROWS: usize = 4;

/// Σ a · b
#[inline(always)]
pub(super) fn dot<T: Real, S: Stored<T>>(a: &[S], b: &[T]) -> T {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (a_fours, a_ones) = a.as_chunks::<4>();
    let (b_fours, b_ones) = b.as_chunks::<4>();
    // Four sums, since one waits for its last addition.
    let mut sums = [[T::ZERO; LANES]; 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        sums = from_fn(|i| add_products(sums[i], &a[i], &b[i]));
    }
    let [mut s0, s1, s2, s3] = sums;
    for (a, b) in a_ones.iter().zip(b_ones) {
        s0 = add_products(s0, a, b);
    }
    let all: [T; LANES] = from_fn(|i| (s0[i] + s1[i]) + (s2[i] + s3[i]));
    let [mut sum] = halved::<T, 2, 1>(halved::<T, 4, 2>(halved::<T, 8, 4>(halved::<T, LANES, 8>(all))));
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += a.load() * *b;
    }
    sum
}

#[inline(always)]
fn add_products<T: Real, S: Stored<T>>(sum: [T; LANES], a: &[S; LANES], b: &[T; LANES]) -> [T; LANES] {
    from_fn(|i| sum[i] + a[i].load() * b[i])
}

/// The first half plus the second.
#[inline(always)]
fn halved<T: Real, const N: usize, const HALF: usize>(x: [T; N]) -> [T; HALF] {
    from_fn(|i| x[i] + x[i + HALF])
}

/// `sum += Σ weight · row` over up to [`ROWS`] rows.
#[inline(always)]
pub(super) fn add_rows<T: Real, S: Stored<T>>(sum: &mut [T], weights: &[T], rows: &[S]) {
    let d = sum.len();
    if let (&[w0, w1, w2, w3, ..], true) = (weights, rows.len() == ROWS * d) {
        let (r0, rest) = rows.split_at(d);
        let (r1, rest) = rest.split_at(d);
        let (r2, r3) = rest.split_at(d);
        for ((((sum, r0), r1), r2), r3) in sum.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
            *sum += (w0 * r0.load() + w1 * r1.load()) + (w2 * r2.load() + w3 * r3.load());
        }
        return;
    }
    for (row, &weight) in rows.chunks_exact(d).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value.load());
    }
}
