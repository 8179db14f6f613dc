//! States put through random transitions, against a model: the tokens that each row remembers, and
//! vanilla attention over all of them.

use burn::tensor::{DType, Device, Tensor, TensorData};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Tensors, View};
use msrnn_core::state::MultiState;
use msrnn_core::state::snapshot::Snapshot;
use msrnn_core::vanilla::causal_attention;
use proptest::collection::vec;
use proptest::prelude::*;

const BATCH: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 4;

/// Forks alive at once.
const MOST_FORKS: usize = 4;

/// What may happen to one of the forks.
#[derive(Clone, Debug)]
enum Transition {
    Token,
    Chunk(usize),
    Fork,
    Reset(usize),
    SaveAndLoad,
}

fn transition() -> impl Strategy<Value = Transition> {
    prop_oneof![
        4 => Just(Transition::Token),
        4 => (1..=9usize).prop_map(Transition::Chunk),
        1 => Just(Transition::Fork),
        1 => (0..BATCH).prop_map(Transition::Reset),
        1 => Just(Transition::SaveAndLoad),
    ]
}

/// Never called, as long as nothing has to be omitted.
#[derive(Debug)]
struct Nobody;

impl Policy for Nobody {
    fn name(&self) -> String {
        "nobody".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, Nobody).per_head()
    }
}

impl Tensors for Nobody {
    fn score(&self, _view: &View, _memory: &mut Memory) -> Tensor<3> {
        panic!("nothing had to be omitted")
    }
}

/// A state, and the tokens that each batch row should remember.
#[derive(Clone)]
struct Fork {
    state: MultiState,
    remembered: Vec<Vec<u64>>,
}

/// Query, key or value of some tokens of every batch row: `[rows, heads, tokens, HEAD_DIM]`.
fn vectors(part: u64, heads: usize, rows: &[&[u64]]) -> Tensor<4> {
    let tokens = rows[0].len();
    let mut values = Vec::new();
    for row in rows {
        for head in 0..heads as u64 {
            for &token in *row {
                let place = ((token * 3 + part) * 7 + head) as f64;
                values.extend((0..HEAD_DIM).map(|channel| (place * 1.7 + channel as f64 * 2.3).sin() * 2.0));
            }
        }
    }
    let data = TensorData::new(values, [rows.len(), heads, tokens, HEAD_DIM]);
    Tensor::from_data(data, (&Device::default(), DType::F64))
}

fn host(x: Tensor<4>) -> Vec<f64> {
    x.into_data().as_slice::<f64>().expect("an f64 tensor").to_vec()
}

/// Gives a fork `n` new tokens, and compares its outputs with vanilla attention over everything
/// that each row remembers.
fn append(fork: &mut Fork, n: usize, by_step: bool, next: &mut u64, layer: &Attention) {
    for remembered in &mut fork.remembered {
        remembered.extend(*next..*next + n as u64);
        *next += n as u64;
    }
    let new: Vec<&[u64]> = fork.remembered.iter().map(|row| &row[row.len() - n..]).collect();
    let (query, key, value) = (vectors(0, HEADS, &new), vectors(1, KV_HEADS, &new), vectors(2, KV_HEADS, &new));
    let output = if by_step {
        let output = layer.step(query.squeeze_dim(2), key.squeeze_dim(2), value.squeeze_dim(2), &mut fork.state);
        output.reshape([BATCH, HEADS, 1, HEAD_DIM])
    } else {
        layer.scan(query, key, value, &mut fork.state)
    };
    for (row, remembered) in fork.remembered.iter().enumerate() {
        let all = [&remembered[..]];
        let (query, key, value) = (vectors(0, HEADS, &all), vectors(1, KV_HEADS, &all), vectors(2, KV_HEADS, &all));
        let vanilla = causal_attention(query, key, value, layer.scale, layer.window);
        let vanilla = host(vanilla.narrow(2, remembered.len() - n, n));
        let output = host(output.clone().narrow(0, row, 1));
        let off = vanilla.iter().zip(&output).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= 1e-12, "batch row {row} of {} tokens is off by {off}", remembered.len());
    }
}

fn run(transitions: &[(usize, Transition)], window: Option<usize>, bound: &Compression) {
    let device = Device::default();
    let layer = Attention { heads: HEADS, kv_heads: KV_HEADS, head_dim: HEAD_DIM, scale: 0.5, window, placement: None };
    let state = layer.initial_state(BATCH, 0, 1, bound, DType::F64, &device);
    let mut forks = vec![Fork { state, remembered: vec![Vec::new(); BATCH] }];
    let mut next = 0;
    for (at, transition) in transitions {
        let at = at % forks.len();
        match *transition {
            Transition::Token => append(&mut forks[at], 1, true, &mut next, &layer),
            Transition::Chunk(n) => append(&mut forks[at], n, false, &mut next, &layer),
            Transition::Fork if forks.len() < MOST_FORKS => forks.push(forks[at].clone()),
            Transition::Fork => {}
            Transition::Reset(row) => {
                forks[at].state.reset(row);
                forks[at].remembered[row].clear();
            }
            Transition::SaveAndLoad => {
                let saved = serde_json::to_string(&forks[at].state.snapshot()).expect("a state can be written");
                let saved: Snapshot = serde_json::from_str(&saved).expect("and read");
                forks[at].state = MultiState::restore(saved, bound, &device).expect("and restored");
            }
        }
        let fork = &forks[at];
        for (row, remembered) in fork.remembered.iter().enumerate() {
            assert_eq!(fork.state.seen()[row], remembered.len());
            let positions: Vec<i64> = (0..remembered.len() as i64).collect();
            assert!(fork.state.held()[row].iter().all(|held| *held == positions));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn an_unbounded_state_remembers_everything_through_any_transitions(
        transitions in vec((0..MOST_FORKS, transition()), 1..25),
        window in proptest::option::of(1..12usize),
    ) {
        run(&transitions, window, &Compression::Unbounded);
    }

    #[test]
    fn a_state_with_room_for_everything_does_too(
        transitions in vec((0..MOST_FORKS, transition()), 1..25),
        window in proptest::option::of(1..12usize),
    ) {
        let bound = Compression::bounded(std::sync::Arc::new(Nobody), 24 * 9).expect("enough states");
        run(&transitions, window, &bound);
    }
}
