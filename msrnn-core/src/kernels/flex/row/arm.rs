//! Sums in registers of ARM's processors of 64 bits.

use std::arch::aarch64::*;

use super::{Adds, CHUNK, Chunks, Floats, Integers, LANES, OfPair, Pair, Products, Row, Sums, plain, rows};
use crate::kernels::blocks::Packed;
use crate::kernels::flex::lanes::{InRegisters, has_quads, quads};

/// The code that is subtracted from those of all 8 bits: they are multiplied with their signs.
const SIGNED: u8 = 128;

/// The kinds of instructions that the processor has, the fastest first.
pub(super) fn kinds<const BYTES: usize, F: Packed<BYTES>>() -> impl Iterator<Item = (&'static str, Products)> {
    let kinds: [(_, _, Products); 2] =
        [("NEON", has_quads(), neon::<BYTES, F>), ("NEON without quads", true, floats::<BYTES, F>)];
    kinds.into_iter().filter(|(_, here, _)| *here).map(|(name, _, products)| (name, products))
}

/// # Safety
///
/// The processor must have the features.
#[target_feature(enable = "neon,dotprod")]
unsafe fn neon<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Row, y: &mut [f32]) {
    match x {
        Row::Floats(x) => rows::<BYTES, F, Four, Floats>(blocks, x, y),
        Row::Integers(x) => rows::<BYTES, F, Four, Integers>(blocks, x, y),
    }
}

/// Integers as they are on any processor.
#[target_feature(enable = "neon")]
fn floats<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Row, y: &mut [f32]) {
    match x {
        Row::Floats(x) => rows::<BYTES, F, Four, Floats>(blocks, x, y),
        Row::Integers(_) => plain::<BYTES, F>(blocks, x, y),
    }
}

/// Four sums of products of each half of two chunks, and of shifts, since one waits for its last addition. Integers are added only
/// where the processor has products of quads.
#[derive(Clone, Copy)]
struct Four([float32x4_t; 5]);

impl Sums for Four {
    type Unpacks = InRegisters;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: every processor of this architecture has the instructions.
        Self(unsafe { [vdupq_n_f32(0.0); 5] })
    }

    #[inline(always)]
    fn total(self) -> f32 {
        let [a, b, c, d, shifts] = self.0;
        // SAFETY: as above.
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)), shifts)) }
    }
}

impl Four {
    #[inline(always)]
    fn with_shifts<const ALIKE: bool, X>(mut self, shifts: &Option<OfPair<ALIKE>>, x: &Pair<X>) -> Self {
        let Some(OfPair(shifts)) = shifts else { return self };
        for at in 0..2 {
            for half in 0..2 {
                // SAFETY: as above; there are four sums of a half.
                self.0[4] = unsafe {
                    let sums = vld1q_f32(x.sums[at].as_ptr().add(half * LANES / 2));
                    vfmaq_n_f32(self.0[4], sums, shifts[at][half])
                };
            }
        }
        self
    }
}

impl Adds<Integers> for Four {
    #[inline(always)]
    fn add<const ALIKE: bool>(mut self, weight: &Chunks<ALIKE>, x: &Pair<Integers>) -> Self {
        let Chunks { codes, zero, scales: OfPair(scales), shifts } = weight;
        for at in 0..2 {
            // SAFETY: every processor of this architecture has the instruction.
            let mut halves = unsafe { [vdupq_n_s32(0); 2] };
            for half in 0..2 {
                // SAFETY: see the type; codes of a half are 16 bytes, and so are sums that theirs begin with.
                halves[half] = unsafe {
                    let of_half = vld1q_u8(codes[at].0.as_ptr().cast::<u8>().add(half * CHUNK / 2));
                    let (of_half, start) = match *zero {
                        0 => (of_half, halves[half]),
                        SIGNED => (veorq_u8(of_half, vdupq_n_u8(SIGNED)), halves[half]),
                        _ => (of_half, vld1q_s32(x.x.starts[at].as_ptr().add(half * LANES / 2))),
                    };
                    let x = vld1q_s8(x.x.codes[at].as_ptr().add(half * CHUNK / 2));
                    quads(start, vreinterpretq_s8_u8(of_half), x)
                };
            }
            let scale = x.x.scales[at][0];
            // SAFETY: as above.
            unsafe {
                if ALIKE {
                    let both = vcvtq_f32_s32(vaddq_s32(halves[0], halves[1]));
                    self.0[2 * at] = vfmaq_n_f32(self.0[2 * at], both, scales[at][0] * scale);
                } else {
                    for half in 0..2 {
                        let sum = &mut self.0[2 * at + half];
                        *sum = vfmaq_n_f32(*sum, vcvtq_f32_s32(halves[half]), scales[at][half] * scale);
                    }
                }
            }
        }
        self.with_shifts(shifts, x)
    }
}

impl Adds<Floats> for Four {
    #[inline(always)]
    fn add<const ALIKE: bool>(mut self, weight: &Chunks<ALIKE>, x: &Pair<Floats>) -> Self {
        let Chunks { codes, zero, scales: OfPair(scales), shifts } = weight;
        for at in 0..2 {
            for half in 0..2 {
                // SAFETY: every processor of this architecture has the instructions; codes of a half are 16 bytes, and x has
                // as many floats.
                unsafe {
                    let of_half = vld1q_u8(codes[at].0.as_ptr().cast::<u8>().add(half * CHUNK / 2));
                    let numbers = vreinterpretq_s8_u8(vsubq_u8(of_half, vdupq_n_u8(*zero)));
                    let (low, high) = (vmovl_s8(vget_low_s8(numbers)), vmovl_high_s8(numbers));
                    let x = x.x.0[at].as_ptr().add(half * CHUNK / 2);
                    let first = vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vld1q_f32(x));
                    let second = vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(low)), vld1q_f32(x.add(4)));
                    let first = vfmaq_f32(first, vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vld1q_f32(x.add(8)));
                    let second = vfmaq_f32(second, vcvtq_f32_s32(vmovl_high_s16(high)), vld1q_f32(x.add(12)));
                    let sum = &mut self.0[2 * at + half];
                    *sum = vfmaq_n_f32(*sum, vaddq_f32(first, second), scales[at][half]);
                }
            }
        }
        self.with_shifts(shifts, x)
    }
}
