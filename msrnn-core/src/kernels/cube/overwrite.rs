//! Values into a buffer that stays the same one, as a captured graph wants its inputs.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::access::{argument, units};

#[cube(launch)]
fn overwrite_kernel<N: Numeric>(from: &[N], to: &mut [N], #[define(N)] _dtype: ElemType) {
    if ABSOLUTE_POS < to.len() {
        to[ABSOLUTE_POS] = from[ABSOLUTE_POS];
    }
}

/// Writes `from` over `to`, whoever else holds it. Same shape and dtype, both in row-major order.
pub(crate) fn overwrite(to: &CubeTensor, from: &CubeTensor) {
    let n = to.meta.num_elements();
    let cube = CubeDim::new_1d(units(&to.client));
    overwrite_kernel::launch(
        &to.client,
        calculate_cube_count_elemwise(&to.client, n, cube),
        cube,
        argument(from),
        argument(to),
        dtype_to_storage_type(to.dtype),
    );
}
