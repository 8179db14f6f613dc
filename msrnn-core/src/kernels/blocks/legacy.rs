//! Blocks of 32 values with one scale, and in the `_1` formats a least value, as half floats.
//!
//! A block is scale, least value, fifth bits, and values, as far as the format has them. Of 4 bits the first 16 values
//! are the low halves of the bytes, the others the high halves.

use burn::tensor::f16;

use super::{Codes, Packed, Scales, Unpacks};

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
    fn codes<U: Unpacks>(block: &[u8; 18], _: usize) -> Codes {
        Codes::nibbles(&block[2..])
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 18]) -> Scales {
        let [d, _] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, 0.0)
    }
}

impl Packed<20> for Q4_1 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 20], _: usize) -> Codes {
        Codes::nibbles(&block[4..])
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 20]) -> Scales {
        let [d, m] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, m)
    }
}

impl Packed<22> for Q5_0 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 16;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 22], _: usize) -> Codes {
        fives::<U>(&block[2..])
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 22]) -> Scales {
        let [d, _] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, 0.0)
    }
}

impl Packed<24> for Q5_1 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 24], _: usize) -> Codes {
        fives::<U>(&block[4..])
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 24]) -> Scales {
        let [d, m] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, m)
    }
}

impl Packed<34> for Q8_0 {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 128;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 34], _: usize) -> Codes {
        Codes::of(&block[2..]).flipped(128)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 34]) -> Scales {
        let [d, _] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, 0.0)
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

/// Codes with a fifth bit each, which stand before the others.
#[inline(always)]
fn fives<U: Unpacks>(bytes: &[u8]) -> Codes {
    Codes::nibbles(&bytes[4..]).with(U::bits(u32::from_le_bytes(super::array(bytes))), 4)
}
