//! How long a text may get: what counts are the positions in use.

use msrnn_core::state::MultiState;

use crate::error::ModelError;
use crate::placement::LONGEST_GAP;
use crate::recurrent::Positions;
use crate::rotary::Rotary;

/// A text that is to go through a state.
///
/// ```
/// use msrnn_models::length::Length;
/// use msrnn_models::recurrent::Positions;
///
/// let stream = Length { tokens: 1 << 30, block: 0, states: Some(1024), positions: Positions::InState };
/// assert_eq!(stream.in_use(), 1025);
/// assert!(stream.check().is_ok());
/// assert!(Length { positions: Positions::Original, ..stream }.check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Tokens, all together.
    pub tokens: usize,
    /// How many of the first of them enter as one block; see [`Protocol::block`](crate::protocol::Protocol::block).
    pub block: usize,
    /// The state's bound, if it has one.
    pub states: Option<usize>,
    /// How positions are numbered.
    pub positions: Positions,
}

impl Length {
    /// Positions in use: one more than the highest that a row or a query may have.
    ///
    /// Original positions go on with the text. Rows that are numbered within the state are at most k + 1 at a
    /// time, or as many as a block has; between two of them compression leaves a gap of 14 at most.
    pub fn in_use(&self) -> usize {
        let block = self.block.min(self.tokens);
        let Some(states) = self.states else { return self.tokens };
        let rows = states.saturating_add(1);
        let in_use = match self.positions {
            Positions::Original => self.tokens,
            Positions::GapCompressed => rows.saturating_mul(LONGEST_GAP).saturating_add(1),
            Positions::InState => rows,
        };
        self.tokens.min(in_use.max(block))
    }

    /// Whether there are positions for all of it.
    ///
    /// # Errors
    ///
    /// When positions in use go beyond [`Rotary::LIMIT`], or tokens beyond [`MultiState::MOST_TOKENS`].
    pub fn check(&self) -> Result<(), ModelError> {
        let (tokens, in_use) = (self.tokens, self.in_use());
        match () {
            () if tokens > MultiState::MOST_TOKENS => Err(ModelError::TooManyTokens(tokens)),
            () if in_use > Rotary::LIMIT => Err(ModelError::TooLong { tokens, in_use }),
            () => Ok(()),
        }
    }

    /// What is to be said where positions in use go beyond those that a model was trained on. `what` is so
    /// long, such as `a context`.
    pub fn beyond(&self, what: &str, trained: usize) -> Option<String> {
        let (tokens, in_use) = (self.tokens, self.in_use());
        (in_use > trained).then(|| match in_use == tokens {
            true => format!("{what} of {tokens} tokens is beyond the model's {trained} positions"),
            false => format!("{what} of {tokens} tokens comes to {in_use} positions, beyond the model's {trained}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(tokens: usize, block: usize, states: Option<usize>, positions: Positions) -> Length {
        Length { tokens, block, states, positions }
    }

    #[test]
    fn positions_in_use_are_those_of_the_rows_where_rows_are_numbered() {
        use Positions::{GapCompressed, InState, Original};
        let in_use = |tokens, block, states, positions| length(tokens, block, states, positions).in_use();
        assert_eq!(in_use(1000, 0, Some(8), Original), 1000);
        assert_eq!(in_use(1000, 0, Some(8), InState), 9);
        assert_eq!(in_use(1000, 0, Some(8), GapCompressed), 127);
        // Fewer tokens than that, a block of more, and a state that holds all.
        assert_eq!(in_use(5, 0, Some(8), InState), 5);
        assert_eq!(in_use(100, 0, Some(8), GapCompressed), 100);
        assert_eq!(in_use(1000, 200, Some(8), InState), 200);
        assert_eq!(in_use(1000, usize::MAX, Some(8), GapCompressed), 1000);
        for positions in [Original, InState, GapCompressed] {
            assert_eq!(in_use(1000, 0, None, positions), 1000);
        }
    }

    #[test]
    fn an_endless_stream_is_no_longer_than_its_rows() {
        let stream = length(1 << 30, 0, Some(512), Positions::InState);
        assert!(stream.check().is_ok());
        assert_eq!(stream.beyond("a stream", 1024), None);
        assert!(stream.beyond("a stream", 512).is_some_and(|said| said.contains("513 positions")));
        assert!(Length { positions: Positions::GapCompressed, ..stream }.check().is_ok());
        let original = Length { positions: Positions::Original, ..stream };
        assert!(original.check().unwrap_err().to_string().contains("in-state"));
        assert!(original.beyond("a stream", 1024).is_some());
        // An unbounded state numbers as many rows as there are tokens.
        assert!(Length { states: None, ..stream }.check().is_err());
        assert!(Length { tokens: Rotary::LIMIT, ..original }.check().is_ok());
        assert!(Length { tokens: Rotary::LIMIT + 1, ..original }.check().is_err());
    }

    #[test]
    fn a_state_counts_as_far_as_32_bits_go() {
        let most = length(MultiState::MOST_TOKENS, 0, Some(512), Positions::InState);
        assert!(most.check().is_ok());
        let more = Length { tokens: most.tokens + 1, ..most };
        assert!(more.check().unwrap_err().to_string().contains("2147483647"));
    }
}
