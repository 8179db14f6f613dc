//! How many tokens a second a device makes with bounded states, at the largest batch that its memory
//! holds: table 1 of Oren et al. 2024 (arXiv 2401.06104).
//!
//! - [`plan`]: bytes of weights, states and work, and the batch that fits
//! - `shape`: a model by name or shape, with random weights made on the device
//! - `measure`: tokens per second; `published`: the paper's figures; `table`: both, as text
//! - `trial`: how long that takes

pub(crate) mod measure;
pub mod plan;
pub(crate) mod published;
pub(crate) mod shape;
pub(crate) mod table;
pub(crate) mod trial;
