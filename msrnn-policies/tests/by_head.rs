//! A score is told which head it is of, on every road and wherever a head is held.

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::attention::Attention;
use msrnn_policies::registry;

/// Of the second head the newest row goes, of the others the oldest.
const RULE: &str = "score(if(head == 1, age, -age); per head)";

/// Positions held by the heads of both batch rows after ten tokens, in blocks of so many.
fn held(policy: &str, block: usize) -> Vec<Vec<Vec<i64>>> {
    let compression = registry::compression(policy, 3).expect(policy);
    let attention = Attention { heads: 3, kv_heads: 3, head_dim: 2, scale: 1.0, window: None, placement: None };
    let device = Device::default();
    let mut state = attention.initial_state(2, 0, 1, &compression, DType::F32, &device);
    for first in (0..10).step_by(block) {
        let tokens = || Tensor::<4>::random([2, 3, block.min(10 - first), 2], Distribution::Default, &device);
        attention.scan(tokens(), tokens(), tokens(), &mut state);
    }
    state.held()
}

#[test]
fn a_score_differs_by_head_on_every_road() {
    let (newest, oldest) = (vec![7, 8, 9], vec![0, 1, 2]);
    let expected = vec![vec![newest.clone(), oldest.clone(), newest.clone()]; 2];
    for block in [1, 4, 10] {
        assert_eq!(held(RULE, block), expected, "in blocks of {block}");
        assert_eq!(held(&format!("merge({RULE})"), block), expected, "whose rows are merged, in blocks of {block}");
    }
    assert_eq!(held(&format!("every(7, {RULE})"), 4), expected, "once for all");
}

#[test]
fn a_head_with_a_plan_of_its_own_keeps_its_index() {
    let all: Vec<i64> = (0..10).collect();
    let by_heads = format!("heads(0: full, *: {RULE})");
    for block in [1, 4] {
        let expected = vec![vec![all.clone(), vec![0, 1, 2], vec![7, 8, 9]]; 2];
        assert_eq!(held(&by_heads, block), expected, "in blocks of {block}");
    }
}

#[test]
fn heads_that_compete_keep_their_index_after_they_were_parted() {
    // No row of the last head is worth less than one of another, so it holds more than all of them may on average.
    for row in held("pooled(every(2, score(head; per head)), floor=0)", 3) {
        let rows: Vec<usize> = row.iter().map(Vec::len).collect();
        assert!(rows[2] >= 9 && rows[0] <= 2 && rows[1] <= 2, "{rows:?}");
    }
}
