//! Configurations and files as people have them, against what Hugging Face transformers makes of them;
//! `testdata/make_checkpoint_cases.py` made the numbers.

mod common;

use burn::tensor::{DType, Device};
use common::{Copy, Tensors, golden, tokens, values};
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::config::ModelConfig;
use msrnn_models::recurrent::{Positions, Recurrent};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Ropes {
    ids: Vec<u32>,
    rows: Vec<usize>,
    block_tokens: usize,
    cases: Vec<Rope>,
}

#[derive(Deserialize)]
struct Rope {
    name: String,
    base: String,
    changes: Value,
    forward: Vec<Vec<f64>>,
    steps: Vec<Vec<f64>>,
    block: Vec<Vec<f64>>,
}

#[track_caller]
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
    assert!(off < tolerance, "{what}: off by {off:e}");
}

#[test]
fn every_spelling_and_scaling_of_rope_gives_hugging_faces_logits_in_every_form() {
    let Ropes { ids, rows, block_tokens, cases } = golden("rope.json");
    assert!(cases.len() > 15);
    for case in &cases {
        let copy = Copy::of(&case.base);
        copy.configure(&case.changes);
        // Beyond the context, f32 has the angles of a dynamic θ to the rounding of positions.
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let model = Model::load(copy.path(), dtype, &Device::default()).unwrap();
            let vocab = model.decoder.config().vocab_size;
            let picked = |logits: &[f64]| -> Vec<f64> {
                rows.iter().flat_map(|row| logits[row * vocab..row * vocab + 6].to_vec()).collect()
            };
            let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
            let scans = |block: usize, chunk: usize| {
                let mut states = recurrent.initial_states(1);
                let mut logits = Vec::new();
                if block > 0 {
                    logits.extend(values(recurrent.prefill(tokens(&ids[..block]), &mut states).unwrap()));
                }
                for chunk in ids[block..].chunks(chunk) {
                    logits.extend(values(recurrent.scan(tokens(chunk), &mut states)));
                }
                logits
            };
            for (form, logits, expected) in [
                ("forward", values(model.decoder.forward(tokens(&ids))), &case.forward),
                ("steps", scans(0, 1), &case.steps),
                ("scan", scans(0, ids.len()), &case.steps),
                ("prefill of all", scans(ids.len(), 1), &case.forward),
                ("prefill, steps", scans(block_tokens, 1), &case.block),
                ("prefill, scan", scans(block_tokens, 7), &case.block),
            ] {
                let what = format!("{}, {dtype:?}, {form}", case.name);
                close(&what, &picked(&logits), &expected.concat(), tolerance);
            }
        }
    }
}

#[derive(Deserialize)]
struct Files {
    ids: Vec<u32>,
    cases: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    base: String,
    changes: Value,
    last: Vec<f64>,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn rename(tensors: &mut Tensors, name: impl Fn(&str) -> String) {
    *tensors = std::mem::take(tensors).into_iter().map(|(old, tensor)| (name(&old), tensor)).collect();
}

/// What the script of the same name does to the tensors.
fn change(name: &str, tensors: &mut Tensors) {
    match name {
        "without model." | "a model without head" => {
            rename(tensors, |name| name.strip_prefix("model.").unwrap_or(name).to_owned());
        }
        "model. twice" => rename(tensors, |name| format!("model.{name}")),
        "tied, head written" => drop(tensors.insert(HEAD.into(), tensors[EMBEDDING].clone())),
        "tied, head alone" => rename(tensors, |name| name.replace("model.embed_tokens", "lm_head")),
        "tied, another head" => {
            let (dtype, shape, bytes) = tensors[EMBEDDING].clone();
            let double = |bytes: &[u8]| (2.0 * f32::from_le_bytes(bytes.try_into().unwrap())).to_le_bytes();
            let bytes = bytes.chunks(4).flat_map(double).collect();
            tensors.insert(HEAD.into(), (dtype, shape, bytes));
        }
        "inverse frequencies" => {
            let ones = 1f32.to_le_bytes().repeat(4);
            let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
            tensors.insert(name.into(), (safetensors::tensor::Dtype::F32, vec![4], ones));
        }
        _ => {}
    }
}

#[test]
fn files_with_other_names_heads_and_architectures_give_hugging_faces_logits() {
    let Files { ids, cases } = golden("files.json");
    assert!(cases.len() > 10);
    for case in &cases {
        let copy = Copy::of(&case.base);
        copy.configure(&case.changes);
        copy.change("model.safetensors", |tensors| change(&case.name, tensors));
        let model = Model::load(copy.path(), DType::F64, &Device::default()).unwrap();
        let logits = values(model.decoder.forward(tokens(&ids)));
        close(&case.name, &logits[logits.len() - case.last.len()..], &case.last, 1e-9);
        assert_eq!(model.notes.is_empty(), case.name != "tied, another head", "{}: {:?}", case.name, model.notes);
        assert_eq!(model.unused.is_empty(), case.name != "fewer layers", "{}: {:?}", case.name, model.unused);
    }
}

#[derive(Deserialize)]
struct Configs {
    cases: Vec<Config>,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    config: Value,
    expected: Value,
}

#[test]
fn configurations_are_read_as_transformers_reads_them() {
    let Configs { cases } = golden("configs.json");
    assert!(cases.len() > 8);
    for Config { name, config, mut expected } in cases {
        let read = ModelConfig::parse(&config.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found = serde_json::to_value(&read).unwrap();
        found["model_type"] = read.architecture.model_type().into();
        found["layer_types"] = read.to_json().get("layer_types").cloned().unwrap_or_default();
        found["no_rope_layers"] = read.to_json().get("no_rope_layers").cloned().unwrap_or_default();
        let scale = expected.as_object_mut().unwrap().remove("attention_scale").unwrap().as_f64().unwrap();
        assert!((read.attention_scale() / scale - 1.0).abs() < 1e-15, "{name}: {scale}");
        for (key, expected) in expected.as_object_mut().unwrap() {
            assert_eq!(&found[key.as_str()], expected, "{name}: {key}");
        }
        assert_eq!(ModelConfig::parse(&read.to_json().to_string()).as_ref(), Ok(&read), "{name}");
    }
}
