//! How positions are numbered, on a checkpoint: rotary logits depend on differences only, and the model's own
//! sliding window looks at the numbers in use.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor};
use msrnn_core::compression::Compression;
use msrnn_core::policy::{Cut, Layer};
use msrnn_core::state::MultiState;
use msrnn_core::state::snapshot::Snapshot;
use msrnn_models::Model;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::rotary::Rotary;
use msrnn_policies::PolicySpec;
use msrnn_policies::registry::{self, Entry, compression};
use serde_json::Value;

const TOKENS: usize = 40;

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints").join(name)
}

fn load(directory: &Path) -> Model {
    Model::load(directory, DType::F64, &Device::default()).unwrap()
}

/// The checkpoint with a sliding window of 8, with another one.
fn mistral(window: Option<usize>) -> Model {
    let directory = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(checkpoint("mistral-window")).unwrap() {
        let file = file.unwrap();
        std::fs::write(directory.path().join(file.file_name()), std::fs::read(file.path()).unwrap()).unwrap();
    }
    let path = directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["sliding_window"] = window.into();
    std::fs::write(path, config.to_string()).unwrap();
    let model = load(directory.path());
    assert_eq!(model.decoder.config().sliding_window, window);
    model
}

fn ids(model: &Model, tokens: std::ops::Range<usize>) -> Tensor<2, Int> {
    let vocab = model.decoder.config().vocab_size as i64;
    let ids: Vec<i64> = tokens.map(|t| t as i64).map(|t| (t * t * 7 + 3) % vocab).collect();
    let n = ids.len();
    Tensor::<1, Int>::from_data(ids.as_slice(), &Device::default()).reshape([1, n])
}

fn values(logits: Tensor<3>) -> Vec<f64> {
    logits.into_data().convert::<f64>().as_slice::<f64>().unwrap().to_vec()
}

fn logits_of(model: &Model, compression: Compression, positions: Positions) -> Vec<f64> {
    let recurrent = Recurrent::new(&model.decoder, compression, positions);
    values(recurrent.scan(ids(model, 0..TOKENS), &mut recurrent.initial_states(1)))
}

fn logits(policy: &str, states: usize, positions: Positions) -> Vec<f64> {
    logits_of(&load(&checkpoint("llama-gqa")), compression(policy, states).unwrap(), positions)
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The rotary tables are composed in f64 from f64 angles of up to 40; the rest is f64 rounding.
const TOLERANCE: f64 = 1e-9;

/// What is surely no rounding.
const DIFFERENT: f64 = 1e-3;

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
    assert!(farthest(&original, &in_state) > DIFFERENT);
}

/// Counted in the state a prompt has its own positions until rows go, for the queries that a rule remembers too; and
/// so has a prompt with gaps of no more than ten.
#[test]
fn queries_and_keys_choose_the_same_rows_of_a_prompt_under_all_numberings() {
    let model = load(&checkpoint("llama-gqa"));
    for policy in [
        "snapkv(window=4, pool=avg3)",
        "after-prompt(rkv(window=3, lambda=1))",
        "after-prompt(rkv(window=3, lambda=0))",
        "after-prompt(keydiff)",
        "after-prompt(lagkv(first=1, lag=3))",
    ] {
        let held = |positions| {
            let recurrent = Recurrent::new(&model.decoder, compression(policy, 9).unwrap(), positions);
            let mut states = recurrent.initial_states(1);
            let logits = values(recurrent.prefill(ids(&model, 0..TOKENS), &mut states).unwrap());
            (states.iter().flat_map(MultiState::held).collect::<Vec<_>>(), logits)
        };
        let (original, logits) = held(Positions::Original);
        for positions in [Positions::InState, Positions::GapCompressed] {
            let (other, its_logits) = held(positions);
            assert!(farthest(&logits, &its_logits) < TOLERANCE, "{policy}, {positions}");
            assert_eq!(other, original, "{policy}, {positions}");
        }
    }
}

