//! Moving thresholds by hand, with keys whose cosines are −1, 0 or 1, so that what is equal is equal to the bit. Of a
//! window the oldest row goes; the values of the rows held tell what was merged into them.

use burn::tensor::{DType, Device, Tensor, TensorData};
use msrnn_core::attention::Attention;
use msrnn_core::state::MultiState;
use msrnn_policies::registry;

const UP: [f64; 2] = [0.0, 1.0];
const DOWN: [f64; 2] = [0.0, -1.0];
const RIGHT: [f64; 2] = [1.0, 0.0];
const LEFT: [f64; 2] = [-1.0, 0.0];

/// A layer of KV heads over rows whose value is one number.
struct Layer {
    attention: Attention,
    state: MultiState,
}

impl Layer {
    fn new(policy: &str, [batch, kv_heads]: [usize; 2]) -> Self {
        // `merging_plain.rs` includes this file.
        if module_path!().starts_with("merging_plain") {
            msrnn_core::kernels::only_plain();
        }
        let compression = registry::compression(policy, 2).expect(policy);
        let attention = Attention { heads: kv_heads, kv_heads, head_dim: 2, scale: 1.0, window: None, placement: None };
        let state = attention.initial_state(batch, 0, 1, &compression, DType::F64, &Device::default());
        Self { attention, state }
    }

    /// One token: of every batch row and head a key, and one value of all.
    fn step(&mut self, keys: &[[f64; 2]], value: f64) {
        let (batch, heads) = (keys.len() / self.attention.kv_heads, self.attention.kv_heads);
        let tensor = |rows: Vec<[f64; 2]>| {
            let data = TensorData::new(rows.concat(), [batch, heads, 2]);
            Tensor::<3>::from_data(data, (&Device::default(), DType::F64))
        };
        let values = vec![[value; 2]; keys.len()];
        self.attention.step(tensor(vec![[0.0; 2]; keys.len()]), tensor(keys.to_vec()), tensor(values), &mut self.state);
    }

    /// By batch row and head the values held, oldest first.
    fn values(&self) -> Vec<Vec<f64>> {
        let numbers = |data: TensorData| data.convert::<f64>().try_into_vec::<f64>().unwrap();
        let slots = self.state.slots();
        let values = numbers(self.state.values().into_data());
        let positions = numbers(self.state.positions().into_data());
        let heads = values.chunks(2 * slots).enumerate().map(|(index, values)| {
            let groups = positions.len() / slots;
            let heads = self.state.shape().batch * self.attention.kv_heads;
            let positions = &positions[index * groups / heads * slots..][..slots];
            let mut held: Vec<(f64, f64)> = positions
                .iter()
                .zip(values.chunks(2))
                .map(|(at, row)| (*at, row[0]))
                .filter(|(at, _)| *at >= 0.0)
                .collect();
            held.sort_by(|a, b| a.0.total_cmp(&b.0));
            held.into_iter().map(|(_, value)| value).collect()
        });
        heads.collect()
    }
}

#[test]
fn a_mean_that_equals_the_threshold_merges_and_of_rows_that_are_equally_near_the_oldest_takes_it_up() {
    let mut layer = Layer::new("merge(window, threshold=ema0.5)", [1, 1]);
    for (key, value, held) in [
        (RIGHT, 8.0, vec![8.0]),
        (RIGHT, 16.0, vec![8.0, 16.0]),
        // Both are as near: the threshold is 1, and the older takes 8 up.
        (RIGHT, 32.0, vec![12.0, 32.0]),
        // 1 again, which equals the threshold.
        (UP, 64.0, vec![22.0, 64.0]),
        // 0: the threshold is 0.5.
        (UP, 128.0, vec![64.0, 128.0]),
        // 1: 0.75.
        (UP, 256.0, vec![96.0, 256.0]),
        // 1: 0.875, into the nearest though it is the newest but one.
        (DOWN, 512.0, vec![176.0, 512.0]),
        // 0, to the newest, and 0.4375.
        (RIGHT, 1024.0, vec![512.0, 1024.0]),
    ] {
        layer.step(&[key], value);
        assert_eq!(layer.values(), [held], "after {value}");
    }
}

#[test]
fn a_threshold_that_moves_all_the_way_merges_all_and_one_that_stays_only_what_is_as_near_as_the_first() {
    let held = |threshold: &str| {
        let mut layer = Layer::new(&format!("merge(window, threshold={threshold})"), [1, 1]);
        let mut values = Vec::new();
        for step in 0..60 {
            // Of lengths and angles that no cosine is exact of.
            let (angle, length) = (f64::from(step * step) * 0.7, 1.0 + f64::from(step % 7) * 0.3);
            layer.step(&[[angle.cos() * length, angle.sin() * length]], f64::from(step));
            values.push(layer.values());
        }
        values
    };
    assert_eq!(held("ema1"), held("-1"));
    // The first cut has cosines of keys 0 and 1 to keys 1 and 2: the cosine of 0.7 and 2.1.
    assert_ne!(held("ema0"), held("-1"));
}

#[test]
fn exponential_weights_are_relative_to_those_of_the_row_that_stays() {
    let mut layer = Layer::new("merge(window, threshold=ema0.5, weight=exp)", [1, 1]);
    for (key, value) in [(RIGHT, 8.0), (UP, 16.0), (UP, 32.0)] {
        layer.step(&[key], value);
    }
    let e = 1f64.exp();
    let held = layer.values().remove(0);
    assert!((held[0] - (e * 16.0 + 8.0) / (e + 1.0)).abs() < 1e-12, "{held:?}");
    assert_eq!(held[1], 32.0, "nothing is merged into it");
}

#[test]
fn every_batch_row_has_a_threshold_of_its_own_which_is_forgotten_with_its_rows() {
    let mut layer = Layer::new("merge(window, threshold=ema0.5)", [2, 1]);
    for _ in 0..3 {
        layer.step(&[RIGHT; 2], 8.0);
    }
    layer.state.reset(0);
    for (key, value) in [(RIGHT, 16.0), (UP, 32.0), (DOWN, 64.0)] {
        layer.step(&[key; 2], value);
    }
    // At the last step 16 goes, at a cosine of 0 to 32. To the first that is a first threshold; to the second, of which
    // that came before with cosines of 1, too little.
    assert_eq!(layer.values(), [[16.0, 64.0], [32.0, 64.0]]);
}

#[test]
fn the_heads_of_a_layer_share_a_threshold_unless_they_have_plans_of_their_own() {
    let held = |policy: &str| {
        let mut layer = Layer::new(policy, [1, 2]);
        // The cosines are 0 and 0, then 1 and -1, whose mean is 0 as well.
        for (keys, value) in [([RIGHT, UP], 8.0), ([UP, RIGHT], 16.0), ([UP, LEFT], 32.0), ([UP, LEFT], 64.0)] {
            layer.step(&keys, value);
        }
        layer.values()
    };
    assert_eq!(held("merge(window, threshold=ema0.5)"), [[20.0, 64.0], [12.0, 64.0]]);
    let alone = "heads(0: merge(window, threshold=ema0.5), *: merge(window, threshold=ema0.5))";
    assert_eq!(held(alone), [[20.0, 64.0], [32.0, 64.0]], "-1 is below the second head's own");
}
