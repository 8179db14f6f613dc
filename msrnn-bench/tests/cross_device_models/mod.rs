//! Whole decoders on a device and on the CPU.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_bench::bundled;
use msrnn_core::policy::Compression;
use msrnn_models::Model;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_policies::PolicySpec;

/// A test, given the CPU and a device.
type Test = fn(&Device, &Device);

/// All of them, by name.
pub(crate) const TESTS: [(&str, Test); 4] = [
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

fn host(logits: Tensor<3>) -> Vec<f64> {
    logits.into_data().convert::<f64>().try_into_vec().expect("logits are numbers")
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
    for spec in ["full", "window+4@16", "h2o@16", "tova@16", "tova-head@16", "random@16"] {
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
