//! A matrix of weights as Hugging Face stores it.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Tensor};
use msrnn_core::kernels::{self, Activations, Format, Weight};
use msrnn_core::precision::widen;

/// `[out, in]` as in the checkpoint: never transposed in memory. It may be in fewer bits than what it is
/// multiplied with, and is read as it is.
#[derive(Module, Debug)]
pub enum Matrix {
    /// In a float dtype.
    Float(Param<Tensor<2>>),
    /// In blocks that share scales.
    Blocks(Blocks),
}

/// A [`Blocks`](kernels::Blocks) as a module.
#[derive(Module, Debug)]
pub struct Blocks {
    bytes: Param<Tensor<2, Int>>,
    #[module(skip)]
    format: Format,
    #[module(skip)]
    activations: Activations,
}

impl Matrix {
    /// A matrix in blocks. `id`: of its parameter.
    pub fn blocks(blocks: kernels::Blocks, id: u64) -> Self {
        let kernels::Blocks { bytes, format, activations } = blocks;
        Matrix::Blocks(Blocks { bytes: Param::initialized(ParamId::from(id), bytes), format, activations })
    }

    /// What kernels take.
    pub fn weight(&self) -> Weight {
        match self {
            Matrix::Float(weight) => Weight::Float(weight.val()),
            Matrix::Blocks(blocks) => Weight::Blocks(blocks.blocks()),
        }
    }

    /// Rows by number, in the accumulation dtype: `[rows]` to `[rows, in]`.
    pub fn rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Matrix::Float(weight) => widen(weight.val().select(0, rows)),
            Matrix::Blocks(blocks) => blocks.blocks().select(rows).dequantize(),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Matrix::Float(weight) => weight.val().shape().num_elements() * weight.val().dtype().size(),
            Matrix::Blocks(blocks) => blocks.bytes.val().shape().num_elements(),
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match self {
            Matrix::Float(weight) => weight.val().device(),
            Matrix::Blocks(blocks) => blocks.bytes.val().device(),
        }
    }
}

impl Blocks {
    fn blocks(&self) -> kernels::Blocks {
        kernels::Blocks { bytes: self.bytes.val(), format: self.format, activations: self.activations }
    }
}
