//! The product of a row of a matrix in memory with a vector, written in registers: what decides its speed must not depend on
//! what a compiler makes of a loop.

use burn::tensor::{bf16, f16};
use pulp::{Simd, bytemuck};

use super::number::Stored;

/// Products of rows of a dtype with vectors of its accumulation dtype.
pub(super) trait Dot<T>: Stored<T> {
    /// A vector in the order in which [`Dot::dot`] wants it.
    fn arranged(x: &[T]) -> Vec<T>;

    /// Σ row · x, x arranged.
    fn dot<V: Simd>(simd: V, row: &[Self], x: &[T]) -> T;
}

macro_rules! dot_of_reals {
    ($real:ident, $split:ident, $splat:ident, $mul_add:ident, $add:ident, $reduce:ident) => {
        impl Dot<$real> for $real {
            fn arranged(x: &[$real]) -> Vec<$real> {
                x.to_vec()
            }

            #[inline(always)]
            fn dot<V: Simd>(simd: V, row: &[$real], x: &[$real]) -> $real {
                let ((row, row_rest), (x, x_rest)) = (V::$split(row), V::$split(x));
                let ((row4, row1), (x4, x1)) = (row.as_chunks::<4>(), x.as_chunks::<4>());
                // Four sums, since one waits for its last addition.
                let [mut s0, mut s1, mut s2, mut s3] = [simd.$splat(0.0); 4];
                for (row, x) in row4.iter().zip(x4) {
                    s0 = simd.$mul_add(row[0], x[0], s0);
                    s1 = simd.$mul_add(row[1], x[1], s1);
                    s2 = simd.$mul_add(row[2], x[2], s2);
                    s3 = simd.$mul_add(row[3], x[3], s3);
                }
                for (&row, &x) in row1.iter().zip(x1) {
                    s0 = simd.$mul_add(row, x, s0);
                }
                let sum = simd.$reduce(simd.$add(simd.$add(s0, s1), simd.$add(s2, s3)));
                row_rest.iter().zip(x_rest).fold(sum, |sum, (row, x)| sum + row * x)
            }
        }
    };
}

dot_of_reals!(f32, as_simd_f32s, splat_f32s, mul_add_e_f32s, add_f32s, reduce_sum_f32s);
dot_of_reals!(f64, as_simd_f64s, splat_f64s, mul_add_e_f64s, add_f64s, reduce_sum_f64s);

/// Two neighbouring 16-bit values at a time, as the halves of an integer; so x is arranged as its even
/// places and then its odd ones.
macro_rules! dot_of_pairs {
    ($stored:ident, $halves:ident) => {
        impl Dot<f32> for $stored {
            fn arranged(x: &[f32]) -> Vec<f32> {
                let pairs = x.len() / 2 * 2;
                let even = x[..pairs].iter().step_by(2);
                even.chain(x[..pairs].iter().skip(1).step_by(2)).chain(&x[pairs..]).copied().collect()
            }

            #[inline(always)]
            fn dot<V: Simd>(simd: V, row: &[$stored], x: &[f32]) -> f32 {
                let half = row.len() / 2;
                let (pairs, last) = row.split_at(2 * half);
                let (even, rest) = x.split_at(half);
                let (odd, x_last) = rest.split_at(half);
                let last: f32 = last.iter().zip(x_last).map(|(row, x)| Stored::<f32>::load(*row) * x).sum();
                // Rows of odd length begin at odd places, where no integer does.
                let Ok(integers) = bytemuck::try_cast_slice::<$stored, u32>(pairs) else {
                    let products = pairs.chunks_exact(2).zip(even.iter().zip(odd));
                    let products =
                        products.map(|(pair, (even, odd))| pair[0].load() * even + Stored::<f32>::load(pair[1]) * odd);
                    return products.sum::<f32>() + last;
                };
                let (integers, integers_rest) = V::as_simd_u32s(integers);
                let ((even, even_rest), (odd, odd_rest)) = (V::as_simd_f32s(even), V::as_simd_f32s(odd));
                let ((by2, by1), (even2, even1)) = (integers.as_chunks::<2>(), even.as_chunks::<2>());
                let (odd2, odd1) = odd.as_chunks::<2>();
                let [mut s0, mut s1, mut s2, mut s3] = [simd.splat_f32s(0.0); 4];
                for ((row, even), odd) in by2.iter().zip(even2).zip(odd2) {
                    let [low, high] = $halves(simd, row[0]);
                    s0 = simd.mul_add_e_f32s(low, even[0], s0);
                    s1 = simd.mul_add_e_f32s(high, odd[0], s1);
                    let [low, high] = $halves(simd, row[1]);
                    s2 = simd.mul_add_e_f32s(low, even[1], s2);
                    s3 = simd.mul_add_e_f32s(high, odd[1], s3);
                }
                for ((&row, &even), &odd) in by1.iter().zip(even1).zip(odd1) {
                    let [low, high] = $halves(simd, row);
                    s0 = simd.mul_add_e_f32s(low, even, s0);
                    s1 = simd.mul_add_e_f32s(high, odd, s1);
                }
                let mut sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3)));
                let rest: &[$stored] = bytemuck::cast_slice(integers_rest);
                for (pair, (even, odd)) in rest.chunks_exact(2).zip(even_rest.iter().zip(odd_rest)) {
                    sum += Stored::<f32>::load(pair[0]) * even + Stored::<f32>::load(pair[1]) * odd;
                }
                sum + last
            }
        }
    };
}

dot_of_pairs!(bf16, halves_of_bf16);
dot_of_pairs!(f16, halves_of_f16);

#[inline(always)]
fn halves_of_bf16<V: Simd>(simd: V, pair: V::u32s) -> [V::f32s; 2] {
    let low = simd.wrapping_dyn_shl_u32s(pair, simd.splat_u32s(16));
    let high = simd.and_u32s(pair, simd.splat_u32s(0xffff_0000));
    [simd.transmute_f32s_u32s(low), simd.transmute_f32s_u32s(high)]
}

#[inline(always)]
fn halves_of_f16<V: Simd>(simd: V, pair: V::u32s) -> [V::f32s; 2] {
    let low = simd.and_u32s(pair, simd.splat_u32s(0xffff));
    let high = simd.wrapping_dyn_shr_u32s(pair, simd.splat_u32s(16));
    [widen_f16s(simd, low), widen_f16s(simd, high)]
}

/// As `widen_f16`.
#[inline(always)]
fn widen_f16s<V: Simd>(simd: V, bits: V::u32s) -> V::f32s {
    let magnitude = simd.and_u32s(bits, simd.splat_u32s(0x7fff));
    let shifted = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(magnitude, simd.splat_u32s(13)));
    let finite = simd.transmute_u32s_f32s(simd.mul_f32s(shifted, simd.splat_f32s(super::number::REBIAS)));
    let over = simd.add_u32s(magnitude, simd.splat_u32s(0x400));
    let highest = simd.sub_u32s(simd.splat_u32s(0), simd.wrapping_dyn_shr_u32s(over, simd.splat_u32s(15)));
    let infinite = simd.and_u32s(highest, simd.splat_u32s(0x7f80_0000));
    let sign = simd.wrapping_dyn_shl_u32s(simd.and_u32s(bits, simd.splat_u32s(0x8000)), simd.splat_u32s(16));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.or_u32s(finite, infinite), sign))
}
