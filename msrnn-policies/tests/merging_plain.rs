//! `merging.rs` by the plain twins of the kernels.

#[path = "merging.rs"]
mod merging;
