//! Products of weights in blocks with activations in 8 bits, as integers.

use rayon::prelude::*;

use super::wide;
use crate::kernels::activations::round;
use crate::kernels::blocks::{CHUNK, Packed, Scales};

/// Activations in 8 bits, row after row.
pub(super) struct Rounded {
    pub(super) chunks: Vec<RoundedChunk>,
}

/// In one line of a cache.
#[derive(Clone, Default)]
#[repr(align(64))]
pub(super) struct RoundedChunk {
    pub(super) codes: [i8; CHUNK],
    pub(super) scale: f32,
    /// Of the codes, the first and the last 16.
    pub(super) counts: [i32; 2],
    /// Of the activations that all codes, and the first and the last 16, stand for.
    pub(super) sum: f32,
    pub(super) sums: [f32; 2],
}

/// Chunks of one task that rounds them.
const TASK: usize = 512;

impl Rounded {
    /// `x`: whole chunks.
    pub(super) fn of(x: &[f32]) -> Self {
        let mut chunks = vec![RoundedChunk::default(); x.len() / CHUNK];
        let (x, _) = x.as_chunks();
        match chunks.len() > TASK {
            true => chunks.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(chunks, x)| round_all(chunks, x)),
            false => round_all(&mut chunks, x),
        }
        Self { chunks }
    }
}

fn round_all(chunks: &mut [RoundedChunk], x: &[[f32; CHUNK]]) {
    wide(
        #[inline(always)]
        || {
            for (chunk, x) in chunks.iter_mut().zip(x) {
                let (codes, scale) = round(x);
                let count = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
                let counts = [count(&codes[..CHUNK / 2]), count(&codes[CHUNK / 2..])];
                let sum = scale * (counts[0] + counts[1]) as f32;
                let sums = counts.map(|count| scale * count as f32);
                *chunk = RoundedChunk { codes, scale, counts, sum, sums };
            }
        },
    );
}

/// The code that is subtracted from those of all 8 bits: they are multiplied with their signs.
const SIGNED: u8 = 128;

/// A sum over chunks of scale · Σ code · x, of codes below [`SIGNED`] or of those with their signs, in registers.
trait Sum: Copy {
    fn zero() -> Self;

    /// `scales`: of the first and the last 16, alike where `alike`.
    fn add<const ZERO: u8>(self, codes: &[u8; CHUNK], x: &[i8; CHUNK], scales: [f32; 2], alike: bool) -> Self;

    fn with(self, other: Self) -> Self;

    fn total(self) -> f32;
}

/// Rows in blocks with one x, by the instructions for it where the processor has them.
pub(super) fn products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::products::<BYTES, F>(blocks, x, y) {
        return;
    }
    plain::<BYTES, F>(blocks, x, y);
}

/// The products by every kind of instructions that the processor has.
#[cfg(test)]
pub(super) fn each<const BYTES: usize, F: Packed<BYTES>>(
    blocks: &[u8],
    x: &Rounded,
    outputs: usize,
) -> Vec<(&'static str, Vec<f32>)> {
    #[cfg(target_arch = "x86_64")]
    return x86::each::<BYTES, F>(blocks, x, outputs);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (blocks, x, outputs);
        Vec::new()
    }
}

/// As [`products`], in instructions that every processor has.
pub(super) fn plain<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
    wide(
        #[inline(always)]
        || rows::<BYTES, F, Plain>(blocks, x, y),
    );
}

