//! A matrix of weights as Hugging Face stores it.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Tensor};
use msrnn_core::kernels::{self, Activations, Format, Weight};
use msrnn_core::precision::widen;

/// `[out, in]` as in the checkpoint: never transposed in memory. It may be in fewer bits than what it is
/// multiplied with, and is read as it is.
#[derive(Module, Debug)]
pub struct Matrix {
    /// What it is held in.
    pub values: Values,
    #[module(skip)]
    activations: Activations,
}

/// What a matrix is held in.
#[derive(Module, Debug)]
pub enum Values {
    /// A float dtype.
    Float(Param<Tensor<2>>),
    /// Blocks that share scales.
    Blocks(Blocks),
}

/// A [`Blocks`](kernels::Blocks) as a module.
#[derive(Module, Debug)]
pub struct Blocks {
    bytes: Param<Tensor<2, Int>>,
    #[module(skip)]
    format: Format,
}

impl Matrix {
    /// A matrix in a float dtype, and what it is multiplied with.
    pub fn float(values: Param<Tensor<2>>, activations: Activations) -> Self {
        Self { values: Values::Float(values), activations }
    }

    /// A matrix in blocks, and what it is multiplied with. `id`: of its parameter.
    pub fn blocks(blocks: kernels::Blocks, activations: Activations, id: u64) -> Self {
        let kernels::Blocks { bytes, format } = blocks;
        let bytes = Param::initialized(ParamId::from(id), bytes);
        Self { values: Values::Blocks(Blocks { bytes, format }), activations }
    }

    /// Whether what it is multiplied with is rounded first.
    pub fn rounds(&self) -> bool {
        self.weight().rounds()
    }

    /// What kernels take.
    pub fn weight(&self) -> Weight {
        let values = match &self.values {
            Values::Float(weight) => kernels::Values::Float(weight.val()),
            Values::Blocks(blocks) => kernels::Values::Blocks(blocks.blocks()),
        };
        Weight { values, activations: self.activations }
    }

    /// Rows by number, in the accumulation dtype: `[rows]` to `[rows, in]`.
    pub fn rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match &self.values {
            Values::Float(weight) => widen(weight.val().select(0, rows)),
            Values::Blocks(blocks) => blocks.blocks().select(rows).dequantize(),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::Float(weight) => weight.val().shape().num_elements() * weight.val().dtype().size(),
            Values::Blocks(blocks) => blocks.bytes.val().shape().num_elements(),
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match &self.values {
            Values::Float(weight) => weight.val().device(),
            Values::Blocks(blocks) => blocks.bytes.val().device(),
        }
    }
}

impl Blocks {
    fn blocks(&self) -> kernels::Blocks {
        kernels::Blocks { bytes: self.bytes.val(), format: self.format }
    }
}
