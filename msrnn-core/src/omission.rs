//! Which row goes: the one with the lowest score, on equal scores the oldest.

use burn::tensor::{Int, IntDType, Tensor};

/// Slot of the row to omit, `[batch, groups, 1]`.
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

/// Slots of the `keep` rows that are left after the row with the lowest score, on equal scores the
/// oldest, was omitted again and again. Ascending. Slots are in chronological order.
pub(crate) fn survivors(scores: &[f64], keep: usize) -> Vec<usize> {
    let mut slots: Vec<usize> = (0..scores.len()).collect();
    // Stable: among equal scores the older stay in front, where they are cut off.
    slots.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut kept = slots.split_off(scores.len().saturating_sub(keep));
    kept.sort_unstable();
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

    #[test]
    fn survivors_are_what_repeated_omission_leaves() {
        assert_eq!(survivors(&[1.0, 0.5, 1.0, 0.5, 9.0], 3), [0, 2, 4]);
        assert_eq!(survivors(&[1.0, 1.0, 1.0], 2), [1, 2]);
        assert_eq!(survivors(&[f64::INFINITY, -1.0], 5), [0, 1]);
    }
}
