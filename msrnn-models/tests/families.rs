//! What is in some architectures and not in others, biases, norms of heads, layers that do not rotate, windows in some of
//! them, fused maps, factors, in every form in which a model is held and run. That their numbers are Hugging Face's is in
//! `goldens.rs`.

mod common;

use burn::tensor::{DType, Device, TensorData};
use common::{Copy, Tensors, golden, testdata, tokens, values};
use msrnn_core::compression::Compression;
use msrnn_core::kernels::{Activations, Blocks, Format};
use msrnn_models::batched::{BatchedGeneration, Request};
use msrnn_models::config::{Layers, ModelConfig};
use msrnn_models::decoder::Decoder;
use msrnn_models::generate::generate;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent, state_bytes};
use msrnn_models::sampling::Sampling;
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::{Model, checkpoint, weights};
use msrnn_policies::registry;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

const FAMILIES: [&str; 8] =
    ["qwen2-window", "qwen2-tied", "qwen3-norms", "qwen3-window", "smollm3", "smollm3-window", "phi3", "granite"];

const WEIGHTS: &str = "model.safetensors";

fn load(name: &str, storage: impl Into<Storage>) -> Model {
    Model::load(&testdata().join("checkpoints").join(name), storage, &Device::default()).unwrap()
}

fn ids(name: &str) -> Vec<u32> {
    let golden: Value = golden(&format!("{name}.json"));
    serde_json::from_value(golden["ids"].clone()).unwrap()
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn bounded(policy: &str, states: usize) -> Compression {
    registry::compression(policy, states).unwrap()
}

/// Logits of a text in pieces of so many tokens.
fn logits(decoder: &Decoder, ids: &[u32], compression: Compression, positions: Positions, piece: usize) -> Vec<f64> {
    let recurrent = Recurrent::new(decoder, compression, positions);
    let mut states = recurrent.initial_states(1);
    ids.chunks(piece).flat_map(|ids| values(recurrent.scan(tokens(ids), &mut states))).collect()
}

#[test]
fn steps_are_the_scan_under_every_policy_and_numbering() {
    for name in FAMILIES {
        let (model, ids) = (load(name, DType::F64), ids(name));
        for positions in [Positions::Original, Positions::InState, Positions::GapCompressed] {
            // Rules of weights: norms of keys are equal where a token comes again, and rounding decides.
            for policy in ["window+2", "h2o", "tova", "tova-head", "every(4, tova)"] {
                let run = |piece| logits(&model.decoder, &ids, bounded(policy, 9), positions, piece);
                let off = farthest(&run(1), &run(ids.len()));
                assert!(off < 1e-9, "{name}, {policy}, {positions}: off by {off:e}");
            }
        }
    }
}

#[test]
fn a_full_state_has_no_gaps_so_all_numberings_agree() {
    for name in FAMILIES {
        let (model, ids) = (load(name, DType::F64), ids(name));
        let run = |positions| logits(&model.decoder, &ids, Compression::Unbounded, positions, ids.len());
        let original = run(Positions::Original);
        for positions in [Positions::InState, Positions::GapCompressed] {
            let off = farthest(&original, &run(positions));
            assert!(off < 1e-9, "{name}, {positions}: off by {off:e}");
        }
    }
}

/// A SmolLM3 with other keys in its configuration.
fn smollm3(name: &str, changes: &Value) -> Model {
    let copy = Copy::of(name);
    copy.configure(changes);
    Model::load(copy.path(), DType::F64, &Device::default()).unwrap()
}

#[test]
fn where_no_layer_rotates_positions_are_nothing_but_what_a_window_looks_at() {
    let ids = ids("smollm3");
    let run = |model: &Model, policy, positions| logits(&model.decoder, &ids, bounded(policy, 6), positions, ids.len());
    let numberings = [Positions::InState, Positions::GapCompressed];
    let unrotated = smollm3("smollm3", &json!({ "no_rope_layers": [0, 0, 0, 0, 0] }));
    let rotated = load("smollm3", DType::F64);
    for policy in ["window+2", "h2o", "tova"] {
        let original = run(&unrotated, policy, Positions::Original);
        for positions in numberings {
            assert_eq!(run(&unrotated, policy, positions), original, "{policy}, {positions}");
        }
        let off = farthest(&run(&rotated, policy, Positions::Original), &run(&rotated, policy, Positions::InState));
        assert!(off > 1e-3, "{policy}: layers that rotate are to know of gaps");
    }
    // Nor does the order of a text matter where nothing says it.
    let mut other = ids.clone();
    other[..8].reverse();
    let last = |ids: &[u32]| {
        let logits = values(unrotated.decoder.forward(tokens(ids)));
        logits[logits.len() - 64..].to_vec()
    };
    // But for the masks of the rows between: of one layer alone it is exact.
    let alone = smollm3("smollm3", &json!({ "no_rope_layers": [0], "num_hidden_layers": 1 }));
    let last_alone = |ids: &[u32]| {
        let logits = values(alone.decoder.forward(tokens(ids)));
        logits[logits.len() - 64..].to_vec()
    };
    assert!(farthest(&last_alone(&ids), &last_alone(&other)) < 1e-12);
    assert!(farthest(&last(&ids), &last(&other)) > 1e-6);

    let none = json!({ "no_rope_layers": [0, 0, 0], "layer_types": "absent" });
    let windowed = smollm3("smollm3-window", &none);
    assert_eq!(windowed.decoder.config().windowed, Layers::All);
    let mut without = none.clone();
    without["use_sliding_window"] = false.into();
    let unwindowed = smollm3("smollm3-window", &without);
    // Within the state a window of 8 hides none of 7 rows; by the tokens seen it does.
    let (with, without) = (run(&windowed, "tova", Positions::InState), run(&unwindowed, "tova", Positions::Original));
    assert!(farthest(&with, &without) < 1e-9);
    let original = run(&windowed, "tova", Positions::Original);
    assert!(farthest(&original, &run(&windowed, "tova", Positions::InState)) > 1e-3);
}

#[test]
fn every_request_of_a_batch_ends_in_the_tokens_that_it_ends_in_alone() {
    for name in FAMILIES {
        let mut model = load(name, DType::F64);
        model.eos_token_ids = vec![7, 19, 40];
        let request = |i: u32| Request {
            prompt: (0..1 + i * 7 % 20).map(|t| (t * t + 5 * i + 1) % 64).collect(),
            sampling: Sampling::default(),
            max_new_tokens: 1 + (i * 5 % 16) as usize,
        };
        let requests: Vec<Request> = (0..7).map(request).collect();
        for compression in [Compression::Unbounded, bounded("tova", 6), bounded("window+2", 6)] {
            let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
            let mut generation = BatchedGeneration::new(&model, recurrent.clone(), 3).unwrap();
            for request in &requests {
                generation.push(request.clone()).unwrap();
            }
            for done in generation.run(|_, _| true).unwrap() {
                let Request { prompt, sampling, max_new_tokens } = &requests[done.request];
                let alone =
                    generate(&model, &recurrent, prompt, Protocol::Strict, *sampling, *max_new_tokens, |_| true)
                        .unwrap();
                assert_eq!((done.tokens, done.stop), (alone.tokens, alone.stop), "{name}, request {}", done.request);
            }
        }
    }
}

/// A model of a family whose rows are whole blocks of 8-bit weights, no norm of which is 1 and no bias 0.
fn of_blocks(name: &str, storage: impl Into<Storage>, data: impl Fn(Vec<f32>, Vec<usize>) -> TensorData) -> Decoder {
    let config = ModelConfig::read(&testdata().join("checkpoints").join(name).join("config.json")).unwrap();
    let config = ModelConfig { hidden_size: 64, head_dim: 16, intermediate_size: 128, ..config };
    let mut seed = 7u64;
    let mut uniform = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let all = weights::tensors(&config).into_iter().map(|named| {
        let mean = if named.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..named.shape.iter().product()).map(|_| mean + 0.3 * uniform()).collect();
        Ok::<_, std::convert::Infallible>(data(values, named.shape))
    });
    weights::decoder(&config, all.collect::<Vec<_>>(), storage.into(), &Device::default()).unwrap()
}

