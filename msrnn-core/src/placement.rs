//! Positions numbered anew: by what is held instead of by what was seen.

use std::fmt::Debug;

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// How the positions of held rows are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// The number of tokens seen before. The paper's normal runs, and the default.
    #[default]
    Original,
    /// Gaps between neighbouring held rows compressed; for texts far beyond the trained context.
    GapCompressed,
    /// Rows counted within the state, whatever the gaps, as StreamingLLM does.
    InState,
}

impl std::fmt::Display for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Positions::Original => "original",
            Positions::GapCompressed => "gap-compressed",
            Positions::InState => "in-state",
        })
    }
}

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

    /// Whether rows of which none has gone, from the first token on, have their positions as numbers: then the first tokens
    /// of a text are attended as a block.
    fn numbers_as_they_come(&self) -> bool {
        false
    }

    /// Whether what a query makes of a key depends on the difference of their numbers alone, and neighbours in the text that are
    /// both held differ by one: then tokens of a state of which always the oldest goes are attended as a block.
    fn is_relative(&self) -> bool {
        false
    }

    /// [`Placement::number`] of the rows of one decision, in the host's memory: what kernels of the host need of a
    /// placement. None where it is not known there; then steps are taken in tensor operations.
    fn number_on_host(&self, _positions: &[i64]) -> Option<Vec<i64>> {
        None
    }

    /// Cosines and sines by number, `[numbers, head_dim/2]` each, of at least the numbers below that one: what
    /// [`Placement::rotate`] turns channel i of query and keys by, against channel i + head_dim/2. None where nothing
    /// is rotated. Asked only of a placement that numbers rows on the host.
    fn angles(&self, _numbers: usize) -> Option<[Tensor<2>; 2]> {
        None
    }

    /// Rotates one query, which has the highest number, and all keys.
    ///
    /// query: `[batch, heads, 1, head_dim]`; keys: `[batch, kv_heads, rows, head_dim]`; numbers:
    /// `[batch, kv_heads, rows]`.
    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, numbers: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>);
}
