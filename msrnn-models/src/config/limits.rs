//! Sizes beyond which a configuration is refused before anything is made from it. They are far above those of any
//! model there is, and low enough that no product of them overflows.

use crate::rotary::Rotary;

/// Of `num_hidden_layers`.
pub(super) const LAYERS: usize = 1 << 14;
/// Of `num_attention_heads` and `num_key_value_heads`.
pub(super) const HEADS: usize = 1 << 14;
/// Of `head_dim`: the tables of the rotary embedding have 17,408 rows of it.
pub(super) const HEAD_DIM: usize = 1 << 12;
/// Of `hidden_size` and `intermediate_size`.
pub(super) const WIDTH: usize = 1 << 20;
/// Of `vocab_size`.
pub(super) const VOCABULARY: usize = 1 << 24;
/// Of contexts.
pub(super) const CONTEXT: usize = Rotary::LIMIT;
/// Of the number of trained values.
pub(super) const PARAMETERS: u128 = 100_000_000_000_000;
/// Of θ.
pub(super) const THETA: f64 = 1e15;
