//! The rows of a head in the accumulation dtype, a few at a time.

use super::number::Stored;

/// Bytes of rows that are read at once: with as much again of what they are read from, they stay in a core's nearest cache.
const AT_ONCE: usize = 16 << 10;

/// Parts of so many rows of d numbers of T that are read at once: the first of each, and how many it has.
pub(crate) fn parts<T>(rows: usize, d: usize) -> impl Iterator<Item = (usize, usize)> {
    // A multiple of what products take at once.
    let most = (AT_ONCE / size_of::<T>() / d.max(1) / 8 * 8).max(8);
    (0..rows).step_by(most).map(move |first| (first, most.min(rows - first)))
}

/// What rows that are held otherwise are widened or unpacked into.
pub(crate) struct Scratch<T> {
    pub(crate) rows: Vec<T>,
    /// What rows that are rotated become.
    pub(crate) rotated: Vec<T>,
    /// Of packed rows.
    pub(crate) scales: Vec<T>,
    pub(crate) lows: Vec<T>,
}

impl<T> Scratch<T> {
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new(), rotated: Vec::new(), scales: Vec::new(), lows: Vec::new() }
    }
}

/// The rows of one head by slot.
pub(crate) trait Rows<T> {
    /// `n` of them, `[n, head_dim]`.
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T];
}

/// Rows in the dtype of the state.
pub(crate) struct Whole<'a, S> {
    /// `[slots, d]`
    pub(crate) rows: &'a [S],
    pub(crate) d: usize,
}

impl<T, S: Stored<T>> Rows<T> for Whole<'_, S> {
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T] {
        S::widened(&self.rows[first * self.d..(first + n) * self.d], &mut scratch.rows)
    }
}
