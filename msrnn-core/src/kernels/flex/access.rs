//! From burn's tensors to slices and back.

use burn::backend::flex::FlexTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Element, Int, Tensor, TensorData};

use super::number::Stored;

/// Whether `x` is an activation that the kernels compute with: f32 or f64, on the CPU, and not one
/// that a gradient may be wanted of.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F32 | DType::F64) && is_here(x)
}

/// Whether `x` is in 16 bits and on the CPU.
pub(crate) fn is_narrow<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16) && is_here(x)
}

/// Whether `x` is on the CPU, without gradients.
pub(crate) fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.device().as_dispatch(), DispatchDevice::Flex(_))
}

/// As [`is_here`], of integers.
pub(crate) fn is_here_int<const D: usize>(x: &Tensor<D, Int>) -> bool {
    matches!(x.device().as_dispatch(), DispatchDevice::Flex(_))
}

/// The CPU's tensor behind a float tensor, which must be here.
pub(crate) fn open<const D: usize>(x: Tensor<D>) -> FlexTensor {
    x.try_into_primitive::<Flex>().expect("a float tensor on the CPU")
}

/// The CPU's tensor behind an integer tensor.
pub(crate) fn open_int<const D: usize>(x: Tensor<D, Int>) -> FlexTensor {
    x.try_into_primitive::<Flex>().expect("an integer tensor on the CPU")
}

pub(crate) fn close<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}

pub(crate) fn close_int<const D: usize>(x: FlexTensor) -> Tensor<D, Int> {
    Tensor::from_primitive::<Flex>(x)
}

/// A new tensor of these values.
pub(crate) fn tensor<E: Element, const D: usize>(values: Vec<E>, dims: [usize; D]) -> Tensor<D> {
    close(FlexTensor::from_data(TensorData::new(values, dims)))
}

/// A tensor's values in row-major order; copies them where they lie otherwise.
pub(crate) struct Dense {
    tensor: FlexTensor,
    start: usize,
    end: usize,
}

impl Dense {
    pub(crate) fn of<const D: usize>(x: Tensor<D>) -> Self {
        let mut x = open(x);
        if x.layout().contiguous_offsets().is_none() {
            x = x.to_contiguous();
        }
        let (start, end) = x.layout().contiguous_offsets().expect("it was made contiguous");
        Self { tensor: x, start, end }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.end - self.start) * self.dtype().size()
    }

    pub(crate) fn values<T, S: Stored<T>>(&self) -> &[S] {
        &S::of(&self.tensor)[self.start..self.end]
    }
}

/// Rows of heads, `[batch, heads, rows, d]`, read where they lie, which is where a projection left them.
pub(crate) struct Heads {
    tensor: FlexTensor,
    d: usize,
}

impl Heads {
    pub(crate) fn of(x: Tensor<4>) -> Self {
        let d = x.dims()[3];
        let x = open(x);
        Self { tensor: if x.layout().strides()[3] == 1 { x } else { x.to_contiguous() }, d }
    }

    /// One of them.
    pub(crate) fn row<T: Stored<T>>(&self, batch: usize, head: usize, row: usize) -> &[T] {
        let (strides, start) = (self.tensor.layout().strides(), self.tensor.layout().start_offset());
        let at = |index: usize, dim: usize| index as isize * strides[dim];
        &T::of(&self.tensor)[(start as isize + at(batch, 0) + at(head, 1) + at(row, 2)) as usize..][..self.d]
    }
}
