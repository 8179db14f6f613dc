//! Matrix products on adapters that are programs.
//!
//! burn's products are made for cards: tiles in shared memory and barriers between the units that fill
//! them. A program that stands in for a card, such as Mesa's llvmpipe, takes tens of seconds to compile
//! one and switches contexts at every barrier. Here a unit computes one value by itself, operands are
//! read where they are, and one kernel per pair of dtypes serves every shape.

use burn::backend::Cube;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::access::{close, empty, is_read, is_software, units};

/// Where the values of an operand are: strides in values.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Strides {
    outer: u32,
    inner: u32,
    row: u32,
    column: u32,
}

/// y = lhs · rhs, matrix by matrix, summed in f32. One unit per value of `y`.
///
/// lhs: `[outer, inner, m, k]`, rhs: `[outer, inner, k, n]`, in any layout; y: `[outer, inner, m, n]`.
#[cube(launch)]
fn product_kernel<L: Float, R: Float>(
    lhs: &[L],
    rhs: &[R],
    y: &mut [L],
    of_lhs: &Strides,
    of_rhs: &Strides,
    inner: u32,
    m: u32,
    k: u32,
    n: u32,
    #[define(L, R)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS < y.len() {
        let place = ABSOLUTE_POS as u32;
        let column = place % n;
        let row = place / n % m;
        let matrix = place / (n * m);
        let (o, i) = (matrix / inner, matrix % inner);
        let mut left = o * of_lhs.outer + i * of_lhs.inner + row * of_lhs.row;
        let mut right = o * of_rhs.outer + i * of_rhs.inner + column * of_rhs.column;
        let mut sum = 0.0f32;
        for _ in 0..k {
            sum += f32::cast_from(lhs[left as usize]) * f32::cast_from(rhs[right as usize]);
            left += of_lhs.column;
            right += of_rhs.row;
        }
        y[ABSOLUTE_POS] = L::cast_from(sum);
    }
}

/// See [`product`](crate::kernels::product).
pub(crate) fn product<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    let (of_lhs, of_rhs) = (lhs.dims(), rhs.dims());
    let alike = D <= 4 && of_lhs[..D - 2] == of_rhs[..D - 2];
    if !(alike && is_read(&lhs) && is_read(&rhs)) {
        return lhs.matmul(rhs);
    }
    let open = |x: Tensor<D>| x.try_into_primitive::<Cube>().expect("a float tensor on the device");
    let (lhs, rhs) = (open(lhs), open(rhs));
    if !is_software(&lhs.client) {
        return close::<D>(lhs).matmul(close(rhs));
    }
    let mut dims = of_lhs;
    dims[D - 1] = of_rhs[D - 1];
    let y = empty(&lhs, dims, lhs.dtype);
    let values: usize = dims.iter().product();
    if values == 0 {
        return close(y);
    }
    let cube = CubeDim::new_1d(units(&lhs.client));
    product_kernel::launch(
        &lhs.client,
        calculate_cube_count_elemwise(&lhs.client, values, cube),
        cube,
        whole(&lhs),
        whole(&rhs),
        whole(&y),
        strides(&lhs),
        strides(&rhs),
        if D > 2 { dims[D - 3] as u32 } else { 1 },
        dims[D - 2] as u32,
        of_rhs[D - 2] as u32,
        dims[D - 1] as u32,
        [dtype_to_storage_type(lhs.dtype), dtype_to_storage_type(rhs.dtype)],
    );
    close(y)
}

/// All of the buffer that a view begins in: how far the view reaches its strides tell.
fn whole(x: &CubeTensor) -> BufferArg {
    let values = x.handle.size() as usize / x.dtype.size();
    unsafe { BufferArg::from_raw_parts(x.handle.clone(), values) }
}

fn strides(x: &CubeTensor) -> StridesLaunch {
    let strides = x.meta.strides();
    let back = |n: usize| strides.len().checked_sub(n).map_or(0, |i| strides[i] as u32);
    StridesLaunch::new(back(4), back(3), back(2), back(1))
}
