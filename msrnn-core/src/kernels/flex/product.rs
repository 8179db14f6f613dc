//! Products of matrices that lie in memory row by row, on the core that asks for them.

use gemm::Parallelism;

use crate::simd::Real;

/// The right side of a product: a matrix `[rows, columns]`, read as it is or as its transpose.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a, T> {
    AsTheyAre(&'a [T]),
    Transposed(&'a [T]),
}

/// f32 or f64, with products of matrices.
pub(super) trait Product: Real {
    /// `y = factor · x · rows`, x of `[m, k]`. `columns`: of `rows`.
    fn product(y: &mut [Self], x: &[Self], rows: Rows<'_, Self>, columns: usize, factor: Self);
}

macro_rules! product {
    ($($real:ident),*) => {
        $(impl Product for $real {
            fn product(y: &mut [Self], x: &[Self], rows: Rows<'_, Self>, columns: usize, factor: Self) {
                let (rows, k, n, rhs_cs, rhs_rs) = match rows {
                    Rows::AsTheyAre(rows) => (rows, rows.len() / columns, columns, 1, columns),
                    Rows::Transposed(rows) => (rows, columns, rows.len() / columns, columns, 1),
                };
                let m = y.len() / n;
                assert!(y.len() == m * n && x.len() == m * k && rows.len() == k * n, "shapes of a product");
                // SAFETY: y is m × n, x is m × k and the right side k × n by the strides given, and the
                // slices are that long; y overlaps neither, as it is borrowed mutably.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        y.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        x.as_ptr(),
                        1,
                        k as isize,
                        rows.as_ptr(),
                        rhs_cs as isize,
                        rhs_rs as isize,
                        0.0,
                        factor,
                        false,
                        false,
                        false,
                        Parallelism::None,
                    );
                }
            }
        })*
    };
}

product!(f32, f64);
