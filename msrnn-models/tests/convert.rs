//! A model from one form to the other and back is the same model.

mod common;

use std::path::Path;

use burn::tensor::{DType, Device};
use common::{Copy, golden, read, testdata, tokens, values};
use msrnn_models::Model;
use msrnn_models::config::ModelConfig;
use msrnn_models::convert::{Converted, WrittenAs, convert};
use msrnn_models::gguf::Gguf;
use msrnn_models::storage::{Storage, Weights};
use serde_json::{Value, json};

const IDS: [u32; 12] = [1, 5, 33, 17, 42, 8, 21, 60, 13, 3, 9, 50];

fn gguf(name: &str) -> std::path::PathBuf {
    testdata().join("gguf").join(name)
}

fn load(path: &Path) -> Model {
    Model::load(path, DType::F64, &Device::default()).unwrap()
}

fn logits(path: &Path) -> Vec<f64> {
    values(load(path).decoder.forward(tokens(&IDS)))
}

/// How far logits are from others, in parts of the largest.
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn to(source: &Path, out: &Path, dtype: WrittenAs) -> Converted {
    convert(source, out, dtype).unwrap()
}

const CHECKPOINTS: [&str; 14] = [
    "llama-gqa",
    "llama-tied",
    "llama-bias",
    "llama3-rope",
    "llama-linear-rope",
    "mistral-window",
    "yi-theta",
    "llama-sharded-bf16",
    "llama-f16",
    "qwen2-tied",
    "qwen3-norms",
    "smollm3",
    "phi3",
    "granite",
];

#[test]
fn a_gguf_file_as_a_directory_gives_the_same_logits_to_the_bit_and_the_same_ids() {
    let directory = tempfile::tempdir().unwrap();
    let goldens: Vec<Value> = golden("gguf.json");
    for name in ["types.gguf", "llama.gguf", "llama3.gguf", "llama-00001-of-00003.gguf"] {
        let out = directory.path().join(name.trim_end_matches(".gguf"));
        let converted = to(&gguf(name), &out, WrittenAs::F32);
        assert_eq!(converted.files.len(), 5, "{:?}", converted.files);
        assert!(converted.files.iter().all(|file| file.is_file()));
        assert_eq!(logits(&out), logits(&gguf(name)), "{name}");
        assert_eq!(load(&out).eos_token_ids, load(&gguf(name)).eos_token_ids);
        let config: Value = serde_json::from_slice(&std::fs::read(out.join("tokenizer_config.json")).unwrap()).unwrap();
        assert!(config["chat_template"].as_str().unwrap().contains("<|im_start|>"));
        let Some(golden) = goldens.iter().find(|golden| golden["file"] == name) else { continue };
        let model = load(&out);
        let tokenizer = model.tokenizer().unwrap();
        for text in golden["texts"].as_array().unwrap() {
            let ids = tokenizer.encode(text["text"].as_str().unwrap()).unwrap();
            assert_eq!(json!(ids), text["ids"], "{name}: {text}");
        }
        let int8 = Storage { weights: Weights::Int8, ..DType::F32.into() };
        if name == "types.gguf" {
            let rounded = |path: &Path| {
                let model = Model::load(path, int8, &Device::default()).unwrap();
                values(model.decoder.forward(tokens(&IDS)))
            };
            assert_eq!(rounded(&out), rounded(&gguf(name)), "{name} in int8");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().filter(is_partial).count(), 0);
    }
}

fn is_partial(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial")
}

#[test]
fn a_directory_as_a_gguf_file_gives_the_same_logits_but_for_constants_of_32_bits() {
    let directory = tempfile::tempdir().unwrap();
    for name in CHECKPOINTS {
        let source = testdata().join("checkpoints").join(name);
        let out = directory.path().join(format!("{name}.gguf"));
        to(&source, &out, WrittenAs::F32);
        let off = off(&logits(&out), &logits(&source));
        assert!(off < 1e-6, "{name}: off by {off:e}");
        let (found, expected) = (load(&out), load(&source));
        let (found, mut expected) = (found.decoder.config().clone(), expected.decoder.config().clone());
        // A file names one end, the tokenizer's where it has one.
        expected.eos_token_ids.truncate(1);
        if name == "qwen2-tied" {
            expected.eos_token_ids = vec![2];
        }
        assert_eq!(
            ModelConfig { rms_norm_eps: expected.rms_norm_eps, ..found.clone() },
            ModelConfig { rope_scaling: found.rope_scaling, ..expected.clone() },
            "{name}"
        );
        assert_eq!(std::mem::discriminant(&found.rope_scaling), std::mem::discriminant(&expected.rope_scaling));
    }
}

