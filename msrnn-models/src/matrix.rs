//! A matrix of weights as Hugging Face stores it.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};
use msrnn_core::kernels::{Int8, Weight};
use msrnn_core::precision::widen;

/// `[out, in]` as in the checkpoint: never transposed in memory. It may be in fewer bits than what it is
/// multiplied with, and is read as it is.
#[derive(Module, Debug)]
pub enum Matrix {
    /// In a float dtype.
    Float(Param<Tensor<2>>),
    /// In 8 bits.
    Int8(Blocks),
}

/// An [`Int8`] as a module.
#[derive(Module, Debug)]
pub struct Blocks {
    values: Param<Tensor<2, Int>>,
    scales: Param<Tensor<2>>,
}

impl Matrix {
    /// Values in f32, `[out, in]`, rounded to 8 bits. `id`: of its parameters.
    ///
    /// # Panics
    ///
    /// As [`Int8::quantize`].
    pub fn int8(data: TensorData, id: u64, device: &Device) -> Self {
        let dims: [usize; 2] = data.shape().dims();
        let values = data.convert::<f32>();
        let int8 = Int8::quantize(values.as_slice().expect("it was converted"), dims, device);
        Matrix::Int8(Blocks {
            values: Param::initialized(ParamId::from(id), int8.values),
            scales: Param::initialized(ParamId::from(id), int8.scales),
        })
    }

    /// What kernels take.
    pub fn weight(&self) -> Weight {
        match self {
            Matrix::Float(weight) => Weight::Float(weight.val()),
            Matrix::Int8(blocks) => Weight::Int8(blocks.int8()),
        }
    }

    /// Rows by number, in the accumulation dtype: `[rows]` to `[rows, in]`.
    pub fn rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Matrix::Float(weight) => widen(weight.val().select(0, rows)),
            Matrix::Int8(blocks) => blocks.int8().select(rows).dequantize(),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Matrix::Float(weight) => weight.val().shape().num_elements() * weight.val().dtype().size(),
            Matrix::Int8(blocks) => {
                let values = blocks.values.val().shape().num_elements();
                values + values / Int8::BLOCK * size_of::<f32>()
            }
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match self {
            Matrix::Float(weight) => weight.val().device(),
            Matrix::Int8(blocks) => blocks.scales.val().device(),
        }
    }
}

impl Blocks {
    fn int8(&self) -> Int8 {
        Int8 { values: self.values.val(), scales: self.scales.val() }
    }
}
