//! msrnn's own blocks of 8 bits: 64 values with a scale in 32 bits.
//!
//! w = scale · q with q from −127 to 127 and scale the block's largest magnitude / 127. So no weight is off by more than
//! half its scale, 1/254 of the largest one beside it. A block with a NaN or an infinity is NaN as a whole.

use super::{Codes, Packed, Scales, Unpacks};

/// x = scale · q
pub(crate) struct Int8;

impl Packed<68> for Int8 {
    const VALUES: usize = 64;
    const HALVES: &'static [usize] = &[];
    const ZERO: u8 = 128;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 68], index: usize) -> Codes {
        Codes::of(&block[4 + index * 32..])
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 68]) -> Scales {
        Scales::one(f32::from_le_bytes(super::array(block)), 0.0)
    }
}

/// A block of these values, rounded.
pub(super) fn quantize(values: &[f32; 64]) -> [u8; 68] {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    // A block with a value that is no number, or none that 8 bits can hold, has no scale: all of it is NaN.
    let scale = if values.iter().all(|value| value.is_finite()) { largest / 127.0 } else { f32::NAN };
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut block = [0; 68];
    block[..4].copy_from_slice(&scale.to_le_bytes());
    for (code, value) in block[4..].iter_mut().zip(values) {
        *code = (((value * inverse).round().clamp(-127.0, 127.0) as i8).cast_unsigned()) ^ 128;
    }
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::kernels::blocks::Format;

    fn there_and_back(values: &[f32]) -> Vec<f32> {
        let blocks = Format::Int8.quantize(values).expect("a format that is written");
        let mut found = vec![0.0; values.len()];
        Format::Int8.dequantize(&blocks, &mut found);
        found
    }

    proptest! {
        #[test]
        fn no_weight_is_off_by_more_than_half_its_scale(
            values in prop::collection::vec(-1.0f32..1.0, 3 * 128),
            magnitude in -20i32..20,
        ) {
            let values: Vec<f32> = values.iter().map(|value| value * 2f32.powi(magnitude)).collect();
            let found = there_and_back(&values);
            for (found, values) in found.chunks(64).zip(values.chunks(64)) {
                let scale = values.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
                for (found, value) in found.iter().zip(values) {
                    // And the roundings of a quotient and a product.
                    let bound = 0.5 * scale + 2.0 * f32::EPSILON * value.abs();
                    prop_assert!((found - value).abs() <= bound, "{value} became {found}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_makes_its_block_nan_and_no_other() {
        for broken in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [64, 71, 127] {
                let mut values = vec![0.5; 3 * 64];
                values[at] = broken;
                let nan: Vec<bool> = there_and_back(&values).iter().map(|value| value.is_nan()).collect();
                let expected: Vec<bool> = (0..3 * 64).map(|i| (64..128).contains(&i)).collect();
                assert_eq!(nan, expected, "{broken} at {at}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(there_and_back(&[0.0; 64]), [0.0; 64]);
    }
}
