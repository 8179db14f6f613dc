//! core
pub mod precision;
pub mod vanilla;
/// e
#[derive(Debug, thiserror::Error)]
pub enum Error {}
