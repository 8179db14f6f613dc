//! Blocks of 256 values in groups of 16 or 32, each with a scale, and in some formats a least value, of few bits,
//! which a scale of the whole block, a half float, spreads out.

use super::{CHUNK, Packed, Scales, half};

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
    fn codes(block: &[u8; 84], index: usize) -> [u8; CHUNK] {
        two_bits(&block[16..80], index)
    }

    #[inline(always)]
    fn scales(block: &[u8; 84]) -> Scales {
        let (d, m) = (half(&block[80..]), half(&block[82..]));
        Scales::each(|group| d * f32::from(block[group] & 15), |group| -(m * f32::from(block[group] >> 4)), 16)
    }
}

impl Packed<110> for Q3K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[108];
    const GROUP: usize = 16;
    const ZERO: u8 = 4;

    #[inline(always)]
    fn codes(block: &[u8; 110], index: usize) -> [u8; CHUNK] {
        let mut codes = two_bits(&block[32..96], index);
        codes.iter_mut().zip(&block[..32]).for_each(|(code, third)| *code |= (third >> index & 1) << 2);
        codes
    }

    #[inline(always)]
    fn scales(block: &[u8; 110]) -> Scales {
        let (scales, d) = (&block[96..108], half(&block[108..]));
        let scale = |group: usize| {
            // Four bits of a scale are in the first eight bytes, two in the last four.
            let low = scales[group % 8] >> (group / 8 * 4) & 15;
            let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
            d * (f32::from(low | high << 4) - 32.0)
        };
        Scales::each(scale, |_| 0.0, 16)
    }
}

impl Packed<144> for Q4K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes(block: &[u8; 144], index: usize) -> [u8; CHUNK] {
        four_bits(&block[16..], index)
    }

    #[inline(always)]
    fn scales(block: &[u8; 144]) -> Scales {
        six_bits(block)
    }
}

impl Packed<176> for Q5K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[0, 2];
    const SHIFTED: bool = true;

    #[inline(always)]
    fn codes(block: &[u8; 176], index: usize) -> [u8; CHUNK] {
        let mut codes = four_bits(&block[48..], index);
        codes.iter_mut().zip(&block[16..48]).for_each(|(code, fifth)| *code |= (fifth >> index & 1) << 4);
        codes
    }

    #[inline(always)]
    fn scales(block: &[u8; 176]) -> Scales {
        six_bits(block)
    }
}

impl Packed<210> for Q6K {
    const VALUES: usize = 256;
    const HALVES: &'static [usize] = &[208];
    const GROUP: usize = 16;
    const ZERO: u8 = 32;

    #[inline(always)]
    fn codes(block: &[u8; 210], index: usize) -> [u8; CHUNK] {
        // Two halves of 128 values, in four rows of 32.
        let (side, row) = (index / 4, index % 4);
        let low = &block[side * 64 + row % 2 * 32..][..CHUNK];
        let high = &block[128 + side * 32..][..CHUNK];
        let mut codes = [0; CHUNK];
        for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
            *code = low >> (row / 2 * 4) & 15 | (high >> (row * 2) & 3) << 4;
        }
        codes
    }

    #[inline(always)]
    fn scales(block: &[u8; 210]) -> Scales {
        let d = half(&block[208..]);
        Scales::each(|group| d * f32::from(block[192 + group].cast_signed()), |_| 0.0, 16)
    }
}

/// A chunk of two bits: two halves of 128 values, in four rows of 32, which are the two bits of 32 bytes.
#[inline(always)]
fn two_bits(qs: &[u8], index: usize) -> [u8; CHUNK] {
    let (side, row) = (index / 4, index % 4);
    let mut codes = [0; CHUNK];
    let bytes = &qs[side * 32..][..CHUNK];
    codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte >> (row * 2) & 3);
    codes
}

/// A chunk of four bits: chunks in pairs, which are the low and the high halves of 32 bytes.
#[inline(always)]
fn four_bits(qs: &[u8], index: usize) -> [u8; CHUNK] {
    let mut codes = [0; CHUNK];
    let bytes = &qs[index / 2 * 32..][..CHUNK];
    codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte >> (index % 2 * 4) & 15);
    codes
}

/// Scales and least values of six bits each, those of a block in 12 bytes: of the first four groups the lower bits of eight
/// bytes, of the others the halves of four bytes, with the two bits that are left in the first eight.
#[inline(always)]
fn six_bits(block: &[u8]) -> Scales {
    let (d, m) = (half(block), half(&block[2..]));
    let word = |at: usize| u32::from_le_bytes(super::array(&block[at..]));
    let [first, second, third] = [word(4), word(8), word(12)];
    let (low, upper) = (0x3f3f_3f3f, 0x0303_0303);
    let scales = [first & low, third & 0x0f0f_0f0f | (first >> 6 & upper) << 4];
    let least = [second & low, third >> 4 & 0x0f0f_0f0f | (second >> 6 & upper) << 4];
    let of = |words: [u32; 2], group: usize| f32::from(words[group / 4].to_le_bytes()[group % 4]);
    Scales::each(|group| d * of(scales, group), |group| -(m * of(least, group)), 8)
}
