//! Sums in registers of x86.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Adds, Chunks, Floats, Integers, OfPair, Pair, Products, Row, Sums, rows};
use crate::kernels::blocks::Packed;
use crate::kernels::flex::lanes::{In256, In512, InRegisters, Lanes, has_256};

/// The code that is subtracted from those of all 8 bits: they are multiplied with their signs.
const SIGNED: u8 = 128;

/// The kinds of instructions that the processor has, the fastest first.
#[inline]
pub(super) fn kinds<const BYTES: usize, F: Packed<BYTES>>() -> impl Iterator<Item = (&'static str, Products)> {
    let both = has_256();
    let wide = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
    let kinds: [(_, _, Products); 3] = [
        ("AVX-512", both && wide, avx512::<BYTES, F>),
        ("AVX-VNNI", both && is_x86_feature_detected!("avxvnni"), avx::<BYTES, F>),
        ("AVX2", both, avx2::<BYTES, F>),
    ];
    kinds.into_iter().filter(|(_, here, _)| *here).map(|(name, _, products)| (name, products))
}

macro_rules! products {
    ($name:ident, $sum:ty, $features:literal) => {
        /// # Safety
        ///
        /// The processor must have the features.
        #[target_feature(enable = $features)]
        unsafe fn $name<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Row, y: &mut [f32]) {
            match x {
                Row::Floats(x) => rows::<BYTES, F, $sum, Floats>(blocks, x, y),
                Row::Integers(x) => rows::<BYTES, F, $sum, Integers>(blocks, x, y),
            }
        }
    };
}

products!(avx512, Sixteen, "avx512vnni,avx512bw,avx512f,avx2,fma,f16c");
products!(avx, Eight<Avx>, "avxvnni,avx2,fma,f16c");
products!(avx2, Eight<Avx2>, "avx2,fma,f16c");

/// Numbers of a pair, each in the lanes of its sums.
///
/// # Safety
///
/// The processor must have AVX-512.
#[inline(always)]
unsafe fn lanes<const ALIKE: bool>(OfPair([[a, b], [c, d]]): OfPair<ALIKE>) -> __m512 {
    // SAFETY: who calls says so.
    unsafe {
        let lanes = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(a), _mm512_set1_ps(c));
        if ALIKE {
            return lanes;
        }
        let lanes = _mm512_mask_blend_ps(0x00f0, lanes, _mm512_set1_ps(b));
        _mm512_mask_blend_ps(0xf000, lanes, _mm512_set1_ps(d))
    }
}

/// Sixteen sums of products of each of two chunks, or of both, and of shifts, since one waits for its last addition. Made and used only where the processor
/// has AVX-512 with VNNI, FMA and F16C.
#[derive(Clone, Copy)]
struct Sixteen([__m512; 3]);

impl Sums for Sixteen {
    type Unpacks = InRegisters;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see the type.
        Self(unsafe { [_mm512_setzero_ps(); 3] })
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // SAFETY: see the type.
        unsafe { In512::total(_mm512_add_ps(_mm512_add_ps(self.0[0], self.0[1]), self.0[2])) }
    }
}

impl Sixteen {
    #[inline(always)]
    fn shifted<const ALIKE: bool, X>(self, shifts: &Option<OfPair<ALIKE>>, x: &Pair<X>) -> __m512 {
        // SAFETY: see the type; sums are 64 bytes, in a line of a cache.
        match shifts {
            Some(shifts) => unsafe {
                _mm512_fmadd_ps(lanes(*shifts), _mm512_load_ps(x.sums.as_ptr().cast()), self.0[2])
            },
            None => self.0[2],
        }
    }
}

impl Adds<Integers> for Sixteen {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Integers>) -> Self {
        let Chunks { codes, zero, scales, shifts } = weight;
        // SAFETY: see the type; what is loaded is 32 bytes of codes, and 64 of all that x has, in lines of a cache.
        unsafe {
            let first = _mm256_loadu_si256(codes[0].0.as_ptr().cast());
            let second = _mm256_loadu_si256(codes[1].0.as_ptr().cast());
            let codes = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
            let start = match *zero {
                0 => _mm512_setzero_si512(),
                _ => _mm512_load_si512(x.x.starts.as_ptr().cast()),
            };
            let quads = _mm512_dpbusd_epi32(start, codes, _mm512_load_si512(x.x.codes.as_ptr().cast()));
            let scale = _mm512_mul_ps(lanes(*scales), _mm512_load_ps(x.x.scales.as_ptr().cast()));
            let products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(quads), scale, self.0[0]);
            Self([products, self.0[1], self.shifted(shifts, x)])
        }
    }
}

impl Adds<Floats> for Sixteen {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Floats>) -> Self {
        let Chunks { codes, zero, scales, shifts } = weight;
        let [mut first, mut second, _] = self.0;
        for (at, sum) in [&mut first, &mut second].into_iter().enumerate() {
            // SAFETY: see the type; what is loaded is 32 bytes of codes, and of x 64 twice, in lines of a cache.
            unsafe {
                let codes = _mm256_loadu_si256(codes[at].0.as_ptr().cast());
                let codes = _mm256_sub_epi8(codes, _mm256_set1_epi8(zero.cast_signed()));
                let low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
                let high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
                let x = x.x.0[at].as_ptr();
                let [scale, other] = scales.0[at];
                let product = _mm512_mul_ps(low, _mm512_load_ps(x));
                if ALIKE {
                    let product = _mm512_fmadd_ps(high, _mm512_load_ps(x.add(16)), product);
                    *sum = _mm512_fmadd_ps(product, _mm512_set1_ps(scale), *sum);
                } else {
                    let product = _mm512_mul_ps(product, _mm512_set1_ps(scale));
                    let high = _mm512_mul_ps(high, _mm512_set1_ps(other));
                    *sum = _mm512_add_ps(*sum, _mm512_fmadd_ps(high, _mm512_load_ps(x.add(16)), product));
                }
            }
        }
        Self([first, second, self.shifted(shifts, x)])
    }
}

