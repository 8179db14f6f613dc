//! Whole decoders on a device and on the CPU.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_bench::bundled;
use msrnn_core::compression::Compression;
use msrnn_core::kernels;
use msrnn_core::precision::computes_in;
use msrnn_models::Model;
use msrnn_models::batched::{BatchedGeneration, Completion, Request};
use msrnn_models::captured::{Capture, Captured};
use msrnn_models::generate::generate;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use msrnn_policies::PolicySpec;

/// A test, given the CPU and a device.
type Test = fn(&Device, &Device);

/// All of them, by name.
pub(crate) const TESTS: [(&str, Test); 10] = [
    ("products_equal_the_cpus", products_equal),
    ("token_wise_kernels_equal_the_cpus", token_wise_kernels_equal),
    ("a_matrix_larger_than_the_largest_buffer_is_refused", large_matrices_refused),
    ("captured_steps_generate_the_same_tokens", captured_steps_equal),
    ("captured_steps_of_several_sequences_equal_plain_ones", captured_batches_equal),
    ("batched_generation_equals_the_cpus", batched_equals),
    ("logits_of_steps_equal_the_cpus", |cpu, device| logits_equal(cpu, device, Form::Steps)),
    ("logits_of_a_scan_equal_the_cpus", |cpu, device| logits_equal(cpu, device, Form::Scan)),
    ("the_vanilla_transformer_equals_the_cpus", vanilla_equals),
    ("positions_numbered_anew_equal_the_cpus", placement_equals),
];

/// How tokens go through the layers.
#[derive(Clone, Copy, Debug)]
enum Form {
    Steps,
    Scan,
}

/// Tokens of a run, several times the states.
const TOKENS: usize = 40;

/// A text that the bundled model may see.
fn ids(model: &Model) -> Vec<u32> {
    let vocab = model.decoder.config().vocab_size as u32;
    (0..TOKENS as u32).map(|t| (t * t * 31 + 7 * t + 3) % vocab).collect()
}

fn tensor(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let n = ids.len();
    Tensor::from_data(TensorData::new(ids, [1, n]), device)
}

/// Numbers up to `factor` that repeat after some thousand.
fn numbers(seed: usize, n: usize, factor: f64) -> Vec<f64> {
    (0..n).map(|i| factor * (((i * 7919 + seed * 104_729) % 1009) as f64 / 504.5 - 1.0)).collect()
}

fn host<const D: usize>(values: Tensor<D>) -> Vec<f64> {
    values.into_data().convert::<f64>().try_into_vec().expect("values are numbers")
}

/// Logits and omissions by layer and token.
fn run(device: &Device, compression: Compression, positions: Positions, form: Form) -> (Vec<f64>, Vec<Vec<i64>>) {
    let model = bundled::load(DType::F32, device).expect("the bundled model is whole");
    let ids = ids(&model);
    let recurrent = Recurrent::new(&model.decoder, compression, positions);
    let mut states = recurrent.initial_states(1);
    states.iter_mut().for_each(msrnn_core::state::MultiState::record_omissions);
    let logits = match form {
        Form::Scan => host(recurrent.scan(tensor(&ids, device), &mut states)),
        Form::Steps => ids.iter().flat_map(|&id| host(recurrent.scan(tensor(&[id], device), &mut states))).collect(),
    };
    let omitted = states.iter_mut().map(|state| {
        let tokens = state.take_omitted().into_iter();
        let positions = tokens.flat_map(|omitted| match omitted {
            Some(positions) => positions.into_data().convert::<i64>().try_into_vec().expect("positions are integers"),
            None => vec![-1i64],
        });
        positions.collect()
    });
    (logits, omitted.collect())
}

/// f32 sums over some hundred terms in another order, through four layers: a few 1e-5 of logits of
/// size ten.
const BOUND: f64 = 2e-4;

fn near(told: &str, one: &[f64], other: &[f64]) {
    assert_eq!(one.len(), other.len(), "{told}");
    for (index, (a, b)) in one.iter().zip(other).enumerate() {
        let off = (a - b).abs();
        assert!(off <= BOUND * (1.0 + a.abs()), "{told}: value {index} is {a} on the CPU and {b} on the device");
    }
}

/// Under every policy, in the same form on both devices: equal omissions and logits. No decision of
/// this text is within rounding.
fn logits_equal(cpu: &Device, device: &Device, form: Form) {
    let packed = ["int4(full, keys=channel, group=8)", "int4(tova, group=8, recent=4)@16"];
    let specs = ["full", "window+4@16", "h2o@16", "tova@16", "tova-head@16", "random@16", "streaming@16"];
    for spec in specs.into_iter().chain(packed) {
        let spec: PolicySpec = spec.parse().expect("a spec");
        let compression = spec.compression(TOKENS, |_| 1).expect("a bound");
        let expected = run(cpu, compression.clone(), Positions::Original, form);
        let found = run(device, compression, Positions::Original, form);
        assert_eq!(expected.1, found.1, "omissions under {spec} by {form:?}");
        near(&format!("{spec} by {form:?}"), &expected.0, &found.0);
    }
}

