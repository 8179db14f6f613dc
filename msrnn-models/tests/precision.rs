//! Weights in 16 and 8 bits and states in 16: what they are read as, and what is computed from them.

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_core::compression::Compression;
use msrnn_core::kernels::{Activations, Blocks, Format};
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::{checkpoint, weights};
use msrnn_policies::registry;

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

fn random(dtype: DType) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints/llama-bias/config.json");
    weights::random(&ModelConfig::read(&path).unwrap(), 7, dtype, &Device::default())
}

fn all_weights(decoder: &Decoder) -> Vec<(String, TensorData)> {
    weights::named_data(decoder).into_iter().map(|(named, data)| (named.name, data)).collect()
}

#[test]
fn every_dtype_is_loaded_as_every_other() {
    for stored in DTYPES {
        let saved = random(stored);
        let directory = tempfile::tempdir().unwrap();
        checkpoint::save(directory.path(), &saved).unwrap();
        for dtype in DTYPES {
            let loaded = checkpoint::load(directory.path(), dtype, &Device::default()).unwrap();
            assert_eq!(loaded.unused, Vec::<String>::new());
            for ((name, found), (_, saved)) in all_weights(&loaded.decoder).into_iter().zip(all_weights(&saved)) {
                assert_eq!(found.dtype(), dtype, "{name}");
                // By way of f32 to 16 bits, as elsewhere; f64 holds them all exactly.
                let expected = match dtype {
                    DType::F16 | DType::BF16 => saved.convert_dtype(DType::F32).convert_dtype(dtype),
                    _ => saved.convert_dtype(dtype),
                };
                assert!(found.as_bytes() == expected.as_bytes(), "{name} from {stored:?} as {dtype:?}");
            }
        }
    }
}

/// Log-probabilities of tokens that 16-bit weights give, next to those of the same weights in f32.
#[test]
fn sixteen_bit_weights_give_what_the_same_weights_give_in_f32() {
    let ids = Tensor::<2, Int>::from_data([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]], &Device::default());
    let directory = tempfile::tempdir().unwrap();
    for stored in [DType::F16, DType::BF16] {
        checkpoint::save(directory.path(), &random(stored)).unwrap();
        let load = |dtype| checkpoint::load(directory.path(), dtype, &Device::default()).unwrap().decoder;
        let (narrow, wide) = (load(stored), load(DType::F32));
        let logits = |decoder: &Decoder, by_step: bool| {
            let compression = registry::compression("window", 6).unwrap();
            let recurrent = Recurrent::new(decoder, compression, Positions::Original);
            let mut states = recurrent.initial_states(1);
            let logits = match by_step {
                false => recurrent.scan(ids.clone(), &mut states),
                true => {
                    let steps = (0..16).map(|t| recurrent.step(ids.clone().narrow(1, t, 1).reshape([1]), &mut states));
                    Tensor::stack::<3>(steps.collect(), 1)
                }
            };
            assert!([stored, DType::F32].contains(&states[0].shape().dtype));
            logits.into_data().convert::<f32>().try_into_vec::<f32>().unwrap()
        };
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let expected = logits(&wide, false);
        for by_step in [false, true] {
            let found = logits(&narrow, by_step);
            let off: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
            // Only keys and values are rounded, to 8 bits in bf16: 2⁻⁸ of them, and they are part of a sum.
            assert!(largest(&off) < largest(&expected) / 128.0, "{stored:?}: {}", largest(&off));
            assert!(largest(&off) > 0.0, "{stored:?}: the state is not in 16 bits");
        }
        let vanilla = narrow.forward(ids.clone());
        let unbounded = Recurrent::new(&wide, Compression::Unbounded, Positions::Original);
        let expected = unbounded.scan(ids.clone(), &mut unbounded.initial_states(1));
        let off = (vanilla - expected).abs().max().into_scalar::<f32>();
        assert!(off < 1e-4, "{stored:?}: vanilla is off by {off}");
    }
}

/// A decoder whose rows are whole blocks of 8-bit weights.
fn of_blocks(storage: impl Into<Storage>, tied: bool) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints/llama-bias/config.json");
    let config = ModelConfig::read(&path).unwrap();
    let head_dim = 64 / config.heads;
    let config = ModelConfig { hidden_size: 64, head_dim, intermediate_size: 128, tie_word_embeddings: tied, ..config };
    weights::random(&config, 7, storage, &Device::default())
}

fn ids() -> Tensor<2, Int> {
    Tensor::from_data([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]], &Device::default())
}

