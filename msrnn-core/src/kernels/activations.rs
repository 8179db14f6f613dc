//! What matrices are multiplied with: activations as they are, or rounded as the weights are.

use burn::tensor::{Tensor, TensorData, bf16};

use super::blocks::CHUNK;

/// In which form activations are multiplied with weights. Each rounding is for one kind of weights, and others are multiplied
/// with activations as they are. What is rounded is the same on every processor, whether it has instructions for that or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As they are: the result is that of the weights' values.
    #[default]
    Float,
    /// For weights in blocks: rounded to 8 bits, every 32 neighbours with one scale, so that integers are multiplied: x = scale · q with q from
    /// −127 to 127 and scale the largest magnitude / 127, as llama.cpp does it. Faster, and off by at most 1/254 of the
    /// largest of the 32.
    Int8,
    /// Rounded to bfloat16, for weights in bfloat16: the operands of transformers in that dtype, which GPUs multiply too.
    /// Products and sums stay in f32. Off by at most 1/256 of every activation.
    Bf16,
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

/// The nearest bfloat16, the even one of two, as bits. As [`bf16::from_f32`], in instructions that loops are made of.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // Rounding could carry a NaN into what is one no longer.
    ((if x.is_nan() { bits | 0x0040_0000 } else { nearest }) >> 16) as u16
}

#[inline(always)]
fn widened(bits: u16) -> f32 {
    bf16::from_bits(bits).to_f32()
}

impl Activations {
    /// Rows as they are multiplied, into as many values: `[rows, in]`, `in` a multiple of 32 where they are rounded to 8 bits.
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
            Activations::Bf16 => seen.iter_mut().zip(x).for_each(|(seen, x)| *seen = widened(to_bf16(*x))),
        }
    }

    /// As [`Activations::see`], of a tensor. By the host.
    pub(crate) fn seen_of(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Activations::Float => x,
            Activations::Int8 | Activations::Bf16 => {
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
    fn bfloat16_is_rounded_as_the_library_does() {
        let mut bits: Vec<u32> = (0..=u16::MAX)
            .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low))
            .collect();
        bits.sort_unstable();
        for x in bits.into_iter().map(f32::from_bits) {
            assert_eq!(to_bf16(x), bf16::from_f32(x).to_bits(), "{x:e}");
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