fn vanilla_equals(cpu: &Device, device: &Device) {
    let run = |device: &Device| {
        let model = bundled::load(DType::F32, device).expect("the bundled model is whole");
        host(model.decoder.forward(tensor(&ids(&model), device)))
    };
    near("the vanilla transformer", &run(cpu), &run(device));
}

fn placement_equals(cpu: &Device, device: &Device) {
    let spec: PolicySpec = "tova@16".parse().expect("a spec");
    let compression = spec.compression(TOKENS, |_| 1).expect("a bound");
    let expected = run(cpu, compression.clone(), Positions::GapCompressed, Form::Steps);
    let found = run(device, compression, Positions::GapCompressed, Form::Steps);
    assert_eq!(expected.1, found.1, "omissions");
    near("gap-compressed positions", &expected.0, &found.0);
}

/// Norm, SwiGLU and rotation of odd shapes, to a few roundings of values of size one.
fn token_wise_kernels_equal(cpu: &Device, device: &Device) {
    for (dtype, bound) in [(DType::F32, 1e-5), (DType::F16, 4e-3), (DType::BF16, 4e-2)] {
        if !computes_in(device, dtype) {
            continue;
        }
        for [batch, heads, rows, head_dim] in [[1, 1, 1, 2], [2, 3, 5, 6], [1, 4, 33, 64], [3, 1, 1, 130]] {
            let run = |device: &Device| {
                // The same numbers on both devices, rounded to the dtype on the CPU.
                let tensor = |seed: usize, n: usize, factor: f64| {
                    Tensor::<1>::from_data(TensorData::new(numbers(seed, n, factor), [n]), (device, dtype))
                };
                let n = batch * heads * rows * head_dim;
                let x = tensor(1, n, 2.0).reshape([batch, heads, rows, head_dim]);
                let up = tensor(2, n, 1.0).reshape([batch, heads, rows, head_dim]);
                let angle = |seed| tensor(seed, batch * rows * head_dim / 2, 1.0).reshape([batch, rows, head_dim / 2]);
                let norm = kernels::rms_norm(x.clone(), tensor(3, head_dim, 1.0), 1e-5);
                let gated = kernels::swiglu(x.clone(), up);
                let rotated = kernels::rotate(x, angle(4), angle(5));
                [norm, gated, rotated].map(|y| {
                    assert_eq!(y.dtype(), dtype);
                    host(y)
                })
            };
            for ((a, b), name) in run(cpu).into_iter().zip(run(device)).zip(["norm", "swiglu", "rotation"]) {
                let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f64::max);
                assert!(off <= bound, "{name} of {batch}x{heads}x{rows}x{head_dim} in {dtype:?} is off by {off}");
            }
        }
    }
}

