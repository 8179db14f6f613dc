//! temporary
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) mod cube;