/// Logits and what is held, of a text in blocks.
#[test]
fn a_policy_that_says_how_rows_are_numbered_is_the_policy_in_a_run_that_says_it() {
    let model = mistral(None);
    let ids: Vec<i64> = (0..60).map(|t| (t * t * 7 + 3) % 64).collect();
    let run = |spec: &str, positions: Positions| {
        let compression = spec.parse::<PolicySpec>().unwrap().compression(60, |_| 1).unwrap();
        let recurrent = Recurrent::new(&model.decoder, compression, positions);
        recurrent.check_length(60, 0).map(|()| {
            let ids = Tensor::<1, Int>::from_data(&ids[..], &model.decoder.device()).reshape([1, 60]);
            let mut states = recurrent.initial_states(1);
            let logits = recurrent.scan(ids, &mut states).into_data();
            (logits, states.iter().map(msrnn_core::state::MultiState::held).collect::<Vec<_>>())
        })
    };
    for policy in ["window+4", "tova", "int8(h2o, group=4, recent=2)"] {
        let plain = run(&format!("{policy}@9"), Positions::Original).unwrap();
        for (name, positions) in [("in-state", Positions::InState), ("gap-compressed", Positions::GapCompressed)] {
            let said = run(&format!("{name}({policy})@9"), Positions::Original).unwrap();
            assert_eq!(said, run(&format!("{policy}@9"), positions).unwrap(), "{name}, {policy}");
            assert_ne!(said.0, plain.0, "{name}, {policy}");
            // Said twice alike it is no other thing; said otherwise it is refused.
            assert_eq!(said, run(&format!("{name}({policy})@9"), positions).unwrap());
            let error = run(&format!("original({policy})@9"), positions).unwrap_err().to_string();
            assert!(error.contains("leave one of the two out"), "{error}");
        }
    }
    // How long a text may get follows from the layer that uses most positions, whoever says it.
    let in_use = |spec: &str, positions: Positions| {
        let compression = spec.parse::<PolicySpec>().unwrap().compression(60, |_| 1).unwrap();
        Recurrent::new(&model.decoder, compression, positions).length(1_000, 0).in_use()
    };
    assert_eq!(in_use("window+4@9", Positions::Original), 1_000);
    assert_eq!(in_use("streaming@9", Positions::Original), 10);
    assert_eq!(
        in_use("gap-compressed(window+4)@9", Positions::Original),
        in_use("window+4@9", Positions::GapCompressed)
    );
    assert_eq!(in_use("layers(0: streaming, *: window+4)@9", Positions::Original), 1_000);
    let streaming = run("streaming(first=4)@9", Positions::Original).unwrap();
    assert_eq!(streaming, run("window+4@9", Positions::InState).unwrap());
    // In some layers only.
    let mixed = run("layers(0: in-state(window+4), *: window+4)@9", Positions::Original).unwrap();
    assert!(mixed.0 != streaming.0 && mixed.0 != run("window+4@9", Positions::Original).unwrap().0);
}

#[test]
fn within_the_state_a_sliding_window_hides_nothing_of_as_many_rows() {
    let (windowed, unwindowed) = (mistral(Some(8)), mistral(None));
    // Of the others more rows may take part, or more states are needed.
    let strict = |entry: &&Entry| {
        let plan = entry.policy().plan(&Layer::only(6));
        plan.cut == Cut::EVERY_TOKEN && plan.fewest_states() <= 6 && entry.policy().foresight().is_none()
    };
    assert!(registry::entries().filter(strict).count() > 8);
    for entry in registry::entries().filter(strict) {
        let run = |model, states, positions| logits_of(model, compression(entry.example, states).unwrap(), positions);
        // k + 1 rows take part in a step.
        for states in [6, 7] {
            let (with, without) = [&windowed, &unwindowed].map(|model| run(model, states, Positions::InState)).into();
            assert_eq!(with, without, "{}@{states}", entry.example);
        }
        let (with, without) = [&windowed, &unwindowed].map(|model| run(model, 12, Positions::InState)).into();
        assert!(farthest(&with, &without) > DIFFERENT, "{}", entry.example);
        // Original positions are hidden by the number of tokens seen.
        if entry.name != "window" {
            let (with, without) = [&windowed, &unwindowed].map(|model| run(model, 6, Positions::Original)).into();
            assert!(farthest(&with, &without) > DIFFERENT, "{}", entry.example);
        }
    }
}