/// Products of odd shapes and of views against f64 on the CPU: a sum of k terms in f32 is off by at most
/// k ε Σ|ab| (Higham 2002, section 3.1), and what is rounded to the dtype by half a unit more.
fn products_equal(cpu: &Device, device: &Device) {
    for (dtype, unit) in [(DType::F32, 2f64.powi(-24)), (DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        if !computes_in(device, dtype) {
            continue;
        }
        let shapes = [[1, 1, 1, 1, 1], [2, 3, 5, 7, 4], [1, 2, 1, 33, 70], [3, 1, 65, 16, 64], [1, 1, 130, 64, 257]];
        for [batch, heads, m, k, n] in shapes {
            let run = |prepare: &dyn Fn(Vec<f64>) -> Tensor<1>| {
                let tensor = |seed: usize, rows: usize, columns: usize| {
                    prepare(numbers(seed, batch * heads * rows * columns, 1.0)).reshape([batch, heads, rows, columns])
                };
                let lhs = tensor(1, m, k);
                // A weight; keys, transposed; rows from the middle of a state.
                let weight = prepare(numbers(2, n * k, 1.0)).reshape([n, k]);
                let of_weight = kernels::product(lhs.clone().reshape([batch * heads * m, k]), weight.transpose());
                let products = [
                    of_weight.reshape([batch, heads, m, n]),
                    kernels::product(lhs.clone(), tensor(3, k, n)),
                    kernels::product(lhs.clone(), tensor(4, n, k).swap_dims(2, 3)),
                    kernels::product(lhs, tensor(5, k + 3, n).narrow(2, 2, k)),
                ];
                products.into_iter().flat_map(host).collect::<Vec<f64>>()
            };
            let on = |values: Vec<f64>, device: &Device| -> Tensor<1> {
                Tensor::from_data(TensorData::from(&values[..]), (device, dtype))
            };
            let expected = run(&|values| on(values, cpu).cast(DType::F64));
            let sizes = run(&|values| on(values, cpu).cast(DType::F64).abs());
            let found = run(&|values| on(values, device));
            assert_eq!(expected.len(), found.len());
            for ((a, b), size) in expected.iter().zip(&found).zip(sizes) {
                let bound = k as f64 * 2f64.powi(-23) * size + unit * b.abs();
                let told = format!("product of {batch}x{heads}x{m}x{k} by {n} columns in {dtype:?}");
                assert!((a - b).abs() <= bound, "{told}: {a} in f64 and {b} on the device");
            }
        }
    }
}

/// Before anything is made of it: what a device does behind an allocation that failed is not what it was told.
fn large_matrices_refused(_cpu: &Device, device: &Device) {
    let most = kernels::largest_buffer(device).expect("a GPU says it");
    let model = bundled::load(DType::F32, &Device::flex()).expect("the bundled model is whole");
    let (mut config, storage) = (model.decoder.config().clone(), model.decoder.storage());
    let row = 4 * config.hidden_size as u64;
    config.vocab_size = usize::try_from(most / row).expect("a size");
    storage.check_on(&config, device).expect("it fits");
    config.vocab_size += 1;
    let refused = storage.check_on(&config, device).expect_err("it does not fit").to_string();
    assert!(refused.contains("tensor model.embed_tokens.weight takes"), "{refused}");
}

/// Greedy tokens and what is held at the end, captured and not. The first captured step has been held against a plain one;
/// where the device replays no graph, what was to be captured is launched again.
fn captured_steps_equal(_cpu: &Device, device: &Device) {
    let model = bundled::load(DType::F32, device).expect("the bundled model is whole");
    for spec in ["tova@16", "h2o@16", "window+4@16"] {
        let spec: PolicySpec = spec.parse().expect("a spec");
        let compression = spec.compression(TOKENS, |_| 1).expect("a bound");
        let run = |capture: Capture| {
            let recurrent = Recurrent::new(&model.decoder, compression.clone(), Positions::Original);
            let recurrent = recurrent.with_capture(capture);
            let prompt = &ids(&model)[..20];
            let sampling = Sampling::default();
            let done = generate(&model, &recurrent, prompt, Protocol::Strict, sampling, 12, |_| true);
            let done = done.expect("the prompt is a good one");
            let possible = Captured::is_possible(&recurrent, &done.states);
            (possible, done.tokens, done.states.iter().map(|state| state.held()).collect::<Vec<_>>())
        };
        let (plain, captured) = (run(Capture::Never), run(Capture::Rehearsed));
        assert!(!plain.0 && captured.0, "a full state can be captured if that is allowed");
        assert_eq!((plain.1, plain.2), (captured.1, captured.2), "{spec}");
    }
}

/// Steps of several sequences at once, replayed.
fn captured_batches_equal(_cpu: &Device, device: &Device) {
    let model = bundled::load(DType::F32, device).expect("the bundled model is whole");
    let compression = "tova@16".parse::<PolicySpec>().expect("a spec").compression(TOKENS, |_| 1).expect("a bound");
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original).with_capture(Capture::Rehearsed);
    let ids = ids(&model);
    let rows = |from: usize, n: usize| {
        let of = |row: usize| ids[from + row..from + row + n].iter().map(|&id| i64::from(id));
        Tensor::from_data(TensorData::new((0..3).flat_map(of).collect::<Vec<i64>>(), [3, n]), device)
    };
    let mut states = recurrent.initial_states(3);
    recurrent.scan(rows(0, 20), &mut states);
    assert!(Captured::is_possible(&recurrent, &states), "a full state can be captured");
    let mut plain = states.clone();
    let expected: Vec<Vec<f64>> = (20..24).map(|t| host(recurrent.scan(rows(t, 1), &mut plain))).collect();
    let (first, captured) = Captured::step(&recurrent, states, &ids[20..23]);
    let wide = |logits: Vec<f32>| logits.into_iter().map(f64::from).collect::<Vec<f64>>();
    near("the captured step", &expected[0], &wide(first));
    let mut captured = captured.expect("the captured step is the plain one");
    for (t, expected) in (21..24).zip(&expected[1..]) {
        near("a replayed step", expected, &wide(captured.replay(&ids[t..t + 3])));
    }
    let held = |states: &[msrnn_core::state::MultiState]| states.iter().map(|state| state.held()).collect::<Vec<_>>();
    assert_eq!(held(&plain), held(&captured.into_states()));
}

/// Requests side by side, with steps that are replayed between two ends.
fn batched_equals(cpu: &Device, device: &Device) {
    let run = |device: &Device, capture: Capture| {
        let model = bundled::load(DType::F32, device).expect("the bundled model is whole");
        let spec: PolicySpec = "tova@16".parse().expect("a spec");
        let compression = spec.compression(TOKENS, |_| 1).expect("a bound");
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original).with_capture(capture);
        let mut generation = BatchedGeneration::new(&model, recurrent, 2).expect("a batch");
        for (first, n) in [(0, 18), (3, 5), (9, 12)] {
            let prompt = ids(&model)[first..first + n].to_vec();
            let request = Request { prompt, sampling: Sampling::default(), max_new_tokens: 38 + 3 * first };
            generation.push(request).expect("a good request");
        }
        let mut done = generation.run(|_, _| true).expect("samplers were tried");
        done.sort_by_key(|completion: &Completion| completion.request);
        done
    };
    let expected = run(cpu, Capture::Never);
    assert_eq!(expected, run(device, Capture::Never));
    assert_eq!(expected, run(device, Capture::Rehearsed));
}
