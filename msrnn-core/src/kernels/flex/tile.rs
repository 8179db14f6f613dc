//! The two sums of an attention step, over a few rows at a time and for all queries that share them.
//!
//! Rows are in the accumulation dtype by now. What is summed up stays in registers, and a row that was read is used by up to
//! [`QUERIES`] queries: what decides the speed of a step must not depend on what a compiler makes of a loop.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use pulp::{Arch, Simd, WithSimd};

use crate::simd::Real;

/// Queries that are handled side by side.
const QUERIES: usize = 4;

/// Where the weights of some rows are: of each query so many, and the first row's is at that place.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) stride: usize,
    pub(crate) first: usize,
}

/// f32 or f64.
pub(crate) trait Tile: Real {
    /// `weights[j, row] = query[j] · rows[row]`. query: `[queries, d]`, rows: `[n, d]`
    fn products(arch: Arch, query: &[Self], rows: &[Self], d: usize, weights: &mut [Self], at: At);

    /// `sums[j] += Σ weights[j, row] · rows[row]`. sums: `[queries, d]`, rows: `[n, d]`
    fn add_weighted(arch: Arch, weights: &[Self], at: At, rows: &[Self], d: usize, sums: &mut [Self]);
}

/// What [`Tile::products`] is given.
struct Products<'a, T> {
    query: &'a [T],
    rows: &'a [T],
    d: usize,
    weights: &'a mut [T],
    at: At,
}

/// What [`Tile::add_weighted`] is given.
struct Sums<'a, T> {
    weights: &'a [T],
    at: At,
    rows: &'a [T],
    d: usize,
    sums: &'a mut [T],
}

macro_rules! tile {
    ($real:ident, $split:ident, $split_mut:ident, $splat:ident, $mul_add:ident, $add:ident, $reduce:ident) => {
        impl Tile for $real {
            fn products(arch: Arch, query: &[$real], rows: &[$real], d: usize, weights: &mut [$real], at: At) {
                arch.dispatch(Products { query, rows, d, weights, at });
            }

            fn add_weighted(arch: Arch, weights: &[$real], at: At, rows: &[$real], d: usize, sums: &mut [$real]) {
                arch.dispatch(Sums { weights, at, rows, d, sums });
            }
        }

        impl WithSimd for Products<'_, $real> {
            type Output = ();

            #[inline(always)]
            fn with_simd<V: Simd>(self, simd: V) {
                let Self { query, rows, d, weights, at } = self;
                let weights = weights.chunks_mut(QUERIES * at.stride);
                for (query, weights) in query.chunks(QUERIES * d).zip(weights) {
                    match query.len() / d {
                        4 => all_rows::<V, 4, 2>(simd, query, rows, d, weights, at),
                        3 => all_rows::<V, 3, 2>(simd, query, rows, d, weights, at),
                        2 => all_rows::<V, 2, 4>(simd, query, rows, d, weights, at),
                        _ => all_rows::<V, 1, 4>(simd, query, rows, d, weights, at),
                    }
                }

                #[inline(always)]
                fn all_rows<V: Simd, const Q: usize, const R: usize>(
                    simd: V,
                    query: &[$real],
                    rows: &[$real],
                    d: usize,
                    weights: &mut [$real],
                    at: At,
                ) {
                    let several = rows.chunks_exact(R * d);
                    let rest = several.remainder();
                    let mut at = at;
                    for rows in several {
                        some_rows::<V, Q, R>(simd, query, rows, d, weights, at);
                        at.first += R;
                    }
                    for row in rest.chunks_exact(d) {
                        some_rows::<V, Q, 1>(simd, query, row, d, weights, at);
                        at.first += 1;
                    }
                }

                #[inline(always)]
                fn some_rows<V: Simd, const Q: usize, const R: usize>(
                    simd: V,
                    query: &[$real],
                    rows: &[$real],
                    d: usize,
                    weights: &mut [$real],
                    At { stride, first }: At,
                ) {
                    let vectors = V::$split(&rows[..d]).0.len();
                    let (mut wide, mut last) = ([[].as_slice(); R], [[].as_slice(); R]);
                    for (r, row) in rows.chunks_exact(d).enumerate() {
                        let (row, rest) = V::$split(row);
                        (wide[r], last[r]) = (&row[..vectors], rest);
                    }
                    let (mut wide_query, mut last_query) = ([[].as_slice(); Q], [[].as_slice(); Q]);
                    for (j, query) in query.chunks_exact(d).enumerate() {
                        let (query, rest) = V::$split(query);
                        (wide_query[j], last_query[j]) = (&query[..vectors], rest);
                    }
                    let mut sums = [[simd.$splat(0.0); R]; Q];
                    for v in 0..vectors {
                        for j in 0..Q {
                            let x = wide_query[j][v];
                            for r in 0..R {
                                sums[j][r] = simd.$mul_add(wide[r][v], x, sums[j][r]);
                            }
                        }
                    }
                    for j in 0..Q {
                        for r in 0..R {
                            let rest = last[r].iter().zip(last_query[j]);
                            weights[j * stride + first + r] =
                                rest.fold(simd.$reduce(sums[j][r]), |sum, (row, x)| sum + row * x);
                        }
                    }
                }
            }
        }

        impl WithSimd for Sums<'_, $real> {
            type Output = ();

            #[inline(always)]
            fn with_simd<V: Simd>(self, simd: V) {
                let Self { weights, at, rows, d, sums } = self;
                let weights = weights.chunks(QUERIES * at.stride);
                for (sums, weights) in sums.chunks_mut(QUERIES * d).zip(weights) {
                    match sums.len() / d {
                        4 => whole::<V, 4, 2>(simd, weights, at, rows, d, sums),
                        3 => whole::<V, 3, 4>(simd, weights, at, rows, d, sums),
                        2 => whole::<V, 2, 4>(simd, weights, at, rows, d, sums),
                        _ => whole::<V, 1, 8>(simd, weights, at, rows, d, sums),
                    }
                }

                /// C vectors of a row at a time.
                #[inline(always)]
                fn whole<V: Simd, const Q: usize, const C: usize>(
                    simd: V,
                    weights: &[$real],
                    at: At,
                    rows: &[$real],
                    d: usize,
                    sums: &mut [$real],
                ) {
                    let n = rows.len() / d;
                    let mut by_query = [[].as_slice(); Q];
                    for (j, weights) in weights.chunks(at.stride).enumerate() {
                        by_query[j] = &weights[at.first..at.first + n];
                    }
                    let (vectors, last) = V::$split(&rows[..d]);
                    let (vectors, last) = (vectors.len(), last.len());
                    let mut from = 0;
                    while from + C <= vectors {
                        columns::<V, Q, C>(simd, by_query, rows, d, sums, from);
                        from += C;
                    }
                    while from + 2 <= vectors {
                        columns::<V, Q, 2>(simd, by_query, rows, d, sums, from);
                        from += 2;
                    }
                    if from < vectors {
                        columns::<V, Q, 1>(simd, by_query, rows, d, sums, from);
                    }
                    if last > 0 {
                        for (weights, sums) in by_query.into_iter().zip(sums.chunks_exact_mut(d)) {
                            for (row, weight) in rows.chunks_exact(d).zip(weights) {
                                let rest = sums[d - last..].iter_mut().zip(&row[d - last..]);
                                rest.for_each(|(sum, x)| *sum += weight * x);
                            }
                        }
                    }
                }

                #[inline(always)]
                fn columns<V: Simd, const Q: usize, const C: usize>(
                    simd: V,
                    weights: [&[$real]; Q],
                    rows: &[$real],
                    d: usize,
                    sums: &mut [$real],
                    from: usize,
                ) {
                    let mut of_columns = [[simd.$splat(0.0); C]; Q];
                    for (r, row) in rows.chunks_exact(d).enumerate() {
                        let row = &V::$split(row).0[from..from + C];
                        for j in 0..Q {
                            let weight = simd.$splat(weights[j][r]);
                            for c in 0..C {
                                of_columns[j][c] = simd.$mul_add(weight, row[c], of_columns[j][c]);
                            }
                        }
                    }
                    for (of_columns, sums) in of_columns.into_iter().zip(sums.chunks_exact_mut(d)) {
                        let sums = &mut V::$split_mut(sums).0[from..from + C];
                        for c in 0..C {
                            sums[c] = simd.$add(sums[c], of_columns[c]);
                        }
                    }
                }
            }
        }
    };
}