#[test]
fn there_and_back_every_weight_is_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["llama-gqa", "llama-bias", "llama-tied", "llama3-rope", "qwen3-norms", "smollm3", "phi3", "granite"] {
        let source = testdata().join("checkpoints").join(name);
        let (there, back) = (directory.path().join(format!("{name}.gguf")), directory.path().join(name));
        to(&source, &there, WrittenAs::F32);
        to(&there, &back, WrittenAs::F32);
        assert_eq!(read(&back.join("model.safetensors")), read(&source.join("model.safetensors")), "{name}");
        // And a GGUF file from a GGUF file.
        let again = directory.path().join(format!("{name}-again.gguf"));
        to(&there, &again, WrittenAs::F32);
        assert_eq!(logits(&again), logits(&there), "{name}");
    }
}

#[test]
fn what_differs_by_layer_in_a_way_that_a_file_cannot_say_is_refused_and_a_directory_says_it() {
    let directory = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("qwen2-window", "sliding window of 8"),
        ("qwen3-window", "sliding window of 8"),
        ("smollm3-window", "sliding window of 8"),
    ] {
        let source = testdata().join("checkpoints").join(name);
        let error = convert(&source, &directory.path().join("out.gguf"), WrittenAs::F32).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("keep the directory"), "{name}: {error}");
        let out = directory.path().join(name);
        to(&source, &out, WrittenAs::F32);
        assert_eq!(logits(&out), logits(&source), "{name}");
        assert_eq!(load(&out).decoder.config(), load(&source).decoder.config(), "{name}");
    }
    let other = Copy::of("smollm3");
    other.configure(&json!({ "no_rope_layer_interval": 2 }));
    let error = convert(other.path(), &directory.path().join("out.gguf"), WrittenAs::F32).unwrap_err().to_string();
    assert!(error.contains("do not rotate") && error.contains("keep the directory"), "{error}");
    assert!(!directory.path().join("out.gguf").exists());
}

#[test]
fn what_a_file_cannot_say_of_ends_and_added_tokens_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let notes = |source: &Path| {
        let out = tempfile::tempdir_in(directory.path()).unwrap();
        to(source, &out.path().join("m.gguf"), WrittenAs::F32).notes.join(" ")
    };
    let several = testdata().join("checkpoints/qwen3-norms");
    assert!(notes(&several).contains("end at any of the ids [2, 5], and the file, which can name one, names [2]"));
    let one = Copy::of("qwen3-norms");
    std::fs::write(one.path().join("generation_config.json"), r#"{"eos_token_id": [2]}"#).unwrap();
    assert_eq!(notes(one.path()), "");
    // Added tokens that take the spaces behind them.
    let out = directory.path().join("llama");
    to(&gguf("llama.gguf"), &out, WrittenAs::F32);
    assert_eq!(notes(&out), "");
    let path = out.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    added.iter_mut().find(|token| token["content"] == "<think>").unwrap()["rstrip"] = true.into();
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let notes = notes(&out);
    assert!(notes.contains("gives other ids to some texts") && notes.contains("a <think>"), "{notes}");
}

#[test]
fn fewer_bits_are_the_weights_rounded() {
    let directory = tempfile::tempdir().unwrap();
    let source = testdata().join("checkpoints/llama-gqa");
    let exact = logits(&source);
    let mut sizes = Vec::new();
    for (dtype, least, most) in
        [(WrittenAs::F16, 1e-6, 5e-3), (WrittenAs::BF16, 1e-4, 5e-2), (WrittenAs::Q8_0, 1e-4, 1e-1)]
    {
        let out = directory.path().join(format!("{dtype}.gguf"));
        to(&source, &out, dtype);
        let off = off(&logits(&out), &exact);
        assert!(off > least && off < most, "{dtype}: off by {off:e}");
        sizes.push(std::fs::metadata(&out).unwrap().len());
        let Some(as_directory) = (dtype != WrittenAs::Q8_0).then(|| directory.path().join(dtype.to_string())) else {
            let error = convert(&source, &directory.path().join("q8"), dtype).unwrap_err().to_string();
            assert!(error.contains("q8_0") && error.contains("f32, f16 or bf16"), "{error}");
            continue;
        };
        to(&source, &as_directory, dtype);
        let config: Value = serde_json::from_slice(&std::fs::read(as_directory.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], if dtype == WrittenAs::F16 { "float16" } else { "bfloat16" });
    }
    assert!(sizes[0] == sizes[1] && sizes[2] < sizes[0], "{sizes:?}");
}

