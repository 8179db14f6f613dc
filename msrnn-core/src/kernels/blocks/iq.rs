//! Blocks whose values name levels of a table.

use super::{Codes, Packed, Scales, Unpacks};

/// Levels that lie closer together near zero, 128 above what they stand for.
const LEVELS: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// x = d · level of q
pub(crate) struct Iq4Nl;

impl Packed<18> for Iq4Nl {
    const VALUES: usize = 32;
    const HALVES: &'static [usize] = &[0];
    const ZERO: u8 = 128;

    #[inline(always)]
    fn codes<U: Unpacks>(block: &[u8; 18], _: usize) -> Codes {
        U::levels(Codes::nibbles(&block[2..]), &LEVELS)
    }

    #[inline(always)]
    fn scales<U: Unpacks>(block: &[u8; 18]) -> Scales {
        let [d, _] = U::halves(u32::from_le_bytes(super::array(block)));
        Scales::one(d, 0.0)
    }
}
