//! Steps and blocks on the CPU against the same in burn's operations, on random shapes.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor};
use proptest::prelude::*;

use crate::attention::Attention;
use crate::attention::step::{self, step_plain};
use crate::compression::Compression;
use crate::kernels::flex::team::surely_together;
use crate::kernels::flex::tests::{agree, config, dtypes, epsilon, random, values};
use crate::layer::{Decides, Layer};
use crate::merging::{Merging, Threshold, Weight};
use crate::packing::{Bits, Packing, Per, Side};
use crate::policy::{Plan, Policy};
use crate::score::{Score, key_norm, logit, max_weight, number, remembered, value_norm, weight};
use crate::state::MultiState;
use crate::state::flex;
use crate::state::packed::Of;
use crate::tensors::{Memory, Sees, Tensors, View};

/// The lowest weight goes, now or over all steps; as a program that also looks at all else, or in tensor code.
#[derive(Clone, Copy, Debug)]
struct Lowest {
    packing: Option<Packing>,
    decides: Decides,
    remembers: bool,
    is_program: bool,
    merging: Option<Merging>,
}

impl Policy for Lowest {
    fn name(&self) -> String {
        "lowest".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let plan = match (self.is_program, self.remembers) {
            (true, true) => {
                let others = max_weight() + key_norm() * value_norm() + logit() * number(0.01);
                let sum = Score::of(remembered("m") + others * number(0.001)).remember("m", remembered("m") + weight());
                Plan::by_rule(layer, sum.into())
            }
            (true, false) => Plan::by_score(layer, weight()),
            (false, _) => Plan::by_tensors(layer, *self),
        };
        let merging = self.merging.into_iter().collect();
        Plan { decides: self.decides, packing: self.packing, merging, ..plan }
    }
}

/// Nothing goes, and rows are packed.
#[derive(Debug)]
struct Held(Packing);

impl Policy for Held {
    fn name(&self) -> String {
        "held".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { states: None, ..Plan::by_score(layer, number(0.0)) }.packed(self.0)
    }
}

fn packings() -> impl Strategy<Value = Packing> {
    // Groups of neighbouring channels are of a whole row too, and of a part of a register.
    packings_by(prop_oneof![3 => 1..=9usize, 1 => (1..=9usize).prop_map(|group| 8 * group)])
}

fn packings_by(groups: impl Strategy<Value = usize>) -> impl Strategy<Value = Packing> {
    let bits = prop_oneof![Just(Bits::Two), Just(Bits::Four), Just(Bits::Eight)];
    (bits, groups, 0..=5usize, any::<bool>(), any::<bool>()).prop_map(|(bits, group, recent, channel, kivi)| match kivi
    {
        true => Packing::kivi(bits, group, 2 * group),
        false => Packing::new(bits, if channel { Per::Channel } else { Per::Token }, group, recent),
    })
}