/// Logits under a window of six rows.
fn windowed(decoder: &Decoder, by_step: bool) -> (Vec<f32>, DType) {
    let compression = registry::compression("window", 6).unwrap();
    let recurrent = Recurrent::new(decoder, compression, Positions::Original);
    let mut states = recurrent.initial_states(1);
    let logits = match by_step {
        false => recurrent.scan(ids(), &mut states),
        true => {
            let steps = (0..16).map(|t| recurrent.step(ids().narrow(1, t, 1).reshape([1]), &mut states));
            Tensor::stack::<3>(steps.collect(), 1)
        }
    };
    (logits.into_data().convert::<f32>().try_into_vec::<f32>().unwrap(), states[0].shape().dtype)
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The same integers and scales, written out as f32, give the same logits but for rounding.
#[test]
fn eight_bit_weights_give_what_the_same_weights_give_in_f32() {
    for tied in [true, false] {
        let original = of_blocks(DType::F32, tied);
        let rounded = weights::named_data(&original).into_iter().map(|(named, data)| {
            let dims = match named.shape[..] {
                [output, input] => [output, input],
                _ => return Ok::<_, std::convert::Infallible>(data),
            };
            let int8 = Blocks::quantize(data.as_slice().unwrap(), dims, Format::Int8, &Device::default());
            Ok(int8.dequantize().into_data())
        });
        let rounded: Vec<_> = rounded.collect();
        let expected = weights::decoder(original.config(), rounded, DType::F32.into(), &Device::default()).unwrap();
        let int8 =
            of_blocks(Storage { weights: Weights::Int8, states: DType::F32, activations: Activations::Float }, tied);
        for by_step in [false, true] {
            let ((found, states), (expected, _)) = (windowed(&int8, by_step), windowed(&expected, by_step));
            assert_eq!(states, DType::F32);
            assert!(furthest(&found, &expected) < 1e-5, "off by {}", furthest(&found, &expected));
            let off = furthest(&found, &windowed(&original, by_step).0);
            assert!(off > 1e-5, "the weights are not in 8 bits");
        }
        let vanilla = (int8.forward(ids()) - expected.forward(ids())).abs().max().into_scalar::<f32>();
        assert!(vanilla < 1e-5, "vanilla is off by {vanilla}");
    }
}

#[test]
fn states_may_be_in_fewer_bits_than_weights() {
    let (expected, _) = windowed(&of_blocks(DType::F32, true), false);
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for weights in [Weights::Float(DType::F32), Weights::Int8] {
        for states in [DType::F16, DType::BF16] {
            let same = of_blocks(Storage { weights, ..DType::F32.into() }, true);
            let narrow = of_blocks(Storage { weights, states, activations: Activations::Float }, true);
            for by_step in [false, true] {
                let (found, dtype) = windowed(&narrow, by_step);
                assert_eq!(dtype, states);
                let off = furthest(&found, &windowed(&same, by_step).0);
                // Only keys and values are rounded, to 8 bits in bf16: 2⁻⁸ of them, and they are part of a sum.
                assert!(off > 0.0 && off < largest / 128.0, "{weights:?}, {states:?}: off by {off}");
            }
        }
    }
}

/// As in a block, at steps; and otherwise than with activations as they are, by what rounding to 8 significant bits makes.
#[test]
fn activations_in_bfloat16_are_rounded_at_steps_and_in_blocks_alike() {
    for tied in [true, false] {
        let bf16: Storage = DType::BF16.into();
        let decoder = |activations| of_blocks(Storage { states: DType::F32, activations, ..bf16 }, tied);
        let (as_they_are, rounded) = (decoder(Activations::Float), decoder(Activations::Bf16));
        assert!(rounded.matrices().iter().all(|matrix| matrix.rounds()));
        let (expected, _) = windowed(&as_they_are, false);
        let largest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let [block, steps] = [false, true].map(|by_step| windowed(&rounded, by_step).0);
        let off = furthest(&block, &expected);
        assert!(off > largest / 100_000.0 && off < largest / 64.0, "off by {off} of {largest}");
        // A sum in another order may round what follows otherwise.
        assert!(furthest(&steps, &block) < off, "steps are off by {}", furthest(&steps, &block));
        // Weights of another kind take no notice.
        let wide: Storage = DType::F32.into();
        let floats = of_blocks(Storage { activations: Activations::Bf16, ..wide }, tied);
        assert!(floats.matrices().iter().all(|matrix| !matrix.rounds()));
        assert_eq!(windowed(&floats, false).0, windowed(&of_blocks(wide, tied), false).0);
    }
}

#[test]
fn rows_that_are_no_whole_blocks_are_refused_in_8_bits() {
    let storage = Storage { weights: Weights::Int8, states: DType::F32, activations: Activations::Float };
    let directory = tempfile::tempdir().unwrap();
    checkpoint::save(directory.path(), &random(DType::F32)).unwrap();
    let error = checkpoint::load(directory.path(), storage, &Device::default()).unwrap_err().to_string();
    assert!(error.contains("int8") && error.contains("64") && error.contains("choose"), "{error}");
}
