//! Every kernel against its plain twin, on random shapes.
//!
//! Bounds are those of rounding: a sum of n products taken in another order differs by at most
//! 2 n ε Σ |a b|, and what is computed from few values by a few ε of their size. They hold for any
//! input, so a kernel that reads a wrong value or leaves one out breaks them.

use std::sync::Arc;

use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::attention::Attention;
use crate::kernels::step::step_plain;
use crate::kernels::{self, Int8, Map, Weight, flex, plain};
use crate::packing::{Bits, Packing, Per, Side};
use crate::policy::{Compression, Decides, Layer, Plan, Policy};
use crate::score::{Score, key_norm, logit, max_weight, number, remembered, value_norm, weight};
use crate::state::MultiState;
use crate::state::packed::Of;
use crate::tensors::{Memory, Sees, Tensors, View};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2024), failure_persistence: None, ..ProptestConfig::default() }
}

/// Dtypes of activations with those that weights and states can then have.
fn dtypes() -> impl Strategy<Value = (DType, DType)> {
    prop_oneof![
        Just((DType::F64, DType::F64)),
        Just((DType::F32, DType::F32)),
        Just((DType::F32, DType::F16)),
        Just((DType::F32, DType::BF16)),
    ]
}

fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
}

fn random<const D: usize>(dims: [usize; D], dtype: DType) -> Tensor<D> {
    Tensor::<D>::random(dims, Distribution::Normal(0.0, 1.0), (&Device::default(), DType::F64)).cast(dtype)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec().expect("numbers")
}

/// Fails where two tensors differ by more than `bound` says, value by value.
fn agree<const D: usize>(found: Tensor<D>, expected: Tensor<D>, bound: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.dims(), expected.dims());
    prop_assert_eq!(found.dtype(), expected.dtype());
    for (i, ((found, expected), bound)) in values(found).into_iter().zip(values(expected)).zip(bound).enumerate() {
        let same = (found - expected).abs() <= *bound;
        prop_assert!(same, "value {}: {} instead of {}, bound {:e}", i, found, expected, bound);
    }
    Ok(())
}

/// Σ |a b| by output of x Wᵀ, in f64.
fn magnitude(x: &Tensor<2>, weight: &Tensor<2>) -> Vec<f64> {
    values(x.clone().cast(DType::F64).abs().matmul(weight.clone().cast(DType::F64).abs().transpose()))
}

fn linear_agrees(rows: usize, input: usize, outputs: [usize; 2], dtypes: (DType, DType)) -> Result<(), TestCaseError> {
    let (dtype, stored) = dtypes;
    let x = random([rows, input], dtype);
    let maps = outputs.map(|output| Map {
        weight: random([output, input], stored).into(),
        bias: (output % 2 == 0).then(|| random([output], stored)),
    });
    linear_maps_agree(x, maps)
}

