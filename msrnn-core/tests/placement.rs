//! A placement sees the original positions, and its numbers are the positions in use, in every form of
//! evaluation.

mod policies {
    pub(crate) mod merging;
}

use std::sync::Arc;

use burn::tensor::{DType, Device, Distribution, Int, Tensor};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_core::placement::Placement;
use msrnn_core::state::MultiState;
use policies::merging::Merging;

const BATCH: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const TOKENS: usize = 20;

/// Stretches queries and keys by their position, and says beforehand that it numbers rows so, or does not.
#[derive(Debug)]
struct Stretch {
    says: bool,
}

fn stretch<const D: usize>(x: Tensor<D>, positions: Tensor<D, Int>) -> Tensor<D> {
    let factor = positions.float().cast(x.dtype()).mul_scalar(0.1).add_scalar(1.0);
    let dims = x.dims();
    x * factor.expand(dims)
}

impl Placement for Stretch {
    fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int> {
        positions
    }

    fn numbers_as_they_come(&self) -> bool {
        self.says
    }

    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, positions: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>) {
        let [batch, kv_heads, rows] = positions.dims();
        let newest = positions.clone().narrow(1, 0, 1).max_dim(2).reshape([batch, 1, 1, 1]);
        (stretch(query, newest), stretch(keys, positions.reshape([batch, kv_heads, rows, 1])))
    }
}

/// Numbers rows at twice their distances, and rotates nothing.
#[derive(Debug)]
struct Doubled;

impl Placement for Doubled {
    fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int> {
        positions.mul_scalar(2)
    }

    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, _: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>) {
        (query, keys)
    }
}

/// A way to give a layer some tokens.
type Form = fn(&Attention, [Tensor<4>; 3], &mut MultiState) -> Tensor<4>;

/// Outputs of a text, one half and then the other, and what is held in the end.
fn run(
    layer: &Attention,
    compression: &Compression,
    text: &[Tensor<4>; 3],
    form: Form,
) -> (Tensor<4>, Vec<Vec<Vec<i64>>>) {
    let mut state = layer.initial_state(BATCH, 0, 1, compression, DType::F64, &text[0].device());
    let outputs = [0, TOKENS / 2].map(|first| {
        let half = text.each_ref().map(|x| x.clone().narrow(2, first, TOKENS / 2));
        form(layer, half, &mut state)
    });
    (Tensor::cat(outputs.into(), 2), state.held())
}

/// Query, key and value of a text.
fn text(device: &Device) -> [Tensor<4>; 3] {
    let random =
        |heads| Tensor::<4>::random([BATCH, heads, TOKENS, 4], Distribution::Normal(0.0, 1.0), (device, DType::F64));
    [random(HEADS), random(KV_HEADS), random(KV_HEADS)]
}

fn attention(window: Option<usize>) -> Attention {
    Attention { heads: HEADS, kv_heads: KV_HEADS, head_dim: 4, scale: 0.5, window, placement: None }
}

fn forms() -> [(&'static str, Form); 3] {
    let steps: Form = |layer, text, state| {
        let tokens = (0..TOKENS / 2).map(|t| {
            let [query, key, value] = text.each_ref().map(|x| x.clone().narrow(2, t, 1).squeeze_dim(2));
            layer.step(query, key, value, state).unsqueeze_dim(2)
        });
        Tensor::cat(tokens.collect(), 2)
    };
    let scans: Form = |layer, [query, key, value], state| layer.scan(query, key, value, state);
    let prefill: Form = |layer, [query, key, value], state| match state.seen()[0] {
        0 => layer.prefill(query, key, value, state).expect("the state is empty"),
        _ => layer.scan(query, key, value, state),
    };
    [("steps", steps), ("scans", scans), ("a prefill", prefill)]
}

#[test]
fn a_placement_by_original_positions_equals_placing_beforehand() {
    let device = Device::default();
    let text = text(&device);
    let positions = Tensor::<1, Int>::arange(0..TOKENS as i64, &device).reshape([1, 1, TOKENS, 1]);
    let [query, key, value] = text.clone();
    let placed = [stretch(query, positions.clone()), stretch(key, positions), value];

    let plain = attention(None);
    let bounded = Compression::bounded(Arc::new(Merging), 6).expect("enough states");
    for (name, form) in forms() {
        let (expected, expected_held) = run(&plain, &bounded, &placed, form);
        for says in [false, true] {
            let placing = Attention { placement: Some(Arc::new(Stretch { says })), ..plain.clone() };
            let (output, held) = run(&placing, &bounded, &text, form);
            let off = (expected.clone() - output).abs().max().into_scalar::<f64>();
            assert!(off <= 1e-12, "by {name} off by {off}");
            assert_eq!(held, expected_held, "by {name}");
        }
    }
}

#[test]
fn a_sliding_window_looks_at_the_numbers_in_use() {
    let text = text(&Device::default());
    for (name, form) in forms() {
        let run = |layer| run(&layer, &Compression::Unbounded, &text, form).0;
        let expected = run(attention(Some(5)));
        // Twice the distances: a window of 10, or of 9, shows the same rows as one of 5 does without.
        for window in [9, 10] {
            let doubled = Attention { placement: Some(Arc::new(Doubled)), ..attention(Some(window)) };
            let off = (expected.clone() - run(doubled)).abs().max().into_scalar::<f64>();
            assert!(off <= 1e-12, "by {name}, window {window}, off by {off}");
        }
        let wider = Attention { placement: Some(Arc::new(Doubled)), ..attention(Some(11)) };
        assert!((expected - run(wider)).abs().max().into_scalar::<f64>() > 1e-3, "by {name}");
    }
}
