//! How positions are numbered, on a checkpoint: rotary logits depend on differences only.

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor};
use msrnn_models::Model;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_policies::registry::compression;

const TOKENS: usize = 40;

fn logits(policy: &str, states: usize, positions: Positions) -> Vec<f64> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints/llama-gqa");
    let model = Model::load(&directory, DType::F64, &Device::default()).unwrap();
    let vocab = model.decoder.config().vocab_size as i64;
    let ids: Vec<i64> = (0..TOKENS as i64).map(|t| (t * t * 7 + 3) % vocab).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &Device::default()).reshape([1, TOKENS]);
    let recurrent = Recurrent::new(&model.decoder, compression(policy, states).unwrap(), positions);
    let logits = recurrent.scan(ids, &mut recurrent.initial_states(1));
    logits.into_data().convert::<f64>().as_slice::<f64>().unwrap().to_vec()
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The rotary tables are composed in f64 from f64 angles of up to 40; the rest is f64 rounding.
const TOLERANCE: f64 = 1e-9;

#[test]
fn a_window_has_no_gaps_so_all_numberings_agree() {
    let original = logits("window", 8, Positions::Original);
    for positions in [Positions::InState, Positions::GapCompressed] {
        let other = logits("window", 8, positions);
        assert!(farthest(&original, &other) < TOLERANCE, "{positions:?}");
    }
}

#[test]
fn a_gap_counts_unless_rows_are_numbered_within_the_state() {
    let original = logits("window+4", 8, Positions::Original);
    let in_state = logits("window+4", 8, Positions::InState);
    let vocab = original.len() / TOKENS;
    // Nothing is omitted before the ninth token has been attended to.
    assert!(farthest(&original[..9 * vocab], &in_state[..9 * vocab]) < TOLERANCE);
    assert!(farthest(&original, &in_state) > 1e-3);
}
