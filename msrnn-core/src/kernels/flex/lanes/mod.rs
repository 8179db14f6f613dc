//! Registers of 32-bit lanes, as loops over any width of them see them, and codes of many outputs side by side, as products
//! of many rows want them.

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::*;

use crate::kernels::blocks::{CHUNK, Codes, GROUPS, Packed, Scales};

/// Of functions for all kinds of registers of an architecture, which stand in a module for each, those that this processor can
/// run, those for the widest registers first.
macro_rules! for_registers {
    ($type:ty: $($function:tt)+) => {{
        #[cfg(target_arch = "x86_64")]
        let kinds: [(_, _, $type); 2] = [
            ("AVX-512", crate::kernels::flex::lanes::has_512(), avx512::$($function)+),
            ("AVX2", crate::kernels::flex::lanes::has_256(), avx2::$($function)+),
        ];
        #[cfg(target_arch = "aarch64")]
        let kinds: [(_, _, $type); 1] = [("NEON", true, neon::$($function)+)];
        kinds.into_iter().filter(|(_, here, _)| *here).map(|(name, _, function)| (name, function))
    }};
}

pub(crate) use for_registers;

/// Four neighbours, which share a lane of 32 bits.
pub(super) const QUAD: usize = 4;

/// Quads of a chunk.
pub(super) const QUADS: usize = CHUNK / QUAD;

/// What lies in lines of a cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Aligned<T>(pub(super) T);

/// Registers of 32-bit lanes. Its functions are called only where the processor has their instructions.
pub(crate) trait Lanes: Copy {
    const LANES: usize;
    type Ints: Copy;
    type Floats: Copy;

    unsafe fn ints(value: i32) -> Self::Ints;
    unsafe fn load_ints(from: *const u32) -> Self::Ints;
    unsafe fn store_ints(to: *mut u32, value: Self::Ints);
    unsafe fn sub_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// A byte of every lane, the first the lowest.
    #[inline(always)]
    unsafe fn byte(ints: Self::Ints, at: usize) -> Self::Ints {
        // SAFETY: who calls says so.
        unsafe { Self::within(ints, 8 * at as i32, 255) }
    }
    /// The bits of a mask of every lane, from so many bits up.
    unsafe fn within(ints: Self::Ints, from: i32, mask: i32) -> Self::Ints;
    /// As many bytes as there are lanes, one in each.
    unsafe fn widened(from: *const u8) -> Self::Ints;
    /// Of as many rows of 32 bytes as there are lanes, so many bytes apart, a lane each: four bytes of all in a register.
    unsafe fn transposed(rows: *const u8, apart: usize) -> [Self::Ints; QUADS];
    /// The same bits.
    unsafe fn bits(ints: Self::Ints) -> Self::Floats;
    unsafe fn float(ints: Self::Ints) -> Self::Floats;
    unsafe fn floats(value: f32) -> Self::Floats;
    /// Of a table of as many floats as there are lanes those that lanes name by their lowest bits.
    unsafe fn of_table(table: Self::Floats, at: Self::Ints) -> Self::Floats;
    /// Lanes moved down by so many bits.
    unsafe fn down(ints: Self::Ints, bits: i32) -> Self::Ints;
    unsafe fn load(from: *const f32) -> Self::Floats;
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn store(to: *mut f32, value: Self::Floats);
    /// The sum over the lanes.
    unsafe fn total(of: Self::Floats) -> f32;
    /// The sum over the lanes of each, by four.
    unsafe fn totals(of: [[Self::Floats; 4]; 4]) -> [[f32; 4]; 4];
}

/// Blocks of W rows of weights, some of which may be missing: of every chunk of those, and of its groups, one lane a row.
pub(super) struct Rows<'a, const W: usize, const BYTES: usize> {
    blocks: &'a [[u8; BYTES]],
    of_row: usize,
    codes: Aligned<[Codes; W]>,
    /// By group of a block.
    pub(super) scales: [Aligned<[f32; W]>; GROUPS],
    /// Zeros unless [`Packed::SHIFTED`].
    pub(super) shifts: [Aligned<[f32; W]>; GROUPS],
}

impl<'a, const W: usize, const BYTES: usize> Rows<'a, W, BYTES> {
    /// `blocks`: of at most W rows of `of_row` blocks.
    #[inline(always)]
    pub(super) fn of(blocks: &'a [u8], of_row: usize) -> Self {
        let (blocks, _) = blocks.as_chunks::<BYTES>();
        assert!(blocks.len() <= W * of_row, "rows of a slab");
        let zeros = [Aligned([0.0; W]); GROUPS];
        Self { blocks, of_row, codes: Aligned([Codes([0; QUADS / 2]); W]), scales: zeros, shifts: zeros }
    }

    /// Reads the scales of a block of every row.
    #[inline(always)]
    pub(super) fn read_scales<F: Packed<BYTES>>(&mut self, block: usize) {
        for (lane, row) in self.blocks.chunks_exact(self.of_row).enumerate() {
            let Scales { scales, shifts } = F::scales::<InRegisters>(&row[block]);
            for group in 0..F::VALUES / F::GROUP {
                self.scales[group].0[lane] = scales[group];
                if F::SHIFTED {
                    self.shifts[group].0[lane] = shifts[group];
                }
            }
        }
    }

    /// Reads the codes of a chunk of a block of every row.
    #[inline(always)]
    pub(super) fn read_codes<F: Packed<BYTES>>(&mut self, block: usize, index: usize) {
        for (lane, row) in self.blocks.chunks_exact(self.of_row).enumerate() {
            self.codes.0[lane] = F::codes::<InRegisters>(&row[block], index);
        }
    }

    /// The codes that were read, in the lanes of the `v`-th register of all that W rows take.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L.
    #[inline(always)]
    pub(super) unsafe fn quads<L: Lanes>(&self, v: usize) -> [L::Ints; QUADS] {
        let codes = &self.codes.0[v * L::LANES..][..L::LANES];
        // SAFETY: as many chunks as there are lanes, and who calls says so.
        unsafe { L::transposed(codes.as_ptr().cast(), size_of::<Codes>()) }
    }
}
