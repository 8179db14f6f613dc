//! Products in f32, and weights in blocks as floats.
//!
//! Some outputs at a time are put into the order in which they are multiplied, a lane each, once for all rows of
//! activations, which are read where they lie; what is in blocks is unpacked on the way. A product is added up value by
//! value, whatever rows are multiplied together.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod registers;

use super::product::{Columns, Rows};
use crate::kernels::blocks::Packed;

/// `y = factor · x · rows`, x of `[rows of y, k]`. Safe where the processor has the registers, as those found here are.
pub(super) type Product = unsafe fn(&mut Columns<'_, f32>, &[f32], Rows<'_, f32>, f32);

/// `y = x · weightᵀ`, x of `[rows, in]`: blocks of the rows of the weight that y's columns are, x and y. Safe as above.
pub(super) type ProductWithBlocks = unsafe fn(&[u8], &[f32], &mut Columns<'_, f32>);

/// By every kind of registers that the processor has, the widest first.
pub(super) fn products() -> impl Iterator<Item = (&'static str, Product)> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return registers::products();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::iter::empty()
}

/// Likewise.
pub(super) fn products_with_blocks<const BYTES: usize, F: Packed<BYTES>>()
-> impl Iterator<Item = (&'static str, ProductWithBlocks)> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return registers::products_with_blocks::<BYTES, F>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::iter::empty()
}
