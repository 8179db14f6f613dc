//! The compression policies, one file each, and their registry.
//!
//! | policy | file | omits |
//! |---|---|---|
//! | `window`, `window+i` | [`Window`] | the oldest row (but the first i) |
//! | `h2o`, `h2o-layer` | [`H2o`] | the lowest accumulated attention outside the recent half |
//! | `tova`, `tova-head`, `tova+i` | [`Tova`] | the lowest attention of the current query |
//! | `random` | [`Random`] | any row |
//!
//! To add one: write a file like [`tova.rs`](Tova), put its entries into
//! [`registry::entries`], add a hand-worked case to `testdata/policies/`, and put it through
//! `msrnn_core::laws` as the tests of this crate do. A policy outside this crate needs none of
//! that: any [`Policy`](msrnn_core::policy::Policy) can be run.

mod error;
mod h2o;
mod random;
pub mod registry;
mod spec;
mod tova;
mod window;

pub use error::SpecError;
pub use h2o::H2o;
pub use random::Random;
pub use spec::PolicySpec;
pub use tova::Tova;
pub use window::Window;
