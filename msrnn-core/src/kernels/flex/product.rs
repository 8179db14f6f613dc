//! Products of matrices that lie in memory row by row, on the core that asks for them: of f32 by kernels of our own where
//! there are some (`slabs.rs`), else by a library.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use gemm::Parallelism;

use super::slabs;
use crate::simd::Real;

/// The right side of a product: a matrix `[rows, columns]`, read as it is or as its transpose.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a, T> {
    AsTheyAre(&'a [T]),
    Transposed(&'a [T]),
}

/// Some columns of a matrix `[rows, columns]`, to be written by one core while others write others. Nothing need be there
/// before.
pub(crate) struct Columns<'a, T> {
    first: *mut MaybeUninit<T>,
    rows: usize,
    columns: usize,
    range: Range<usize>,
    matrix: PhantomData<&'a mut [MaybeUninit<T>]>,
}

// SAFETY: a `Columns` is the only way to its part of the matrix, which no other one shares.
unsafe impl<T: Send> Send for Columns<'_, T> {}

impl<'a, T: Copy> Columns<'a, T> {
    /// The whole of a matrix `[rows, columns]`.
    pub(crate) fn all(matrix: &'a mut [MaybeUninit<T>], columns: usize) -> Self {
        let (rows, first) = (matrix.len() / columns.max(1), matrix.as_mut_ptr());
        Self { first, rows, columns, range: 0..columns, matrix: PhantomData }
    }

    /// The whole of a matrix that has values.
    pub(crate) fn over(matrix: &'a mut [T], columns: usize) -> Self {
        let (first, n) = (matrix.as_mut_ptr().cast(), matrix.len());
        // SAFETY: the same values, and only such are written.
        Self::all(unsafe { std::slice::from_raw_parts_mut(first, n) }, columns)
    }

    /// These columns, `size` at a time.
    pub(crate) fn split(self, size: usize) -> Vec<Self> {
        let Self { first, rows, columns, range, .. } = self;
        let ranges = range.clone().step_by(size).map(|start| start..range.end.min(start + size));
        ranges.map(|range| Self { first, rows, columns, range, matrix: PhantomData }).collect()
    }

    /// These columns, `size` rows at a time.
    pub(crate) fn by_rows(self, size: usize) -> Vec<Self> {
        let Self { first, rows, columns, range, .. } = self;
        let part = |start: usize| Self {
            // SAFETY: the row is one of the matrix.
            first: unsafe { first.add(start * columns) },
            rows: size.min(rows - start),
            columns,
            range: range.clone(),
            matrix: PhantomData,
        };
        (0..rows).step_by(size).map(part).collect()
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Which columns.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Of a row these columns.
    #[inline]
    pub(crate) fn row(&mut self, row: usize) -> &mut [MaybeUninit<T>] {
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
    /// `y = factor · x · rows`, x of `[rows of y, k]`. All of y is written.
    fn product(y: &mut Columns<'_, Self>, x: &[Self], rows: Rows<'_, Self>, factor: Self);
}

impl Product for f32 {
    fn product(y: &mut Columns<'_, f32>, x: &[f32], rows: Rows<'_, f32>, factor: f32) {
        match slabs::products().next() {
            // SAFETY: the processor has the registers.
            Some((_, product)) => unsafe { product(y, x, rows, factor) },
            None => f32::multiplied(y, x, rows, factor),
        }
    }
}

impl Product for f64 {
    fn product(y: &mut Columns<'_, f64>, x: &[f64], rows: Rows<'_, f64>, factor: f64) {
        f64::multiplied(y, x, rows, factor);
    }
}

/// By the library.
pub(super) trait Multiplied: Real {
    /// As [`Product::product`].
    fn multiplied(y: &mut Columns<'_, Self>, x: &[Self], rows: Rows<'_, Self>, factor: Self);
}

macro_rules! multiplied {
    ($($real:ident),*) => {
        $(impl Multiplied for $real {
            fn multiplied(y: &mut Columns<'_, Self>, x: &[Self], rows: Rows<'_, Self>, factor: Self) {
                let (m, n) = (y.rows, y.range.len());
                let k = x.len() / m.max(1);
                let (rows, rhs_cs, rhs_rs) = match rows {
                    Rows::AsTheyAre(rows) => (rows, 1, n),
                    Rows::Transposed(rows) => (rows, k, 1),
                };
                assert!(x.len() == m * k && rows.len() == k * n, "shapes of a product");
                // SAFETY: x is m × k and the right side k × n by the strides given, and the slices are that long; y is
                // m × n in a matrix whose rows are `columns` apart, and nobody else has these columns.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        y.first.add(y.range.start).cast(),
                        1,
                        y.columns as isize,
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

multiplied!(f32, f64);
