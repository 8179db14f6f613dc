//! A policy's score that is not a number is seen, on every road; and states know when the first row went.

use std::sync::Arc;

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::attention::Attention;
use msrnn_core::compression::Compression;
use msrnn_core::policy::{Cut, Decides, Layer, Memory, Plan, Policy, Tensors, View};
use msrnn_core::score::{Binary, Expr, Input, number, position};
use msrnn_core::state::MultiState;
use msrnn_core::trouble::Trouble;

const BATCH: usize = 2;
const HEADS: usize = 4;
const STATES: usize = 5;
const TOKENS: usize = 40;

/// The oldest goes, but from some token on the newest row scores NaN.
#[derive(Clone, Copy, Debug)]
struct Broken {
    from: i64,
    is_program: bool,
    decides: Decides,
    cut: Cut,
}

impl Policy for Broken {
    fn name(&self) -> String {
        "broken".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let now = || Expr::Input(Input::Now);
        let late = number(self.from as f64).with(Binary::LessEqual, now());
        let newest = position().with(Binary::Equal, now());
        let plan = match self.is_program {
            true => Plan::by_score(layer, (late * newest).choose(number(f64::NAN), position())),
            false => Plan::by_tensors(layer, *self),
        };
        Plan { decides: self.decides, ..plan.cut(self.cut) }
    }
}

impl Tensors for Broken {
    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let late = view.now().greater_equal_elem(self.from).expand(view.positions().dims());
        view.positions().float().mask_fill(view.newest(1).bool_and(late), f32::NAN)
    }
}

fn attention() -> Attention {
    Attention { heads: HEADS, kv_heads: 2, head_dim: 6, scale: 0.4, window: None, placement: None }
}

fn text(dtype: DType) -> [Tensor<4>; 3] {
    [HEADS, 2, 2].map(|heads| {
        let shape = [BATCH, heads, TOKENS, 6];
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), (&Device::default(), dtype))
    })
}

/// Attends to all tokens in chunks of so many, from an empty state; and which tokens' outputs are numbers.
fn run(policy: Broken, dtype: DType, chunk: usize) -> (MultiState, Vec<bool>) {
    let (attention, compression) = (attention(), Compression::bounded(Arc::new(policy), STATES).unwrap());
    let mut state = attention.initial_state(BATCH, 3, 4, &compression, dtype, &Device::default());
    let mut numbers = Vec::new();
    let [query, key, value] = text(dtype);
    for first in (0..TOKENS).step_by(chunk) {
        let n = chunk.min(TOKENS - first);
        let part = |x: &Tensor<4>| x.clone().narrow(2, first, n);
        let out = attention.scan(part(&query), part(&key), part(&value), &mut state);
        for t in 0..n {
            let data = out.clone().narrow(2, t, 1).into_data().convert::<f64>();
            let values: &[f64] = data.as_slice().unwrap();
            let nan = values.iter().filter(|value| value.is_nan()).count();
            assert!(nan == 0 || nan == values.len(), "all rows and heads, or none");
            numbers.push(nan == 0);
        }
    }
    (state, numbers)
}