#[test]
fn weights_in_sixteen_and_eight_bits_give_what_the_same_weights_give_in_f32() {
    let ids: Vec<u32> = (0..16).map(|t| (t * t * 7 + 3) % 64).collect();
    for name in FAMILIES {
        let as_it_is = |values: Vec<f32>, shape: Vec<usize>| TensorData::new(values, shape);
        let rounded = |dtype: Option<DType>| {
            move |values: Vec<f32>, shape: Vec<usize>| match (dtype, &shape[..]) {
                (Some(dtype), _) => TensorData::new(values, shape).convert_dtype(dtype).convert_dtype(DType::F32),
                (None, &[output, input]) => {
                    Blocks::quantize(&values, [output, input], Format::Int8, &Device::default())
                        .dequantize()
                        .into_data()
                }
                (None, _) => TensorData::new(values, shape),
            }
        };
        let exact = of_blocks(name, DType::F32, as_it_is);
        for (weights, dtype) in [
            (Weights::Float(DType::F16), Some(DType::F16)),
            (Weights::Float(DType::BF16), Some(DType::BF16)),
            (Weights::Int8, None),
        ] {
            let narrow =
                of_blocks(name, Storage { weights, states: DType::F32, activations: Activations::Float }, as_it_is);
            let wide = of_blocks(name, DType::F32, rounded(dtype));
            for piece in [1, ids.len()] {
                let run = |decoder: &Decoder| logits(decoder, &ids, bounded("tova", 6), Positions::Original, piece);
                let (found, expected) = (run(&narrow), run(&wide));
                assert!(farthest(&found, &expected) < 2e-5, "{name}, {weights:?}: {:e}", farthest(&found, &expected));
                assert!(farthest(&found, &run(&exact)) > 1e-5, "{name}, {weights:?}: the weights are not rounded");
            }
            let off = farthest(&values(narrow.forward(tokens(&ids))), &values(wide.forward(tokens(&ids))));
            assert!(off < 2e-5, "{name}, {weights:?}: vanilla is off by {off:e}");
        }
    }
}