/// By which instructions sums of four products are taken.
trait Quads: Copy {
    /// start + Σ of four products of codes without a sign with x.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions.
    unsafe fn quads(start: __m256i, codes: __m256i, zero: u8, x: __m256i) -> __m256i;
}

/// Numbers of a chunk, each in the lanes of its sums.
///
/// # Safety
///
/// The processor must have AVX2.
#[inline(always)]
unsafe fn half_lanes<const ALIKE: bool>(OfPair(numbers): OfPair<ALIKE>, at: usize) -> __m256 {
    let [first, last] = numbers[at];
    // SAFETY: who calls says so.
    unsafe {
        match ALIKE {
            true => _mm256_set1_ps(first),
            false => _mm256_set_m128(_mm_set1_ps(last), _mm_set1_ps(first)),
        }
    }
}

/// Eight sums of products of each of two chunks, and of shifts. Made and used only where the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct Eight<Q>([__m256; 3], PhantomData<Q>);

impl<Q: Quads> Sums for Eight<Q> {
    type Unpacks = InRegisters;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see the type.
        Self(unsafe { [_mm256_setzero_ps(); 3] }, PhantomData)
    }

    #[inline(always)]
    fn total(self) -> f32 {
        // SAFETY: see the type.
        unsafe { In256::total(_mm256_add_ps(_mm256_add_ps(self.0[0], self.0[1]), self.0[2])) }
    }
}

impl<Q: Quads> Eight<Q> {
    #[inline(always)]
    fn shifted<const ALIKE: bool, X>(self, shifts: &Option<OfPair<ALIKE>>, x: &Pair<X>) -> __m256 {
        let mut sum = self.0[2];
        if let Some(shifts) = shifts {
            for at in 0..2 {
                // SAFETY: see the type; sums of a chunk are 32 bytes, in half a line of a cache.
                sum = unsafe { _mm256_fmadd_ps(half_lanes(*shifts, at), _mm256_load_ps(x.sums[at].as_ptr()), sum) };
            }
        }
        sum
    }
}

impl<Q: Quads> Adds<Integers> for Eight<Q> {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Integers>) -> Self {
        let Chunks { codes, zero, scales, shifts } = weight;
        let [mut first, mut second, _] = self.0;
        for (at, sum) in [&mut first, &mut second].into_iter().enumerate() {
            // SAFETY: see the type; what is loaded of a chunk is 32 bytes, and x's in halves of a cache's line.
            unsafe {
                let codes = _mm256_loadu_si256(codes[at].0.as_ptr().cast());
                let start = match *zero {
                    0 => _mm256_setzero_si256(),
                    _ => _mm256_load_si256(x.x.starts[at].as_ptr().cast()),
                };
                let quads = Q::quads(start, codes, *zero, _mm256_load_si256(x.x.codes[at].as_ptr().cast()));
                let scale = _mm256_mul_ps(half_lanes(*scales, at), _mm256_load_ps(x.x.scales[at].as_ptr()));
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(quads), scale, *sum);
            }
        }
        Self([first, second, self.shifted(shifts, x)], PhantomData)
    }
}

impl<Q: Quads> Adds<Floats> for Eight<Q> {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Floats>) -> Self {
        let Chunks { codes, zero, scales, shifts } = weight;
        let [mut first, mut second, _] = self.0;
        for (at, sum) in [&mut first, &mut second].into_iter().enumerate() {
            // SAFETY: see the type; codes of a chunk are 32 bytes, and of x the same four times, in halves of a cache's line.
            unsafe {
                let codes = _mm256_loadu_si256(codes[at].0.as_ptr().cast());
                let codes = _mm256_sub_epi8(codes, _mm256_set1_epi8(zero.cast_signed()));
                let x = x.x.0[at].as_ptr();
                for half in 0..2 {
                    let codes = match half {
                        0 => _mm256_castsi256_si128(codes),
                        _ => _mm256_extracti128_si256(codes, 1),
                    };
                    let low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
                    let high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)));
                    let product = _mm256_mul_ps(low, _mm256_load_ps(x.add(half * 16)));
                    let product = _mm256_fmadd_ps(high, _mm256_load_ps(x.add(half * 16 + 8)), product);
                    *sum = _mm256_fmadd_ps(product, _mm256_set1_ps(scales.0[at][half]), *sum);
                }
            }
        }
        Self([first, second, self.shifted(shifts, x)], PhantomData)
    }
}

#[derive(Clone, Copy)]
struct Avx;

impl Quads for Avx {
    #[inline(always)]
    unsafe fn quads(start: __m256i, codes: __m256i, _: u8, x: __m256i) -> __m256i {
        // SAFETY: who calls says so.
        unsafe { _mm256_dpbusd_avx_epi32(start, codes, x) }
    }
}

#[derive(Clone, Copy)]
struct Avx2;

impl Quads for Avx2 {
    #[inline(always)]
    unsafe fn quads(start: __m256i, codes: __m256i, zero: u8, x: __m256i) -> __m256i {
        // SAFETY: who calls says so.
        unsafe {
            // Two products of at most 128 · 127 each fit into 16 bits, those of codes of 8 bits as what they are with their signs.
            let (codes, x) = match zero {
                SIGNED => {
                    let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(SIGNED.cast_signed()));
                    (_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed))
                }
                _ => (codes, x),
            };
            let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
            match zero {
                0 | SIGNED => quads,
                _ => _mm256_add_epi32(start, quads),
            }
        }
    }
}
