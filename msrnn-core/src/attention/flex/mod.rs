//! Steps and blocks in the memory of burn's CPU backend.

mod block;
mod decide;
mod merge;
mod numbered;
mod step;

#[cfg(test)]
mod tests;

pub(super) use block::{block, takes_block};
pub(super) use step::{step, step_heads, steps};
