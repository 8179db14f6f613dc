//! The rows of a head in the accumulation dtype, a few at a time.

use pulp::Arch;

use super::number::Stored;
use super::tile::{At, Tile};

/// Bytes of rows that are widened at once: with as much again of what they are read from, they stay in a core's nearest cache.
pub(crate) const WIDENED: usize = 16 << 10;

/// Bytes of rows, as numbers, that are taken at once where they are multiplied as they are held.
pub(crate) const AS_HELD: usize = 128 << 10;

/// Rows that are read at once.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// How many rows there are in all, and so many weights of each query.
    pub(crate) stride: usize,
    /// Numbers of a row.
    pub(crate) d: usize,
}

/// Parts of so many rows of d numbers of T, of so many bytes each.
pub(crate) fn parts<T>(rows: usize, d: usize, bytes: usize) -> impl Iterator<Item = Part> {
    // A multiple of what products take at once.
    let most = (bytes / size_of::<T>() / d.max(1) / 8 * 8).max(8);
    (0..rows).step_by(most).map(move |first| Part { first, n: most.min(rows - first), stride: rows, d })
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

/// The rows of one head by slot. There are many forms to hold them: so nothing more is compiled for each than what reads it.
pub(crate) trait Rows<T: Tile> {
    /// Bytes of them, as numbers, that are best taken at once.
    fn at_once(&self) -> usize {
        WIDENED
    }

    /// `n` of them, `[n, head_dim]`.
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T];

    /// Their products with queries, as [`Tile::products`].
    fn products(&self, arch: Arch, query: &[T], part: Part, weights: &mut [T], scratch: &mut Scratch<T>) {
        let Part { first, n, stride, d } = part;
        T::products(arch, query, self.read(first, n, scratch), d, weights, At { stride, first });
    }

    /// Their sums by weights, as [`Tile::add_weighted`].
    fn add_weighted(&self, arch: Arch, weights: &[T], part: Part, sums: &mut [T], scratch: &mut Scratch<T>) {
        let Part { first, n, stride, d } = part;
        T::add_weighted(arch, weights, At { stride, first }, self.read(first, n, scratch), d, sums);
    }
}

/// Rows in the dtype of the state.
pub(crate) struct Whole<'a, S> {
    /// `[slots, d]`
    pub(crate) rows: &'a [S],
    pub(crate) d: usize,
}

impl<T: Tile, S: Stored<T>> Rows<T> for Whole<'_, S> {
    fn at_once(&self) -> usize {
        if size_of::<S>() == size_of::<T>() { AS_HELD } else { WIDENED }
    }

    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T] {
        S::widened(&self.rows[first * self.d..(first + n) * self.d], &mut scratch.rows)
    }
}
