//! The row that goes is merged into the one that is most like it, where it lies. The plain twin is `merging.rs`.

use pulp::{Arch, Simd, WithSimd};

use crate::kernels::flex::number::{Index, Stored, load_all};
use crate::kernels::flex::rows::{Rows, Scratch, Whole, parts};
use crate::kernels::flex::tile::{At, Tile};
use crate::merging::Merging;

/// Merges the row in a slot of one head into another, if one is similar enough. keys, values: `[slots, head_dim]`;
/// positions: of the slots that may hold rows.
pub(super) fn merge<T: Tile, S: Stored<T>, I: Index>(
    merging: &Merging,
    slot: usize,
    [keys, values]: [&mut [S]; 2],
    positions: &[I],
    d: usize,
) {
    let mut key = vec![T::ZERO; d];
    load_all(&keys[slot * d..][..d], &mut key);
    let mut products = vec![T::ZERO; positions.len()];
    let mut squares = vec![0.0; positions.len()];
    Arch::new().dispatch(Products { key: &key, keys, d, products: &mut products, squares: &mut squares });
    let norm = |row: usize| squares[row].sqrt().max(1e-12);
    let mut partner: Option<(usize, f64)> = None;
    for (row, position) in positions.iter().enumerate().filter(|(row, position)| *row != slot && position.get() >= 0) {
        let cosine = products[row].to_f64() / (norm(slot) * norm(row));
        if cosine.is_nan() {
            return;
        }
        let is_nearer = partner.is_none_or(|(other, highest)| {
            cosine > highest || (cosine == highest && position.get() < positions[other].get())
        });
        if is_nearer {
            partner = Some((row, cosine));
        }
    }
    let Some((partner, cosine)) = partner.filter(|&(_, cosine)| cosine >= merging.threshold) else { return };
    let (share, half) = (T::from_f64(cosine), T::from_f64(0.5));
    for rows in [keys, values] {
        for channel in 0..d {
            let own: T = rows[partner * d + channel].load();
            let other: T = rows[slot * d + channel].load();
            rows[partner * d + channel] = S::store((own + other * share) * half);
        }
    }
}

/// Products of a key with all rows, and of each row with itself.
struct Products<'a, T, S> {
    key: &'a [T],
    keys: &'a [S],
    d: usize,
    products: &'a mut [T],
    squares: &'a mut [f64],
}

impl<T: Tile, S: Stored<T>> WithSimd for Products<'_, T, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, simd: V) {
        let Self { key, keys, d, products, squares } = self;
        let (rows, keys) = (products.len(), Whole { rows: keys, d });
        let mut scratch = Scratch::new();
        for (first, n) in parts::<T>(rows, d) {
            let keys = keys.read(first, n, &mut scratch);
            T::products(simd, key, keys, d, products, At { stride: rows, first });
            for (square, key) in squares[first..first + n].iter_mut().zip(keys.chunks_exact(d)) {
                *square = sum_of_squares(key);
            }
        }
    }
}

/// Eight sums side by side, which registers take.
#[inline(always)]
fn sum_of_squares<T: Tile>(x: &[T]) -> f64 {
    let (eights, rest) = x.as_chunks::<8>();
    let mut sums = [T::ZERO; 8];
    for eight in eights {
        for (sum, &x) in sums.iter_mut().zip(eight) {
            *sum += x * x;
        }
    }
    sums.iter().map(|sum| sum.to_f64()).sum::<f64>() + rest.iter().map(|&x| (x * x).to_f64()).sum::<f64>()
}