impl Tensors for Lowest {
    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    fn memory(&self) -> usize {
        usize::from(self.remembers)
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        match self.remembers {
            true => memory.update(0, |sum| sum + view.weights()),
            false => view.weights(),
        }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    batch: usize,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    window: Option<usize>,
    states: Option<usize>,
    policy: Lowest,
    dtypes: (DType, DType),
    reset: usize,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let heads = (1..=3usize, 1..=3usize, 1..=3usize, 1..=70usize);
    let bounds = (proptest::option::of(1..=12usize), proptest::option::weighted(0.8, 1..=9usize));
    let policy = (any::<bool>(), any::<bool>(), any::<bool>());
    (heads, bounds, policy, dtypes(), 0..=24usize).prop_map(
        |((batch, kv_heads, group, head_dim), (window, states), (layer, remembers, is_program), dtypes, reset)| Shape {
            batch,
            kv_heads,
            group,
            head_dim,
            window,
            states,
            policy: Lowest {
                packing: None,
                decides: if layer { Decides::Layer } else { Decides::KvHead },
                remembers,
                is_program,
                merging: None,
            },
            dtypes,
            reset,
        },
    )
}

/// Both ways through the same tokens, one batch row starting anew at some point.
fn steps_agree(shape: &Shape, tokens: usize) -> Result<(), TestCaseError> {
    let Shape { batch, kv_heads, group, head_dim, window, states, policy, dtypes, reset } = shape.clone();
    let (dtype, stored) = dtypes;
    let attention = Attention {
        heads: kv_heads * group,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f64).sqrt(),
        window,
        placement: None,
    };
    let compression = match (states, policy.packing) {
        (Some(states), _) => Compression::bounded(Arc::new(policy), states).expect("enough states"),
        (None, None) => Compression::Unbounded,
        (None, Some(packing)) => Compression::held(Arc::new(Held(packing))).expect("nothing goes"),
    };
    let initial = || {
        let mut state = attention.initial_state(batch, 0, 1, &compression, stored, &Device::default());
        state.record_omissions();
        state
    };
    let (mut found, mut expected) = (initial(), initial());
    for t in 0..tokens {
        if t == reset {
            found.reset(batch - 1);
            expected.reset(batch - 1);
        }
        let query = random([batch, kv_heads * group, head_dim], dtype);
        let key = random([batch, kv_heads, head_dim], dtype);
        let value = random([batch, kv_heads, head_dim], dtype);
        // A fork must not be written to.
        let fork = (t % 7 == 3).then(|| (found.clone(), found.snapshot()));
        let mut before = expected.clone();
        let rows = before.rows_in_step();
        let y = step::step(&attention, query.clone(), key.clone(), value.clone(), &mut found);
        let (again, own) = (query.clone(), (key.clone(), value.clone()));
        let expected_y = step_plain(&attention, query, key, value, &mut expected, rows);
        if let Some((fork, before)) = fork {
            prop_assert!(fork.snapshot() == before, "a fork changed");
        }
        // Weights differ by rounding of logits of a few units, values are of a few units.
        let bound = vec![1e3 * head_dim as f64 * epsilon(dtype); batch * kv_heads * group * head_dim];
        agree(y, expected_y, &bound)?;
        let omitted = [&mut found, &mut expected].map(|state| state.take_omitted().pop().flatten());
        if found.held() != expected.held() {
            // Within rounding either may go; from here on the two are different texts.
            before.append(own.0, own.1);
            let attended = attention.attend(again, &before, rows, 0);
            let now = before.seen[0];
            let (scores, _) = attention.score(&attended, &mut before, rows, now);
            let [Some(a), Some(b)] = omitted else { return Err(TestCaseError::fail("only one of the two omits")) };
            let bound = 1e3 * head_dim as f64 * epsilon(dtype);
            prop_assert!(close_call(&mut before, scores, [a, b], bound), "token {}: not a close call", t);
            return Ok(());
        }
        // Rows that are merged are sums, which differ by rounding.
        let of_rows = if policy.merging.is_some() { 1e3 * head_dim as f64 * epsilon(dtype) } else { 0.0 };
        same(&found, &expected, epsilon(dtype), of_rows)?;
    }
    Ok(())
}

/// Everything that the two states hold: rows by position, whose slots may differ.
fn same(found: &MultiState, expected: &MultiState, epsilon: f64, of_rows: f64) -> Result<(), TestCaseError> {
    let ints = |x: &Tensor<2, Int>| x.to_data().convert::<i64>();
    prop_assert_eq!(ints(&found.positions), ints(&expected.positions));
    prop_assert_eq!(ints(&found.next), ints(&expected.next));
    prop_assert_eq!(ints(&found.free), ints(&expected.free));
    prop_assert_eq!(&found.seen, &expected.seen);
    prop_assert_eq!(found.bytes(), expected.bytes());
    // Free slots too: nothing but the new row is ever written.
    for (found, expected) in [(found.keys(), expected.keys()), (found.values(), expected.values())] {
        let bound = vec![of_rows; found.shape().num_elements()];
        agree(found, expected, &bound)?;
    }
    for (found, expected) in found.memory.iter().zip(&expected.memory) {
        let bound = vec![1e4 * epsilon; found.shape().num_elements()];
        agree(found.clone(), expected.clone(), &bound)?;
    }
    Ok(())
}

/// Whether the scores of the rows that two decisions chose are within `bound` of each other, wherever
/// they chose differently. `before`: the state between the row's arrival and the decision.
fn close_call(before: &mut MultiState, scores: Tensor<3>, chosen: [Tensor<3, Int>; 2], bound: f64) -> bool {
    let scores = values(scores);
    let positions: Vec<i64> = before.positions.to_data().convert::<i64>().try_into_vec().expect("integers");
    let chosen = chosen.map(|slots| slots.into_data().convert::<i64>().try_into_vec::<i64>().expect("integers"));
    let rows = scores.len() / chosen[0].len();
    (0..chosen[0].len()).filter(|&i| chosen[0][i] != chosen[1][i]).all(|i| {
        let slots = &positions[i * before.slots..][..rows];
        let score = |position: i64| slots.iter().position(|&p| p == position).map(|slot| scores[i * rows + slot]);
        match (score(chosen[0][i]), score(chosen[1][i])) {
            (Some(a), Some(b)) => (a - b).abs() <= bound,
            _ => false,
        }
    })
}

