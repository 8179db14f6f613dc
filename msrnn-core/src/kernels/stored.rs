//! Matrices of weights in blocks, multiplied without being written as floats first.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::blocks::Format;

/// A matrix `[out, in]` whose rows are whole blocks of a [`Format`].
#[derive(Clone, Debug)]
pub struct Blocks {
    /// The blocks of every row, `[out, bytes of a row]` in u8.
    pub bytes: Tensor<2, Int>,
    /// In which form.
    pub format: Format,
}

impl Blocks {
    /// A matrix of these values, rounded to a format that is [written](Format::quantize).
    ///
    /// # Panics
    ///
    /// When `in` is no multiple of the format's block, values and shape differ in size, or the format is not written.
    pub fn quantize(values: &[f32], [output, input]: [usize; 2], format: Format, device: &Device) -> Self {
        assert!(input.is_multiple_of(format.block()), "rows of {input} values have no whole blocks");
        assert_eq!(values.len(), output * input, "a matrix of {output} × {input}");
        let rows = values.par_chunks(input.max(1)).flat_map_iter(|row| format.quantize(row).expect("it is written"));
        let bytes = TensorData::new(rows.collect::<Vec<u8>>(), [output, format.bytes(input).expect("a row in memory")]);
        Self { bytes: Tensor::from_data(bytes, (device, DType::U8)), format }
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        let [output, bytes] = self.bytes.dims();
        [output, self.format.values(bytes)]
    }

    /// Rows by number, `[rows]` to a matrix `[rows, in]`.
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self { bytes: self.bytes.clone().select(0, rows), ..self.clone() }
    }

    /// What the blocks stand for, `[out, in]` in f32. By the host.
    pub fn dequantize(&self) -> Tensor<2> {
        let ([output, input], device) = (self.dims(), self.bytes.device());
        let bytes = self.bytes.clone().into_data().try_into_vec::<u8>().expect("bytes");
        let mut values = vec![0.0; output * input];
        self.format.dequantize(&bytes, &mut values);
        Tensor::from_data(TensorData::new(values, [output, input]), (&device, DType::F32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_rows_are_those_of_the_matrix() {
        let device = Device::default();
        let values: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        for format in [Format::Int8, Format::Q8_0] {
            let blocks = Blocks::quantize(&values, [4, 64], format, &device);
            let rows = Tensor::<1, Int>::from_data(TensorData::from([2i64, 0]), &device);
            let found = blocks.select(rows).dequantize().into_data().try_into_vec::<f32>().unwrap();
            let all = blocks.dequantize().into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(found, [&all[128..192], &all[..64]].concat());
        }
    }
}
