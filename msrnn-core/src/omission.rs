//! Which row goes: one that no later query sees, else the one with the lowest score; of several the oldest.
//!
//! A model with a sliding window hides what is a window or more before the query. By original positions
//! a row only falls back, so that from some step on it is *dead*: no later query sees it, and to hold it in
//! place of one that can be seen is a loss under every policy. A state of window − 1 rows or more holds all
//! that the model's own attention sees. Where rows are numbered anew they come nearer as others go, and
//! the policy decides alone.

use burn::tensor::{Bool, Int, IntDType, Tensor};

use crate::tensors::View;

/// Gives rows that never go a score of +∞: those of the first tokens and the newest ones.
#[inline]
pub(crate) fn protect(scores: &mut [f64], positions: &[i64], now: i64, [first, newest]: [usize; 2]) {
    if first + newest == 0 {
        return;
    }
    let (first, oldest) = (first as i64, now - newest as i64);
    for (score, &position) in scores.iter_mut().zip(positions) {
        *score = if position < first || position > oldest { f64::INFINITY } else { *score };
    }
}

/// Whether no query after that of `now` sees a row: the next one does not, since its position is at least
/// `window` further on.
pub(crate) fn is_dead(position: i64, now: i64, window: i64) -> bool {
    now + 1 - position >= window
}

/// The oldest of some rows on the host, if it is dead; given by index and position. None without a window.
pub(crate) fn oldest_dead(
    rows: impl IntoIterator<Item = (usize, i64)>,
    now: i64,
    window: Option<i64>,
) -> Option<usize> {
    let window = window?;
    let (index, position) = rows.into_iter().min_by_key(|&(_, position)| position)?;
    is_dead(position, now, window).then_some(index)
}

/// The same of tensors.
pub(crate) fn protected(scores: Tensor<3>, view: &View, [first, newest]: [usize; 2]) -> Tensor<3> {
    let protect = |scores: Tensor<3>, n: usize, of: &dyn Fn() -> Tensor<3, Bool>| match n {
        0 => scores,
        _ => scores.mask_fill(of(), f32::INFINITY),
    };
    let scores = protect(scores, first, &|| view.first(first));
    protect(scores, newest, &|| view.newest(newest))
}

/// Slot of the row to omit, `[batch, groups, 1]`, by the scores that the policy gave the rows of a view.
pub(crate) fn omitted(scores: Tensor<3>, view: &View) -> Tensor<3, Int> {
    let scores = match view.dead() {
        Some(dead) => scores.mask_fill(dead, f32::NEG_INFINITY),
        None => scores,
    };
    lowest(scores, view.positions())
}

/// Slot of the row with the lowest score, `[batch, groups, 1]`.
///
/// scores, positions: `[batch, groups, rows]`. Empty slots must score +∞ where another row scores
/// less; in a full state there are none.
pub fn lowest(scores: Tensor<3>, positions: Tensor<3, Int>) -> Tensor<3, Int> {
    let dims = scores.dims();
    let higher = scores.clone().greater(scores.min_dim(2).expand(dims));
    // Backends differ in the integer type of an argmin.
    let int: IntDType = positions.dtype().into();
    positions.mask_fill(higher, i32::MAX).argmin(2).cast(int)
}

/// Slots of the `keep` rows that are left after rows were omitted again and again: dead ones, then the one
/// with the lowest score, on equal scores the oldest. Ascending. Of slots in chronological order.
pub(crate) fn survivors(scores: &[f64], positions: &[i64], now: i64, keep: usize, window: Option<i64>) -> Vec<usize> {
    let score = |slot: usize| match window {
        Some(window) if is_dead(positions[slot], now, window) => f64::NEG_INFINITY,
        // A zero may have a sign, and is equal to the other zero all the same.
        _ => scores[slot] + 0.0,
    };
    let mut slots: Vec<usize> = (0..scores.len()).collect();
    // Stable: among equal scores the older stay in front, where they are cut off.
    slots.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
    let mut kept = slots.split_off(scores.len().saturating_sub(keep));
    kept.sort_unstable();
    kept
}