/// A state that is large enough for its heads to be attended on several cores.
#[test]
fn steps_on_all_cores_equal_their_plain_twin() {
    for (dtypes, decides) in [((DType::F64, DType::F64), Decides::KvHead), ((DType::F32, DType::BF16), Decides::Layer)]
    {
        let policy = Lowest { packing: None, decides, remembers: true, is_program: true, merging: None };
        let (batch, kv_heads, group, head_dim) = (2, 4, 2, 66);
        let (window, states, reset) = (None, Some(150), 100);
        let shape = Shape { batch, kv_heads, group, head_dim, window, states, policy, dtypes, reset };
        rayon::scope(|_| steps_agree(&shape, 160)).unwrap();
        surely_together(|| steps_agree(&shape, 160)).unwrap();
    }
}

/// More rows of a head than are taken at once, however they are held.
#[test]
fn steps_over_several_parts_of_rows_equal_their_plain_twin() {
    let (kivi, int8) = (Packing::kivi(Bits::Four, 32, 64), Packing::new(Bits::Eight, Per::Token, 32, 5));
    let odd = Packing::new(Bits::Four, Per::Token, 3, 5);
    let f32s = (DType::F32, DType::F32);
    for (dtypes, packing, head_dim) in [
        (f32s, None, 128),
        ((DType::F32, DType::F16), None, 128),
        ((DType::F64, DType::F64), None, 128),
        (f32s, Some(int8), 128),
        (f32s, Some(kivi), 128),
        (f32s, Some(odd), 130),
    ] {
        let policy = Lowest { packing, decides: Decides::Layer, remembers: false, is_program: true, merging: None };
        let (batch, kv_heads, group, window, states, reset) = (1, 1, 3, None, None, 0);
        steps_agree(&Shape { batch, kv_heads, group, head_dim, window, states, policy, dtypes, reset }, 300).unwrap();
    }
}

fn threshold() -> impl Strategy<Value = Threshold> {
    prop_oneof![(-1.0..1.0f64).prop_map(Threshold::Fixed), (0.0..=1.0f64).prop_map(Threshold::Moving)]
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn steps_equal_their_plain_twin(shape in shapes()) {
        steps_agree(&shape, 26)?;
    }

    /// Not in 16 bits, where rounding of a row that was merged is larger than what tells two rows apart. Of one channel all cosines
    /// are 1 or -1: then the oldest of those that are equal but for rounding is the partner.
    #[test]
    fn steps_that_merge_rows_equal_their_plain_twin(
        shape in shapes(),
        threshold in threshold(),
        is_exp in any::<bool>(),
        wide in any::<bool>(),
    ) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let weight = if is_exp { Weight::Exp } else { Weight::Mean };
        let policy = Lowest { merging: Some(Merging { threshold, weight }), ..shape.policy };
        steps_agree(&Shape { policy, dtypes: (dtype, dtype), ..shape }, 26)?;
    }

    /// Blocks of which every row stays, and what follows them. Rows in 16 bits are rounded when they
    /// arrive, whichever way they go.
    #[test]
    fn scans_equal_plain_steps(shape in shapes(), tokens in 2..=80usize, first in 0..=40usize) {
        let Shape { batch, kv_heads, group, head_dim, window, states, dtypes: (dtype, stored), reset, .. } = shape;
        let attention = Attention {
            heads: kv_heads * group,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            window,
            placement: None,
        };
        let compression = match states {
            // Some of them large enough for blocks of several tiles.
            Some(states) => Compression::bounded(Arc::new(Oldest), states * states).expect("enough states"),
            None => Compression::Unbounded,
        };
        let query = random([batch, kv_heads * group, tokens, head_dim], dtype);
        let key = random([batch, kv_heads, tokens, head_dim], dtype);
        let value = random([batch, kv_heads, tokens, head_dim], dtype);
        let initial = || attention.initial_state(batch, 0, 1, &compression, stored, &Device::default());
        let (mut scanned, mut stepped) = (initial(), initial());
        scanned.record_omissions();
        stepped.record_omissions();

        let first = first.min(tokens);
        let mut found = Vec::new();
        for range in [0..first, first..tokens].into_iter().filter(|range| !range.is_empty()) {
            if range.start == first && reset < tokens {
                scanned.reset(batch - 1);
            }
            let part = |x: &Tensor<4>| x.clone().narrow(2, range.start, range.len());
            found.push(attention.scan(part(&query), part(&key), part(&value), &mut scanned));
        }
        let steps = (0..tokens).map(|t| {
            if t == first && reset < tokens {
                stepped.reset(batch - 1);
            }
            let token = |x: &Tensor<4>, heads| x.clone().narrow(2, t, 1).reshape([batch, heads, head_dim]);
            let (query, key, value) = (token(&query, kv_heads * group), token(&key, kv_heads), token(&value, kv_heads));
            let rows = stepped.rows_in_step();
            step_plain(&attention, query, key, value, &mut stepped, rows)
        });
        let expected = Tensor::stack::<4>(steps.collect(), 2);
        let bound = vec![1e3 * head_dim as f64 * epsilon(dtype); expected.shape().num_elements()];
        agree(Tensor::cat(found, 2), expected, &bound)?;
        prop_assert_eq!(scanned.held(), stepped.held());
        prop_assert_eq!(scanned.seen(), stepped.seen());
        let gone = |state: &mut MultiState| -> Vec<Vec<i64>> {
            let ints = |x: Tensor<3, Int>| x.into_data().convert::<i64>().try_into_vec().expect("integers");
            state.take_omitted().into_iter().map(|token| token.map_or(Vec::new(), ints)).collect()
        };
        prop_assert_eq!(gone(&mut scanned), gone(&mut stepped));
    }
}

