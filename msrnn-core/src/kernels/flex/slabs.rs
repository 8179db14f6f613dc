//! Weights in blocks as floats: products with many rows of activations as they are, and values row by row.
//!
//! Some outputs at a time are unpacked into the order in which they are multiplied, a lane each, once for all rows of
//! activations, which are read where they lie. A product is added up value by value, whatever rows are multiplied
//! together.

use super::product::Columns;
use crate::kernels::blocks::{Packed, dequantize};

/// Whether this processor has the instructions.
pub(super) fn are_here() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::lanes::has_256();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `y = x · weightᵀ`, x of `[rows, in]`, where [`are_here`]. `blocks`: of the rows of the weight that y's columns are.
pub(super) fn product<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &[f32], y: &mut Columns<'_, f32>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: who calls says that the processor has the instructions.
    unsafe {
        match super::lanes::has_512() {
            true => x86::in_512_bits::<BYTES, F>(blocks, x, y),
            false => x86::in_256_bits::<BYTES, F>(blocks, x, y),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (blocks, x, y);
        unreachable!("no such instructions here");
    }
}

/// Whole blocks to their values, as [`dequantize`] does it, which are finite.
pub(super) fn unpack<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if are_here() {
        // SAFETY: the processor has the instructions.
        return unsafe {
            match super::lanes::has_512() {
                true => x86::unpack_in_512_bits::<BYTES, F>(blocks, values),
                false => x86::unpack_in_256_bits::<BYTES, F>(blocks, values),
            }
        };
    }
    for (block, values) in blocks.as_chunks::<BYTES>().0.iter().zip(values.chunks_exact_mut(F::VALUES)) {
        dequantize::<BYTES, F>(block, values);
    }
}

/// What kinds of registers make of blocks of rows of weights.
#[cfg(test)]
pub(super) struct Made {
    pub(super) name: &'static str,
    /// `x · weightᵀ`, `[rows, outputs]`.
    pub(super) product: Vec<f32>,
    /// Values, row by row.
    pub(super) values: Vec<f32>,
    /// The same, out of the order in which they are multiplied.
    pub(super) multiplied: Vec<f32>,
}