/// Rows in blocks with one x.
#[inline(always)]
fn rows<const BYTES: usize, F: Packed<BYTES>, S: Sum>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
    let chunks = F::VALUES / CHUNK;
    let row = x.chunks.len() / chunks;
    for (blocks, y) in blocks.as_chunks::<BYTES>().0.chunks_exact(row).zip(y) {
        // Chunks in pairs, each with sums of its own, since one waits for its last addition.
        let mut sums = [(S::zero(), 0.0); 2];
        let [even, odd] = &mut sums;
        if chunks == 1 {
            let ((blocks, last), (x, last_x)) = (blocks.as_chunks::<2>(), x.chunks.as_chunks::<2>());
            for (blocks, x) in blocks.iter().zip(x) {
                chunk::<BYTES, F, S>(&blocks[0], &F::scales(&blocks[0]), 0, &x[0], even);
                chunk::<BYTES, F, S>(&blocks[1], &F::scales(&blocks[1]), 0, &x[1], odd);
            }
            if let ([block], [x]) = (last, last_x) {
                chunk::<BYTES, F, S>(block, &F::scales(block), 0, x, even);
            }
        } else {
            for (block, x) in blocks.iter().zip(x.chunks.chunks_exact(chunks)) {
                let scales = F::scales(block);
                for (pair, x) in x.as_chunks::<2>().0.iter().enumerate() {
                    chunk::<BYTES, F, S>(block, &scales, 2 * pair, &x[0], even);
                    chunk::<BYTES, F, S>(block, &scales, 2 * pair + 1, &x[1], odd);
                }
            }
        }
        let [(even, even_rest), (odd, odd_rest)] = sums;
        *y = even.with(odd).total() + (even_rest + odd_rest);
    }
}

/// The `index`-th chunk of a block with one of x: to a sum of products, and to one of what is added to all values.
#[inline(always)]
fn chunk<const BYTES: usize, F: Packed<BYTES>, S: Sum>(
    block: &[u8; BYTES],
    Scales { scales, shifts }: &Scales,
    index: usize,
    x: &RoundedChunk,
    (sum, rest): &mut (S, f32),
) {
    let groups = [0, CHUNK / 2].map(|half| (index * CHUNK + half) / F::GROUP);
    let (codes, both) = (F::codes(block, index), groups.map(|group| scales[group] * x.scale));
    *sum = match F::ZERO {
        SIGNED => sum.add::<SIGNED>(&codes, &x.codes, both, F::GROUP == CHUNK),
        _ => sum.add::<0>(&codes, &x.codes, both, F::GROUP == CHUNK),
    };
    // What is subtracted from all codes, and what is added to all values.
    let zero = if F::ZERO == SIGNED { 0.0 } else { f32::from(F::ZERO) };
    if F::SHIFTED || zero != 0.0 {
        let each = groups.map(|group| if F::SHIFTED { shifts[group] } else { -zero * scales[group] });
        *rest += match F::GROUP {
            CHUNK => each[0] * x.sum,
            _ => each[0] * x.sums[0] + each[1] * x.sums[1],
        };
    }
}

/// In numbers of Rust.
#[derive(Clone, Copy)]
struct Plain([f32; 2]);

