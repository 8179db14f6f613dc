//! Transformers are multi-state RNNs: the abstract step, the state, and the policy contract.
//!
//! A decoder layer is a step x', H' = f(x, H) whose state H is a matrix of key/value rows (Oren et
//! al. 2024, arXiv 2401.06104). Left to grow it is the vanilla transformer; bounded to k rows by a
//! policy that omits one row per step it is an RNN, in constant memory and time per token.
//!
//! From the ground up, each knowing only what stands above it in this list:
//!
//! - [`precision`]: accumulation in f32 or f64; [`kernels`]: what is done to every token by itself, with kernels of their
//!   own where the device has them
//! - a policy: [`budget`] (how many states, as a number, a share or bytes), [`packing`] (rows in 8, 4 or 2 bits), [`merging`]
//!   (what goes into what stays),
//!   [`score`] (a score as data, from which every road is derived), [`tensors`] (rules in tensor code), [`policy`] (what it
//!   is asked: its plan for a [`layer`]), [`needs`] (how many states it needs), [`compression`] (a policy with its budget),
//!   [`placement`] (rows numbered anew at every step)
//! - [`omission`]: which row goes; [`state`]: the multi-state of an attention layer, written in place; [`trouble`]: in which
//!   state numbers end
//! - [`attention`]: append, attend, omit; token by token, in blocks, or after a prefill
//! - [`rnn`]: the step itself, for transformers and plain RNNs alike; [`vanilla`]: causal attention as plain tensor code,
//!   which the laws compare with
//! - [`laws`] (feature `laws`): what every policy must satisfy, as properties
//!
//! This crate knows no model, does no I/O and names no backend: everything runs on the
//! [`Device`](burn::tensor::Device) that its inputs are on.

pub mod attention;
pub mod budget;
pub mod compression;
mod error;
pub mod kernels;
#[cfg(feature = "laws")]
pub mod laws;
pub mod layer;
pub mod merging;
pub mod needs;
pub mod omission;
pub mod packing;
pub mod placement;
pub mod policy;
pub mod precision;
pub mod rnn;
pub mod score;
mod simd;
pub mod state;
pub mod tensors;
pub mod trouble;
pub mod vanilla;

pub use error::Error;