#[test]
fn what_is_saved_is_loaded_again_by_the_names_of_its_architecture_and_takes_the_bytes_foretold() {
    for name in FAMILIES {
        let (model, directory) = (load(name, DType::F32), tempfile::tempdir().unwrap());
        checkpoint::save(directory.path(), &model.decoder).unwrap();
        let shapes = |tensors: Tensors| -> Vec<(String, Vec<usize>)> {
            tensors.into_iter().map(|(name, (_, shape, _))| (name, shape)).collect()
        };
        let saved = common::read(&directory.path().join(WEIGHTS));
        let bytes: usize = saved.values().map(|(_, _, bytes)| bytes.len()).sum();
        let config = model.decoder.config();
        assert_eq!(Storage::from(DType::F32).weight_bytes(config), bytes, "{name}");
        assert_eq!(config.parameters(), bytes / 4, "{name}");
        let original = common::read(&testdata().join("checkpoints").join(name).join(WEIGHTS));
        assert_eq!(shapes(saved), shapes(original), "{name}");
        let again = Model::load(directory.path(), DType::F32, &Device::default()).unwrap();
        assert_eq!(again.decoder.config(), config, "{name}");
        let of = |decoder: &Decoder| values(decoder.forward(tokens(&ids(name))));
        assert_eq!(of(&again.decoder), of(&model.decoder), "{name}");

        let recurrent = Recurrent::new(&model.decoder, bounded("h2o", 6), Positions::Original);
        let mut states = recurrent.initial_states(1);
        recurrent.scan(tokens(&ids(name)), &mut states);
        let held: usize = states.iter().map(|state| state.bytes()).sum();
        assert_eq!(state_bytes(&model.decoder, &bounded("h2o", 6), 40), held, "{name}");
    }
}

#[track_caller]
fn refuses(copy: &Copy, words: &[&str]) {
    let loaded = Model::load(copy.path(), DType::F32, &Device::default());
    let error = loaded.expect_err("it must be refused").to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}\nshould say {words:?}");
}

#[track_caller]
fn refuses_config(name: &str, changes: Value, words: &[&str]) {
    let copy = Copy::of(name);
    copy.configure(&changes);
    refuses(&copy, &[&["config.json"], words].concat());
}

#[test]
fn a_tensor_that_is_missing_or_that_the_configuration_does_not_announce_is_refused_by_its_name() {
    let without = |name: &str, tensor: &str| {
        let copy = Copy::of(name);
        copy.change(WEIGHTS, |tensors| assert!(tensors.remove(tensor).is_some(), "{tensor}"));
        refuses(&copy, &["missing", tensor]);
    };
    without("qwen2-window", "model.layers.1.self_attn.k_proj.bias");
    without("qwen3-norms", "model.layers.0.self_attn.q_norm.weight");
    without("qwen3-window", "model.layers.2.self_attn.o_proj.bias");
    without("smollm3-window", "model.layers.0.mlp.up_proj.bias");
    without("phi3", "model.layers.1.self_attn.qkv_proj.weight");
    without("phi3", "model.layers.0.mlp.gate_up_proj.weight");
    let with = |name: &str, tensor: &str, length: usize, words: &[&str]| {
        let copy = Copy::of(name);
        let zeros = (Dtype::F32, vec![length], vec![0; 4 * length]);
        copy.change(WEIGHTS, |tensors| drop(tensors.insert(tensor.to_owned(), zeros)));
        refuses(&copy, &[&[tensor], words].concat());
    };
    with("qwen2-tied", "model.layers.1.self_attn.o_proj.bias", 16, &["denies"]);
    with("qwen3-norms", "model.layers.0.self_attn.v_proj.bias", 12, &["denies", "`attention_bias`"]);
    with("phi3", "model.layers.0.self_attn.qkv_proj.bias", 32, &["denies"]);
    with("granite", "model.layers.0.mlp.down_proj.bias", 16, &["denies", "`mlp_bias`"]);
    with("llama-gqa", "model.norm.bias", 32, &["denies"]);
    // A Qwen 3 under the name of a Qwen 2 or a Llama.
    with("qwen2-tied", "model.layers.1.self_attn.q_norm.weight", 4, &["Qwen2ForCausalLM", "`model_type`"]);
    with("llama-gqa", "model.layers.2.self_attn.k_norm.weight", 8, &["LlamaForCausalLM", "`model_type`"]);
    with("smollm3", "model.layers.4.self_attn.sinks", 4, &["SmolLM3ForCausalLM"]);
    // Layers that the configuration leaves out are left out, as transformers does.
    let fewer = smollm3("smollm3", &json!({ "num_hidden_layers": 4 }));
    assert!(fewer.unused.iter().all(|name| name.starts_with("model.layers.4.")) && !fewer.unused.is_empty());
    for (name, other) in [("qwen3-norms", "qwen2"), ("qwen2-window", "llama"), ("phi3", "llama")] {
        let copy = Copy::of(name);
        copy.configure(&json!({ "model_type": other, "architectures": "absent" }));
        assert!(Model::load(copy.path(), DType::F32, &Device::default()).is_err(), "{name} as {other}");
    }
}

