//! Products of quads in registers.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use super::Product;
use crate::kernels::blocks::{CHUNK, Packed};
use crate::kernels::flex::integers::{Rounded, RoundedChunk};
use crate::kernels::flex::lanes::{self, Lanes, QUAD, QUADS, Rows};
use crate::kernels::flex::product::Columns;

pub(super) fn products<const BYTES: usize, F: Packed<BYTES>>() -> impl Iterator<Item = (&'static str, Product)> {
    #[cfg(target_arch = "x86_64")]
    let kinds: [(_, _, Product); 2] = [
        ("AVX-512 VNNI", is_x86_feature_detected!("avx512vnni") && lanes::has_512(), avx512::product::<BYTES, F>),
        ("AVX-VNNI", is_x86_feature_detected!("avxvnni") && lanes::has_256(), avx::product::<BYTES, F>),
    ];
    #[cfg(target_arch = "aarch64")]
    let kinds: [(_, _, Product); 1] = [("NEON", lanes::has_quads(), neon::product::<BYTES, F>)];
    kinds.into_iter().filter(|(_, here, _)| *here).map(|(name, _, product)| (name, product))
}

/// Registers that multiply quads. Called only where the processor has the instruction.
trait Quads: Lanes {
    /// Whether codes have a sign in the product, so that those of all 8 bits are moved down to have one.
    const SIGNED: bool;

    /// sum + Σ of four products of codes with what has a sign.
    unsafe fn with_quads(sum: Self::Ints, codes: Self::Ints, x: Self::Ints) -> Self::Ints;
}

#[cfg(target_arch = "x86_64")]
// SAFETY: see the trait.
impl Quads for lanes::In512 {
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn with_quads(sum: Self::Ints, codes: Self::Ints, x: Self::Ints) -> Self::Ints {
        unsafe { std::arch::x86_64::_mm512_dpbusd_epi32(sum, codes, x) }
    }
}

#[cfg(target_arch = "x86_64")]
// SAFETY: see the trait.
impl Quads for lanes::In256 {
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn with_quads(sum: Self::Ints, codes: Self::Ints, x: Self::Ints) -> Self::Ints {
        unsafe { std::arch::x86_64::_mm256_dpbusd_avx_epi32(sum, codes, x) }
    }
}

#[cfg(target_arch = "aarch64")]
// SAFETY: see the trait.
impl Quads for lanes::In128 {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn with_quads(sum: Self::Ints, codes: Self::Ints, x: Self::Ints) -> Self::Ints {
        use std::arch::aarch64::*;
        unsafe {
            let (sum, codes, x) = (vreinterpretq_s32_u32(sum), vreinterpretq_s8_u32(codes), vreinterpretq_s8_u32(x));
            vreinterpretq_u32_s32(lanes::quads(sum, codes, x))
        }
    }
}

/// The zero of codes of all 8 bits.
const SIGN: u8 = 128;

/// What is subtracted from codes after they are multiplied.
const fn zero<L: Quads, const BYTES: usize, F: Packed<BYTES>>() -> u8 {
    if L::SIGNED && F::ZERO == SIGN { 0 } else { F::ZERO }
}

