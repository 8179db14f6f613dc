//! Products of many rows of activations in 8 bits with weights in blocks, as integers: every lane of a register adds up the
//! products of four neighbours at once.
//!
//! Sums over the values that share a scale are exact. They are added up group by group, whatever rows are multiplied
//! together, so that a row's result does not depend on the rows beside it.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod registers;

use super::integers::Rounded;
use super::product::Columns;
use crate::kernels::blocks::Packed;

/// `y = x · weightᵀ`: blocks of the rows of the weight that y's columns are, x and y. Safe where the processor has the
/// instructions, as it has those of what is found here.
pub(super) type Product = unsafe fn(&[u8], &Rounded, &mut Columns<'_, f32>);

/// By every kind of instructions for it that the processor has, the fastest first.
pub(super) fn products<const BYTES: usize, F: Packed<BYTES>>() -> impl Iterator<Item = (&'static str, Product)> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return registers::products::<BYTES, F>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::iter::empty()
}

/// Whether there are any.
pub(super) fn are_here() -> bool {
    products::<34, crate::kernels::blocks::Q8_0>().next().is_some()
}