fn linear_maps_agree(x: Tensor<2>, maps: [Map; 2]) -> Result<(), TestCaseError> {
    let (dtype, [_, input]) = (x.dtype(), x.dims());
    let found = flex::linear(x.clone(), maps.clone());
    let expected = plain::linear(x.clone(), maps.clone());
    for ((found, expected), map) in found.into_iter().zip(expected).zip(&maps) {
        let bound = magnitude(&x, &map.weight.clone().float());
        // The bias adds one more term, of the size of a few of them.
        let bound: Vec<f64> = bound.iter().map(|sum| 2.0 * (input + 1) as f64 * epsilon(dtype) * (sum + 8.0)).collect();
        agree(found, expected, &bound)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn linear_equals_its_plain_twin(
        rows in 1..=12usize, input in 1..=200usize, outputs in [1..=40usize, 1..=40usize], dtypes in dtypes(),
    ) {
        linear_agrees(rows, input, outputs, dtypes)?;
    }

    #[test]
    fn linear_in_8_bits_equals_its_plain_twin(
        rows in 1..=12usize, blocks in 1..=4usize, outputs in [1..=40usize, 1..=40usize], half in any::<bool>(),
    ) {
        let input = blocks * Int8::BLOCK;
        let x = random([rows, input], DType::F32);
        let [first, second] = outputs;
        let weights: Vec<f32> = random([first, input], DType::F32).into_data().try_into_vec().expect("numbers");
        let int8 = Int8::quantize(&weights, [first, input], &x.device());
        // Beside another dtype, as the maps of one call may be.
        let other = random([second, input], if half { DType::F16 } else { DType::F32 });
        let bias = (first % 2 == 0).then(|| random([first], DType::F32));
        linear_maps_agree(x, [Map { weight: Weight::Int8(int8), bias }, Map { weight: other.into(), bias: None }])?;
    }

    #[test]
    fn likelihood_equals_its_plain_twin(
        rows in 1..=5usize, vocab in 1..=200usize, scale in -3..=2i32, wide in any::<bool>(),
    ) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let logits = random([rows, vocab], dtype).mul_scalar(10f64.powi(scale));
        let tokens: Vec<i64> = (0..rows).map(|row| (row * 7919 % vocab) as i64).collect();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [rows]), &logits.device());
        let expected = plain::log_likelihood(logits.clone(), tokens.clone());
        // A sum of positive terms, its logarithm, and a difference of values as large as the logits.
        let largest = values(logits.clone()).into_iter().map(f64::abs).fold(1.0, f64::max);
        let bound = vec![(vocab + 16) as f64 * epsilon(dtype) + 4.0 * epsilon(dtype) * largest; rows];
        agree(flex::log_likelihood(logits, tokens), expected, &bound)?;
    }

    #[test]
    fn norm_equals_its_plain_twin(rows in 1..=5usize, d in 1..=200usize, dtypes in dtypes(), scale in -3..=3i32) {
        let (dtype, stored) = dtypes;
        let x = random([1, rows, d], dtype).mul_scalar(10f64.powi(scale));
        let weight = random([d], stored);
        let expected = plain::rms_norm(x.clone(), weight.clone(), 1e-5);
        let bound: Vec<f64> =
            values(expected.clone()).iter().map(|y| (d + 8) as f64 * epsilon(dtype) * y.abs()).collect();
        agree(flex::rms_norm(x, weight, 1e-5), expected, &bound)?;
    }

    #[test]
    fn gate_equals_its_plain_twin(n in 1..=100usize, scale in -3..=2i32, wide in any::<bool>()) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let (gate, up) = (random([2, n], dtype).mul_scalar(10f64.powi(scale)), random([2, n], dtype));
        let expected = plain::swiglu(gate.clone(), up.clone());
        // exp below −87 is zero here and a subnormal number there.
        let bound: Vec<f64> = values(expected.clone()).iter().map(|y| 16.0 * epsilon(dtype) * y.abs() + 1e-34).collect();
        agree(flex::swiglu(gate, up), expected, &bound)?;
    }

    #[test]
    fn rotation_equals_its_plain_twin(
        dims in [1..=2usize, 1..=3usize, 1..=4usize, 1..=40usize], swapped in any::<bool>(), wide in any::<bool>(),
    ) {
        let [batch, heads, rows, half] = dims;
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let x = match swapped {
            true => random([batch, rows, heads, 2 * half], dtype).swap_dims(1, 2),
            false => random([batch, heads, rows, 2 * half], dtype),
        };
        let angle = random([batch, rows, half], dtype);
        let (cos, sin) = (angle.clone().cos(), angle.sin());
        let expected = plain::rotate(x.clone(), cos.clone(), sin.clone());
        let bound = vec![16.0 * epsilon(dtype); batch * heads * rows * 2 * half];
        agree(flex::rotate(x, cos, sin), expected, &bound)?;
    }

    #[test]
    fn widened_16_bit_values_are_the_same(n in 1..=100usize, half in any::<bool>()) {
        let x = random([n], if half { DType::F16 } else { DType::BF16 });
        agree(flex::widen(x.clone()), crate::precision::widen(x), &vec![0.0; n])?;
    }
}