/// The same where the heads of a layer compete: per head the slots of those rows that are among the best `keep` of
/// all, or among the best `safe` of their head. On equal scores the oldest goes, then the one of the lower head.
pub(crate) fn pooled_survivors(
    scores: &[Vec<f64>],
    positions: &[Vec<i64>],
    now: i64,
    (keep, safe): (usize, usize),
    window: Option<i64>,
) -> Vec<Vec<usize>> {
    let mut kept: Vec<Vec<usize>> = scores
        .iter()
        .zip(positions)
        .map(|(scores, positions)| survivors(scores, positions, now, safe, window))
        .collect();
    let mut others: Vec<(f64, i64, usize, usize)> = Vec::new();
    for (head, (scores, positions)) in scores.iter().zip(positions).enumerate() {
        for (slot, (&score, &position)) in scores.iter().zip(positions).enumerate() {
            if kept[head].binary_search(&slot).is_err() {
                let dead = window.is_some_and(|window| is_dead(position, now, window));
                others.push((if dead { f64::NEG_INFINITY } else { score + 0.0 }, position, head, slot));
            }
        }
    }
    others.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    let room = keep.saturating_sub(kept.iter().map(Vec::len).sum());
    others.into_iter().take(room).for_each(|(_, _, head, slot)| kept[head].push(slot));
    kept.iter_mut().for_each(|slots| slots.sort_unstable());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn slot(scores: [f64; 4], positions: [i64; 4]) -> i64 {
        let device = Device::flex();
        let scores = Tensor::<3>::from_data([[scores]], &device);
        let positions = Tensor::<3, Int>::from_data([[positions]], &device);
        lowest(scores, positions).into_data().convert::<i64>().as_slice::<i64>().unwrap()[0]
    }

    #[test]
    fn the_lowest_score_goes() {
        assert_eq!(slot([3.0, 1.0, 2.0, f64::INFINITY], [7, 8, 5, 6]), 1);
    }

    #[test]
    fn on_equal_scores_the_oldest_goes_wherever_its_slot_is() {
        assert_eq!(slot([1.0, 1.0, 2.0, 1.0], [9, 8, 5, 6]), 3);
        assert_eq!(slot([0.0; 4], [9, 2, 5, 6]), 1);
    }

    /// Survivors among rows whose slot is their position.
    fn survive(scores: &[f64], keep: usize, window: Option<i64>) -> Vec<usize> {
        let positions: Vec<i64> = (0..scores.len() as i64).collect();
        survivors(scores, &positions, scores.len() as i64 - 1, keep, window)
    }

    #[test]
    fn survivors_are_what_repeated_omission_leaves() {
        assert_eq!(survive(&[1.0, 0.5, 1.0, 0.5, 9.0], 3, None), [0, 2, 4]);
        assert_eq!(survive(&[1.0, 1.0, 1.0], 2, None), [1, 2]);
        assert_eq!(survive(&[f64::INFINITY, -1.0], 5, None), [0, 1]);
    }

    #[test]
    fn of_the_survivors_those_that_the_next_query_sees_come_first() {
        // The next query is that of position 5, and sees positions 3 and 4 beside its own.
        let scores = [f64::INFINITY, 9.0, 8.0, 0.5, 0.25];
        assert_eq!(survive(&scores, 1, Some(3)), [3]);
        assert_eq!(survive(&scores, 2, Some(3)), [3, 4]);
        assert_eq!(survive(&scores, 3, Some(3)), [2, 3, 4]);
        assert_eq!(survive(&scores, 2, Some(6)), [0, 1]);
        assert_eq!(survive(&scores, 2, Some(5)), [1, 2]);
    }

    #[test]
    fn heads_that_compete_keep_the_best_of_all_and_some_of_each() {
        let positions = vec![vec![0, 1, 2]; 2];
        let keep = |scores: [[f64; 3]; 2], keep, safe| {
            pooled_survivors(&scores.map(Vec::from), &positions, 2, (keep, safe), None)
        };
        assert_eq!(keep([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]], 4, 0), [vec![0, 1, 2], vec![2]]);
        assert_eq!(keep([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]], 4, 2), [vec![0, 1], vec![1, 2]]);
        // Of equal ones the oldest goes, and of these that of the lower head.
        assert_eq!(keep([[5.0; 3], [5.0; 3]], 3, 0), [vec![2], vec![1, 2]]);
    }

    #[test]
    fn the_first_and_the_newest_are_protected() {
        let mut scores = [1.0; 6];
        protect(&mut scores, &[0, 3, 4, 7, 8, 9], 9, [2, 2]);
        let infinite: Vec<usize> = (0..6).filter(|&row| scores[row] == f64::INFINITY).collect();
        assert_eq!(infinite, [0, 4, 5]);
    }

    #[test]
    fn a_row_is_dead_once_the_next_query_does_not_see_it() {
        // A window of 3 shows the query of 5 positions 3, 4 and 5.
        assert!(is_dead(2, 4, 3) && !is_dead(3, 4, 3));
        // With a window of 1 even the current row is dead.
        assert!(is_dead(4, 4, 1));
        let rows = [(7, 5), (8, 2), (9, 3)];
        assert_eq!(oldest_dead(rows, 5, Some(4)), Some(8));
        assert_eq!(oldest_dead(rows, 5, Some(5)), None);
        assert_eq!(oldest_dead(rows, 5, None), None);
    }
}
