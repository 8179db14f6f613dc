//! The layers of a model under a policy satisfy the laws of multi-state RNNs, one by one and as a stack.

use std::path::Path;

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::laws::{
    a_batch_of_states_equals_its_rows_alone, a_fork_goes_on_by_itself, a_scan_of_any_chunks_equals_steps,
    later_tokens_change_no_earlier_output,
};
use msrnn_core::rnn::MultiStateRnn;
use msrnn_models::Model;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_policies::PolicySpec;

#[test]
fn layers_under_every_kind_of_policy_satisfy_the_laws_of_multi_state_rnns() {
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints");
    for name in ["llama-gqa", "mistral-window", "smollm3-window"] {
        let model = Model::load(&checkpoints.join(name), DType::F64, &Device::default()).unwrap();
        let width = model.decoder.config().hidden_size;
        let xs = Tensor::random([2, 21, width], Distribution::Normal(0.0, 1.0), (&Device::default(), DType::F64));
        for spec in ["full", "window+2@8", "tova-head@8", "h2o@8", "every(3, tova)@8", "int4(h2o)@8"] {
            for positions in [Positions::Original, Positions::InState] {
                let compression = spec.parse::<PolicySpec>().unwrap().compression(21, |_| 1).unwrap();
                let recurrent = Recurrent::new(&model.decoder, compression, positions);
                let layers = recurrent.layers();
                for rnn in [&layers[..1], &layers[..]] {
                    println!("{name}, {spec}, {positions}, {} layers", rnn.len());
                    a_scan_of_any_chunks_equals_steps(rnn, &xs, 1e-9);
                    later_tokens_change_no_earlier_output(rnn, &xs, 1e-9);
                    a_batch_of_states_equals_its_rows_alone(rnn, &xs, 1e-9);
                    a_fork_goes_on_by_itself(rnn, &xs, 1e-9);
                }
            }
        }
    }
}

#[test]
fn a_stack_is_prefilled_layer_by_layer() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints/llama-gqa");
    let model = Model::load(&checkpoint, DType::F64, &Device::default()).unwrap();
    let compression = "tova@8".parse::<PolicySpec>().unwrap().compression(21, |_| 1).unwrap();
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
    let (layers, device) = (recurrent.layers(), Device::default());
    let xs = Tensor::random([1, 15, model.decoder.config().hidden_size], Distribution::Default, (&device, DType::F64));
    let mut states = layers.initial_state(1, &device);
    let found = layers.prefill(xs.clone(), &mut states).unwrap();
    let mut x = xs.clone();
    for layer in &layers {
        x = layer.prefill(x, &mut layer.initial_state(1, &device)).unwrap();
    }
    assert_eq!(found.into_data(), x.into_data());
    assert!(states.iter().all(|state| state.rows_held() == [8]));
    assert!(layers.prefill(xs, &mut states).is_err(), "a prompt comes first");
}
