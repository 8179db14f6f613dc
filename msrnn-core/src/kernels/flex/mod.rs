//! Kernels for burn's CPU backend.
//!
//! Loops are plain Rust over slices, compiled for the widest registers that the processor turns out
//! to have (`pulp`). What reads much memory is cut into parts for all cores of rayon's pool, or, while a
//! single token is computed, for threads that wait for them (`team.rs`); what reads little stays on one.

pub(crate) mod access;
mod blocks;
mod dot;
mod elementwise;
mod integers;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod lanes;
mod likelihood;
mod linear;
pub(crate) mod number;
mod pairs;
pub(crate) mod product;
mod quads;
mod row;
pub(crate) mod rows;
mod slabs;
pub(crate) mod team;
pub(crate) mod tile;
mod weight;

#[cfg(test)]
pub(crate) mod tests;

pub(super) use access::{is_narrow, takes};
pub(super) use elementwise::{rms_norm, rotate, swiglu, widen};
pub(super) use likelihood::log_likelihood;
pub(super) use linear::linear;

pub(crate) use crate::simd::wide;

/// Bytes of a line of memory.
pub(crate) const LINE: usize = 64;

/// Asks for a line of memory, which need not be there, where there is an instruction for it.
#[inline(always)]
pub(crate) fn ask_for(at: *const u8) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    lanes::ask_for(at);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Bytes that are worth handing to another core that is awake, and one that has to be woken.
const WORTH_A_CORE: [usize; 2] = [1 << 18, 1 << 22];

/// Whether reading `bytes` is worth more than one core.
pub(crate) fn is_worth_cores(bytes: usize) -> bool {
    let awake = rayon::current_thread_index().is_some();
    rayon::current_num_threads() > 1 && bytes >= if awake { WORTH_A_CORE[0] } else { WORTH_A_CORE[1] }
}