/// Products by one kind of registers: M rows of x at a time with V registers of outputs, which are W.
macro_rules! in_registers {
    ($name:ident, $lanes:ident, $m:literal, $v:literal, $w:literal, $features:literal) => {
        mod $name {
            use super::*;

            /// # Safety
            ///
            /// The processor must have the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn product<const BYTES: usize, F: Packed<BYTES>>(
                blocks: &[u8],
                x: &Rounded,
                y: &mut Columns<'_, f32>,
            ) {
                // SAFETY: who calls says so.
                unsafe { by_slabs::<lanes::$lanes, $m, $v, $w, BYTES, F>(blocks, x, y) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
in_registers!(avx512, In512, 3, 4, 64, "avx512f,avx512vnni,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
in_registers!(avx, In256, 3, 2, 16, "avxvnni,avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
in_registers!(neon, In128, 3, 4, 16, "neon,dotprod");

/// W outputs, in the order in which they are multiplied: of every four neighbours one lane an output.
struct Slab<const W: usize> {
    /// `[quads][outputs]`
    codes: Vec<[u32; W]>,
    /// `[groups][outputs]`
    scales: Vec<[f32; W]>,
    /// As scales; empty where there are none.
    shifts: Vec<[f32; W]>,
}

impl<const W: usize> Slab<W> {
    fn of<const BYTES: usize, F: Packed<BYTES>>(chunks: usize) -> Self {
        let groups = chunks * CHUNK / F::GROUP;
        Self {
            codes: vec![[0; W]; chunks * QUADS],
            scales: vec![[0.0; W]; groups],
            shifts: vec![[0.0; W]; if F::SHIFTED { groups } else { 0 }],
        }
    }

    /// Takes all blocks of W rows, V registers of lanes.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L.
    #[inline(always)]
    unsafe fn fill<L: Quads, const V: usize, const BYTES: usize, F: Packed<BYTES>>(
        &mut self,
        rows: &mut Rows<'_, W, BYTES>,
    ) {
        let (of_block, groups) = (F::VALUES / CHUNK, of_block::<BYTES, F>());
        for block in 0..self.codes.len() / QUADS / of_block {
            rows.read_scales::<F>(block);
            for group in 0..groups {
                self.scales[block * groups + group] = rows.scales[group].0;
                if F::SHIFTED {
                    self.shifts[block * groups + group] = rows.shifts[group].0;
                }
            }
            for index in 0..of_block {
                rows.read_codes::<F>(block, index);
                let to = &mut self.codes[(block * of_block + index) * QUADS..][..QUADS];
                for v in 0..V {
                    // SAFETY: V registers of lanes are W, and who calls says so.
                    unsafe {
                        let quads = rows.quads::<L>(v);
                        for quad in 0..QUADS {
                            L::store_ints(to[quad].as_mut_ptr().add(v * L::LANES), quads[quad]);
                        }
                    }
                }
                if F::ZERO != zero::<L, BYTES, F>() {
                    to.as_flattened_mut().iter_mut().for_each(|four| *four ^= u32::from_ne_bytes([SIGN; QUAD]));
                }
            }
        }
    }
}

/// Groups of a block.
const fn of_block<const BYTES: usize, F: Packed<BYTES>>() -> usize {
    F::VALUES / F::GROUP
}

/// M rows of x and W = V · lanes outputs at a time.
///
/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn by_slabs<L: Quads, const M: usize, const V: usize, const W: usize, const BYTES: usize, F: Packed<BYTES>>(
    blocks: &[u8],
    x: &Rounded,
    y: &mut Columns<'_, f32>,
) {
    const { assert!(V * L::LANES == W) };
    let outputs = y.range().len();
    if outputs == 0 || x.chunks.is_empty() {
        return;
    }
    let of_row = blocks.len() / outputs;
    let chunks = of_row / BYTES * (F::VALUES / CHUNK);
    assert_eq!(x.chunks.len() % chunks, 0, "whole rows");
    let mut slab = Slab::<W>::of::<BYTES, F>(chunks);
    for (index, blocks) in blocks.chunks(W * of_row).enumerate() {
        // SAFETY: the processor has the instructions.
        unsafe { slab.fill::<L, V, BYTES, F>(&mut Rows::of(blocks, of_row / BYTES)) };
        let (first, width) = (index * W, blocks.len() / of_row);
        let mut rows = x.chunks.chunks_exact(M * chunks);
        let mut row = 0;
        let mut put = |values: &[[f32; W]]| {
            for values in values {
                y.row(row)[first..][..width].write_copy_of_slice(&values[..width]);
                row += 1;
            }
        };
        for x in &mut rows {
            // SAFETY: the processor has the instructions.
            put(&unsafe { tile::<L, M, V, W, BYTES, F>(&slab, x) });
        }
        for x in rows.remainder().chunks_exact(chunks) {
            // SAFETY: as above.
            put(&unsafe { tile::<L, 1, V, W, BYTES, F>(&slab, x) });
        }
    }
}

/// M rows of x with a slab.
///
/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn tile<L: Quads, const M: usize, const V: usize, const W: usize, const BYTES: usize, F: Packed<BYTES>>(
    slab: &Slab<W>,
    x: &[RoundedChunk],
) -> [[f32; W]; M] {
    let (chunks, groups) = (slab.codes.len() / QUADS, CHUNK / F::GROUP);
    assert_eq!(x.len(), M * chunks, "rows of a tile");
    let of_group = F::GROUP / QUAD;
    // SAFETY: registers are as wide as W lanes are by V; M rows of x have as many chunks as the slab, and a chunk
    // whole quads; the processor has the instructions.
    unsafe {
        let mut sums = [[L::floats(0.0); V]; M];
        for chunk in 0..chunks {
            let x: [&RoundedChunk; M] = std::array::from_fn(|m| x.get_unchecked(m * chunks + chunk));
            for group in 0..groups {
                let at = chunk * groups + group;
                let mut ints: [[L::Ints; V]; M] = std::array::from_fn(|m| {
                    let count = if groups == 1 { x[m].counts[0] + x[m].counts[1] } else { x[m].counts[group] };
                    [L::ints(-i32::from(zero::<L, BYTES, F>()) * count); V]
                });
                for quad in group * of_group..(group + 1) * of_group {
                    let codes = slab.codes.get_unchecked(chunk * QUADS + quad).as_ptr();
                    let codes: [L::Ints; V] = std::array::from_fn(|v| L::load_ints(codes.add(v * L::LANES)));
                    for m in 0..M {
                        let four = L::ints(x[m].codes.as_ptr().add(quad * QUAD).cast::<i32>().read_unaligned());
                        for v in 0..V {
                            ints[m][v] = L::with_quads(ints[m][v], codes[v], four);
                        }
                    }
                }
                let scales = slab.scales.get_unchecked(at).as_ptr();
                let scales: [L::Floats; V] = std::array::from_fn(|v| L::load(scales.add(v * L::LANES)));
                for m in 0..M {
                    let scale = L::floats(x[m].scale);
                    for v in 0..V {
                        let product = L::mul(scales[v], scale);
                        sums[m][v] = L::mul_add(L::float(ints[m][v]), product, sums[m][v]);
                    }
                }
                if F::SHIFTED {
                    let shifts = slab.shifts.get_unchecked(at).as_ptr();
                    let shifts: [L::Floats; V] = std::array::from_fn(|v| L::load(shifts.add(v * L::LANES)));
                    for m in 0..M {
                        let sum = L::floats(if groups == 1 { x[m].sum } else { x[m].sums[group] });
                        for v in 0..V {
                            sums[m][v] = L::mul_add(shifts[v], sum, sums[m][v]);
                        }
                    }
                }
            }
        }
        let mut values = [[0.0; W]; M];
        for (values, sums) in values.iter_mut().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                L::store(values.as_mut_ptr().add(v * L::LANES), sum);
            }
        }
        values
    }
}
