//! One row of activations, as it is or in 8 bits, with rows of weights in blocks, whose codes are multiplied in registers.
//!
//! Chunks are taken in pairs, which fill the widest registers.

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ptr;

use super::integers::Rounded;
use super::{LINE, ask_for, wide};
use crate::kernels::blocks::{self, CHUNK, Codes, Packed, Scales, Unpacks};

/// Lanes of a chunk of integers, in each of which four products are added up.
const LANES: usize = CHUNK / 4;

/// The first lanes of what the first and the last 16 codes of a chunk make.
const FIRST: [usize; 2] = [0, LANES / 2];

/// One row of activations.
pub(super) enum Row {
    /// As they are.
    Floats(Vec<Pair<Floats>>),
    /// In 8 bits.
    Integers(Vec<Pair<Integers>>),
}

/// Two chunks; the second is zeros behind the last of an odd number.
#[derive(Clone, Default)]
#[repr(align(64))]
pub(super) struct Pair<X> {
    x: X,
    /// In [`FIRST`] lanes: of the first and the last 16 activations of each chunk.
    sums: [[f32; LANES]; 2],
}

#[derive(Clone, Default)]
#[repr(align(64))]
pub(super) struct Floats([[f32; CHUNK]; 2]);

/// In lanes.
#[derive(Clone, Default)]
#[repr(align(64))]
pub(super) struct Integers {
    codes: [[i8; CHUNK]; 2],
    /// Where sums of products begin, since codes are multiplied before a zero is subtracted from them: −zero · Σ x.
    starts: [[i32; LANES]; 2],
    /// The chunk's.
    scales: [[f32; LANES]; 2],
}

impl Row {
    /// As they are. `x`: whole chunks.
    pub(super) fn floats(x: &[f32]) -> Self {
        let (chunks, _) = x.as_chunks::<CHUNK>();
        let pairs = chunks.chunks(2).map(|chunks| {
            let mut pair = Pair::<Floats>::default();
            for (at, chunk) in chunks.iter().enumerate() {
                pair.x.0[at] = *chunk;
                for (lane, half) in FIRST.into_iter().zip(chunk.chunks(CHUNK / 2)) {
                    pair.sums[at][lane] = half.iter().sum();
                }
            }
            pair
        });
        Self::Floats(pairs.collect())
    }

    /// In 8 bits, for weights of a format with that zero. `x`: whole chunks.
    pub(super) fn rounded(x: &[f32], zero: u8) -> Self {
        let Rounded { chunks } = Rounded::of(x);
        let pairs = chunks.chunks(2).map(|chunks| {
            let mut pair = Pair::<Integers>::default();
            for (at, chunk) in chunks.iter().enumerate() {
                (pair.x.codes[at], pair.x.scales[at]) = (chunk.codes, [chunk.scale; LANES]);
                for (half, lane) in FIRST.into_iter().enumerate() {
                    pair.x.starts[at][lane] = -i32::from(zero) * chunk.counts[half];
                    pair.sums[at][lane] = chunk.sums[half];
                }
            }
            pair
        });
        Self::Integers(pairs.collect())
    }
}

/// Blocks of rows, a row of activations, and products. Safe where the processor has the instructions, as it has those of what
/// is found here.
pub(super) type Products = unsafe fn(&[u8], &Row, &mut [f32]);

/// By every kind of instructions for it that the processor has, the fastest first.
pub(super) fn kinds<const BYTES: usize, F: Packed<BYTES>>() -> impl Iterator<Item = (&'static str, Products)> {
    #[cfg(target_arch = "aarch64")]
    return arm::kinds::<BYTES, F>();
    #[cfg(target_arch = "x86_64")]
    return x86::kinds::<BYTES, F>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::iter::empty()
}

