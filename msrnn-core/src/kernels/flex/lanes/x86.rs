//! Registers of x86, and blocks taken apart by its instructions.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use std::arch::x86_64::*;

use super::{Lanes, QUADS};
use crate::kernels::blocks::{Codes, Unpacks};

/// Whether the processor has what [`In256`] and [`InRegisters`] need.
#[inline]
pub(crate) fn has_256() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Whether the processor has what [`In512`] needs.
#[inline]
pub(crate) fn has_512() -> bool {
    is_x86_feature_detected!("avx512f") && has_256()
}

/// Blocks taken apart. Called only where the processor has AVX2 and F16C.
pub(crate) struct InRegisters;

impl Unpacks for InRegisters {
    #[inline(always)]
    fn halves(word: u32) -> [f32; 2] {
        let mut floats = [0.0; 4];
        // SAFETY: see the type; the floats are 16 bytes.
        unsafe {
            let halves = _mm_cvtph_ps(_mm_cvtsi32_si128(word.cast_signed()));
            _mm_storeu_ps(floats.as_mut_ptr(), halves);
        }
        [floats[0], floats[1]]
    }

    #[inline(always)]
    fn scaled(factor: f32, bytes: u64, zero: f32) -> [f32; 8] {
        let mut floats = [0.0; 8];
        // SAFETY: see the type; the floats are 32 bytes.
        unsafe {
            let numbers = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
            let numbers = _mm256_sub_ps(_mm256_cvtepi32_ps(numbers), _mm256_set1_ps(zero));
            _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_mul_ps(numbers, _mm256_set1_ps(factor)));
        }
        floats
    }

    #[inline(always)]
    fn bits(word: u32) -> Codes {
        let mut codes = Codes([0; 4]);
        // SAFETY: see the type; codes are 32 bytes.
        unsafe {
            // To every byte that of the word which has its bit, of which it leaves that one.
            let bytes = _mm256_set_epi64x(
                0x0303_0303_0303_0303,
                0x0202_0202_0202_0202,
                0x0101_0101_0101_0101,
                0x0000_0000_0000_0000,
            );
            let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let bits = _mm256_shuffle_epi8(_mm256_set1_epi32(word.cast_signed()), bytes);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, own), own);
            _mm256_storeu_si256(codes.0.as_mut_ptr().cast(), _mm256_and_si256(set, _mm256_set1_epi8(1)));
        }
        codes
    }

    #[inline(always)]
    fn levels(codes: Codes, levels: &[u8; 16]) -> Codes {
        let mut found = Codes([0; 4]);
        // SAFETY: see the type; codes are 32 bytes, levels 16.
        unsafe {
            let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(levels.as_ptr().cast()));
            let codes = _mm256_loadu_si256(codes.0.as_ptr().cast());
            _mm256_storeu_si256(found.0.as_mut_ptr().cast(), _mm256_shuffle_epi8(levels, codes));
        }
        found
    }
}

