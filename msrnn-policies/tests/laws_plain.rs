//! The laws again, computed with burn's operations only.

#[path = "laws.rs"]
mod laws;
