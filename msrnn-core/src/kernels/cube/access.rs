//! From burn's tensors to buffers on the device and back.

use burn::backend::{Cube, DispatchDevice};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

/// Whether a tensor is on a device that runs the kernels, without gradients.
pub(crate) fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.device().as_dispatch(), DispatchDevice::Cube(_))
}

/// Whether `x` is in a dtype that the kernels read.
pub(crate) fn is_read<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

/// A float tensor's values in row-major order, to be read.
pub(crate) fn read<const D: usize>(x: Tensor<D>) -> CubeTensor {
    into_contiguous(x.try_into_primitive::<Cube>().expect("a float tensor on the device"))
}

/// As [`read`], of integers.
pub(crate) fn read_int<const D: usize>(x: Tensor<D, Int>) -> CubeTensor {
    into_contiguous(x.try_into_primitive::<Cube>().expect("an integer tensor on the device"))
}

/// A float tensor's buffer, to be written in place: copied first if someone else holds it.
pub(crate) fn own<const D: usize>(x: Tensor<D>) -> CubeTensor {
    unshared(read(x))
}

/// As [`own`], of integers.
pub(crate) fn own_int<const D: usize>(x: Tensor<D, Int>) -> CubeTensor {
    unshared(read_int(x))
}

fn unshared(x: CubeTensor) -> CubeTensor {
    if x.can_mut() { x } else { x.copy() }
}

/// A new buffer whose values do not matter, beside `like`.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, dims: [usize; D], dtype: DType) -> CubeTensor {
    let shape = Shape::new(dims);
    let handle = like.client.empty(shape.num_elements().max(1) * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

pub(crate) fn close<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(x)
}

pub(crate) fn close_int<const D: usize>(x: CubeTensor) -> Tensor<D, Int> {
    Tensor::from_primitive::<Cube>(x)
}

/// A buffer as a kernel's argument; the tensor stays.
pub(crate) fn argument(x: &CubeTensor) -> BufferArg {
    x.clone().into_buffer_arg()
}

/// Whether the adapter is a program that runs on the host's processor: there is no card behind it.
pub(crate) fn is_software(client: &Client) -> bool {
    client.properties().identity.physical.is_none()
}

/// Units of a cube: a power of two, as the reductions want it.
///
/// Software does a vector's worth of units at once, 8 of f32, and switches contexts between more of them
/// at every barrier: there a few vectors, so that barriers are still between some.
pub(crate) fn units(client: &Client) -> u32 {
    let wanted = if is_software(client) { 32 } else { 256 };
    1 << client.properties().hardware.max_units_per_cube.min(wanted).ilog2()
}
