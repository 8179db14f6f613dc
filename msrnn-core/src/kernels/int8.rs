//! Weights in 8 bits: blocks of integers with a scale each.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

/// A matrix `[out, in]` of which [`Int8::BLOCK`] neighbouring values of a row share a scale:
/// w = scale · q with q from −127 to 127 and scale the block's largest magnitude / 127. So no weight is
/// off by more than half its scale, 1/254 of the largest one beside it. A block with a NaN or an infinity is NaN
/// as a whole.
#[derive(Clone, Debug)]
pub struct Int8 {
    /// q, `[out, in]` in i8.
    pub values: Tensor<2, Int>,
    /// `[out, in / BLOCK]` in f32.
    pub scales: Tensor<2>,
}

impl Int8 {
    /// Values that share a scale.
    pub const BLOCK: usize = 64;

    /// The matrix `[out, in]` of these values, rounded.
    ///
    /// # Panics
    ///
    /// When `in` is no multiple of [`Int8::BLOCK`], or values and shape differ in size.
    pub fn quantize(values: &[f32], [output, input]: [usize; 2], device: &Device) -> Self {
        assert!(input.is_multiple_of(Self::BLOCK), "rows of {input} values have no whole blocks");
        assert_eq!(values.len(), output * input, "a matrix of {output} × {input}");
        let mut quantized = vec![0i8; values.len()];
        let mut scales = vec![0f32; values.len() / Self::BLOCK];
        let blocks = values.par_chunks_exact(Self::BLOCK).zip(quantized.par_chunks_exact_mut(Self::BLOCK));
        blocks.zip(&mut scales).for_each(|((values, quantized), scale)| {
            let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            // A block with a value that is no number, or none that 8 bits can hold, has no scale: all of it is NaN.
            *scale = if values.iter().all(|value| value.is_finite()) { largest / 127.0 } else { f32::NAN };
            let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
            for (quantized, value) in quantized.iter_mut().zip(values) {
                *quantized = (value * inverse).round().clamp(-127.0, 127.0) as i8;
            }
        });
        let scales = TensorData::new(scales, [output, input / Self::BLOCK]);
        Self {
            values: Tensor::from_data(TensorData::new(quantized, [output, input]), (device, DType::I8)),
            scales: Tensor::from_data(scales, (device, DType::F32)),
        }
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        self.values.dims()
    }

    /// Rows by number, `[rows]` to a matrix `[rows, in]`.
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self { values: self.values.clone().select(0, rows.clone()), scales: self.scales.clone().select(0, rows) }
    }

    /// What the integers stand for, `[out, in]` in f32.
    pub fn dequantize(&self) -> Tensor<2> {
        let [output, input] = self.dims();
        let blocks = [output, input / Self::BLOCK, Self::BLOCK];
        let values = self.values.clone().float().cast(DType::F32).reshape(blocks);
        (values * self.scales.clone().reshape([output, blocks[1], 1])).reshape([output, input])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_weight_is_off_by_more_than_half_its_scale(
            values in prop::collection::vec(-1.0f32..1.0, 3 * 128),
            magnitude in -20i32..20,
        ) {
            let values: Vec<f32> = values.iter().map(|value| value * 2f32.powi(magnitude)).collect();
            let int8 = Int8::quantize(&values, [3, 128], &Device::default());
            let found = int8.dequantize().into_data().try_into_vec::<f32>().unwrap();
            let scales = int8.scales.into_data().try_into_vec::<f32>().unwrap();
            for (index, (found, value)) in found.iter().zip(&values).enumerate() {
                // And the roundings of a quotient and a product.
                let bound = 0.5 * scales[index / Int8::BLOCK] + 2.0 * f32::EPSILON * value.abs();
                prop_assert!((found - value).abs() <= bound, "{value} became {found}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_makes_its_block_nan_and_no_other() {
        for broken in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [64, 71, 127] {
                let mut values = vec![0.5; 3 * 64];
                values[at] = broken;
                let int8 = Int8::quantize(&values, [1, 3 * 64], &Device::default());
                let found = int8.dequantize().into_data().try_into_vec::<f32>().unwrap();
                let nan: Vec<bool> = found.iter().map(|value| value.is_nan()).collect();
                let expected: Vec<bool> = (0..3 * 64).map(|i| (64..128).contains(&i)).collect();
                assert_eq!(nan, expected, "{broken} at {at}");
            }
        }
    }

    #[test]
    fn selected_rows_are_those_of_the_matrix_and_zeros_stay_zeros() {
        let device = Device::default();
        let mut values: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        values[128..192].fill(0.0);
        let int8 = Int8::quantize(&values, [4, 64], &device);
        let rows = Tensor::<1, Int>::from_data(TensorData::from([2i64, 0]), &device);
        let found = int8.select(rows).dequantize().into_data().try_into_vec::<f32>().unwrap();
        let all = int8.dequantize().into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(found, [&all[128..192], &all[..64]].concat());
        assert!(found[..64].iter().all(|&value| value == 0.0));
    }
}
