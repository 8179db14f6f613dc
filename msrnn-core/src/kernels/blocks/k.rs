//! Blocks of 256 values in groups of 16 or 32, each with a scale, and in some formats a least value, of few bits,
//! which a scale of the whole block, a half float, spreads out.

use super::codes::each;
use super::{Codes, Packed, Scales, Unpacks};

/// x = d · s · q − m · l, of 2 bits, in 16 groups. Scale and least value of a group share a byte.
pub(crate) struct Q2K;
/// x = d · (s − 32) · (q − 4), of 3 bits, in 16 groups. The third bits lie apart: 256 of them in 32 bytes.
pub(crate) struct Q3K;
/// x = d · s · q − m · l, of 4 bits, in 8 groups.
pub(crate) struct Q4K;
/// As [`Q4K`], of 5 bits. The fifth bits lie apart.
pub(crate) struct Q5K;
/// x = d · s · (q − 32), of 6 bits, in 16 groups. The upper two bits lie apart.
pub(crate) struct Q6K;

impl Packed<84> for Q2K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[80, 82];
    const GROUP: usize = 16;
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 84], index: usize) -> Codes {
        two_bits(&block[16..80], index)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 84]) -> Scales {
        let words = [word(&block[..]), word(&block[8..])];
        let [scales, least] =
            [[words[0] & each(15), words[1] & each(15)], [words[0] >> 4 & each(15), words[1] >> 4 & each(15)]];
        Scales::sixteen::<U>(U::halves(half_word(&block[80..])), scales, 0.0, least)
    }
}

impl Packed<110> for Q3K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[108];
    const GROUP: usize = 16;
    const ZERO: u8 = 4;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 110], index: usize) -> Codes {
        two_bits(&block[32..96], index).with(Codes::of(&block[..]).bits(index, 1), 2)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 110]) -> Scales {
        let (low, high) = (word(&block[96..]), u64::from(half_word(&block[104..])));
        let [_, d] = U::halves(half_word(&block[106..]));
        // Four bits of a scale are in the first eight bytes, two in the last four.
        let above = |first: usize| (high >> first | high >> (first + 2) << 32) & each(3);
        let scales = [low & each(15) | above(0) << 4, low >> 4 & each(15) | above(4) << 4];
        Scales::sixteen::<U>([d, 0.0], scales, 32.0, [0; 2])
    }
}

impl Packed<144> for Q4K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 144], index: usize) -> Codes {
        four_bits(&block[16..], index)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 144]) -> Scales {
        six_bits::<U>(block)
    }
}

impl Packed<176> for Q5K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 176], index: usize) -> Codes {
        four_bits(&block[48..], index).with(Codes::of(&block[16..]).bits(index, 1), 4)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 176]) -> Scales {
        six_bits::<U>(block)
    }
}

impl Packed<210> for Q6K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[208];
    const GROUP: usize = 16;
    const ZERO: u8 = 32;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 210], index: usize) -> Codes {
        // Two halves of 128 values, in four rows of 32.
        let (side, row) = (index / 4, index % 4);
        let (low, high) = (Codes::of(&block[side * 64 + row % 2 * 32..]), Codes::of(&block[128 + side * 32..]));
        low.bits(row / 2 * 4, 4).with(high.bits(row * 2, 2), 4)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 210]) -> Scales {
        // Numbers with their signs, 128 above.
        let scales = [word(&block[192..]) ^ each(128), word(&block[200..]) ^ each(128)];
        let [_, d] = U::halves(half_word(&block[206..]));
        Scales::sixteen::<U>([d, 0.0], scales, 128.0, [0; 2])
    }
}

/// A chunk of two bits: two halves of 128 values, in four rows of 32, which are the two bits of 32 bytes.
#[inline(always)]
fn two_bits(qs: &[u8], index: usize) -> Codes {
    let (side, row) = (index / 4, index % 4);
    Codes::of(&qs[side * 32..]).bits(row * 2, 2)
}

/// A chunk of four bits: chunks in pairs, which are the low and the high halves of 32 bytes.
#[inline(always)]
fn four_bits(qs: &[u8], index: usize) -> Codes {
    Codes::of(&qs[index / 2 * 32..]).bits(index % 2 * 4, 4)
}

/// Scales and least values of six bits each, those of a block in 12 bytes: of the first four groups the lower bits of eight
/// bytes, of the others the halves of four bytes, with the two bits that are left in the first eight.
#[inline(always)]
fn six_bits<U: Unpacks>(block: &[u8]) -> Scales {
    let [first, second, third] = [half_word(&block[4..]), half_word(&block[8..]), half_word(&block[12..])];
    let (low, upper) = (0x3f3f_3f3f, 0x0303_0303);
    let scales = [first & low, third & 0x0f0f_0f0f | (first >> 6 & upper) << 4];
    let least = [second & low, third >> 4 & 0x0f0f_0f0f | (second >> 6 & upper) << 4];
    let both = |words: [u32; 2]| u64::from(words[0]) | u64::from(words[1]) << 32;
    Scales::eight::<U>(U::halves(half_word(block)), both(scales), both(least))
}

/// Eight bytes.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(super::array(bytes))
}

/// Four bytes.
#[inline(always)]
fn half_word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(super::array(bytes))
}
