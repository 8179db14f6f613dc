//! Products in registers.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use std::mem::MaybeUninit;

use super::{Product, ProductWithBlocks};
use crate::kernels::blocks::{CHUNK, Packed};
use crate::kernels::flex::lanes::{self, Aligned, Lanes, QUAD, QUADS, for_registers};
use crate::kernels::flex::product::{Columns, Rows};

pub(super) fn products() -> impl Iterator<Item = (&'static str, Product)> {
    for_registers!(Product: product)
}

pub(super) fn products_with_blocks<const BYTES: usize, F: Packed<BYTES>>()
-> impl Iterator<Item = (&'static str, ProductWithBlocks)> {
    for_registers!(ProductWithBlocks: product_with_blocks::<BYTES, F>)
}

/// Products by one kind of registers, of which W outputs are V.
macro_rules! in_registers {
    ($name:ident, $lanes:ident, $v:literal, $w:literal, $features:literal) => {
        mod $name {
            use super::*;

            /// # Safety
            ///
            /// The processor must have the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn product(y: &mut Columns<'_, f32>, x: &[f32], rows: Rows<'_, f32>, factor: f32) {
                let source = Floats::of(y, x, rows);
                // SAFETY: who calls says so.
                unsafe { by_slabs::<lanes::$lanes, $v, $w, _>(source, x, y, factor, with_own_tiles) };
            }

            /// # Safety
            ///
            /// The processor must have the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn product_with_blocks<const BYTES: usize, F: Packed<BYTES>>(
                blocks: &[u8],
                x: &[f32],
                y: &mut Columns<'_, f32>,
            ) {
                let source = Blocks::<$w, BYTES, F>::of(blocks, y.range().len());
                // SAFETY: who calls says so.
                unsafe { by_slabs::<lanes::$lanes, $v, $w, _>(source, x, y, 1.0, with_own_tiles) };
            }

            /// Once for all that is multiplied.
            ///
            /// # Safety
            ///
            /// The processor must have the features.
            #[target_feature(enable = $features)]
            unsafe fn with_own_tiles(slab: &[Line<$w>], part: Part, x: &[f32], y: &mut Columns<'_, f32>) {
                // SAFETY: who calls says so.
                unsafe { with_tiles::<lanes::$lanes, $v, $w>(slab, part, x, y) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
in_registers!(avx512, In512, 4, 64, "avx512f,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
in_registers!(avx2, In256, 2, 16, "avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
in_registers!(neon, In128, 4, 16, "neon");

/// Rows of x of a tile.
const ROWS: usize = 6;

/// Most values of an output that are unpacked before they are multiplied, which stay in a core's second cache.
const DEPTH: usize = 1024;

/// scale · (code − zero) + shift, rounded twice as [`crate::kernels::blocks::dequantize`] does.
///
/// # Safety
///
/// The processor must have the instructions of L.
#[inline(always)]
unsafe fn value<L: Lanes, const BYTES: usize, F: Packed<BYTES>>(
    code: L::Ints,
    scale: L::Floats,
    shift: L::Floats,
) -> L::Floats {
    // SAFETY: who calls says so.
    unsafe {
        let code = if F::ZERO == 0 { code } else { L::sub_ints(code, L::ints(i32::from(F::ZERO))) };
        let value = L::mul(scale, L::float(code));
        if F::SHIFTED { L::add(value, shift) } else { value }
    }
}

/// A value of each of W outputs.
type Line<const W: usize> = Aligned<[f32; W]>;

/// What is multiplied with x.
trait Source<const W: usize> {
    /// Values that are taken together.
    const TOGETHER: usize;

    /// Values of an output.
    fn depth(&self) -> usize;

    /// Puts values of at most W outputs, from `output` on, into the order in which they are multiplied: those from `first` on,
    /// of lanes behind the last output anything.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L, and W outputs are V registers.
    unsafe fn fill<L: Lanes, const V: usize>(&mut self, slab: &mut [MaybeUninit<Line<W>>], output: usize, first: usize);
}

/// Weights in blocks, row by row.
struct Blocks<'a, const W: usize, const BYTES: usize, F> {
    blocks: &'a [u8],
    /// Blocks of a row.
    of_row: usize,
    rows: lanes::Rows<'a, W, BYTES>,
    /// The first of `rows`.
    output: usize,
    format: std::marker::PhantomData<F>,
}

impl<'a, const W: usize, const BYTES: usize, F: Packed<BYTES>> Blocks<'a, W, BYTES, F> {
    #[inline(always)]
    fn of(blocks: &'a [u8], outputs: usize) -> Self {
        let of_row = blocks.len() / outputs.max(1) / BYTES;
        let rows = lanes::Rows::of(&[], of_row);
        Self { blocks, of_row, rows, output: usize::MAX, format: std::marker::PhantomData }
    }
}

impl<const W: usize, const BYTES: usize, F: Packed<BYTES>> Source<W> for Blocks<'_, W, BYTES, F> {
    const TOGETHER: usize = F::VALUES;

    #[inline(always)]
    fn depth(&self) -> usize {
        self.of_row * F::VALUES
    }

    #[inline(always)]
    unsafe fn fill<L: Lanes, const V: usize>(
        &mut self,
        slab: &mut [MaybeUninit<Line<W>>],
        output: usize,
        first: usize,
    ) {
        if output != self.output {
            let (of_row, blocks) = (self.of_row * BYTES, self.blocks);
            let end = blocks.len().min((output + W) * of_row);
            self.rows = lanes::Rows::of(&blocks[output * of_row..end], self.of_row);
            self.output = output;
        }
        let rows = &mut self.rows;
        for (block, slab) in slab.chunks_exact_mut(F::VALUES).enumerate() {
            let block = first / F::VALUES + block;
            rows.read_scales::<F>(block);
            for (index, slab) in slab.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
                rows.read_codes::<F>(block, index);
                for v in 0..V {
                    // SAFETY: V registers of W lanes, and who calls says so.
                    unsafe {
                        let quads = rows.quads::<L>(v);
                        for quad in 0..QUADS {
                            let group = (index * CHUNK + quad * QUAD) / F::GROUP;
                            let scale = L::load(rows.scales[group].0.as_ptr().add(v * L::LANES));
                            let shift = L::load(rows.shifts[group].0.as_ptr().add(v * L::LANES));
                            for at in 0..QUAD {
                                let value = value::<L, BYTES, F>(L::byte(quads[quad], at), scale, shift);
                                let to = slab[quad * QUAD + at].as_mut_ptr().cast::<f32>();
                                L::store(to.add(v * L::LANES), value);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Floats.
struct Floats<'a> {
    rows: Rows<'a, f32>,
    depth: usize,
    outputs: usize,
}

impl<'a> Floats<'a> {
    #[inline(always)]
    fn of(y: &Columns<'_, f32>, x: &[f32], rows: Rows<'a, f32>) -> Self {
        let (depth, outputs) = (x.len() / y.rows().max(1), y.range().len());
        let (Rows::AsTheyAre(values) | Rows::Transposed(values)) = rows;
        assert!(x.len() == y.rows() * depth && values.len() == depth * outputs, "shapes of a product");
        Self { rows, depth, outputs }
    }
}

impl<const W: usize> Source<W> for Floats<'_> {
    const TOGETHER: usize = 1;

    #[inline(always)]
    fn depth(&self) -> usize {
        self.depth
    }

    #[inline(always)]
    unsafe fn fill<L: Lanes, const V: usize>(
        &mut self,
        slab: &mut [MaybeUninit<Line<W>>],
        output: usize,
        first: usize,
    ) {
        let width = W.min(self.outputs - output);
        let (values, of_output, of_value) = match self.rows {
            Rows::AsTheyAre(values) => (values, 1, self.outputs),
            Rows::Transposed(values) => (values, self.depth, 1),
        };
        let values = &values[output * of_output + first * of_value..];
        for v in 0..V {
            let (lane, mut at) = (v * L::LANES, 0);
            // Whole registers.
            if lane + L::LANES <= width {
                // SAFETY: V registers of W lanes, values of `LANES` outputs from `lane` on and those of a line from `at` on are
                // there, and who calls says so.
                unsafe {
                    let values = values.as_ptr().add(lane * of_output);
                    if of_output == 1 {
                        while at < slab.len() {
                            let to = slab[at].as_mut_ptr().cast::<f32>();
                            L::store(to.add(lane), L::load(values.add(at * of_value)));
                            at += 1;
                        }
                    }
                    while at + QUADS <= slab.len() {
                        let eight = L::transposed(values.add(at).cast(), of_output * size_of::<f32>());
                        for i in 0..QUADS {
                            let to = slab[at + i].as_mut_ptr().cast::<f32>();
                            L::store(to.add(lane), L::bits(eight[i]));
                        }
                        at += QUADS;
                    }
                }
            }
            while at < slab.len() {
                for lane in lane..lane + L::LANES {
                    let value = if lane < width { values[lane * of_output + at * of_value] } else { 0.0 };
                    // SAFETY: a lane of W.
                    unsafe { slab[at].as_mut_ptr().cast::<f32>().add(lane).write(value) };
                }
                at += 1;
            }
        }
    }
}

/// Which products a slab has a part of.
struct Part {
    /// The slab's first output.
    output: usize,
    /// Its first value.
    first: usize,
    /// Values of an output, in all.
    depth: usize,
    factor: f32,
}

/// A slab with all rows of x.
type WithTiles<const W: usize> = unsafe fn(&[Line<W>], Part, &[f32], &mut Columns<'_, f32>);

/// # Safety
///
/// The processor must have the instructions of L, and W outputs are V registers.
#[inline(always)]
unsafe fn by_slabs<L: Lanes, const V: usize, const W: usize, S: Source<W>>(
    mut source: S,
    x: &[f32],
    y: &mut Columns<'_, f32>,
    factor: f32,
    with_tiles: WithTiles<W>,
) {
    let (outputs, depth) = (y.range().len(), source.depth());
    let at_once = depth.min(DEPTH / S::TOGETHER * S::TOGETHER);
    let mut slab = Vec::with_capacity(at_once);
    for output in (0..outputs).step_by(W) {
        // Once at least, since a sum of nothing is zero.
        let mut first = 0;
        while first < depth || first == 0 {
            let slab = &mut slab.spare_capacity_mut()[..at_once.min(depth - first)];
            // SAFETY: who calls says so, and all lanes of all values are written.
            unsafe {
                if !slab.is_empty() {
                    source.fill::<L, V>(slab, output, first);
                }
                with_tiles(slab.assume_init_ref(), Part { output, first, depth, factor }, x, y);
            }
            first += at_once.max(1);
        }
    }
}

/// # Safety
///
/// The processor must have the instructions of L, and W outputs are V registers.
#[inline(always)]
unsafe fn with_tiles<L: Lanes, const V: usize, const W: usize>(
    slab: &[Line<W>],
    part: Part,
    x: &[f32],
    y: &mut Columns<'_, f32>,
) {
    let mut row = 0;
    while row < y.rows() {
        // SAFETY: who calls says so.
        unsafe {
            match y.rows() - row {
                1 => tile::<L, 1, V, W>(slab, &part, x, y, row),
                2 => tile::<L, 2, V, W>(slab, &part, x, y, row),
                3 => tile::<L, 3, V, W>(slab, &part, x, y, row),
                4 => tile::<L, 4, V, W>(slab, &part, x, y, row),
                5 => tile::<L, 5, V, W>(slab, &part, x, y, row),
                _ => tile::<L, ROWS, V, W>(slab, &part, x, y, row),
            }
        }
        row += ROWS;
    }
}

/// M rows of x, from `row` on, with a slab.
///
/// # Safety
///
/// The processor must have the instructions of L, and W outputs are V registers.
#[inline(always)]
unsafe fn tile<L: Lanes, const M: usize, const V: usize, const W: usize>(
    slab: &[Line<W>],
    part: &Part,
    x: &[f32],
    y: &mut Columns<'_, f32>,
    row: usize,
) {
    let &Part { output, first, depth, factor } = part;
    let x = &x[row * depth + first..];
    assert!(x.len() >= (M - 1) * depth + slab.len(), "rows of a tile");
    let (is_last, width) = (first + slab.len() == depth, W.min(y.range().len() - output));
    // Where there are fewer outputs than lanes, rows that have them all.
    let mut aside = MaybeUninit::<[Line<W>; M]>::uninit();
    let aside = aside.as_mut_ptr().cast::<MaybeUninit<f32>>();
    // SAFETY: V registers are W lanes, x has the values of M rows, and who calls says so. What goes on was written.
    unsafe {
        let mut sums = [[L::floats(0.0); V]; M];
        if first > 0 {
            for m in 0..M {
                let mut from = y.row(row + m)[output..][..width].as_ptr();
                if width < W {
                    let lanes = std::slice::from_raw_parts_mut(aside.add(m * W), W);
                    lanes.fill(MaybeUninit::new(0.0));
                    lanes[..width].copy_from_slice(&y.row(row + m)[output..][..width]);
                    from = lanes.as_ptr();
                }
                for v in 0..V {
                    sums[m][v] = L::load(from.cast::<f32>().add(v * L::LANES));
                }
            }
        }
        for (at, line) in slab.iter().enumerate() {
            let mut values = [L::floats(0.0); V];
            for v in 0..V {
                values[v] = L::load(line.0.as_ptr().add(v * L::LANES));
            }
            for m in 0..M {
                let x = L::floats(*x.get_unchecked(m * depth + at));
                for v in 0..V {
                    sums[m][v] = L::mul_add(values[v], x, sums[m][v]);
                }
            }
        }
        let factor = L::floats(if is_last { factor } else { 1.0 });
        for m in 0..M {
            let there = &mut y.row(row + m)[output..][..width];
            let to = if width < W { aside.add(m * W) } else { there.as_mut_ptr() };
            for v in 0..V {
                L::store(to.cast::<f32>().add(v * L::LANES), L::mul(sums[m][v], factor));
            }
            if width < W {
                there.copy_from_slice(std::slice::from_raw_parts(to, width));
            }
        }
    }
}