/// Enough weights that several cores take part, with parts that do not divide them evenly.
#[test]
fn linear_on_all_cores_equals_its_plain_twin() {
    for dtypes in [(DType::F32, DType::F32), (DType::F32, DType::BF16), (DType::F64, DType::F64)] {
        for rows in [1, 3] {
            rayon::scope(|_| linear_agrees(rows, 517, [1201, 333], dtypes)).unwrap();
        }
    }
}

/// The lowest weight goes, now or over all steps; as a program that also looks at all else, or in tensor code.
#[derive(Clone, Copy, Debug)]
struct Lowest {
    packing: Option<Packing>,
    decides: Decides,
    remembers: bool,
    is_program: bool,
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
        Plan { decides: self.decides, packing: self.packing, ..plan }
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
    let bits = prop_oneof![Just(Bits::Two), Just(Bits::Four), Just(Bits::Eight)];
    (bits, 1..=9usize, 0..=5usize, any::<bool>(), 0..=3usize).prop_map(|(bits, group, recent, channel, kivi)| {
        // Groups of neighbouring channels are of a whole row too, and of a part of a register.
        let group = if kivi == 1 { 8 * group } else { group };
        match kivi {
            0 => Packing::kivi(bits, group, 2 * group),
            _ => Packing::new(bits, if channel { Per::Channel } else { Per::Token }, group, recent),
        }
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
        let y = kernels::step(&attention, query.clone(), key.clone(), value.clone(), &mut found);
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
        same(&found, &expected, epsilon(dtype))?;
    }
    Ok(())
}

/// Everything that the two states hold: rows by position, whose slots may differ.
fn same(found: &MultiState, expected: &MultiState, epsilon: f64) -> Result<(), TestCaseError> {
    let ints = |x: &Tensor<2, Int>| x.to_data().convert::<i64>();
    prop_assert_eq!(ints(&found.positions), ints(&expected.positions));
    prop_assert_eq!(ints(&found.next), ints(&expected.next));
    prop_assert_eq!(ints(&found.free), ints(&expected.free));
    prop_assert_eq!(&found.seen, &expected.seen);
    prop_assert_eq!(found.bytes(), expected.bytes());
    // Free slots too: nothing but the new row is ever written.
    prop_assert_eq!(values(found.keys()), values(expected.keys()));
    prop_assert_eq!(values(found.values()), values(expected.values()));
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
/// What features of a crate decide that none of ours may name, and what no result shows.
#[test]
#[cfg(target_arch = "x86_64")]
fn loops_are_compiled_for_the_widest_registers_that_the_processor_has() {
    let has_avx2 = [
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("bmi1"),
        is_x86_feature_detected!("bmi2"),
        is_x86_feature_detected!("lzcnt"),
    ];
    let has_avx2 = !has_avx2.contains(&false);
    let found = format!("{:?}", pulp::Arch::new());
    assert_eq!(found.starts_with("Scalar"), !has_avx2, "{found}");
}

#[test]
fn steps_on_all_cores_equal_their_plain_twin() {
    for (dtypes, decides) in [((DType::F64, DType::F64), Decides::KvHead), ((DType::F32, DType::BF16), Decides::Layer)]
    {
        let policy = Lowest { packing: None, decides, remembers: true, is_program: true };
        let (batch, kv_heads, group, head_dim) = (2, 4, 2, 66);
        let (window, states, reset) = (None, Some(150), 100);
        let shape = Shape { batch, kv_heads, group, head_dim, window, states, policy, dtypes, reset };
        rayon::scope(|_| steps_agree(&shape, 160)).unwrap();
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn steps_equal_their_plain_twin(shape in shapes()) {
        steps_agree(&shape, 26)?;
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
            {
                let rows = stepped.rows_in_step();
                step_plain(&attention, query, key, value, &mut stepped, rows)
            }
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
