//! Products of matrices that lie in memory row by row, on the core that asks for them.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

use crate::simd::Real;

/// The right side of a product: a matrix `[rows, columns]`, read as it is or as its transpose.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a, T> {
    AsTheyAre(&'a [T]),
    Transposed(&'a [T]),
}

/// Some columns of a matrix `[rows, columns]`, to be written by one core while others write others.
pub(crate) struct Columns<'a, T> {
    first: *mut T,
    rows: usize,
    columns: usize,
    range: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Columns` is the only way to its part of the matrix, which no other one shares.
unsafe impl<T: Send> Send for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// The columns of `matrix`, `[rows, columns]`, `size` at a time.
    pub(crate) fn split(matrix: &'a mut [T], columns: usize, size: usize) -> Vec<Self> {
        let rows = matrix.len() / columns.max(1);
        let first = matrix.as_mut_ptr();
        let ranges = (0..columns).step_by(size).map(|start| start..columns.min(start + size));
        ranges.map(|range| Self { first, rows, columns, range, matrix: PhantomData }).collect()
    }

    /// Which columns.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Of a row these columns.
    #[inline]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "a row of the matrix");
        // SAFETY: the row is there, and nobody else has these columns of it.
        unsafe {
            let first = self.first.add(row * self.columns + self.range.start);
            std::slice::from_raw_parts_mut(first, self.range.len())
        }
    }
}

/// f32 or f64, with products of matrices.
pub(crate) trait Product: Real {
    /// `y = factor · x · rows`, x of `[m, k]`. `columns`: of `rows`.
    fn product(y: &mut [Self], x: &[Self], rows: Rows<'_, Self>, columns: usize, factor: Self);

    /// `y = x · weightᵀ`, x of `[m, k]`, weight of `[columns of y, k]`.
    fn product_into(y: &mut Columns<'_, Self>, x: &[Self], weight: &[Self], k: usize);
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

            fn product_into(y: &mut Columns<'_, Self>, x: &[Self], weight: &[Self], k: usize) {
                let n = y.range.len();
                assert!(x.len() == y.rows * k && weight.len() == n * k, "shapes of a product");
                // SAFETY: x is rows × k, weight n × k, and the slices are that long; y is rows × n in a matrix
                // whose rows are `columns` apart, and nobody else has these columns.
                unsafe {
                    gemm::gemm(
                        y.rows,
                        n,
                        k,
                        y.first.add(y.range.start),
                        1,
                        y.columns as isize,
                        false,
                        x.as_ptr(),
                        1,
                        k as isize,
                        weight.as_ptr(),
                        k as isize,
                        1,
                        0.0,
                        1.0,
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