/// By every kind of registers that the processor has.
#[cfg(test)]
pub(super) fn each<const BYTES: usize, F: Packed<BYTES>>(
    blocks: &[u8],
    x: &[f32],
    [rows, outputs]: [usize; 2],
) -> Vec<Made> {
    #[cfg(target_arch = "x86_64")]
    {
        use super::lanes::{has_256, has_512};

        type Product = unsafe fn(&[u8], &[f32], &mut Columns<'_, f32>);
        type Unpack = unsafe fn(&[u8], &mut [f32]);
        let kinds: [(_, _, Product, Unpack); 2] = [
            ("512 bits", has_512(), x86::in_512_bits::<BYTES, F>, x86::unpack_in_512_bits::<BYTES, F>),
            ("256 bits", has_256(), x86::in_256_bits::<BYTES, F>, x86::unpack_in_256_bits::<BYTES, F>),
        ];
        let input = x.len() / rows;
        let kinds = kinds.into_iter().filter(|(_, here, ..)| *here);
        let made = kinds.map(|(name, _, product, unpack)| {
            let multiplied = |x: &[f32]| {
                let mut y = vec![0.0; x.len() / input * outputs];
                // SAFETY: the processor has the instructions.
                Columns::split(&mut y, outputs, outputs).iter_mut().for_each(|y| unsafe { product(blocks, x, y) });
                y
            };
            let mut values = vec![0.0; input * outputs];
            // SAFETY: as above.
            unsafe { unpack(blocks, &mut values) };
            // A row with a single one has a column of the weight for a product.
            let ones = (0..input * input).map(|at| if at % (input + 1) == 0 { 1.0 } else { 0.0 });
            let columns = multiplied(&ones.collect::<Vec<f32>>());
            let of_weight = |at: usize| columns[at % input * outputs + at / input];
            Made { name, product: multiplied(x), values, multiplied: (0..input * outputs).map(of_weight).collect() }
        });
        made.collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (blocks, x, rows, outputs);
        Vec::new()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::mem::MaybeUninit;

    use crate::kernels::blocks::{CHUNK, Packed, Scales};
    use crate::kernels::flex::lanes::{Aligned, In256, In512, InRegisters, Lanes, QUAD, QUADS, Rows};
    use crate::kernels::flex::product::Columns;

    /// Rows of x of a tile.
    const ROWS: usize = 6;

    /// Most values of an output that are unpacked before they are multiplied, which stay in a core's second cache.
    const DEPTH: usize = 1024;

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn in_512_bits<const BYTES: usize, F: Packed<BYTES>>(
        blocks: &[u8],
        x: &[f32],
        y: &mut Columns<'_, f32>,
    ) {
        // SAFETY: who calls says so.
        unsafe { by_slabs::<In512, 4, 64, BYTES, F>(blocks, x, y, with_tiles_in_512_bits) };
    }

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn in_256_bits<const BYTES: usize, F: Packed<BYTES>>(
        blocks: &[u8],
        x: &[f32],
        y: &mut Columns<'_, f32>,
    ) {
        // SAFETY: who calls says so.
        unsafe { by_slabs::<In256, 2, 16, BYTES, F>(blocks, x, y, with_tiles_in_256_bits) };
    }

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn unpack_in_512_bits<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], values: &mut [f32]) {
        // SAFETY: who calls says so.
        unsafe { unpack::<In512, BYTES, F>(blocks, values) };
    }

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn unpack_in_256_bits<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], values: &mut [f32]) {
        // SAFETY: who calls says so.
        unsafe { unpack::<In256, BYTES, F>(blocks, values) };
    }

    /// scale · (code − zero) + shift, rounded twice as [`super::dequantize`] does.
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

    /// # Safety
    ///
    /// The processor must have the instructions of L.
    #[inline(always)]
    unsafe fn unpack<L: Lanes, const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], values: &mut [f32]) {
        let (blocks, _) = blocks.as_chunks::<BYTES>();
        for (block, values) in blocks.iter().zip(values.chunks_exact_mut(F::VALUES)) {
            let Scales { scales, shifts } = F::scales::<InRegisters>(block);
            for (index, values) in values.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
                let codes = F::codes::<InRegisters>(block, index).bytes();
                let mut at = 0;
                while at < CHUNK {
                    let group = (index * CHUNK + at) / F::GROUP;
                    // SAFETY: whole registers of a chunk, and who calls says so.
                    unsafe {
                        let code = L::widened(codes.as_ptr().add(at));
                        let value = value::<L, BYTES, F>(code, L::floats(scales[group]), L::floats(shifts[group]));
                        L::store(values.as_mut_ptr().add(at), value);
                    }
                    at += L::LANES;
                }
            }
        }
    }

    /// W outputs in the order in which they are multiplied, `[values][outputs]`.
    type Slab<const W: usize> = [Aligned<[f32; W]>];

    /// Unpacks so many blocks of every row, from `first` on.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L, and W outputs are V registers.
    #[inline(always)]
    unsafe fn fill<'a, L: Lanes, const V: usize, const W: usize, const BYTES: usize, F: Packed<BYTES>>(
        slab: &'a mut [MaybeUninit<Aligned<[f32; W]>>],
        rows: &mut Rows<'_, W, BYTES>,
        first: usize,
        count: usize,
    ) -> &'a Slab<W> {
        let slab = &mut slab[..count * F::VALUES];
        for (block, slab) in slab.chunks_exact_mut(F::VALUES).enumerate() {
            rows.read_scales::<F>(first + block);
            for (index, slab) in slab.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
                rows.read_codes::<F>(first + block, index);
                for v in 0..V {
                    // SAFETY: V registers of W lanes each, and who calls says so.
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
        // SAFETY: all lanes of all values were written.
        unsafe { slab.assume_init_ref() }
    }

    /// A slab with all rows of x, of which it has the values from `first` on: `with_tiles(slab, x, input, first, y, column)`.
    type WithTiles<const W: usize> = unsafe fn(&Slab<W>, &[f32], usize, usize, &mut Columns<'_, f32>, usize);

    /// # Safety
    ///
    /// The processor must have the instructions of L, and W outputs are V registers.
    #[inline(always)]
    unsafe fn by_slabs<L: Lanes, const V: usize, const W: usize, const BYTES: usize, F: Packed<BYTES>>(
        blocks: &[u8],
        x: &[f32],
        y: &mut Columns<'_, f32>,
        with_tiles: WithTiles<W>,
    ) {
        let outputs = y.range().len();
        if outputs == 0 || blocks.is_empty() {
            return;
        }
        let of_row = blocks.len() / outputs / BYTES;
        let at_once = of_row.min(DEPTH / F::VALUES);
        let mut slab = Vec::with_capacity(at_once * F::VALUES);
        for (index, blocks) in blocks.chunks(W * of_row * BYTES).enumerate() {
            let mut rows = Rows::<W, BYTES>::of(blocks, of_row);
            let mut first = 0;
            while first < of_row {
                let count = at_once.min(of_row - first);
                // SAFETY: who calls says so.
                unsafe {
                    let slab = fill::<L, V, W, BYTES, F>(slab.spare_capacity_mut(), &mut rows, first, count);
                    with_tiles(slab, x, of_row * F::VALUES, first * F::VALUES, y, index * W);
                }
                first += count;
            }
        }
    }

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    unsafe fn with_tiles_in_512_bits(
        slab: &Slab<64>,
        x: &[f32],
        input: usize,
        first: usize,
        y: &mut Columns<'_, f32>,
        column: usize,
    ) {
        // SAFETY: who calls says so.
        unsafe { by_tiles::<In512, 4, 64>(slab, x, input, first, y, column) };
    }

    /// # Safety
    ///
    /// The processor must have the features.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn with_tiles_in_256_bits(
        slab: &Slab<16>,
        x: &[f32],
        input: usize,
        first: usize,
        y: &mut Columns<'_, f32>,
        column: usize,
    ) {
        // SAFETY: who calls says so.
        unsafe { by_tiles::<In256, 2, 16>(slab, x, input, first, y, column) };
    }

    /// # Safety
    ///
    /// The processor must have the instructions of L, and W outputs are V registers.
    #[inline(always)]
    unsafe fn by_tiles<L: Lanes, const V: usize, const W: usize>(
        slab: &Slab<W>,
        x: &[f32],
        input: usize,
        first: usize,
        y: &mut Columns<'_, f32>,
        column: usize,
    ) {
        for (index, x) in x.chunks(ROWS * input).enumerate() {
            let (row, x) = (index * ROWS, &x[first..]);
            // SAFETY: who calls says so.
            unsafe {
                match x.len().div_ceil(input) {
                    1 => tile::<L, 1, V, W>(slab, x, input, first > 0, y, row, column),
                    2 => tile::<L, 2, V, W>(slab, x, input, first > 0, y, row, column),
                    3 => tile::<L, 3, V, W>(slab, x, input, first > 0, y, row, column),
                    4 => tile::<L, 4, V, W>(slab, x, input, first > 0, y, row, column),
                    5 => tile::<L, 5, V, W>(slab, x, input, first > 0, y, row, column),
                    _ => tile::<L, ROWS, V, W>(slab, x, input, first > 0, y, row, column),
                }
            }
        }
    }

    /// M rows of x, `input` values apart, with a slab, added to what is there or not.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L, and W outputs are V registers.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize, const V: usize, const W: usize>(
        slab: &Slab<W>,
        x: &[f32],
        input: usize,
        goes_on: bool,
        y: &mut Columns<'_, f32>,
        row: usize,
        column: usize,
    ) {
        assert!(x.len() >= (M - 1) * input + slab.len(), "rows of a tile");
        let mut values = [Aligned([0.0; W]); M];
        let width = W.min(y.range().len() - column);
        if goes_on {
            for m in 0..M {
                values[m].0[..width].copy_from_slice(&y.row(row + m)[column..][..width]);
            }
        }
        // SAFETY: registers of W lanes are V, x has the values of M rows, and who calls says so.
        unsafe {
            let mut sums = [[L::floats(0.0); V]; M];
            for m in 0..M {
                for v in 0..V {
                    sums[m][v] = L::load(values[m].0.as_ptr().add(v * L::LANES));
                }
            }
            for (at, weight) in slab.iter().enumerate() {
                let mut weights = [L::floats(0.0); V];
                for v in 0..V {
                    weights[v] = L::load(weight.0.as_ptr().add(v * L::LANES));
                }
                for m in 0..M {
                    let x = L::floats(*x.get_unchecked(m * input + at));
                    for v in 0..V {
                        sums[m][v] = L::mul_add(weights[v], x, sums[m][v]);
                    }
                }
            }
            for m in 0..M {
                for v in 0..V {
                    L::store(values[m].0.as_mut_ptr().add(v * L::LANES), sums[m][v]);
                }
            }
        }
        for m in 0..M {
            y.row(row + m)[column..][..width].copy_from_slice(&values[m].0[..width]);
        }
    }
}
