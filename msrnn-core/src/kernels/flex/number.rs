//! Numbers as they lie in memory, and as they are computed with.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Element, bf16, f16};

/// The dtype of weights and state rows, read and written as `T`, its accumulation dtype.
pub(crate) trait Stored<T>: Element + Copy + Send + Sync {
    fn load(self) -> T;

    fn store(value: T) -> Self;

    /// Values as T, in `buffer` if they are not T already.
    fn widened<'a>(values: &'a [Self], buffer: &'a mut Vec<T>) -> &'a [T];

    /// Values as T, as many as there is room for.
    fn load_all(values: &[Self], loaded: &mut [T]) {
        super::wide(
            #[inline(always)]
            || loaded.iter_mut().zip(values).for_each(|(loaded, value)| *loaded = value.load()),
        );
    }

    /// All values of a tensor's buffer.
    fn of(tensor: &FlexTensor) -> &[Self];

    /// The same, to be written; copies it first if another tensor holds it too.
    fn of_mut(tensor: &mut FlexTensor) -> &mut [Self];
}

macro_rules! stored {
    ($stored:ident as $real:ident, |$x:ident| $load:expr, |$y:ident| $store:expr, $widened:path $(, $load_all:path)?) => {
        impl Stored<$real> for $stored {
            #[inline(always)]
            fn load(self) -> $real {
                let $x = self;
                $load
            }

            #[inline(always)]
            fn store(value: $real) -> Self {
                let $y = value;
                $store
            }

            fn widened<'a>(values: &'a [Self], buffer: &'a mut Vec<$real>) -> &'a [$real] {
                $widened(values, buffer)
            }

            $(fn load_all(values: &[Self], loaded: &mut [$real]) {
                $load_all(values, loaded);
            })?

            fn of(tensor: &FlexTensor) -> &[Self] {
                tensor.storage()
            }

            fn of_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }
        }
    };
}

stored!(f32 as f32, |x| x, |y| y, as_they_are);
stored!(f64 as f64, |x| x, |y| y, as_they_are);
stored!(bf16 as f32, |x| f32::from_bits(u32::from(x.to_bits()) << 16), |y| bf16::from_f32(y), copied);
stored!(f16 as f32, |x| widen_f16(x.to_bits()), |y| f16::from_f32(y), copied, by_the_processor);

/// By the instruction that processors have for it, else as others.
fn by_the_processor(values: &[f16], loaded: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has both.
        return unsafe { by_eight(values, loaded) };
    }
    super::wide(
        #[inline(always)]
        || loaded.iter_mut().zip(values).for_each(|(loaded, value)| *loaded = value.load()),
    );
}

/// Eight at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
unsafe fn by_eight(values: &[f16], loaded: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let n = values.len().min(loaded.len());
    let (values8, values1) = values[..n].as_chunks::<8>();
    let (loaded8, loaded1) = loaded[..n].as_chunks_mut::<8>();
    for (values, loaded) in values8.iter().zip(loaded8) {
        // SAFETY: both are eight numbers, 16 bytes and 32, which need no alignment.
        unsafe { _mm256_storeu_ps(loaded.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().cast()))) };
    }
    loaded1.iter_mut().zip(values1).for_each(|(loaded, value)| *loaded = value.load());
}

fn as_they_are<'a, T>(values: &'a [T], _buffer: &'a mut Vec<T>) -> &'a [T] {
    values
}

fn copied<'a, S: Stored<f32>>(values: &'a [S], buffer: &'a mut Vec<f32>) -> &'a [f32] {
    buffer.resize(values.len(), 0.0);
    load_all(values, buffer);
    buffer
}

/// Values as T, as many as there is room for.
pub(crate) fn load_all<T, S: Stored<T>>(values: &[S], loaded: &mut [T]) {
    S::load_all(values, loaded);
}

/// The dtype of positions and slots, which a device chooses.
pub(crate) trait Index: Element + Copy + Send + Sync {
    fn get(self) -> i64;

    fn new(value: i64) -> Self;

    fn of(tensor: &FlexTensor) -> &[Self];

    fn of_mut(tensor: &mut FlexTensor) -> &mut [Self];
}

macro_rules! index {
    ($($index:ident),*) => {
        $(impl Index for $index {
            #[inline(always)]
            fn get(self) -> i64 {
                i64::from(self)
            }

            #[inline(always)]
            fn new(value: i64) -> Self {
                // Positions end far below 2³¹, whatever they are held in.
                value as $index
            }

            fn of(tensor: &FlexTensor) -> &[Self] {
                tensor.storage()
            }

            fn of_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }
        })*
    };
}

index!(i32, i64);

/// 2¹¹², the difference of the exponents' biases of f32 and f16.
pub(crate) const REBIAS: f32 = f32::from_bits((112 + 127) << 23);

/// The value of half-precision bits, in operations that are vectorised.
///
/// Exponent and fraction go to where f32 has them, and a multiplication makes up for the difference
/// of the exponents' biases, 127 − 15; it also normalises what is subnormal.
#[inline(always)]
fn widen_f16(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = bits & 0x7fff;
    let finite = (f32::from_bits(magnitude << 13) * REBIAS).to_bits();
    // Infinities and NaNs have the highest exponent there too. No branch: it would stay a scalar one.
    let infinite = ((magnitude + 0x400) >> 15).wrapping_neg() & 0x7f80_0000;
    f32::from_bits(finite | infinite | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_float_is_read_as_the_libraries_do() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(same(Stored::<f32>::load(half), half.to_f32()), "f16 {bits:#06x}");
            // Beside others, as the processor reads them, and alone.
            for n in [1, 9] {
                let mut loaded = vec![0.0; n];
                load_all(&vec![half; n], &mut loaded);
                assert!(loaded.iter().all(|&x| same(x, half.to_f32())), "f16 {bits:#06x}, one of {n}");
            }
            assert!(same(Stored::<f32>::load(brain), brain.to_f32()), "bf16 {bits:#06x}");
        }
    }
}
