//! Products of pairs in registers.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use burn::tensor::bf16;

use super::{Pairs, Products};
use crate::kernels::flex::lanes::{self, Lanes};
use crate::kernels::flex::product::Columns;

/// Registers of a slab.
const REGISTERS: usize = 4;

/// Rows of a tile, as many as leave registers for the slab.
const ROWS: usize = 6;

/// Registers that multiply pairs. Called only where the processor has the instruction.
trait InPairs: Lanes {
    /// sum + the two products of every lane.
    unsafe fn with_pairs(sum: Self::Floats, a: Self::Ints, b: Self::Ints) -> Self::Floats;
}

#[cfg(target_arch = "x86_64")]
// SAFETY: see the trait; operands are 512 bits of any kind.
impl InPairs for lanes::In512 {
    #[inline(always)]
    unsafe fn with_pairs(sum: Self::Floats, a: Self::Ints, b: Self::Ints) -> Self::Floats {
        use std::arch::x86_64::*;
        unsafe {
            let [a, b] = [a, b].map(|pairs| std::mem::transmute::<__m512i, __m512bh>(pairs));
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
}

#[cfg(target_arch = "aarch64")]
// SAFETY: see the trait.
impl InPairs for lanes::In128 {
    #[inline(always)]
    unsafe fn with_pairs(sum: Self::Floats, a: Self::Ints, b: Self::Ints) -> Self::Floats {
        unsafe { lanes::pairs(sum, a, b) }
    }
}

pub(super) fn products() -> Option<(&'static str, Products)> {
    #[cfg(target_arch = "x86_64")]
    let (name, are_here, products) =
        ("AVX-512", is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw"), avx512::PRODUCTS);
    #[cfg(target_arch = "aarch64")]
    let (name, are_here, products) = ("NEON", lanes::has_pairs(), neon::PRODUCTS);
    are_here.then_some((name, products))
}

/// Products by one kind of registers, of which W outputs are a slab.
macro_rules! in_registers {
    ($name:ident, $lanes:ident, $w:literal, $features:literal) => {
        mod $name {
            use super::*;

            pub(super) const PRODUCTS: Products = Products { many, few };

            #[target_feature(enable = $features)]
            fn many(weight: &[bf16], x: &Pairs, y: &mut Columns<'_, f32>) {
                // SAFETY: this is compiled for the instructions.
                unsafe { by_slabs::<lanes::$lanes, $w>(weight, x, y) };
            }

            #[target_feature(enable = $features)]
            fn few(weight: &[bf16], x: &Pairs, y: &mut [f32]) {
                // SAFETY: as above.
                unsafe { row_by_row::<lanes::$lanes>(weight, x, y) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
in_registers!(avx512, In512, 64, "avx512f,avx512bw,avx512bf16");
#[cfg(target_arch = "aarch64")]
in_registers!(neon, In128, 16, "neon,bf16");

#[inline(always)]
fn pair(two: [bf16; 2]) -> u32 {
    u32::from(two[0].to_bits()) | u32::from(two[1].to_bits()) << 16
}

/// Outputs in the order in which they are multiplied: `[pairs][outputs]`.
#[inline(always)]
fn fill<const W: usize>(slab: &mut [[u32; W]], weight: &[bf16], input: usize) {
    let width = weight.len() / input;
    let pairs = input / 2;
    for (index, slab) in slab.iter_mut().enumerate() {
        for (lane, two) in slab.iter_mut().enumerate().take(width) {
            let at = lane * input + 2 * index;
            *two = match index < pairs {
                true => pair([weight[at], weight[at + 1]]),
                false => pair([weight[at], bf16::ZERO]),
            };
        }
    }
}

/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn by_slabs<L: InPairs, const W: usize>(weight: &[bf16], x: &Pairs, y: &mut Columns<'_, f32>) {
    const { assert!(REGISTERS * L::LANES == W) };
    let outputs = y.range().len();
    if weight.is_empty() {
        return;
    }
    let input = weight.len() / outputs;
    let mut slab = vec![[0; W]; x.of_row];
    for (index, weight) in weight.chunks(W * input).enumerate() {
        fill(&mut slab, weight, input);
        let (first, width) = (index * W, weight.len() / input);
        let mut tiles = x.pairs.chunks_exact(ROWS * x.of_row);
        let mut row = 0;
        let mut put = |values: &[[f32; W]]| {
            for values in values {
                y.row(row)[first..][..width].write_copy_of_slice(&values[..width]);
                row += 1;
            }
        };
        for x in &mut tiles {
            // SAFETY: who calls says so.
            put(&unsafe { tile::<L, ROWS, W>(&slab, x) });
        }
        for x in tiles.remainder().chunks_exact(x.of_row) {
            // SAFETY: as above.
            put(&unsafe { tile::<L, 1, W>(&slab, x) });
        }
    }
}

/// M rows of x with a slab.
///
/// # Safety
///
/// The processor must have the instructions of L, of whose registers W lanes are so many.
#[inline(always)]
unsafe fn tile<L: InPairs, const M: usize, const W: usize>(slab: &[[u32; W]], x: &[u32]) -> [[f32; W]; M] {
    let of_row = slab.len();
    assert_eq!(x.len(), M * of_row, "rows of a tile");
    let mut values = [[0.0; W]; M];
    // SAFETY: a slab is REGISTERS registers wide, x has M rows of as many pairs, and who calls says so.
    unsafe {
        let mut sums = [[L::floats(0.0); REGISTERS]; M];
        for (index, line) in slab.iter().enumerate() {
            let mut weight = [L::ints(0); REGISTERS];
            for v in 0..REGISTERS {
                weight[v] = L::load_ints(line.as_ptr().add(v * L::LANES));
            }
            for m in 0..M {
                let two = L::ints(x.get_unchecked(m * of_row + index).cast_signed());
                for v in 0..REGISTERS {
                    sums[m][v] = L::with_pairs(sums[m][v], weight[v], two);
                }
            }
        }
        for m in 0..M {
            for v in 0..REGISTERS {
                L::store(values[m].as_mut_ptr().add(v * L::LANES), sums[m][v]);
            }
        }
    }
    values
}

/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn row_by_row<L: InPairs>(weight: &[bf16], x: &Pairs, y: &mut [f32]) {
    if weight.is_empty() {
        return;
    }
    let rows = x.rows();
    let input = weight.len() * rows / y.len();
    for (weight, y) in weight.chunks_exact(input).zip(y.chunks_exact_mut(rows)) {
        for (x, y) in x.pairs.chunks_exact(x.of_row).zip(y) {
            // SAFETY: who calls says so.
            *y = unsafe { product::<L>(weight, x) };
        }
    }
}

/// One row with one.
///
/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn product<L: InPairs>(weight: &[bf16], x: &[u32]) -> f32 {
    /// As many as any register has.
    const MOST: usize = 16;
    const { assert!(L::LANES <= MOST) };
    let whole = weight.len() / (2 * L::LANES);
    let (weights, weight_rest) = weight.split_at(whole * 2 * L::LANES);
    // What is left of the weight may make up a whole register of pairs, the last of them half empty.
    let (xs, x_rest) = x.split_at(whole * L::LANES);
    let (mut rest, mut x_last) = ([0; MOST], [0; MOST]);
    for (rest, two) in rest.iter_mut().zip(weight_rest.chunks(2)) {
        *rest = pair([two[0], two.get(1).copied().unwrap_or(bf16::ZERO)]);
    }
    x_last[..x_rest.len()].copy_from_slice(x_rest);
    // SAFETY: both have so many whole registers, and who calls says so.
    unsafe {
        let mut sums = [L::floats(0.0); 4];
        let load = |from: *const u32, index: usize| L::load_ints(from.add(index * L::LANES));
        for index in 0..whole {
            let (weight, x) = (load(weights.as_ptr().cast(), index), load(xs.as_ptr(), index));
            sums[index % 4] = L::with_pairs(sums[index % 4], weight, x);
        }
        sums[3] = L::with_pairs(sums[3], load(rest.as_ptr(), 0), load(x_last.as_ptr(), 0));
        L::total(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])))
    }
}
