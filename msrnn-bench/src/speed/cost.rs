//! What a token costs: bytes read and operations done.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};
use msrnn_core::compression::Compression;
use msrnn_core::policy::Layer;
use msrnn_core::state::MultiState;
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;

/// Bytes of all weights, in the dtypes that they are held in.
pub(crate) fn weight_bytes(decoder: &Decoder) -> usize {
    struct Sum(usize);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            self.0 += value.shape().num_elements() * value.dtype().size();
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            let value = param.val();
            self.0 += value.shape().num_elements() * value.dtype().size();
        }
    }
    let mut sum = Sum(0);
    decoder.visit(&mut sum);
    sum.0
}

/// Bytes of weights that a step reads: all, but of an embedding that is no output projection only
/// one row a token, which is not counted.
pub(crate) fn weight_bytes_per_step(decoder: &Decoder) -> usize {
    let unread = match decoder.config().tie_word_embeddings {
        true => 0,
        false => decoder.embedding.bytes(),
    };
    weight_bytes(decoder) - unread
}

/// Bytes of the states that one of the next `steps` steps reads, on average: of every state the share of its slots
/// that take part. All of a state that is full and loses a row at every token.
pub(crate) fn state_bytes_per_step(states: &[MultiState], steps: usize) -> f64 {
    let read = |state: &MultiState| state.bytes() as f64 * (rows_per_step(state, steps) / state.mean_slots());
    states.iter().map(read).sum()
}

/// Rows that one of the next `steps` steps attends, its own included, on average.
pub(crate) fn rows_per_step(state: &MultiState, steps: usize) -> f64 {
    let of_part = |part: &MultiState| {
        let held = part.rows_held().iter().max().copied().unwrap_or(0);
        rows_of(held, steps, part.states().zip(part.cut_at()))
    };
    let parts = state.parts();
    parts.iter().map(of_part).sum::<f64>() / parts.len() as f64
}

