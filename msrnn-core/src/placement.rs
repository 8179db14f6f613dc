//! Positions numbered anew: by what is held instead of by what was seen.

use std::fmt::Debug;

use burn::tensor::{Int, Tensor};

/// Numbers the held rows anew at every step, and puts query and keys in these places.
///
/// Normally keys are rotated by their original position before they enter the state. A placement
/// instead sees raw queries and keys at every step and rotates them by numbers of its own. Distances are
/// then those of the numbers: they are what a model's sliding window looks at.
pub trait Placement: Debug + Send + Sync {
    /// The numbers in use of rows, by their original positions, −1 in empty slots; both
    /// `[batch, groups, rows]`. The newest row, to which the query belongs, must have the highest; what an
    /// empty slot gets does not matter, but it must not be above that.
    fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int>;

    /// Rotates one query, which has the highest number, and all keys.
    ///
    /// query: `[batch, heads, 1, head_dim]`; keys: `[batch, kv_heads, rows, head_dim]`; numbers:
    /// `[batch, kv_heads, rows]`.
    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, numbers: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>);
}
