//! A matrix of weights as it lies in memory, read row by row.

use std::ops::Range;

use burn::tensor::{DType, Tensor, bf16, f16};
use pulp::{Arch, Simd, WithSimd};

use super::access::{Dense, is_here_int, is_narrow, takes};
use super::blocks::Blocks;
use super::dot::Dot;
use super::integers::Rounded;
use crate::kernels;
use crate::simd::Real;

/// A matrix `[out, in]`, whatever it is held in, computed with in T.
pub(super) trait Weight<T>: Sync {
    /// Bytes that it takes, which is what a product with few rows costs.
    fn bytes(&self) -> usize;

    /// `[out, in]`
    fn dims(&self) -> [usize; 2];

    /// Whether rows of x are rounded before they are multiplied.
    fn rounds(&self) -> bool {
        false
    }

    /// Rows of x as they are multiplied, where that is otherwise than they are.
    fn seen(&self, _x: &[T]) -> Option<Vec<T>> {
        None
    }

    /// Rows of x, `[rows, in]`, in the form in which [`Weight::few`] wants them.
    fn arranged(&self, x: &[T]) -> Arranged<T>;

    /// Products of `outputs` with all rows of x, arranged: `y[out][row]`, in one pass over them.
    fn few(&self, outputs: Range<usize>, x: &Arranged<T>, y: &mut [T]);

    /// The values of `outputs`, in `buffer` if they are held in another dtype than T.
    fn values<'a>(&'a self, outputs: Range<usize>, buffer: &'a mut Vec<T>) -> &'a [T];
}

/// Rows of x as a product of few rows wants them.
pub(super) enum Arranged<T> {
    /// Values, row by row, in the weight's own order.
    Values(Vec<T>),
    /// One row, and the sums of every 16 values of it.
    Summed(Vec<T>, Vec<[T; 2]>),
    /// One row, in 8 bits.
    Rounded(Rounded),
}

/// A dtype of activations, and the weights that it is multiplied with.
pub(super) trait Reads: Real {
    /// The weight, or none if there is no kernel for it.
    fn open(weight: kernels::Weight) -> Option<Box<dyn Weight<Self>>>;
}

impl Reads for f64 {
    fn open(weight: kernels::Weight) -> Option<Box<dyn Weight<f64>>> {
        match weight {
            kernels::Weight::Float(weight) if takes(&weight) && weight.dtype() == DType::F64 => {
                Some(Box::new(Floats::<f64>::of(weight)))
            }
            _ => None,
        }
    }
}

impl Reads for f32 {
    fn open(weight: kernels::Weight) -> Option<Box<dyn Weight<f32>>> {
        let weight = match weight {
            kernels::Weight::Float(weight) if takes(&weight) || is_narrow(&weight) => weight,
            kernels::Weight::Blocks(weight) if is_here_int(&weight.bytes) => return Some(Box::new(Blocks::of(weight))),
            _ => return None,
        };
        match weight.dtype() {
            DType::F32 => Some(Box::new(Floats::<f32>::of(weight))),
            DType::F16 => Some(Box::new(Floats::<f16>::of(weight))),
            DType::BF16 => Some(Box::new(Floats::<bf16>::of(weight))),
            _ => None,
        }
    }
}

/// Floats of any width.
struct Floats<S> {
    values: Dense,
    dims: [usize; 2],
    stored: std::marker::PhantomData<fn() -> S>,
}

impl<S> Floats<S> {
    fn of(weight: Tensor<2>) -> Self {
        Self { dims: weight.dims(), values: Dense::of(weight), stored: std::marker::PhantomData }
    }
}

impl<T: Real, S: Dot<T>> Weight<T> for Floats<S> {
    fn bytes(&self) -> usize {
        self.values.bytes()
    }

    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn arranged(&self, x: &[T]) -> Arranged<T> {
        Arranged::Values(x.chunks_exact(self.dims[1]).flat_map(S::arranged).collect())
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<T>, y: &mut [T]) {
        let Arranged::Values(x) = x else { unreachable!("floats want values") };
        let input = self.dims[1];
        let weight: &[S] = &self.values.values()[outputs.start * input..outputs.end * input];
        Arch::new().dispatch(Products { weight, input, x, y });
    }

    fn values<'a>(&'a self, outputs: Range<usize>, buffer: &'a mut Vec<T>) -> &'a [T] {
        let input = self.dims[1];
        let values: &[S] = &self.values.values()[outputs.start * input..outputs.end * input];
        S::widened(values, buffer)
    }
}

/// Rows of S with all rows of x, which are arranged for S: `y[out][row]`.
pub(super) struct Products<'a, T, S> {
    pub(super) weight: &'a [S],
    pub(super) input: usize,
    pub(super) x: &'a [T],
    pub(super) y: &'a mut [T],
}

impl<T: Real, S: Dot<T>> WithSimd for Products<'_, T, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Self { weight, input, x, y } = self;
        let rows = x.len() / input;
        for (weight, y) in weight.chunks_exact(input).zip(y.chunks_exact_mut(rows)) {
            for (x, y) in x.chunks_exact(input).zip(y) {
                *y = S::dot(simd, weight, x);
            }
        }
    }
}