macro_rules! lanes {
    (
        $(#[$doc:meta])* $kind:ident, $ints:ident, $floats:ident, $lanes:literal, $set1_int:ident, $load_int:ident, $store_int:ident,
        $sub_int:ident, $and:ident, $shift:ident, $widen:ident, $load_bytes:ident, $transposed:ident, $bits:ident,
        $cvt:ident, $table:ident, $set1:ident, $load:ident, $mul:ident, $add:ident, $fma:ident, $store:ident, $total:ident, $totals:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $kind;

        // SAFETY: see the trait.
        impl Lanes for $kind {
            const LANES: usize = $lanes;
            type Ints = $ints;
            type Floats = $floats;

            #[inline(always)]
            unsafe fn ints(value: i32) -> $ints {
                unsafe { $set1_int(value) }
            }
            #[inline(always)]
            unsafe fn load_ints(from: *const u32) -> $ints {
                unsafe { $load_int(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store_ints(to: *mut u32, value: $ints) {
                unsafe { $store_int(to.cast(), value) }
            }
            #[inline(always)]
            unsafe fn sub_ints(a: $ints, b: $ints) -> $ints {
                unsafe { $sub_int(a, b) }
            }
            #[inline(always)]
            unsafe fn within(ints: $ints, from: i32, mask: i32) -> $ints {
                unsafe { $and($shift(ints, $set1_int(from)), $set1_int(mask)) }
            }
            #[inline(always)]
            unsafe fn widened(from: *const u8) -> $ints {
                unsafe { $widen($load_bytes(from.cast())) }
            }
            #[inline(always)]
            unsafe fn transposed(rows: *const u8, apart: usize) -> [$ints; QUADS] {
                unsafe { $transposed(rows, apart) }
            }
            #[inline(always)]
            unsafe fn bits(ints: $ints) -> $floats {
                unsafe { $bits(ints) }
            }
            #[inline(always)]
            unsafe fn float(ints: $ints) -> $floats {
                unsafe { $cvt(ints) }
            }
            #[inline(always)]
            unsafe fn of_table(table: $floats, at: $ints) -> $floats {
                unsafe { $table(table, at) }
            }
            #[inline(always)]
            unsafe fn down(ints: $ints, bits: i32) -> $ints {
                unsafe { $shift(ints, $set1_int(bits)) }
            }
            #[inline(always)]
            unsafe fn floats(value: f32) -> $floats {
                unsafe { $set1(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> $floats {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn mul(a: $floats, b: $floats) -> $floats {
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            unsafe fn add(a: $floats, b: $floats) -> $floats {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: $floats, b: $floats, c: $floats) -> $floats {
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, value: $floats) {
                unsafe { $store(to, value) }
            }
            #[inline(always)]
            unsafe fn total(of: $floats) -> f32 {
                unsafe { $total(of) }
            }
            #[inline(always)]
            unsafe fn totals(of: [[$floats; 4]; 4]) -> [[f32; 4]; 4] {
                unsafe { $totals(of) }
            }
        }
    };
}

lanes!(
    /// Of AVX-512, where [`has_512`].
    In512,
    __m512i,
    __m512,
    16,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_sub_epi32,
    _mm512_and_si512,
    _mm512_srlv_epi32,
    _mm512_cvtepu8_epi32,
    _mm_loadu_si128,
    transposed_512,
    _mm512_castsi512_ps,
    _mm512_cvtepi32_ps,
    table_512,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_mul_ps,
    _mm512_add_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps,
    total_512,
    totals_512
);
lanes!(
    /// Of AVX2, where [`has_256`].
    In256,
    __m256i,
    __m256,
    8,
    _mm256_set1_epi32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_sub_epi32,
    _mm256_and_si256,
    _mm256_srlv_epi32,
    _mm256_cvtepu8_epi32,
    _mm_loadl_epi64,
    transposed_256,
    _mm256_castsi256_ps,
    _mm256_cvtepi32_ps,
    _mm256_permutevar8x32_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_mul_ps,
    _mm256_add_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps,
    total_256,
    totals_256
);

/// # Safety
///
/// A processor with AVX-512.
#[inline(always)]
unsafe fn table_512(table: __m512, at: __m512i) -> __m512 {
    // SAFETY: who calls says so.
    unsafe { _mm512_permutexvar_ps(at, table) }
}

/// # Safety
///
/// A processor with AVX-512.
#[inline(always)]
unsafe fn total_512(of: __m512) -> f32 {
    // SAFETY: who calls says so.
    unsafe { _mm512_reduce_add_ps(of) }
}

/// # Safety
///
/// A processor with AVX2.
#[inline(always)]
unsafe fn total_256(of: __m256) -> f32 {
    // SAFETY: who calls says so.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(of), _mm256_extractf128_ps(of, 1));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// # Safety
///
/// A processor with AVX-512.
#[inline(always)]
unsafe fn totals_512(of: [[__m512; 4]; 4]) -> [[f32; 4]; 4] {
    let mut totals = [[0.0; 4]; 4];
    // SAFETY: who calls says so; there are sixteen totals.
    unsafe {
        let mut quarters = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            let [a, b, c, d] = of[i];
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            // Of every 128 bits the lanes of a, b, c and d.
            let (low, high) = (_mm512_shuffle_ps(ab, cd, 0b01_00_01_00), _mm512_shuffle_ps(ab, cd, 0b11_10_11_10));
            quarters[i] = _mm512_add_ps(low, high);
        }
        let [a, b, c, d] = quarters;
        let ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0b10_00_10_00), _mm512_shuffle_f32x4(a, b, 0b11_01_11_01));
        let cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0b10_00_10_00), _mm512_shuffle_f32x4(c, d, 0b11_01_11_01));
        let (low, high) = (_mm512_shuffle_f32x4(ab, cd, 0b10_00_10_00), _mm512_shuffle_f32x4(ab, cd, 0b11_01_11_01));
        _mm512_storeu_ps(totals.as_mut_ptr().cast(), _mm512_add_ps(low, high));
    }
    totals
}

/// # Safety
///
/// A processor with AVX2.
#[inline(always)]
unsafe fn totals_256(of: [[__m256; 4]; 4]) -> [[f32; 4]; 4] {
    let mut totals = [[0.0; 4]; 4];
    for i in 0..4 {
        let [a, b, c, d] = of[i];
        // SAFETY: who calls says so; there are four totals.
        unsafe {
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            // Of every 128 bits the lanes of a, b, c and d.
            let (low, high) = (_mm256_shuffle_ps(ab, cd, 0b01_00_01_00), _mm256_shuffle_ps(ab, cd, 0b11_10_11_10));
            let sums = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
            _mm_storeu_ps(totals[i].as_mut_ptr(), four);
        }
    }
    totals
}

/// # Safety
///
/// 16 rows of 32 bytes, and a processor with AVX-512.
#[inline(always)]
unsafe fn transposed_512(rows: *const u8, apart: usize) -> [__m512i; QUADS] {
    // SAFETY: who calls says so.
    unsafe {
        // Rows i and i + 8 in the halves of a register.
        let mut a = [_mm512_setzero_si512(); QUADS];
        for (i, a) in a.iter_mut().enumerate() {
            let low = _mm256_loadu_si256(rows.add(i * apart).cast());
            let high = _mm256_loadu_si256(rows.add((i + 8) * apart).cast());
            *a = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        }
        let mut b = a;
        for i in 0..4 {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        // Of q and q + 4 four rows each.
        let mut c = b;
        for i in [0, 4] {
            c[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
            c[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
            c[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
            c[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        let first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
        let second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
        let mut quads = c;
        for q in 0..4 {
            quads[q] = _mm512_permutex2var_epi64(c[q], first, c[q + 4]);
            quads[q + 4] = _mm512_permutex2var_epi64(c[q], second, c[q + 4]);
        }
        quads
    }
}

/// # Safety
///
/// Eight rows of 32 bytes, and a processor with AVX2.
#[inline(always)]
unsafe fn transposed_256(rows: *const u8, apart: usize) -> [__m256i; QUADS] {
    // SAFETY: who calls says so.
    unsafe {
        let mut a = [_mm256_setzero_si256(); QUADS];
        for (i, a) in a.iter_mut().enumerate() {
            *a = _mm256_loadu_si256(rows.add(i * apart).cast());
        }
        let mut b = a;
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        // Of q and q + 4 four rows each.
        let mut c = b;
        for i in [0, 4] {
            c[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
            c[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
            c[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
            c[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        let mut quads = c;
        for q in 0..4 {
            quads[q] = _mm256_permute2x128_si256(c[q], c[q + 4], 0x20);
            quads[q + 4] = _mm256_permute2x128_si256(c[q], c[q + 4], 0x31);
        }
        quads
    }
}

/// Asks for a line of memory.
#[inline(always)]
pub(crate) fn ask_for(at: *const u8) {
    // SAFETY: every processor of this architecture has the instruction, and it reads no memory that is not there.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}
