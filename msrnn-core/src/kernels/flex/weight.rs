//! A matrix of weights as it lies in memory, read row by row.

use std::borrow::Cow;
use std::ops::Range;

use burn::tensor::{DType, Tensor, bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::access::{Dense, is_here_int, is_narrow, takes};
use super::blocks::Blocks;
use super::dot::Dot;
use super::integers::Rounded;
use super::number::Stored;
use super::pairs::{self, Pairs};
use super::product::{self, Columns, Product};
use super::row::Row;
use super::wide;
use crate::kernels::{self, Activations, Values};
use crate::simd::Real;

/// Most rows that are multiplied in one pass over floats. It reads them once, as the product of
/// matrices does too, but that first copies them into an order of its own.
pub(super) const FEW: usize = 8;

/// A matrix `[out, in]`, whatever it is held in, computed with in T.
pub(super) trait Weight<T: Real>: Sync {
    /// Bytes that it takes, which is what a product with few rows costs.
    fn bytes(&self) -> usize;

    /// `[out, in]`
    fn dims(&self) -> [usize; 2];

    /// Most rows of x that are multiplied in one pass over the weight.
    fn few_at_most(&self) -> usize {
        FEW
    }

    /// In which form many rows of x are multiplied.
    fn form(&self) -> Form {
        Form::Floats(Activations::Float)
    }

    /// Many rows of x, `[rows, in]`, in that form.
    fn rows<'a>(&self, x: &'a [T]) -> Rows<'a, T> {
        Rows::Floats(Cow::Borrowed(x))
    }

    /// `y = x · weightᵀ`, of the outputs that y's columns are, all of which are written. x in [`Weight::form`].
    fn many(&self, x: &Rows<'_, T>, y: &mut Columns<'_, T>);

    /// Rows of x, `[rows, in]`, in the form in which [`Weight::few`] wants them.
    fn arranged(&self, x: &[T]) -> Arranged<T>;

    /// Products of `outputs` with all rows of x, arranged: `y[out][row]`, in one pass over them.
    fn few(&self, outputs: Range<usize>, x: &Arranged<T>, y: &mut [T]);
}

/// In which form many rows of x are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Floats, rounded so.
    Floats(Activations),
    /// Integers of 8 bits, where the processor multiplies those faster.
    Integers,
    /// bfloat16, where the processor multiplies those.
    Bf16,
}

/// Many rows of x.
pub(super) enum Rows<'a, T: Real> {
    /// `[rows, in]`
    Floats(Cow<'a, [T]>),
    Integers(Rounded),
    Bf16(Pairs),
}

/// Rows of x as a product of few rows wants them.
pub(super) enum Arranged<T> {
    /// Values, row by row, in the weight's own order.
    Values(Vec<T>),
    /// One row, for weights in blocks.
    Row(Row),
    /// Rows in bfloat16.
    Bf16(Pairs),
}

/// A dtype of activations, and the weights that it is multiplied with.
pub(super) trait Reads: Real {
    /// Whether there is a kernel for the weight.
    fn reads(weight: &kernels::Weight) -> bool;

    /// The weight, where [`Reads::reads`].
    fn open(weight: kernels::Weight) -> Box<dyn Weight<Self>>;
}

impl Reads for f64 {
    fn reads(weight: &kernels::Weight) -> bool {
        matches!(&weight.values, Values::Float(weight) if takes(weight) && weight.dtype() == DType::F64)
    }

    fn open(weight: kernels::Weight) -> Box<dyn Weight<f64>> {
        Box::new(Floats::<f64>::of(weight.float()))
    }
}

impl Reads for f32 {
    fn reads(weight: &kernels::Weight) -> bool {
        match &weight.values {
            Values::Float(weight) => is_narrow(weight) || takes(weight) && weight.dtype() == DType::F32,
            Values::Blocks(weight) => is_here_int(&weight.bytes),
        }
    }