/// Operations of the layers for one token that attends `rows` rows: a multiplication and an addition
/// per weight, and two products with the rows.
pub(crate) fn layer_operations(config: &ModelConfig, rows: f64) -> f64 {
    let (d, heads, kv) = (config.hidden_size, config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let weights = 2 * d * heads + 2 * d * kv + 3 * d * config.intermediate_size;
    config.layers as f64 * (2.0 * weights as f64 + 4.0 * heads as f64 * rows)
}

/// Operations of the output projection for one token.
pub(crate) fn logits_operations(config: &ModelConfig) -> f64 {
    2.0 * config.hidden_size as f64 * config.vocab_size as f64
}

/// Mean number of rows that `n` tokens from an empty state attend, on average over the layers.
pub(crate) fn mean_rows(n: usize, compression: &Compression, config: &ModelConfig) -> f64 {
    let Some((policy, states)) = compression.bound() else { return rows_of(0, n, None) };
    let (layers, kv_heads) = (config.layers, config.kv_heads);
    let of_layer = |index| {
        let plan = policy.plan(&Layer { index, layers, kv_heads, states });
        let parts = plan.parts();
        let rows = parts.iter().map(|part| rows_of(0, n, part.states.zip(part.slots())));
        rows.sum::<f64>() / parts.len() as f64
    };
    (0..layers).map(of_layer).sum::<f64>() / layers as f64
}

/// Mean number of rows that `n` tokens attend in a layer that holds some, and is cut back to k rows whenever it holds so
/// many.
fn rows_of(mut held: usize, n: usize, cut: Option<(usize, usize)>) -> f64 {
    let mut sum = 0;
    for _ in 0..n {
        held += 1;
        sum += held;
        if let Some((states, _)) = cut.filter(|&(_, slots)| held >= slots) {
            held = states;
        }
    }
    sum as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_models::weights;
    use msrnn_policies::registry;

    use super::*;
    use crate::precision::Precision;
    use crate::speed::decode::DecodeLoop;
    use crate::speed::shape::Shape;

    #[test]
    fn a_step_of_a_full_state_reads_all_of_it_and_all_weights() {
        let shape: Shape = "2x16x4:2x32x50".parse().unwrap();
        for dtype in [DType::F32, DType::F64] {
            let model = shape.model(0, dtype, &Device::flex());
            assert_eq!(weight_bytes(&model.decoder), shape.config().parameters() * dtype.size());
            assert_eq!(weight_bytes_per_step(&model.decoder), weight_bytes(&model.decoder));
            for policy in ["window", "h2o", "tova-head"] {
                for batch in [1, 3] {
                    let compression = registry::compression(policy, 6).unwrap();
                    let mut decode = DecodeLoop::new(&model.decoder, compression, batch, 0);
                    decode.fill(9);
                    let bytes: usize = decode.states().iter().map(MultiState::bytes).sum();
                    assert_eq!(state_bytes_per_step(decode.states(), 5), bytes as f64, "{policy}");
                }
            }
        }
    }

    #[test]
    fn weights_take_the_bytes_that_their_storage_says() {
        let shape: Shape = "2x64x4:2x128x50".parse().unwrap();
        for precision in ["f32", "bf16", "int8", "f64/f32"] {
            let storage = precision.parse::<Precision>().unwrap().storage();
            for tied in [true, false] {
                let config = ModelConfig { tie_word_embeddings: tied, ..shape.config() };
                let decoder = weights::random(&config, 0, storage, &Device::flex());
                assert_eq!(weight_bytes(&decoder), storage.weight_bytes(&config), "{precision}");
                let unread = if tied { 0 } else { decoder.embedding.bytes() };
                assert_eq!(weight_bytes_per_step(&decoder), weight_bytes(&decoder) - unread, "{precision}");
            }
        }
    }

    #[test]
    fn a_step_of_a_growing_state_reads_its_rows_and_not_its_empty_slots() {
        let shape: Shape = "2x16x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let mut decode = DecodeLoop::new(&model.decoder, msrnn_core::compression::Compression::Unbounded, 1, 0);
        decode.fill(20);
        let states = decode.states();
        assert!(states[0].slots() > 21);
        let bytes: usize = states.iter().map(MultiState::bytes).sum();
        let read = state_bytes_per_step(states, 1);
        let expected = bytes as f64 * 21.0 / states[0].slots() as f64;
        assert!((read - expected).abs() < 1e-6, "{read} is not {expected}");
    }

    #[test]
    fn rows_are_counted_as_they_are_attended() {
        let config = "2x16x4:2x32x50".parse::<Shape>().unwrap().config();
        let rows = |n, policy: &str| {
            let spec: msrnn_policies::PolicySpec = policy.parse().unwrap();
            mean_rows(n, &spec.compression(n, |_| 1).unwrap(), &config)
        };
        assert_eq!(rows(4, "full"), 2.5);
        assert_eq!(rows(4, "tova@1"), 1.75);
        assert_eq!(mean_rows(1, &registry::compression("tova", usize::MAX - 1).unwrap(), &config), 1.0);
        // 1 2 3, cut to 1, 2 3, cut to 1, 2.
        assert_eq!(rows(6, "every(2, tova)@1"), 13.0 / 6.0);
        // The first of two layers grows.
        assert_eq!(rows(4, "layers(0: full, *: tova)@1"), (2.5 + 1.75) / 2.0);
    }

    #[test]
    fn the_next_steps_read_the_rows_that_are_held() {
        let shape: Shape = "2x16x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let compression = registry::compression("every(8, tova)", 6).unwrap();
        let mut decode = DecodeLoop::new(&model.decoder, compression, 1, 0);
        // Cut to 6 at the 14th token, then two more.
        decode.fill(16);
        assert!(decode.states().iter().all(|state| rows_per_step(state, 1) == 9.0));
        // 9 to 14, cut to 6, and 7.
        assert!(decode.states().iter().all(|state| rows_per_step(state, 7) == 76.0 / 7.0));
    }

    #[test]
    fn an_operation_count_is_two_per_weight_and_token() {
        let config = "2x16x4:2x32x50".parse::<Shape>().unwrap().config();
        let norms = (2 * config.layers + 1) * config.hidden_size;
        let operations = layer_operations(&config, 0.0) + logits_operations(&config);
        assert_eq!(operations, 2.0 * (config.parameters() - norms) as f64);
        assert_eq!(layer_operations(&config, 3.0) - layer_operations(&config, 2.0), (2 * 4 * 16) as f64);
    }
}