#[test]
fn a_score_that_is_not_a_number_makes_the_output_of_its_step_nan_on_every_road() {
    for dtype in [DType::F32, DType::F64] {
        for decides in [Decides::Layer, Decides::KvHead] {
            for is_program in [true, false] {
                for chunk in [1, 3, 16, TOKENS] {
                    for from in [0, 11, 38, 100] {
                        let told =
                            format!("{dtype:?}, {decides:?}, a program {is_program}, chunks of {chunk}, from {from}");
                        for every in [1, 4] {
                            let cut = Cut::Every(every);
                            let told = format!("{told}, every {every}");
                            let (state, numbers) = run(Broken { from, is_program, decides, cut }, dtype, chunk);
                            // What is scored while nothing has to go does not matter.
                            let cuts = |t: usize| t + 1 > STATES && (t + 1 - STATES).is_multiple_of(every);
                            let breaks = |t: usize| t >= from as usize && cuts(t);
                            let expected: Vec<bool> = (0..TOKENS).map(|t| !breaks(t)).collect();
                            assert_eq!(numbers, expected, "{told}");
                            let trouble = (0..TOKENS).any(breaks).then_some(Trouble::Scores);
                            assert_eq!([state.trouble(0), state.trouble(1)], [trouble; 2], "{told}");
                            // And still no more rows are held than there is room for.
                            assert!(state.held().iter().flatten().all(|held| held.len() < STATES + every), "{told}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_prefill_whose_cut_has_no_lowest_score_is_an_error_that_names_policy_layer_and_token() {
    for is_program in [true, false] {
        let policy = Broken { from: 20, is_program, decides: Decides::KvHead, cut: Cut::EVERY_TOKEN };
        let (attention, compression) = (attention(), Compression::bounded(Arc::new(policy), STATES).unwrap());
        for (n, fails) in [(STATES, false), (12, false), (TOKENS, true)] {
            let mut state = attention.initial_state(BATCH, 3, 4, &compression, DType::F32, &Device::default());
            let [query, key, value] = text(DType::F32).map(|x| x.narrow(2, 0, n));
            match (attention.prefill(query, key, value, &mut state), fails) {
                (Ok(_), false) => {}
                (Err(error), true) => {
                    let error = error.to_string();
                    assert!(
                        error.contains("broken") && error.contains("layer 3") && error.contains("token 39"),
                        "{error}"
                    );
                }
                (result, _) => panic!("{n} tokens: {:?}", result.map(|_| ())),
            }
        }
    }
}

#[test]
fn rows_that_are_not_numbers_are_found_in_their_batch_row() {
    for broken in [f64::NAN, f64::INFINITY] {
        let (attention, compression) = (attention(), Compression::Unbounded);
        let mut state = attention.initial_state(BATCH, 0, 1, &compression, DType::F32, &Device::default());
        let [query, key, value] = text(DType::F32);
        let value = value.slice_fill([1..2, 0..1, 7..8, 2..3], broken);
        attention.scan(query, key, value, &mut state);
        assert_eq!([state.trouble(0), state.trouble(1)], [None, Some(Trouble::Rows)]);
    }
}

#[test]
fn a_state_knows_the_token_at_whose_step_the_first_row_went() {
    for is_program in [true, false] {
        let policy = Broken { from: 1000, is_program, decides: Decides::KvHead, cut: Cut::EVERY_TOKEN };
        for chunk in [1, 3, STATES, TOKENS] {
            assert_eq!(run(policy, DType::F32, chunk).0.first_omission(), [Some(STATES); BATCH], "chunks of {chunk}");
        }
        let (attention, compression) = (attention(), Compression::bounded(Arc::new(policy), STATES).unwrap());
        let mut state = attention.initial_state(BATCH, 0, 1, &compression, DType::F32, &Device::default());
        let [query, key, value] = text(DType::F32);
        let part = |first: usize, n: usize| [&query, &key, &value].map(|x| x.clone().narrow(2, first, n));
        let scan = |state: &mut MultiState, first, n| {
            let [query, key, value] = part(first, n);
            attention.scan(query, key, value, state);
        };
        scan(&mut state, 0, STATES);
        assert_eq!(state.first_omission(), [None; BATCH]);
        // A row that starts again is full later than the other.
        state.reset(1);
        scan(&mut state, 0, 2);
        assert_eq!(state.first_omission(), [Some(STATES), None]);
        scan(&mut state, 2, 4);
        assert_eq!(state.first_omission(), [Some(STATES), Some(STATES)]);
        let restored = MultiState::restore(state.snapshot(), &compression, &Device::default()).unwrap();
        assert_eq!(restored.first_omission(), state.first_omission());

        // After a prefill all rows go at once, at its last token.
        let mut state = attention.initial_state(BATCH, 0, 1, &compression, DType::F32, &Device::default());
        let [query, key, value] = part(0, 12);
        attention.prefill(query, key, value, &mut state).unwrap();
        assert_eq!(state.first_omission(), [Some(11); BATCH]);
    }
    let (attention, compression) = (attention(), Compression::Unbounded);
    let mut state = attention.initial_state(BATCH, 0, 1, &compression, DType::F32, &Device::default());
    let [query, key, value] = text(DType::F32);
    attention.scan(query, key, value, &mut state);
    assert_eq!(state.first_omission(), [None; BATCH]);
}