/// Products of a row with rows in blocks, by the fastest instructions that the processor has.
pub(super) fn products<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Row, y: &mut [f32]) {
    match kinds::<BYTES, F>().next() {
        // SAFETY: the processor has the instructions.
        Some((_, products)) => unsafe { products(blocks, x, y) },
        None => plain::<BYTES, F>(blocks, x, y),
    }
}

/// As [`products`], in instructions that every processor has.
pub(super) fn plain<const BYTES: usize, F: Packed<BYTES>>(blocks: &[u8], x: &Row, y: &mut [f32]) {
    wide(
        #[inline(always)]
        || match x {
            Row::Floats(x) => rows::<BYTES, F, Plain, _>(blocks, x, y),
            Row::Integers(x) => rows::<BYTES, F, Plain, _>(blocks, x, y),
        },
    );
}

/// Numbers of two chunks, for the first and the last 16 values of each; the same for both where `ALIKE`.
#[derive(Clone, Copy)]
struct OfPair<const ALIKE: bool>([[f32; 2]; 2]);

/// Two chunks of a weight: scale · (code − zero) + shift.
struct Chunks<const ALIKE: bool> {
    codes: [Codes; 2],
    zero: u8,
    scales: OfPair<ALIKE>,
    shifts: Option<OfPair<ALIKE>>,
}

/// Sums in registers.
trait Sums: Copy {
    type Unpacks: Unpacks;

    fn zero() -> Self;

    fn total(self) -> f32;
}

/// Sums over pairs of chunks of products with x.
trait Adds<X>: Sums {
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<X>) -> Self;
}

/// Rows in blocks with one x.
#[inline(always)]
fn rows<const BYTES: usize, F: Packed<BYTES>, S: Adds<X>, X>(blocks: &[u8], x: &[Pair<X>], y: &mut [f32]) {
    let (blocks, _) = blocks.as_chunks::<BYTES>();
    for (blocks, y) in blocks.chunks_exact((blocks.len() / y.len().max(1)).max(1)).zip(y) {
        let mut sum = S::zero();
        if F::VALUES == CHUNK {
            let (pairs, last) = blocks.as_chunks::<2>();
            for (blocks, x) in pairs.iter().zip(x) {
                ask_ahead(blocks);
                let (first, second) = (F::scales::<S::Unpacks>(&blocks[0]), F::scales::<S::Unpacks>(&blocks[1]));
                let codes = [F::codes::<S::Unpacks>(&blocks[0], 0), F::codes::<S::Unpacks>(&blocks[1], 0)];
                sum = pair::<BYTES, F, S, X>(sum, codes, (&first, 0), (&second, 0), x);
            }
            if let ([block], Some(x)) = (last, x.last()) {
                let (scales, none) = (F::scales::<S::Unpacks>(block), Scales::one(0.0, 0.0));
                let codes = [F::codes::<S::Unpacks>(block, 0), Codes([0; CHUNK / 8])];
                sum = pair::<BYTES, F, S, X>(sum, codes, (&scales, 0), (&none, 0), x);
            }
        } else {
            for (block, x) in blocks.iter().zip(x.chunks_exact(F::VALUES / CHUNK / 2)) {
                ask_ahead(block);
                let scales = F::scales::<S::Unpacks>(block);
                for (at, x) in x.iter().enumerate() {
                    let (first, second) = (2 * at, 2 * at + 1);
                    let codes = [F::codes::<S::Unpacks>(block, first), F::codes::<S::Unpacks>(block, second)];
                    sum = pair::<BYTES, F, S, X>(sum, codes, (&scales, first), (&scales, second), x);
                }
            }
        }
        *y = sum.total();
    }
}

/// Asks for memory that lies so far behind blocks: rows are read in order, and what a processor asks for by itself ends with a
/// page.
#[inline(always)]
fn ask_ahead<B>(blocks: &B) {
    const AHEAD: usize = 4096;
    let ahead = ptr::from_ref(blocks).cast::<u8>().wrapping_add(AHEAD);
    for line in (0..size_of::<B>()).step_by(LINE) {
        ask_for(ahead.wrapping_add(line));
    }
}