#[test]
fn a_tokenizer_as_a_vocabulary_gives_the_same_ids_or_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let goldens: Vec<Value> = golden("tokenizers.json");
    for name in ["llama-tied", "yi-theta", "llama3-rope"] {
        let source = testdata().join("checkpoints").join(name);
        let out = directory.path().join(format!("{name}.gguf"));
        let converted = to(&source, &out, WrittenAs::F32);
        let (before, after) = (load(&source), load(&out));
        let (before, after) = (before.tokenizer().unwrap(), after.tokenizer().unwrap());
        assert_eq!(after.prefix().unwrap(), before.prefix().unwrap(), "{name}");
        let golden = goldens.iter().find(|golden| golden["tokenizer"] == format!("checkpoints/{name}")).unwrap();
        let texts = golden["texts"].as_array().unwrap().iter().map(|text| text["text"].as_str().unwrap());
        let differ: Vec<&str> =
            texts.filter(|text| after.encode(text).unwrap() != before.encode(text).unwrap()).collect();
        let said = converted.notes.iter().any(|note| note.contains("other ids"));
        assert!(differ.is_empty() || said, "{name}: {differ:?}, {:?}", converted.notes);
        // It takes words that are tokens as they are (`ignore_merges`), which a GGUF file does not say.
        assert!(name != "llama3-rope" || said, "{differ:?}");
    }
    // Without one there is none.
    let out = directory.path().join("bias.gguf");
    to(&testdata().join("checkpoints/llama-bias"), &out, WrittenAs::F32);
    let model = load(&out);
    assert!(model.tokenizer.is_none());
    assert!(model.tokenizer().unwrap_err().to_string().contains("no vocabulary"));
}

#[test]
fn what_a_gguf_file_cannot_say_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refuses = |copy: &Copy, words: &str| {
        let out = directory.path().join("out.gguf");
        let error = convert(copy.path(), &out, WrittenAs::F32).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{words}");
    };
    let dynamic = Copy::of("llama-gqa");
    dynamic.configure(&json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 2.0 } }));
    refuses(&dynamic, "dynamic");
    let yarn = Copy::of("llama-gqa");
    yarn.configure(&json!({ "rope_scaling": { "rope_type": "yarn", "factor": 2.0, "attention_factor": 3.0 } }));
    refuses(&yarn, "attention_factor");
    let llama3 = Copy::of("llama3-rope");
    llama3.configure(&json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 2.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64 } }));
    refuses(&llama3, "low_freq_factor");
    let words = Copy::of("llama-gqa");
    std::fs::write(
        words.path().join("tokenizer.json"),
        r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#,
    )
    .unwrap();
    refuses(&words, "WordLevel");
}

#[test]
fn nothing_is_written_over_and_what_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let source = testdata().join("checkpoints/llama-gqa");
    let (file, folder) = (directory.path().join("a.gguf"), directory.path().join("a"));
    for out in [&file, &folder] {
        to(&source, out, WrittenAs::F32);
        let error = convert(&source, out, WrittenAs::F32).unwrap_err().to_string();
        assert!(error.contains("there already"), "{error}");
    }
    let broken = Copy::of("llama-gqa");
    broken.change("model.safetensors", |tensors| {
        // In the last tensor that is written.
        let (_, _, bytes) = tensors.get_mut("lm_head.weight").unwrap();
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    for out in [directory.path().join("b.gguf"), directory.path().join("b")] {
        let error = convert(broken.path(), &out, WrittenAs::F32).unwrap_err().to_string();
        assert!(error.contains("lm_head.weight"), "{error}");
    }
    let mut left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "a.gguf"]);
}

#[test]
fn what_a_dead_writer_left_is_taken_over_and_a_living_one_or_a_stranger_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (out, partial) = (directory.path().join("m"), directory.path().join("m.partial"));
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("model.safetensors.partial"), "half").unwrap();
    std::fs::write(partial.join(".writing"), "").unwrap();
    let claim = msrnn_models::whole::lock(&partial.join(".writing")).unwrap();
    let source = testdata().join("checkpoints/llama-gqa");
    let refused = || convert(&source, &out, WrittenAs::F32).unwrap_err().to_string();
    assert!(refused().contains("another msrnn"));
    drop(claim);
    std::fs::write(partial.join("precious"), "").unwrap();
    assert!(refused().contains("precious is in the way"));
    std::fs::remove_file(partial.join("precious")).unwrap();
    to(&source, &out, WrittenAs::F32);
    assert!(!partial.exists() && out.join("config.json").is_file() && !out.join(".writing").exists());
}

/// What GGUF has words for is read back as it was.
#[test]
fn a_vocabulary_goes_from_file_to_file_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["types.gguf", "llama.gguf", "llama3.gguf"] {
        let out = directory.path().join(name);
        let converted = to(&gguf(name), &out, WrittenAs::F16);
        assert!(converted.notes.is_empty(), "{name}: {:?}", converted.notes);
        let of = |path: &Path| Gguf::open(path).unwrap().vocabulary().unwrap();
        let (found, expected) = (of(&out), of(&gguf(name)));
        assert_eq!((found.tokenizer(), found.config), (expected.tokenizer(), expected.config), "{name}");
    }
}

#[test]
fn the_files_name_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("again.gguf");
    to(&gguf("types.gguf"), &out, WrittenAs::Q8_0);
    let bytes = std::fs::read(&out).unwrap();
    assert!(bytes.windows(5).any(|window| window == b"Types"));
    assert!(Gguf::open(&out).unwrap().vocabulary().is_ok());
}