#[test]
fn a_damaged_value_of_a_fused_tensor_is_named_with_its_place_in_the_file() {
    // Rows of q, k and v: 16, 8 and 8; of gate and up: 24 and 24; columns: 16.
    for (name, row) in [
        ("self_attn.qkv_proj", 0),
        ("self_attn.qkv_proj", 17),
        ("self_attn.qkv_proj", 31),
        ("mlp.gate_up_proj", 23),
        ("mlp.gate_up_proj", 24),
    ] {
        let tensor = format!("model.layers.1.{name}.weight");
        let copy = Copy::of("phi3");
        copy.change(WEIGHTS, |tensors| {
            let at = 4 * (row * 16 + 5);
            tensors.get_mut(&tensor).unwrap().2[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        refuses(&copy, &[&tensor, "NaN", &format!("[{row}, 5]")]);
    }
    let copy = Copy::of("phi3");
    copy.change(WEIGHTS, |tensors| {
        let (_, shape, bytes) = tensors.get_mut("model.layers.0.self_attn.qkv_proj.weight").unwrap();
        shape[0] -= 8;
        bytes.truncate(bytes.len() - 4 * 8 * 16);
    });
    refuses(&copy, &["qkv_proj", "[24, 16]", "[32, 16]"]);
}

#[test]
fn keys_that_contradict_or_are_not_computed_are_refused_by_name() {
    let longrope = json!({ "type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0, 2.0] });
    let words = ["\"longrope\"", "all tokens at once", "supported are"];
    refuses_config("phi3", json!({ "rope_scaling": longrope }), &words);
    refuses_config(
        "phi3",
        json!({ "rope_scaling": { "type": "su", "short_factor": [1.0] } }),
        &["\"su\"", "all tokens"],
    );
    for kind in ["yarn", "linear", "dynamic"] {
        let scaling = json!({ "rope_type": kind, "factor": 2.0 });
        refuses_config("phi3", json!({ "rope_scaling": scaling }), &["Phi-3", "longrope"]);
    }
    refuses_config("phi3", json!({ "partial_rotary_factor": 0.75 }), &["`partial_rotary_factor` is 0.75"]);
    refuses_config("phi3", json!({ "use_sliding_window": false }), &["Phi3ForCausalLM", "`sliding_window` is 8"]);
    for name in ["qwen2-window", "qwen3-window", "smollm3-window"] {
        let sliding = json!({ "use_sliding_window": false, "layer_types": ["sliding_attention", "full_attention",
            "full_attention"] });
        refuses_config(name, sliding, &["`layer_types`", "no window"]);
        refuses_config(name, json!({ "layer_types": ["full_attention"] }), &["1 entries for 3 layers"]);
        let chunked = json!({ "layer_types": ["chunked_attention", "full_attention", "full_attention"] });
        refuses_config(name, chunked, &["\"chunked_attention\"", "not read"]);
        refuses_config(name, json!({ "use_sliding_window": null }), &["`use_sliding_window` is null"]);
    }
    refuses_config("qwen2-window", json!({ "max_window_layers": -1 }), &["`max_window_layers` is -1"]);
    refuses_config("smollm3", json!({ "no_rope_layers": [1, 0] }), &["`no_rope_layers` has 2 entries for 5 layers"]);
    refuses_config("smollm3", json!({ "no_rope_layers": [1, 0, 2, 1, 1] }), &["`no_rope_layers` is"]);
    refuses_config("smollm3", json!({ "no_rope_layer_interval": 0 }), &["`no_rope_layer_interval` is 0"]);
    refuses_config("qwen3-norms", json!({ "head_dim": null }), &["`head_dim` is null"]);
    for key in ["embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"] {
        for value in [json!(0.0), json!(-1.0), json!(null), json!("1")] {
            refuses_config("granite", json!({ key: value }), &[&format!("`{key}` is")]);
        }
    }
}