#[test]
fn under_compressed_gaps_a_sliding_window_looks_at_the_compressed_distance() {
    let run = |window| logits_of(&mistral(window), compression("window+1", 4).unwrap(), Positions::GapCompressed);
    let without = run(None);
    let vocab = without.len() / TOKENS;
    // Rows 0 and t − 3 to t take part in step t. What a gap becomes is the rule's, as by hand.
    let distance = |t: usize| match t {
        0..=3 => t,
        4..=13 => t,
        14..=25 => 11 + 3,
        _ => 12 + 3,
    };
    for window in 13..=16 {
        let with = run(Some(window));
        let first_hidden = (0..TOKENS).find(|&t| distance(t) >= window);
        for t in 0..first_hidden.unwrap_or(TOKENS) {
            let of_token = t * vocab..(t + 1) * vocab;
            assert!(farthest(&with[of_token.clone()], &without[of_token]) < TOLERANCE, "window {window}, token {t}");
        }
        match first_hidden {
            Some(t) => {
                let of_token = t * vocab..(t + 1) * vocab;
                assert!(
                    farthest(&with[of_token.clone()], &without[of_token]) > DIFFERENT,
                    "window {window}, token {t}"
                );
            }
            None => assert_eq!(window, 16),
        }
    }
}

/// A state as if `offset` more tokens had been seen between those of the first `first` positions and the
/// others.
fn later(state: &MultiState, compression: &Compression, offset: usize, first: i64) -> MultiState {
    let mut snapshot = serde_json::to_value(state.snapshot()).unwrap();
    for seen in snapshot["seen"].as_array_mut().unwrap() {
        *seen = (seen.as_u64().unwrap() + offset as u64).into();
    }
    let positions = state.positions().to_data().convert::<i64>();
    let shape = snapshot["positions"]["shape"].clone();
    let moved: Vec<i64> = positions
        .as_slice::<i64>()
        .unwrap()
        .iter()
        .map(|&position| if position >= first { position + offset as i64 } else { position })
        .collect();
    let n = moved.len();
    snapshot["positions"] = serde_json::to_value(burn::tensor::TensorData::new(moved, [n])).unwrap();
    snapshot["positions"]["shape"] = shape;
    let snapshot: Snapshot = serde_json::from_value(snapshot).unwrap();
    MultiState::restore(snapshot, compression, &Device::default()).unwrap()
}

#[test]
fn rows_numbered_anew_go_on_however_many_tokens_have_been_seen() {
    let model = mistral(Some(8));
    for positions in [Positions::InState, Positions::GapCompressed] {
        // The first rows of window+4 stay where they are, behind a gap that only compression sees.
        let cases = [("window", 0), ("h2o", 0), ("tova", 0), ("tova-head", 0), ("window+4", 4)];
        for (policy, first) in cases {
            if positions == Positions::GapCompressed && first > 0 {
                continue;
            }
            let recurrent = Recurrent::new(&model.decoder, compression(policy, 6).unwrap(), positions);
            let mut states = recurrent.initial_states(1);
            recurrent.scan(ids(&model, 0..10), &mut states);
            for offset in [1 << 20, Rotary::LIMIT - 20, Rotary::LIMIT, MultiState::MOST_TOKENS - TOKENS] {
                let mut near = states.clone();
                let mut far: Vec<MultiState> =
                    states.iter().map(|state| later(state, recurrent.compression(), offset, first)).collect();
                for tokens in [10..11, 11..25, 25..26, 26..TOKENS] {
                    let of_near = values(recurrent.scan(ids(&model, tokens.clone()), &mut near));
                    let of_far = values(recurrent.scan(ids(&model, tokens), &mut far));
                    let off = farthest(&of_near, &of_far);
                    assert!(off < TOLERANCE, "{policy}, {positions}, {offset} tokens later: off by {off}");
                }
                for (near, far) in near.iter().zip(&far) {
                    let moved = |&position: &i64| if position >= first { position + offset as i64 } else { position };
                    let held = |state: &MultiState| state.held().concat();
                    let expected: Vec<Vec<i64>> =
                        held(near).iter().map(|rows| rows.iter().map(moved).collect()).collect();
                    assert_eq!(held(far), expected, "{policy}, {positions}, {offset} tokens later");
                }
            }
        }
    }
}
