//! The scalar pass of a block in as wide registers as the processor has.

#[cfg(feature = "flex")]
use std::cell::Cell;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};
#[cfg(feature = "flex")]
use std::thread::LocalKey;

use burn::tensor::Element;
use pulp::{Arch, Simd, WithSimd};

/// Runs a loop with the widest registers that the processor has.
///
/// `f` moves nothing out of what it holds: a closure that can only be called once becomes a function of its own, compiled
/// for the registers that all processors have.
#[inline(always)]
pub(crate) fn wide<R>(f: impl FnMut() -> R) -> R {
    struct Wide<F>(F);

    impl<R, F: FnMut() -> R> WithSimd for Wide<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }

    Arch::new().dispatch(Wide(f))
}

/// f32 or f64, with the loops that the scalar pass consists of.
pub(crate) trait Real:
    Element
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Sum
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
{
    const ZERO: Self;

    fn from_f64(value: f64) -> Self;

    fn to_f64(self) -> f64;

    /// What is added to the logit of a row: nothing, or −∞ for one that is not attended.
    fn bias(attended: bool) -> Self;

    /// Softmax over two neighbouring runs of logits, in place; `bias` covers both.
    fn softmax(first: &mut [Self], second: &mut [Self], bias: &[Self]);

    /// `sum += values`
    fn accumulate(sum: &mut [Self], values: &[Self]);

    /// A buffer that a thread keeps from step to step, for weights and for their sums.
    #[cfg(feature = "flex")]
    fn buffer(of: Buffer) -> &'static LocalKey<Cell<Vec<Self>>>;

    /// `y = silu(gate) · up`
    #[cfg(feature = "flex")]
    fn swiglu(gate: &[Self], up: &[Self], y: &mut [Self]);

    /// ln Σ eˣ
    #[cfg(feature = "flex")]
    fn log_sum_exp(x: &[Self]) -> Self;
}

/// What a thread keeps buffers for.
#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
pub(crate) enum Buffer {
    /// Attention weights of all heads.
    Weights,
    /// Their sum.
    Sum,
    /// Attention weights of some queries of a head.
    Tile,
}

/// Values that are handled side by side.
const LANES: usize = 16;

macro_rules! real {
    ($real:ident, $exp:path) => {
        impl Real for $real {
            const ZERO: Self = 0.0;

            fn from_f64(value: f64) -> Self {
                value as $real
            }

            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            fn bias(attended: bool) -> Self {
                if attended { 0.0 } else { $real::NEG_INFINITY }
            }

            fn softmax(first: &mut [Self], second: &mut [Self], bias: &[Self]) {
                wide(
                    #[inline(always)]
                    || {
                        let (bias_first, bias_second) = bias.split_at(first.len());
                        let highest = highest(first, bias_first).max(highest(second, bias_second));
                        let sum = exponentials(first, bias_first, highest) + exponentials(second, bias_second, highest);
                        let scale = 1.0 / sum;
                        first.iter_mut().for_each(|x| *x *= scale);
                        second.iter_mut().for_each(|x| *x *= scale);
                    },
                );

                #[inline(always)]
                fn highest(x: &[$real], bias: &[$real]) -> $real {
                    let mut lanes = [$real::NEG_INFINITY; LANES];
                    let (chunks, bias_chunks) = (x.chunks_exact(LANES), bias.chunks_exact(LANES));
                    let rest = chunks.remainder().iter().zip(bias_chunks.remainder());
                    for (x, bias) in chunks.zip(bias_chunks) {
                        for lane in 0..LANES {
                            let value = x[lane] + bias[lane];
                            lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
                        }
                    }
                    let all = lanes.into_iter().chain(rest.map(|(x, bias)| x + bias));
                    all.fold($real::NEG_INFINITY, $real::max)
                }

                /// x becomes exp(x + bias − highest); returns the sum.
                #[inline(always)]
                fn exponentials(x: &mut [$real], bias: &[$real], highest: $real) -> $real {
                    let mut lanes = [0.0; LANES];
                    let mut chunks = x.chunks_exact_mut(LANES);
                    let bias_chunks = bias.chunks_exact(LANES);
                    let rest_bias = bias_chunks.remainder();
                    for (x, bias) in chunks.by_ref().zip(bias_chunks) {
                        // Apart from x, so that it is known that neither is the other.
                        let mut of_lanes = [0.0; LANES];
                        for lane in 0..LANES {
                            of_lanes[lane] = $exp(x[lane] + bias[lane] - highest);
                        }
                        for lane in 0..LANES {
                            lanes[lane] += of_lanes[lane];
                        }
                        x.copy_from_slice(&of_lanes);
                    }
                    let mut sum: $real = lanes.into_iter().sum();
                    for (x, bias) in chunks.into_remainder().iter_mut().zip(rest_bias) {
                        *x = $exp(*x + bias - highest);
                        sum += *x;
                    }
                    sum
                }
            }

            fn accumulate(sum: &mut [Self], values: &[Self]) {
                wide(
                    #[inline(always)]
                    || sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
                );
            }

            #[cfg(feature = "flex")]
            fn buffer(of: Buffer) -> &'static LocalKey<Cell<Vec<Self>>> {
                thread_local! {
                    static WEIGHTS: Cell<Vec<$real>> = const { Cell::new(Vec::new()) };
                    static SUM: Cell<Vec<$real>> = const { Cell::new(Vec::new()) };
                    static TILE: Cell<Vec<$real>> = const { Cell::new(Vec::new()) };
                }
                match of {
                    Buffer::Weights => &WEIGHTS,
                    Buffer::Sum => &SUM,
                    Buffer::Tile => &TILE,
                }
            }

            #[cfg(feature = "flex")]
            fn swiglu(gate: &[Self], up: &[Self], y: &mut [Self]) {
                wide(
                    #[inline(always)]
                    || {
                        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                            // 1 / (1 + e⁻ᵍ), its exponential never above one.
                            let small = $exp(-gate.abs());
                            let sigmoid = if gate >= 0.0 { 1.0 } else { small } / (1.0 + small);
                            *y = gate * sigmoid * up;
                        }
                    },
                );
            }

            #[cfg(feature = "flex")]
            fn log_sum_exp(x: &[Self]) -> Self {
                wide(
                    #[inline(always)]
                    || {
                        let (chunks, rest) = x.as_chunks::<LANES>();
                        let mut lanes = [$real::NEG_INFINITY; LANES];
                        for x in chunks {
                            for lane in 0..LANES {
                                lanes[lane] = if x[lane] > lanes[lane] { x[lane] } else { lanes[lane] };
                            }
                        }
                        let highest = lanes.iter().chain(rest).copied().fold($real::NEG_INFINITY, $real::max);
                        // In f64: what is small would be lost beside what is large, always to the same side.
                        let mut lanes = [0.0f64; LANES];
                        for x in chunks {
                            for lane in 0..LANES {
                                lanes[lane] += f64::from($exp(x[lane] - highest));
                            }
                        }
                        let rest: f64 = rest.iter().map(|x| f64::from($exp(x - highest))).sum();
                        (f64::from(highest) + (lanes.into_iter().sum::<f64>() + rest).ln()) as $real
                    },
                )
            }
        }
    };
}

