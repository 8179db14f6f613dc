//! Blocks whose values name levels of a table.

use super::{CHUNK, Packed, Scales, half, legacy};

/// Levels that lie closer together near zero, 128 above what they stand for.
const LEVELS: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// x = d · level of q
pub(crate) struct Iq4Nl;

impl Packed<18> for Iq4Nl {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 128;

    #[inline(always)]
    fn codes(block: &[u8; 18], _: usize) -> [u8; CHUNK] {
        legacy::nibbles(&block[2..]).map(|q| LEVELS[usize::from(q)])
    }

    #[inline(always)]
    fn scales(block: &[u8; 18]) -> Scales {
        Scales::one(half(block), 0.0)
    }
}
