//! Registers of ARM's processors of 64 bits, which all have NEON, and blocks taken apart by its instructions.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Lanes, QUADS};
use crate::kernels::blocks::{self, Codes, Unpacks};

/// Blocks taken apart.
pub(crate) struct InRegisters;

impl Unpacks for InRegisters {
    #[inline(always)]
    fn halves(word: u32) -> [f32; 2] {
        // SAFETY: every processor of this architecture has the instructions.
        unsafe {
            let halves = vcvt_f32_f16(vreinterpret_f16_u32(vdup_n_u32(word)));
            [vgetq_lane_f32::<0>(halves), vgetq_lane_f32::<1>(halves)]
        }
    }

    #[inline(always)]
    fn scaled(factor: f32, bytes: u64, zero: f32) -> [f32; 8] {
        blocks::Plain::scaled(factor, bytes, zero)
    }

    #[inline(always)]
    fn bits(word: u32) -> Codes {
        let mut codes = Codes([0; 4]);
        let to = codes.0.as_mut_ptr().cast::<u8>();
        // SAFETY: as above; codes are 32 bytes.
        unsafe {
            let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            for half in 0..2 {
                let [low, high] = [word >> (16 * half), word >> (16 * half + 8)].map(|byte| vdup_n_u8(byte as u8));
                let set = vtstq_u8(vcombine_u8(low, high), own);
                vst1q_u8(to.add(16 * half), vandq_u8(set, vdupq_n_u8(1)));
            }
        }
        codes
    }

    #[inline(always)]
    fn levels(codes: Codes, levels: &[u8; 16]) -> Codes {
        let mut found = Codes([0; 4]);
        let (from, to) = (codes.0.as_ptr().cast::<u8>(), found.0.as_mut_ptr().cast::<u8>());
        // SAFETY: as above; codes are 32 bytes, levels 16.
        unsafe {
            let levels = vld1q_u8(levels.as_ptr());
            vst1q_u8(to, vqtbl1q_u8(levels, vld1q_u8(from)));
            vst1q_u8(to.add(16), vqtbl1q_u8(levels, vld1q_u8(from.add(16))));
        }
        found
    }
}

/// Of NEON.
#[derive(Clone, Copy)]
pub(crate) struct In128;

// SAFETY: every processor of this architecture has the instructions; see the trait.
impl Lanes for In128 {
    const LANES: usize = 4;
    type Ints = uint32x4_t;
    type Floats = float32x4_t;

    #[inline(always)]
    unsafe fn ints(value: i32) -> uint32x4_t {
        unsafe { vdupq_n_u32(value.cast_unsigned()) }
    }
    #[inline(always)]
    unsafe fn load_ints(from: *const u32) -> uint32x4_t {
        unsafe { vld1q_u32(from) }
    }
    #[inline(always)]
    unsafe fn store_ints(to: *mut u32, value: uint32x4_t) {
        unsafe { vst1q_u32(to, value) }
    }
    #[inline(always)]
    unsafe fn sub_ints(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        unsafe { vsubq_u32(a, b) }
    }
    #[inline(always)]
    unsafe fn within(ints: uint32x4_t, from: i32, mask: i32) -> uint32x4_t {
        unsafe { vandq_u32(Self::down(ints, from), Self::ints(mask)) }
    }
    #[inline(always)]
    unsafe fn widened(from: *const u8) -> uint32x4_t {
        unsafe {
            let bytes = vcreate_u8(u64::from(from.cast::<u32>().read_unaligned()));
            vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn transposed(rows: *const u8, apart: usize) -> [uint32x4_t; QUADS] {
        unsafe {
            let mut quads = [vdupq_n_u32(0); QUADS];
            for half in 0..2 {
                let row = |at: usize| vld1q_u32(rows.add(at * apart + 16 * half).cast());
                let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
                let [ab_even, ab_odd] = [vtrn1q_u32(a, b), vtrn2q_u32(a, b)].map(|x| vreinterpretq_u64_u32(x));
                let [cd_even, cd_odd] = [vtrn1q_u32(c, d), vtrn2q_u32(c, d)].map(|x| vreinterpretq_u64_u32(x));
                quads[4 * half] = vreinterpretq_u32_u64(vtrn1q_u64(ab_even, cd_even));
                quads[4 * half + 1] = vreinterpretq_u32_u64(vtrn1q_u64(ab_odd, cd_odd));
                quads[4 * half + 2] = vreinterpretq_u32_u64(vtrn2q_u64(ab_even, cd_even));
                quads[4 * half + 3] = vreinterpretq_u32_u64(vtrn2q_u64(ab_odd, cd_odd));
            }
            quads
        }
    }
    #[inline(always)]
    unsafe fn bits(ints: uint32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(ints) }
    }
    #[inline(always)]
    unsafe fn float(ints: uint32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(ints)) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn of_table(table: float32x4_t, at: uint32x4_t) -> float32x4_t {
        unsafe {
            // Four bytes of the table for a lane, from four times its number on.
            let first = vshlq_n_u32::<2>(vandq_u32(at, vdupq_n_u32(3)));
            let bytes = vaddq_u32(vmulq_n_u32(first, 0x0101_0101), vdupq_n_u32(0x0302_0100));
            vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(table), vreinterpretq_u8_u32(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn down(ints: uint32x4_t, bits: i32) -> uint32x4_t {
        unsafe { vshlq_u32(ints, vdupq_n_s32(-bits)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4_t) {
        unsafe { vst1q_f32(to, value) }
    }
    #[inline(always)]
    unsafe fn total(of: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(of) }
    }
    #[inline(always)]
    unsafe fn totals(of: [[float32x4_t; 4]; 4]) -> [[f32; 4]; 4] {
        let mut totals = [[0.0; 4]; 4];
        for (totals, [a, b, c, d]) in totals.iter_mut().zip(of) {
            unsafe { vst1q_f32(totals.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))) };
        }
        totals
    }
}

/// Whether the processor has what [`quads`] needs.
#[inline]
pub(crate) fn has_quads() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// sum + Σ of four products, all with their signs.
///
/// # Safety
///
/// Where [`has_quads`], in a function that is compiled for it.
#[inline(always)]
pub(crate) unsafe fn quads(mut sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: who calls says so; registers are all that it reads and writes. The library's function is not stable yet.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum, codes = in(vreg) codes, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Whether the processor has what [`pairs`] needs.
#[inline]
pub(crate) fn has_pairs() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

/// sum + the two products of every lane, of numbers in bfloat16.
///
/// # Safety
///
/// Where [`has_pairs`], in a function that is compiled for it.
#[inline(always)]
pub(crate) unsafe fn pairs(mut sum: float32x4_t, a: uint32x4_t, b: uint32x4_t) -> float32x4_t {
    // SAFETY: as of `quads`.
    unsafe {
        asm!(
            "bfdot {sum:v}.4s, {a:v}.8h, {b:v}.8h",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Asks for a line of memory.
#[inline(always)]
pub(crate) fn ask_for(at: *const u8) {
    // SAFETY: every processor of this architecture has the instruction, and it reads no memory that is not there.
    unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) };
}