real!(f32, exp_f32);
real!(f64, f64::exp);

/// eˣ for x ≤ 0 to about one unit in the last place; zero below −87; NaN of what is not a number.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, and eʳ by a polynomial: additions and multiplications only,
/// so that a loop over it is vectorised, which a call to the library's function is not.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // A NaN is not below, and stays one.
    let inside = if x < -87.0 { -87.0 } else { x };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = inside - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let exp_r = p * r * r + r + 1.0;
    let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    let exp = exp_r * two_to_n;
    if x < -87.0 { 0.0 } else { exp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_librarys() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (found, expected) = (exp_f32(x), f64::from(x).exp());
            let error = (f64::from(found) - expected).abs() / expected;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) = {found}, off by {error:e}");
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-1e4), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32(f32::NAN).is_nan() && exp_f32(-f32::NAN).is_nan());
    }

    /// A weight of nothing for a logit that is not a number would hide it.
    #[test]
    fn softmax_of_what_is_not_a_number_is_not_a_number() {
        fn check<T: Real>() {
            let number = |value: f64| T::from_f64(value);
            for n in [1, 5, 16, 21, 40] {
                for broken in [f64::NAN, f64::INFINITY] {
                    for at in 0..n {
                        let mut first: Vec<T> = (0..n).map(|i| number(i as f64 * 0.1)).collect();
                        let mut second = vec![number(0.5), number(-3.0)];
                        first[at] = number(broken);
                        T::softmax(&mut first, &mut second, &vec![T::ZERO; n + 2]);
                        let all = first.iter().chain(&second);
                        assert!(all.clone().any(|x| x.to_f64().is_nan()), "{broken} at {at} of {n} is lost");
                    }
                }
                // Nothing is attended.
                let mut nothing = vec![number(f64::NEG_INFINITY); n];
                T::softmax(&mut nothing, &mut [], &vec![T::ZERO; n]);
                assert!(nothing.iter().all(|x| x.to_f64().is_nan()), "{n} logits of −∞");
            }
        }
        check::<f32>();
        check::<f64>();
    }

    /// Each of them is less than half a unit in the last place of the largest, all together 2,000 units.
    #[test]
    fn what_is_small_counts_beside_what_is_large() {
        let mut x = vec![-17.0f32; 49_152];
        x[7] = 0.0;
        let expected = (1.0 + 49_151.0 * f64::from(-17.0f32).exp()).ln();
        assert!((f64::from(f32::log_sum_exp(&x)) - expected).abs() < 1e-7, "{} {expected}", f32::log_sum_exp(&x));
    }

    #[test]
    fn softmax_leaves_out_what_is_not_attended() {
        let (mut first, mut second) = (vec![0.5f32; 21], vec![1e4f32, 0.5, -3.0]);
        let mut bias = vec![0.0; 24];
        bias[3] = f32::NEG_INFINITY;
        bias[21] = f32::NEG_INFINITY;
        f32::softmax(&mut first, &mut second, &bias);
        assert_eq!((first[3], second[0]), (0.0, 0.0));
        let sum: f32 = first.iter().chain(&second).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert!((second[2] / second[1] - (-3.5f32).exp()).abs() < 1e-6);
    }
}
