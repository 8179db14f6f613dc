//! Norm, rotation and gate: one pass over a few values where burn makes one per operation.

use burn::tensor::{DType, Tensor, bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::access::{Dense, Heads, tensor};
use super::dot::Dot;
use super::number::{Stored, load_all};
use super::{is_worth_cores, wide};
use crate::kernels::plain;
use crate::simd::Real;

/// Values that one task works on.
const TASK: usize = 1 << 14;

/// `f` of neighbouring parts of `y`, each a multiple of `unit` long, on all cores if that pays.
fn parts<T: Real>(y: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let size = TASK.next_multiple_of(unit.max(1));
    match is_worth_cores(std::mem::size_of_val(y)) {
        true => y.par_chunks_mut(size).enumerate().for_each(|(part, y)| f(part * size, y)),
        false => f(0, y),
    }
}

pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dims = x.dims();
    let x = Dense::of(x);
    match x.dtype() {
        DType::F16 => tensor(widened(x.values::<f32, f16>()), dims),
        _ => tensor(widened(x.values::<f32, bf16>()), dims),
    }
}

fn widened<S: Stored<f32>>(x: &[S]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    parts(&mut y, 1, |first, y| load_all(&x[first..], y));
    y
}

pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    match (x.dtype(), weight.dtype()) {
        (DType::F64, DType::F64) => norm::<f64, f64, D>(x, weight, epsilon),
        (DType::F32, DType::F32) => norm::<f32, f32, D>(x, weight, epsilon),
        (DType::F32, DType::F16) => norm::<f32, f16, D>(x, weight, epsilon),
        (DType::F32, DType::BF16) => norm::<f32, bf16, D>(x, weight, epsilon),
        _ => plain::rms_norm(x, weight, epsilon),
    }
}

fn norm<T: Real + Dot<T>, S: Stored<T>, const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let dims = x.dims();
    let (x, weight) = (Dense::of(x), Dense::of(weight));
    let (x, weight): (&[T], &[S]) = (x.values(), weight.values());
    let d = weight.len();
    let mut y = vec![T::ZERO; x.len()];
    parts(&mut y, d, |first, y| {
        for (y, x) in y.chunks_exact_mut(d).zip(x[first..].chunks_exact(d)) {
            let mean = square(x).to_f64() / d as f64;
            let scale = T::from_f64(1.0 / (mean + epsilon).sqrt());
            wide(
                #[inline(always)]
                || {
                    y.iter_mut().zip(x).zip(weight).for_each(|((y, &x), &weight)| *y = x * scale * weight.load());
                },
            );
        }
    });
    tensor(y, dims)
}

/// Σ x²
fn square<T: Real + Dot<T>>(x: &[T]) -> T {
    struct Square<'a, T>(&'a [T]);

    impl<T: Real + Dot<T>> WithSimd for Square<'_, T> {
        type Output = T;

        #[inline(always)]
        fn with_simd<V: Simd>(self, simd: V) -> T {
            T::dot(simd, self.0, self.0)
        }
    }

    Arch::new().dispatch(Square(x))
}

pub(crate) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    match gate.dtype() {
        DType::F64 => gated::<f64, D>(gate, up),
        _ => gated::<f32, D>(gate, up),
    }
}

fn gated<T: Real + Stored<T>, const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let dims = gate.dims();
    let (gate, up) = (Dense::of(gate), Dense::of(up));
    let (gate, up) = (gate.values::<T, T>(), up.values::<T, T>());
    let mut y = vec![T::ZERO; gate.len()];
    parts(&mut y, 1, |first, y| T::swiglu(&gate[first..][..y.len()], &up[first..][..y.len()], y));
    tensor(y, dims)
}

pub(crate) fn rotate(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<4> {
    match x.dtype() {
        DType::F64 => rotated::<f64>(x, cos, sin),
        _ => rotated::<f32>(x, cos, sin),
    }
}

fn rotated<T: Real + Stored<T>>(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<4> {
    let dims @ [_, heads, rows, head_dim] = x.dims();
    let half = head_dim / 2;
    let x = Heads::of(x);
    let (cos, sin) = (Dense::of(cos), Dense::of(sin));
    let (cos, sin) = (cos.values::<T, T>(), sin.values::<T, T>());
    let mut y = vec![T::ZERO; dims.iter().product()];
    parts(&mut y, head_dim, |first, y| {
        for (index, y) in (first / head_dim..).zip(y.chunks_exact_mut(head_dim)) {
            let (row, head, batch) = (index % rows, index / rows % heads, index / (rows * heads));
            let x = x.row(batch, head, row);
            let angle = (batch * rows + row) * half;
            let (cos, sin) = (&cos[angle..][..half], &sin[angle..][..half]);
            let ((x1, x2), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
            wide(
                #[inline(always)]
                || turn([x1, x2], [cos, sin], [&mut *y1, &mut *y2]),
            );
        }
    });
    tensor(y, dims)
}

/// Values that are turned side by side.
const LANES: usize = 16;

/// Pairs of coordinates by their angles.
#[inline(always)]
fn turn<T: Real>([x1, x2]: [&[T]; 2], [cos, sin]: [&[T]; 2], [y1, y2]: [&mut [T]; 2]) {
    let ((x1s, x1), (x2s, x2)) = (x1.as_chunks::<LANES>(), x2.as_chunks::<LANES>());
    let ((coss, cos), (sins, sin)) = (cos.as_chunks::<LANES>(), sin.as_chunks::<LANES>());
    let ((y1s, y1), (y2s, y2)) = (y1.as_chunks_mut::<LANES>(), y2.as_chunks_mut::<LANES>());
    for index in 0..y1s.len() {
        // All values are there before the first is written, so that nothing has to be compared to know that.
        let (x1, x2, cos, sin) = (x1s[index], x2s[index], coss[index], sins[index]);
        let (y1, y2) = (&mut y1s[index], &mut y2s[index]);
        for lane in 0..LANES {
            y1[lane] = x1[lane] * cos[lane] - x2[lane] * sin[lane];
            y2[lane] = x2[lane] * cos[lane] + x1[lane] * sin[lane];
        }
    }
    for index in 0..y1.len() {
        y1[index] = x1[index] * cos[index] - x2[index] * sin[index];
        y2[index] = x2[index] * cos[index] + x1[index] * sin[index];
    }
}
