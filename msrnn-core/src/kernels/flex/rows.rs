//! The rows of a head in the accumulation dtype, a few at a time.

use super::number::Stored;

/// Bytes of rows that are read at once: with as much again of what they are read from, they stay in a core's nearest cache.
const AT_ONCE: usize = 16 << 10;

/// Rows of so many numbers of T that are read at once.
pub(super) const fn at_once<T>(d: usize) -> usize {
    let rows = AT_ONCE / size_of::<T>() / if d == 0 { 1 } else { d };
    // A multiple of what products take at once.
    if rows < 8 { 8 } else { rows / 8 * 8 }
}

/// What rows that are held otherwise are widened or unpacked into.
pub(super) struct Scratch<T> {
    pub(super) rows: Vec<T>,
    /// Of packed rows.
    pub(super) scales: Vec<T>,
    pub(super) lows: Vec<T>,
}

impl<T> Scratch<T> {
    pub(super) const fn new() -> Self {
        Self { rows: Vec::new(), scales: Vec::new(), lows: Vec::new() }
    }
}

/// The rows of one head by slot.
pub(super) trait Rows<T> {
    /// `n` of them, `[n, head_dim]`.
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T];
}

/// Rows in the dtype of the state.
pub(super) struct Whole<'a, S> {
    /// `[slots, d]`
    pub(super) rows: &'a [S],
    pub(super) d: usize,
}

impl<T, S: Stored<T>> Rows<T> for Whole<'_, S> {
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T] {
        S::widened(&self.rows[first * self.d..(first + n) * self.d], &mut scratch.rows)
    }
}
