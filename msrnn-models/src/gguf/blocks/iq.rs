//! Blocks whose values name levels of a table.

use super::{half, legacy};

/// Levels that lie closer together near zero.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// x = d · level of q
pub(super) fn iq4_nl(block: &[u8], values: &mut [f32]) {
    let d = half(block);
    legacy::nibbles(&block[2..18], |i, q| values[i] = d * f32::from(LEVELS[usize::from(q)]));
}
