//! What matrices in blocks are multiplied with: activations as they are, or rounded to 8 bits too.

use burn::tensor::{Tensor, TensorData};

use super::blocks::CHUNK;

/// In which form activations are multiplied with weights in blocks. Floats of any width are multiplied as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As they are: the result is that of the weights' values.
    #[default]
    Float,
    /// Rounded to 8 bits, every 32 neighbours with one scale, so that integers are multiplied: x = scale · q with q from
    /// −127 to 127 and scale the largest magnitude / 127, as llama.cpp does it. Faster, and off by at most 1/254 of the
    /// largest of the 32.
    Int8,
}

/// 32 activations in 8 bits, and their scale. Those with a NaN or an infinity among them have NaN for a scale.
#[inline(always)]
pub(crate) fn round(x: &[f32; CHUNK]) -> ([i8; CHUNK], f32) {
    // As integers magnitudes are in the same order, and what is no number comes last: so all are compared at once.
    let largest = x.iter().fold(0, |largest, x| (x.to_bits() & 0x7fff_ffff).max(largest));
    let scale = if largest < f32::INFINITY.to_bits() { f32::from_bits(largest) / 127.0 } else { f32::NAN };
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut codes = [0; CHUNK];
    for i in 0..CHUNK {
        codes[i] = (x[i] * inverse).round_ties_even() as i8;
    }
    (codes, scale)
}

impl Activations {
    /// Rows as they are multiplied, into as many values: `[rows, in]`, `in` a multiple of 32 where they are rounded.
    #[inline(always)]
    pub(crate) fn see(self, x: &[f32], seen: &mut [f32]) {
        match self {
            Activations::Float => seen.copy_from_slice(x),
            // Loops of which all is compiled for the registers of who calls.
            Activations::Int8 => {
                for (seen, x) in seen.as_chunks_mut::<CHUNK>().0.iter_mut().zip(x.as_chunks().0) {
                    let (codes, scale) = round(x);
                    for i in 0..CHUNK {
                        seen[i] = f32::from(codes[i]) * scale;
                    }
                }
            }
        }
    }

    /// As [`Activations::see`], of a tensor. By the host.
    pub(crate) fn seen_of(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Activations::Float => x,
            Activations::Int8 => {
                let (dims, device, dtype) = (x.dims(), x.device(), x.dtype());
                let values = x.into_data().convert::<f32>().try_into_vec::<f32>().expect("it was converted");
                let mut seen = vec![0.0; values.len()];
                self.see(&values, &mut seen);
                Tensor::from_data(TensorData::new(seen, dims), (&device, dtype))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(x: &[f32]) -> Vec<f32> {
        let mut seen = vec![1.0; x.len()];
        Activations::Int8.see(x, &mut seen);
        seen
    }

    proptest! {
        #[test]
        fn no_activation_is_off_by_more_than_half_its_scale(
            x in prop::collection::vec(-1.0f32..1.0, 64), magnitude in -30i32..30,
        ) {
            let x: Vec<f32> = x.iter().map(|x| x * 2f32.powi(magnitude)).collect();
            for (found, x) in seen(&x).chunks(CHUNK).zip(x.chunks(CHUNK)) {
                let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                for (found, x) in found.iter().zip(x) {
                    prop_assert!((found - x).abs() <= 0.5 * largest / 127.0 + 2.0 * f32::EPSILON * x.abs());
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_none_and_zeros_stay_zeros() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [0.25; 2 * CHUNK];
            x[3] = broken;
            let seen = seen(&x);
            assert!(seen[..CHUNK].iter().all(|x| x.is_nan()) && seen[CHUNK..].iter().all(|x| x.is_finite()));
        }
        assert_eq!(seen(&[0.0; CHUNK]), [0.0; CHUNK]);
    }
}
