//! What is done to every token by itself, one launch each.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::access::{argument, close, empty, read, units};
use super::reduce::team_sum;

/// Most rows in the first dimension of a launch.
const ABREAST: u32 = 32_768;

/// weight · x / √(mean(x²) + ε). One cube per row of `d` values.
#[cube(launch)]
fn rms_norm_kernel<F: Float, W: Float>(
    x: &[F],
    weight: &[W],
    y: &mut [F],
    epsilon: f32,
    rows: u32,
    d: u32,
    #[comptime] units: u32,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::new_slice(units as usize);
    // What lies beyond the last row does the last one once more.
    let row = ((CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X).min(rows - 1) * d) as usize;
    let mut squares = 0.0f32;
    let mut i = UNIT_POS;
    while i < d {
        let value = f32::cast_from(x[row + i as usize]);
        squares += value * value;
        i += units;
    }
    let mean = team_sum(squares, &mut shared, units) / f32::cast_from(d);
    let scale = 1.0f32 / (mean + epsilon).sqrt();
    let mut i = UNIT_POS;
    while i < d {
        let value = f32::cast_from(x[row + i as usize]) * scale * f32::cast_from(weight[i as usize]);
        y[row + i as usize] = F::cast_from(value);
        i += units;
    }
}

/// silu(gate) · up
#[cube(launch)]
fn swiglu_kernel<F: Float>(gate: &[F], up: &[F], y: &mut [F], #[define(F)] _dtype: ElemType) {
    if ABSOLUTE_POS < y.len() {
        let gated = f32::cast_from(gate[ABSOLUTE_POS]);
        let silu = gated / (1.0f32 + (0.0f32 - gated).exp());
        y[ABSOLUTE_POS] = F::cast_from(silu * f32::cast_from(up[ABSOLUTE_POS]));
    }
}

/// Channel i of every head against channel i + half. One unit per pair.
#[cube(launch)]
fn rotate_kernel<F: Float, C: Float>(
    x: &[F],
    cos: &[C],
    sin: &[C],
    y: &mut [F],
    pairs: u32,
    heads: u32,
    rows: u32,
    half: u32,
    #[define(F, C)] _dtypes: [ElemType; 2],
) {
    let pair = ABSOLUTE_POS as u32;
    if pair < pairs {
        let i = pair % half;
        let row = pair / half;
        let angle = ((row / (heads * rows) * rows + row % rows) * half + i) as usize;
        let (cos, sin) = (f32::cast_from(cos[angle]), f32::cast_from(sin[angle]));
        let first = (row * 2 * half + i) as usize;
        let second = first + half as usize;
        let (a, b) = (f32::cast_from(x[first]), f32::cast_from(x[second]));
        y[first] = F::cast_from(a * cos - b * sin);
        y[second] = F::cast_from(b * cos + a * sin);
    }
}

/// See [`rms_norm`](crate::kernels::rms_norm).
pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let dims = x.dims();
    let (x, weight) = (read(x), read(weight));
    let y = empty(&x, dims, x.dtype);
    let units = units(&x.client);
    let rows = dims[..D - 1].iter().product::<usize>() as u32;
    rms_norm_kernel::launch(
        &x.client,
        // A dimension of a launch ends at 65,535 on some devices.
        CubeCount::Static(rows.min(ABREAST), rows.div_ceil(ABREAST), 1),
        CubeDim::new_1d(units),
        argument(&x),
        argument(&weight),
        argument(&y),
        epsilon as f32,
        rows,
        dims[D - 1] as u32,
        units,
        [dtype_to_storage_type(x.dtype), dtype_to_storage_type(weight.dtype)],
    );
    close(y)
}

/// See [`swiglu`](crate::kernels::swiglu).
pub(crate) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let dims = gate.dims();
    let (gate, up) = (read(gate), read(up));
    let y = empty(&gate, dims, gate.dtype);
    let n = dims.iter().product();
    let cube = CubeDim::new_1d(units(&gate.client));
    swiglu_kernel::launch(
        &gate.client,
        calculate_cube_count_elemwise(&gate.client, n, cube),
        cube,
        argument(&gate),
        argument(&up),
        argument(&y),
        dtype_to_storage_type(gate.dtype),
    );
    close(y)
}

/// See [`rotate`](crate::kernels::rotate).
pub(crate) fn rotate(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<4> {
    let dims @ [batch, heads, rows, head_dim] = x.dims();
    let (x, cos, sin) = (read(x), read(cos), read(sin));
    let y = empty(&x, dims, x.dtype);
    let pairs = batch * heads * rows * head_dim / 2;
    let cube = CubeDim::new_1d(units(&x.client));
    rotate_kernel::launch(
        &x.client,
        calculate_cube_count_elemwise(&x.client, pairs, cube),
        cube,
        argument(&x),
        argument(&cos),
        argument(&sin),
        argument(&y),
        pairs as u32,
        heads as u32,
        rows as u32,
        (head_dim / 2) as u32,
        [dtype_to_storage_type(x.dtype), dtype_to_storage_type(cos.dtype)],
    );
    close(y)
}