impl Sum for Plain {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 2])
    }

    #[inline(always)]
    fn add<const ZERO: u8>(self, codes: &[u8; CHUNK], x: &[i8; CHUNK], scales: [f32; 2], _: bool) -> Self {
        let product =
            |(code, x): (&u8, &i8)| i32::from(i16::from(code.wrapping_sub(ZERO).cast_signed()) * i16::from(*x));
        let halves = codes.as_chunks::<{ CHUNK / 2 }>().0.iter().zip(x.as_chunks::<{ CHUNK / 2 }>().0);
        let mut sums = self.0;
        for ((sum, (codes, x)), scale) in sums.iter_mut().zip(halves).zip(scales) {
            *sum += codes.iter().zip(x).map(product).sum::<i32>() as f32 * scale;
        }
        Self(sums)
    }

    #[inline(always)]
    fn with(self, other: Self) -> Self {
        Self([self.0[0] + other.0[0], self.0[1] + other.0[1]])
    }

    #[inline(always)]
    fn total(self) -> f32 {
        self.0[0] + self.0[1]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::marker::PhantomData;

    use super::{CHUNK, Packed, Rounded, SIGNED, Sum, rows};

    /// Whether the processor has the instructions; the products, if it has.
    pub(super) fn products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) -> bool {
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
            return false;
        }
        // SAFETY: the processor has the instructions.
        unsafe {
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
                avx512::<BYTES, F>(blocks, x, y);
            } else if is_x86_feature_detected!("avxvnni") {
                avx::<BYTES, F>(blocks, x, y);
            } else {
                avx2::<BYTES, F>(blocks, x, y);
            }
        }
        true
    }

    /// The products by every kind of instructions that the processor has.
    #[cfg(test)]
    pub(super) fn each<const BYTES: usize, F: Packed<BYTES>>(
        blocks: &[u8],
        x: &Rounded,
        outputs: usize,
    ) -> Vec<(&'static str, Vec<f32>)> {
        let mut found = Vec::new();
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
            return found;
        }
        let mut take = |name, here, products: unsafe fn(&[u8], &Rounded, &mut [f32])| {
            if here {
                let mut y = vec![0.0; outputs];
                // SAFETY: the processor has the instructions.
                unsafe { products(blocks, x, &mut y) };
                found.push((name, y));
            }
        };
        take("AVX2", true, avx2::<BYTES, F>);
        take("AVX-VNNI", is_x86_feature_detected!("avxvnni"), avx::<BYTES, F>);
        let wide = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
        take("AVX-512", wide, avx512::<BYTES, F>);
        found
    }

    /// By which instructions sums of four products are taken: of what has no sign with what has one.
    trait Quads: Copy {
        /// # Safety
        ///
        /// The processor must have the instructions.
        unsafe fn quads(codes: __m256i, x: __m256i) -> __m256i;
    }

    /// Eight sums. Made and used only where the processor has AVX2 and FMA.
    #[derive(Clone, Copy)]
    struct Eight<Q>(__m256, PhantomData<Q>);

    impl<Q: Quads> Sum for Eight<Q> {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see the type.
            Self(unsafe { _mm256_setzero_ps() }, PhantomData)
        }

        #[inline(always)]
        fn add<const ZERO: u8>(self, codes: &[u8; CHUNK], x: &[i8; CHUNK], scales: [f32; 2], alike: bool) -> Self {
            // SAFETY: see the type; codes and x are 32 bytes each.
            unsafe {
                let codes = _mm256_loadu_si256(codes.as_ptr().cast::<__m256i>());
                let x = _mm256_loadu_si256(x.as_ptr().cast::<__m256i>());
                let quads = match ZERO {
                    SIGNED => {
                        let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(SIGNED.cast_signed()));
                        Q::quads(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed))
                    }
                    _ => Q::quads(codes, x),
                };
                let scale = match alike {
                    true => _mm256_set1_ps(scales[0]),
                    false => _mm256_set_m128(_mm_set1_ps(scales[1]), _mm_set1_ps(scales[0])),
                };
                Self(_mm256_fmadd_ps(_mm256_cvtepi32_ps(quads), scale, self.0), PhantomData)
            }
        }

        #[inline(always)]
        fn with(self, other: Self) -> Self {
            // SAFETY: see the type.
            Self(unsafe { _mm256_add_ps(self.0, other.0) }, PhantomData)
        }

        #[inline(always)]
        fn total(self) -> f32 {
            // SAFETY: see the type.
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps(self.0, 1));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }

    macro_rules! products {
        ($name:ident, $kind:ident, $features:literal, |$codes:ident, $x:ident| $quads:expr) => {
            #[derive(Clone, Copy)]
            struct $kind;

            impl Quads for $kind {
                #[inline(always)]
                unsafe fn quads($codes: __m256i, $x: __m256i) -> __m256i {
                    // SAFETY: who calls says so.
                    unsafe { $quads }
                }
            }

            /// # Safety
            ///
            /// The processor must have the features.
            #[target_feature(enable = $features)]
            unsafe fn $name<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Rounded, y: &mut [f32]) {
                rows::<BYTES, F, Eight<$kind>>(blocks, x, y);
            }
        };
    }

    products!(avx512, Avx512, "avx512vnni,avx512vl,avx2,fma", |codes, x| {
        _mm256_dpbusd_epi32(_mm256_setzero_si256(), codes, x)
    });
    products!(avx, Avx, "avxvnni,avx2,fma", |codes, x| _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), codes, x));
    // Two products of at most 128 · 127 each fit into 16 bits.
    products!(avx2, Avx2, "avx2,fma", |codes, x| {
        _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1))
    });
}
