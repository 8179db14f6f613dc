//! The row that goes is merged into the one that is most like it, where it lies. The plain twin is `merging.rs`.

use pulp::Arch;

use crate::kernels::flex::number::{Index, Stored, load_all};
use crate::kernels::flex::rows::{Part, Rows, Scratch, Whole, parts};
use crate::kernels::flex::tile::{At, Tile};
use crate::merging::{Merging, Threshold, Weight, equal};
use crate::simd::{Real, wide};

/// The row of one head that is most like the one in a slot, and the cosine of the two, which may be no number.
/// keys: `[slots, head_dim]`; positions: of the slots that may hold rows.
pub(super) fn nearest<T: Tile, S: Stored<T>, I: Index>(
    slot: usize,
    keys: &[S],
    positions: &[I],
    d: usize,
) -> Option<(usize, f64)> {
    let mut key = vec![T::ZERO; d];
    load_all(&keys[slot * d..][..d], &mut key);
    let (mut products, mut squares) = (vec![T::ZERO; positions.len()], vec![0.0; positions.len()]);
    multiply(&key, &Whole { rows: keys, d }, d, &mut products, &mut squares);
    let norm = |row: usize| squares[row].sqrt().max(1e-12);
    let others = positions.iter().enumerate().filter(|(row, position)| *row != slot && position.get() >= 0);
    let cosines: Vec<(usize, i64, f64)> = others
        .map(|(row, position)| (row, position.get(), products[row].to_f64() / (norm(slot) * norm(row))))
        .collect();
    if let Some(&(row, _, cosine)) = cosines.iter().find(|(_, _, cosine)| cosine.is_nan()) {
        return Some((row, cosine));
    }
    let highest = cosines.iter().map(|&(_, _, cosine)| cosine).fold(f64::NEG_INFINITY, f64::max);
    let least = highest - equal(T::dtype());
    let nearest = cosines.into_iter().filter(|&(_, _, cosine)| cosine >= least);
    nearest.min_by_key(|&(_, position, _)| position).map(|(row, _, cosine)| (row, cosine))
}

/// Which heads of one batch row merge, by the cosines of the rows that go: below a threshold, which moves, nothing is merged.
pub(super) fn merges<T: Real>(merging: &Merging, cosines: &[f64], threshold: Option<&mut T>) -> Vec<bool> {
    match (merging.threshold, threshold) {
        (Threshold::Moving(share), Some(threshold)) => {
            // As it is kept, so that equal means are equal.
            let mean = T::from_f64(cosines.iter().sum::<f64>() / cosines.len() as f64);
            *threshold = T::from_f64(Threshold::moved(threshold.to_f64(), mean.to_f64(), share));
            let least = *threshold - T::from_f64(equal(T::dtype()));
            vec![mean >= least; cosines.len()]
        }
        (Threshold::Moving(_), None) => unreachable!("a state has the numbers of its thresholds"),
        (Threshold::Fixed(least), _) => {
            let least = least - equal(T::dtype());
            cosines.iter().map(|&cosine| cosine >= least).collect()
        }
    }
}

/// Merges the row in a slot of one head into its partner. rows: keys or values, `[slots, head_dim]`.
pub(super) fn merge<T: Real, S: Stored<T>>(
    weight: Weight,
    slot: usize,
    (partner, cosine): (usize, f64),
    rows: &mut [S],
    d: usize,
) {
    let [share, count] = weight.of(cosine);
    let (share, part) = (T::from_f64(share), T::from_f64(1.0 / (1.0 + count)));
    for channel in 0..d {
        let own: T = rows[partner * d + channel].load();
        let other: T = rows[slot * d + channel].load();
        rows[partner * d + channel] = S::store((own + other * share) * part);
    }
}

/// Products of a key with all rows, and of each row with itself.
fn multiply<T: Tile>(key: &[T], keys: &dyn Rows<T>, d: usize, products: &mut [T], squares: &mut [f64]) {
    let (arch, rows) = (Arch::new(), products.len());
    let mut scratch = Scratch::new();
    for Part { first, n, .. } in parts::<T>(rows, d, keys.at_once()) {
        let keys = keys.read(first, n, &mut scratch);
        T::products(arch, key, keys, d, products, At { stride: rows, first });
        wide(
            #[inline(always)]
            || {
                for (square, key) in squares[first..first + n].iter_mut().zip(keys.chunks_exact(d)) {
                    *square = sum_of_squares(key);
                }
            },
        );
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
