//! The goldens again, computed with burn's operations only.

#[path = "goldens.rs"]
mod goldens;