/// Omits the oldest row, which rounding cannot change.
#[derive(Debug)]
struct Oldest;

impl Policy for Oldest {
    fn name(&self) -> String {
        "oldest".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_score(layer, number(0.0))
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_step_over_packed_rows_equals_its_plain_twin(shape in shapes(), packing in packings()) {
        // What loses a row at every token is packed per token.
        let per = if shape.states.is_some() { Per::Token } else { packing.keys.per };
        let keys = Side { per, ..packing.keys };
        let policy = Lowest { packing: Some(Packing { keys, ..packing }), ..shape.policy };
        steps_agree(&Shape { policy, ..shape }, 40)?;
    }

    /// Heads and groups as models have them, whose codes are whole registers, and which are multiplied in those. Any row goes, so that
    /// whole rows lie among packed ones.
    #[test]
    fn a_step_over_packed_rows_that_fill_registers_equals_its_plain_twin(
        shape in shapes(), packing in packings_by(prop::sample::select(vec![16, 32, 64])),
        stored in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16]),
        head_dim in prop::sample::select(vec![64, 80, 96, 128]), states in proptest::option::of(1..=40usize),
    ) {
        let per = if states.is_some() { Per::Token } else { packing.keys.per };
        let keys = Side { per, ..packing.keys };
        let policy = Lowest { packing: Some(Packing { keys, ..packing }), ..shape.policy };
        let dtypes = (DType::F32, stored);
        steps_agree(&Shape { policy, head_dim, states, dtypes, window: None, ..shape }, 70)?;
    }

    #[test]
    fn rows_are_packed_as_by_the_plain_twin(
        dims in [1..=2usize, 1..=3usize, 1..=70usize], packing in packings(), tokens in 1..=40usize, half in any::<bool>(),
    ) {
        let [batch, kv_heads, head_dim] = dims;
        let attention =
            Attention { heads: kv_heads, kv_heads, head_dim, scale: 1.0, window: None, placement: None };
        let compression = Compression::held(Arc::new(Held(packing))).expect("nothing goes");
        for dtype in [DType::F64, if half { DType::F16 } else { DType::F32 }] {
            let mut state = attention.initial_state(batch, 0, 1, &compression, dtype, &Device::default());
            for _ in 0..tokens {
                state.grow(state.held[0] + 1);
                state.append(random([batch, kv_heads, head_dim], dtype), random([batch, kv_heads, head_dim], dtype));
                state.advance_whole();
                let mut packed = state.packed.take().expect("the state is packed");
                for of in Of::BOTH {
                    let side = *packed.side(of);
                    let came = if side.per == Per::Token { &state.seen } else { &state.held };
                    let due: Vec<usize> = came.iter().map(|&came| side.packed(came)).collect();
                    let mut expected = packed.clone();
                    flex::pack(&state, &mut packed, of, &due);
                    state.pack_up_to(&mut expected, of, &due);
                    let (found, expected) = (packed.codes(of), expected.codes(of));
                    prop_assert_eq!(found.words.to_data(), expected.words.to_data());
                    prop_assert_eq!(values(found.scales.clone()), values(expected.scales.clone()));
                    prop_assert_eq!(values(found.lows.clone()), values(expected.lows.clone()));
                    packed.whole_from[of as usize] = due;
                }
                state.packed = Some(packed);
            }
        }
    }
}