/// With the codes of a pair; of each chunk the scales of its block, and its number there.
#[inline(always)]
fn pair<const BYTES: usize, F: Packed<BYTES>, S: Adds<X>, X>(
    sum: S,
    codes: [Codes; 2],
    first: (&Scales, usize),
    second: (&Scales, usize),
    x: &Pair<X>,
) -> S {
    let (mut scales, mut shifts) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
    // No closures: they would not be compiled for the registers of who calls.
    for (at, (of_block, chunk)) in [first, second].into_iter().enumerate() {
        for half in 0..2 {
            let group = (chunk * CHUNK + half * CHUNK / 2) / F::GROUP;
            (scales[at][half], shifts[at][half]) = (of_block.scales[group], of_block.shifts[group]);
        }
    }
    if F::GROUP < CHUNK {
        let shifts = if F::SHIFTED { Some(OfPair::<false>(shifts)) } else { None };
        sum.add(&Chunks { codes, zero: F::ZERO, scales: OfPair(scales), shifts }, x)
    } else {
        let shifts = if F::SHIFTED { Some(OfPair::<true>(shifts)) } else { None };
        sum.add(&Chunks { codes, zero: F::ZERO, scales: OfPair(scales), shifts }, x)
    }
}

/// In numbers of Rust: sums of products, and of shifts.
#[derive(Clone, Copy)]
struct Plain([f32; 2]);

impl Sums for Plain {
    type Unpacks = blocks::Plain;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 2])
    }

    #[inline(always)]
    fn total(self) -> f32 {
        self.0[0] + self.0[1]
    }
}

impl Plain {
    /// `product`: of the codes of a half of a chunk, without their zero, with those of x, by chunk and half.
    #[inline(always)]
    fn with<X, const ALIKE: bool>(
        self,
        weight: &Chunks<ALIKE>,
        x: &Pair<X>,
        product: impl Fn(&[u8; CHUNK / 2], usize, usize) -> f32,
    ) -> Self {
        let Self([mut products, mut shifts]) = self;
        for at in 0..2 {
            let codes = weight.codes[at].bytes();
            for (half, codes) in codes.as_chunks::<{ CHUNK / 2 }>().0.iter().enumerate() {
                products += weight.scales.0[at][half] * product(codes, at, half);
                if let Some(of_pair) = weight.shifts {
                    shifts += of_pair.0[at][half] * x.sums[at][FIRST[half]];
                }
            }
        }
        Self([products, shifts])
    }
}

impl Adds<Floats> for Plain {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Floats>) -> Self {
        self.with(
            weight,
            x,
            #[inline(always)]
            |codes, at, half| {
                let (x, mut lanes) = (&x.x.0[at][half * CHUNK / 2..], [0.0; LANES]);
                for (codes, x) in codes.as_chunks::<LANES>().0.iter().zip(x.as_chunks::<LANES>().0) {
                    for lane in 0..LANES {
                        lanes[lane] += f32::from(codes[lane].wrapping_sub(weight.zero).cast_signed()) * x[lane];
                    }
                }
                lanes.iter().sum()
            },
        )
    }
}

impl Adds<Integers> for Plain {
    #[inline(always)]
    fn add<const ALIKE: bool>(self, weight: &Chunks<ALIKE>, x: &Pair<Integers>) -> Self {
        let zero = weight.zero;
        let each = |(code, x): (&u8, &i8)| i32::from(i16::from(code.wrapping_sub(zero).cast_signed()) * i16::from(*x));
        self.with(
            weight,
            x,
            #[inline(always)]
            |codes, at, half| {
                let count: i32 = codes.iter().zip(&x.x.codes[at][half * CHUNK / 2..]).map(each).sum();
                count as f32 * x.x.scales[at][0]
            },
        )
    }
}
