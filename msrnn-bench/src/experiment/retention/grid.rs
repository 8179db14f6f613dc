//! Steps and positions, thinned for maps.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A context cut into equally long spans of positions, the last one shorter. The last step of each
/// span is the one that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grid {
    /// Tokens of the longest context.
    pub context: usize,
    /// Positions of a span.
    pub stride: usize,
}

impl Grid {
    /// Spans of a context, at most `cells` of them.
    pub(crate) fn new(context: usize, cells: usize) -> Self {
        Self { context, stride: context.div_ceil(cells.max(1)).max(1) }
    }

    /// Number of spans that a context of `tokens` fills.
    pub(crate) fn spans(self, tokens: usize) -> usize {
        tokens.div_ceil(self.stride)
    }

    /// Positions of a span in a context of `tokens`.
    pub(crate) fn span(self, index: usize, tokens: usize) -> Range<usize> {
        index * self.stride..((index + 1) * self.stride).min(tokens)
    }

    /// The step at which a span is looked at.
    pub(crate) fn step(self, index: usize, tokens: usize) -> usize {
        self.span(index, tokens).end - 1
    }

    /// The span of a position.
    pub(crate) fn of(self, position: usize) -> usize {
        position / self.stride
    }

    /// Coordinates of the spans: their first positions.
    pub(crate) fn positions(self) -> Vec<f64> {
        (0..self.spans(self.context)).map(|index| self.span(index, self.context).start as f64).collect()
    }

    /// Coordinates of the steps.
    pub(crate) fn steps(self) -> Vec<f64> {
        (0..self.spans(self.context)).map(|index| self.step(index, self.context) as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_a_context_once() {
        for (context, cells) in [(10, 3), (7, 7), (5, 100), (1024, 128), (1000, 256)] {
            let grid = Grid::new(context, cells);
            let spans = grid.spans(context);
            assert!(spans <= cells);
            let all: Vec<usize> = (0..spans).flat_map(|index| grid.span(index, context)).collect();
            assert_eq!(all, (0..context).collect::<Vec<_>>());
            assert_eq!(grid.step(spans - 1, context), context - 1);
            assert!((0..context).all(|position| grid.span(grid.of(position), context).contains(&position)));
        }
        assert_eq!(Grid::new(10, 3).steps(), [3.0, 7.0, 9.0]);
        assert_eq!(Grid::new(10, 3).positions(), [0.0, 4.0, 8.0]);
    }
}
