//! Blocks of 32 values with one scale, and in the `_1` formats a least value, as half floats.
//!
//! A block is scale, least value, fifth bits, and values, as far as the format has them. Of 4 bits the first 16 values
//! are the low halves of the bytes, the others the high halves.

use burn::tensor::f16;

use super::{CHUNK, Packed, Scales, half};

/// x = d · (q − 8)
pub(crate) struct Q4_0;
/// x = d · q + m
pub(crate) struct Q4_1;
/// x = d · (q − 16)
pub(crate) struct Q5_0;
/// x = d · q + m
pub(crate) struct Q5_1;
/// x = d · q, with q from −128 on
pub(crate) struct Q8_0;

impl Packed<18> for Q4_0 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 8;

    #[inline(always)]
    fn codes(block: &[u8; 18], _: usize) -> [u8; CHUNK] {
        nibbles(&block[2..])
    }

    #[inline(always)]
    fn scales(block: &[u8; 18]) -> Scales {
        Scales::one(half(block), 0.0)
    }
}

impl Packed<20> for Q4_1 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes(block: &[u8; 20], _: usize) -> [u8; CHUNK] {
        nibbles(&block[4..])
    }

    #[inline(always)]
    fn scales(block: &[u8; 20]) -> Scales {
        Scales::one(half(block), half(&block[2..]))
    }
}

impl Packed<22> for Q5_0 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 16;

    #[inline(always)]
    fn codes(block: &[u8; 22], _: usize) -> [u8; CHUNK] {
        fives(&block[2..])
    }

    #[inline(always)]
    fn scales(block: &[u8; 22]) -> Scales {
        Scales::one(half(block), 0.0)
    }
}

impl Packed<24> for Q5_1 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes(block: &[u8; 24], _: usize) -> [u8; CHUNK] {
        fives(&block[4..])
    }

    #[inline(always)]
    fn scales(block: &[u8; 24]) -> Scales {
        Scales::one(half(block), half(&block[2..]))
    }
}

impl Packed<34> for Q8_0 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 128;

    #[inline(always)]
    fn codes(block: &[u8; 34], _: usize) -> [u8; CHUNK] {
        let mut codes = [0; CHUNK];
        codes.iter_mut().zip(&block[2..]).for_each(|(code, byte)| *code = byte ^ 128);
        codes
    }

    #[inline(always)]
    fn scales(block: &[u8; 34]) -> Scales {
        Scales::one(half(block), 0.0)
    }
}

/// 32 values as a block of Q8_0: the largest magnitude is 127, halves are rounded away from zero.
pub(super) fn to_q8_0(values: &[f32]) -> [u8; 34] {
    let d = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, value) in block[2..].iter_mut().zip(values) {
        *q = ((value * inverse).round() as i8).cast_unsigned();
    }
    block
}

/// The 32 codes that 16 bytes begin with.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8]) -> [u8; CHUNK] {
    let mut codes = [0; CHUNK];
    let (low, high) = codes.split_at_mut(CHUNK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
    codes
}

/// The same with a fifth bit each, which stand before them.
#[inline(always)]
fn fives(bytes: &[u8]) -> [u8; CHUNK] {
    let fifths = u32::from_le_bytes(super::array(bytes));
    let mut codes = nibbles(&bytes[4..]);
    codes.iter_mut().enumerate().for_each(|(i, code)| *code |= ((fifths >> i & 1) as u8) << 4);
    codes
}