    fn open(weight: kernels::Weight) -> Box<dyn Weight<f32>> {
        let activations = weight.rounding();
        let weight = match weight.values {
            Values::Float(weight) => weight,
            Values::Blocks(weight) => return Box::new(Blocks::of(weight, activations)),
        };
        match weight.dtype() {
            DType::F16 => Box::new(Floats::<f16>::of(weight)),
            DType::BF16 if activations == Activations::Bf16 => Box::new(Rounding(Floats::<bf16>::of(weight))),
            DType::BF16 => Box::new(Floats::<bf16>::of(weight)),
            _ => Box::new(Floats::<f32>::of(weight)),
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

    fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// Of some outputs, row by row.
    fn stored<T>(&self, outputs: Range<usize>) -> &[S]
    where
        S: Stored<T>,
    {
        &self.values.values::<T, S>()[outputs.start * self.dims[1]..outputs.end * self.dims[1]]
    }
}

impl<T: Real + Product, S: Dot<T>> Weight<T> for Floats<S> {
    fn bytes(&self) -> usize {
        Floats::bytes(self)
    }

    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn arranged(&self, x: &[T]) -> Arranged<T> {
        Arranged::Values(x.chunks_exact(self.dims[1]).flat_map(S::arranged).collect())
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<T>, y: &mut [T]) {
        let Arranged::Values(x) = x else { unreachable!("floats want values") };
        let (weight, input) = (self.stored(outputs), self.dims[1]);
        Arch::new().dispatch(Products { weight, input, x, y });
    }

    fn many(&self, x: &Rows<'_, T>, y: &mut Columns<'_, T>) {
        let Rows::Floats(x) = x else { unreachable!("floats want floats") };
        let mut buffer = Vec::new();
        let weight = S::widened(self.stored(y.range()), &mut buffer);
        T::product(y, x, product::Rows::Transposed(weight), T::from_f64(1.0));
    }
}

/// bfloat16, multiplied with activations that are rounded to it.
struct Rounding(Floats<bf16>);

impl Weight<f32> for Rounding {
    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn dims(&self) -> [usize; 2] {
        self.0.dims
    }

    fn form(&self) -> Form {
        if pairs::products().is_some() { Form::Bf16 } else { Form::Floats(Activations::Bf16) }
    }

    fn rows<'a>(&self, x: &'a [f32]) -> Rows<'a, f32> {
        match self.form() {
            Form::Bf16 => Rows::Bf16(Pairs::of(x, self.0.dims[1])),
            _ => Rows::Floats(seen(Activations::Bf16, x)),
        }
    }

    fn many(&self, x: &Rows<'_, f32>, y: &mut Columns<'_, f32>) {
        match (x, pairs::products()) {
            // SAFETY: the processor has the instructions.
            (Rows::Bf16(x), Some((_, products))) => unsafe { (products.many)(self.0.stored::<f32>(y.range()), x, y) },
            _ => self.0.many(x, y),
        }
    }

    fn arranged(&self, x: &[f32]) -> Arranged<f32> {
        match self.rows(x) {
            Rows::Bf16(x) => Arranged::Bf16(x),
            Rows::Floats(x) => self.0.arranged(&x),
            Rows::Integers(_) => unreachable!("bfloat16 is multiplied as floats are"),
        }
    }

    fn few(&self, outputs: Range<usize>, x: &Arranged<f32>, y: &mut [f32]) {
        match (x, pairs::products()) {
            // SAFETY: as above.
            (Arranged::Bf16(x), Some((_, products))) => unsafe { (products.few)(self.0.stored::<f32>(outputs), x, y) },
            _ => self.0.few(outputs, x, y),
        }
    }
}

/// Activations of one task that rounds them.
const SEEN: usize = 1 << 14;

/// Values of many rows of x as weights see them.
pub(super) fn seen(activations: Activations, x: &[f32]) -> Cow<'_, [f32]> {
    if activations == Activations::Float {
        return Cow::Borrowed(x);
    }
    let mut seen = vec![0.0; x.len()];
    seen.par_chunks_mut(SEEN).zip(x.par_chunks(SEEN)).for_each(|(seen, x)| {
        wide(
            #[inline(always)]
            || activations.see(x, seen),
        );
    });
    Cow::Owned(seen)
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