tile!(f32, as_simd_f32s, as_mut_simd_f32s, splat_f32s, mul_add_e_f32s, add_f32s, reduce_sum_f32s);
tile!(f64, as_simd_f64s, as_mut_simd_f64s, splat_f64s, mul_add_e_f64s, add_f64s, reduce_sum_f64s);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agree<T: Tile>([queries, n, d, before, after]: [usize; 5], numbers: &[f64], bound: f64) {
        let mut next = numbers.iter().cycle().map(|&x| T::from_f64(x));
        let mut take = |n: usize| -> Vec<T> { next.by_ref().take(n).collect() };
        let (query, rows, mut sums) = (take(queries * d), take(n * d), take(queries * d));
        let at = At { stride: before + n + after, first: before };
        let mut weights = take(queries * at.stride);
        let mut expected = (weights.clone(), sums.clone());
        for j in 0..queries {
            for r in 0..n {
                let products = (0..d).map(|c| query[j * d + c] * rows[r * d + c]);
                let weight: T = products.sum();
                expected.0[j * at.stride + before + r] = weight;
                (0..d).for_each(|c| expected.1[j * d + c] += weight * rows[r * d + c]);
            }
        }
        T::products(Arch::new(), &query, &rows, d, &mut weights, at);
        T::add_weighted(Arch::new(), &weights, at, &rows, d, &mut sums);
        for (found, expected) in weights.iter().chain(&sums).zip(expected.0.iter().chain(&expected.1)) {
            assert!((found.to_f64() - expected.to_f64()).abs() <= bound, "{found:?} instead of {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn both_sums_are_those_of_one_number_after_the_other(
            queries in 1..10usize, n in 1..12usize,
            d in prop::sample::select(vec![1usize, 3, 4, 7, 8, 15, 16, 24, 33, 40, 64, 80, 96, 128]),
            before in 0..3usize, after in 0..3usize, numbers in prop::collection::vec(-1.0f64..1.0, 97),
        ) {
            let shape = [queries, n, d, before, after];
            agree::<f64>(shape, &numbers, 1e-10);
            // 128 products of numbers below 1, and 12 of what they come to.
            agree::<f32>(shape, &numbers, 3e-3);
        }
    }
}
