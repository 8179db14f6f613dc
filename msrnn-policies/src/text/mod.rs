//! Policies as text: what is read, and where it cannot be.
//!
//! A parser by recursive descent over characters. What nests is counted, so that no text can exhaust the stack.

mod arguments;
mod compose;
mod cursor;
mod elsewhere;
mod expression;
mod list;
mod packed;
mod place;
mod policy;
mod score;

pub use arguments::Arguments;
pub use list::{split, without_budget};
pub use place::Place;
pub(crate) use policy::{Parsed, RESERVED, entry_of, is_name, parse};
