//! Scores as data: a policy's rule written once, from which every road is derived.
//!
//! A [`Score`] is an expression over what is known of a row. It is compiled for a layer and its k to a
//! [`Program`], a list of operations on columns of numbers, which the host runs column by column, burn's tensors
//! operation by operation, and a GPU's kernel unrolled. That the three agree is tested once, over random
//! expressions, and not for every policy.

mod expr;
mod host;
mod print;
mod program;
mod random;
mod tensors;

pub use expr::{
    Binary, Channel, Expr, Input, Score, Unary, age, head, key_norm, logit, max_weight, number, position, random,
    remembered, value_norm, weight,
};
pub(crate) use host::{Columns, Registers};
pub use program::Program;
pub(crate) use program::{Initial, Op};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) use random::RANDOM;
pub use tensors::InTensors;
