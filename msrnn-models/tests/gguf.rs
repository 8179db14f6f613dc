//! GGUF files against what Hugging Face transformers makes of the same files; `testdata/make_gguf.py` made both.
//!
//! A real model is not part of this repository: with its path in `MSRNN_SMOLLM2_GGUF` it is read too, without it that
//! counts as ignored.

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use common::{golden, testdata, tokens, values};
use libtest_mimic::{Arguments, Failed, Trial};
use msrnn_core::compression::Compression;
use msrnn_core::kernels::Activations;
use msrnn_models::Model;
use msrnn_models::convert::{WrittenAs, convert};
use msrnn_models::generate::generate;
use msrnn_models::gguf::Gguf;
use msrnn_models::matrix::Values;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::tokenizer::{Bos, TextOptions, Tokenizer};
use msrnn_models::weights;
use serde::Deserialize;

/// Weights as the file has them.
const STORED: Storage = Storage { weights: Weights::Stored, states: DType::F32, activations: Activations::Float };

/// Where the real model is.
const REAL: &str = "MSRNN_SMOLLM2_GGUF";

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let goldens: Vec<Golden> = golden("gguf.json");
    assert!(goldens.len() > 10);
    for golden in goldens {
        let path = testdata().join("gguf").join(&golden.file);
        let name = golden.file.clone();
        trials.push(trial(&name, "gives_the_ids_and_texts_of_transformers_conversion", true, move || {
            golden.check(&path)
        }));
    }
    let logits: Vec<Logits> = golden("gguf-logits.json");
    assert_eq!(logits.len(), 8);
    for golden in logits {
        let path = testdata().join("gguf").join(golden.file.as_deref().unwrap());
        let name = golden.file.clone().unwrap();
        trials.push(trial(&name, "gives_the_logits_of_the_dequantised_weights", true, move || {
            golden.check(&path, &[(DType::F64.into(), 1e-9), (DType::F32.into(), 1e-4), (STORED, 1e-4)]);
        }));
    }
    trials.push(trial("parts", "give_the_logits_of_the_whole_file_to_the_bit", true, parts));
    trials.push(trial("dtypes", "are_those_of_the_values_rounded", true, dtypes));
    trials.push(trial("stored", "holds_matrices_in_the_bytes_of_the_file", true, in_the_bytes_of_the_file));
    trials.push(trial("rounded", "gives_nearly_the_logits_of_the_activations_as_they_are", true, || {
        // Values in random blocks are far from zero, and cancel.
        for (name, most) in [("types.gguf", 0.2), ("llama.gguf", 0.05)] {
            rounded(&testdata().join("gguf").join(name), &IDS, most);
        }
    }));
    trials.push(trial("notes", "say_where_a_file_is_read_otherwise_than_by_others", true, notes));

    let real = std::env::var_os(REAL).map(PathBuf::from);
    let there = real.as_deref().is_some_and(Path::is_file);
    let real = real.unwrap_or_default();
    let path = real.clone();
    trials.push(trial("smollm2", "gives_the_ids_and_texts_of_transformers_conversion", there, move || {
        golden::<Golden>("gguf-smollm2.json").check(&path);
    }));
    trials.push(trial("smollm2", "gives_the_logits_of_the_dequantised_weights", there, move || {
        golden::<Real>("gguf-smollm2.json").logits.check(&real, &[(DType::F32.into(), 1e-4), (STORED, 1e-4)]);
    }));
    let path = std::env::var_os(REAL).map(PathBuf::from).unwrap_or_default();
    let same = path.clone();
    trials.push(trial("smollm2", "gives_nearly_the_logits_of_the_activations_as_they_are", there, move || {
        rounded(&same, &IDS, 0.05);
    }));
    trials.push(trial("smollm2", "writes_the_same_as_the_directory_made_of_it", there, move || same_text(&path)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, what: &str, there: bool, run: impl FnOnce() + Send + 'static) -> Trial {
    let run = move || {
        run();
        Ok::<(), Failed>(())
    };
    Trial::test(format!("{name}::{what}"), run).with_ignored_flag(!there)
}

/// Greedy generation from a file and from the directory that is made of it.
fn same_text(path: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model");
    convert(path, &out, WrittenAs::F32).unwrap();
    let written = |path: &Path| {
        let model = Model::load(path, DType::F32, &Device::default()).unwrap();
        let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
        let tokenizer = model.tokenizer().unwrap();
        let prompt = tokenizer.prompt("The history of the bicycle begins").unwrap();
        let greedy = Sampling::default();
        let made = generate(&model, &recurrent, &prompt, Protocol::Strict, greedy, 32, |_| true).unwrap();
        tokenizer.continuation(&prompt, &made.tokens).unwrap()
    };
    let text = written(path);
    assert!(text.contains(" the ") && text.len() > 80, "{text}");
    assert_eq!(written(&out), text);
}

/// What transformers makes of a file's vocabulary.
#[derive(Deserialize)]
struct Golden {
    file: String,
    bos_token: String,
    chat_template: String,
    texts: Vec<Text>,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    with_special: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Sequence {
    ids: Vec<u32>,
    decoded: String,
}

impl Golden {
    fn check(&self, path: &Path) {
        let vocabulary = Gguf::open(path).unwrap().vocabulary().unwrap();
        assert_eq!(vocabulary.config["chat_template"], self.chat_template.as_str());
        assert_eq!(vocabulary.config["bos_token"], self.bos_token.as_str());
        let tokenizer = Tokenizer::of_vocabulary(&self.file, vocabulary.clone(), None).unwrap();
        assert!(self.texts.len() > 30);
        let prefix = tokenizer.prefix().unwrap();
        for Text { text, ids, with_special, decoded } in &self.texts {
            assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{}: {text:?}", self.file);
            // What a template puts behind a text is left out on purpose.
            assert!(with_special.starts_with(&[prefix.as_slice(), ids].concat()), "{}: {text:?}", self.file);
            assert_eq!(tokenizer.decode(ids).unwrap(), *decoded, "{}: {text:?}", self.file);
        }
        for Sequence { ids, decoded } in &self.sequences {
            assert_eq!(tokenizer.decode(ids).unwrap(), *decoded, "{}: {ids:?}", self.file);
        }
        let always = tokenizer.with(TextOptions { bos: Bos::Always, ..TextOptions::default() }).unwrap();
        assert_eq!(always.prefix().unwrap(), [1]);
    }
}

#[derive(Deserialize)]
struct Real {
    logits: Logits,
}

/// What transformers' model gives with the weights taken out of their blocks: every `step`-th logit.
#[derive(Deserialize)]
struct Logits {
    file: Option<String>,
    ids: Vec<u32>,
    step: usize,
    logits: Vec<Vec<f64>>,
}

impl Logits {
    fn check(&self, path: &Path, storages: &[(Storage, f64)]) {
        let expected = self.logits.concat();
        let largest = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(largest > 0.5 && self.logits.len() == self.ids.len());
        for &(storage, tolerance) in storages {
            let model = Model::load(path, storage, &Device::default()).unwrap();
            assert!(model.unused.is_empty(), "{:?}", model.unused);
            let vocab = model.decoder.config().vocab_size;
            let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
            let scanned = recurrent.scan(tokens(&self.ids), &mut recurrent.initial_states(1));
            let mut states = recurrent.initial_states(1);
            let steps = self.ids.iter().map(|id| recurrent.step(tokens(&[*id]).reshape([1]), &mut states)).collect();
            let forward = model.decoder.forward(tokens(&self.ids));
            for (form, logits) in [("forward", forward), ("scan", scanned), ("steps", Tensor::stack(steps, 1))] {
                let logits = values(logits);
                let found: Vec<f64> =
                    logits.chunks(vocab).flat_map(|row| row.iter().step_by(self.step)).copied().collect();
                assert_eq!(found.len(), expected.len());
                let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
                assert!(off < tolerance, "{}, {storage:?}, {form}: off by {off:e}", path.display());
            }
        }
    }
}

fn load(name: &str, storage: impl Into<Storage>) -> Model {
    Model::load(&testdata().join("gguf").join(name), storage, &Device::default()).unwrap()
}

const IDS: [u32; 7] = [1, 5, 90, 17, 300, 42, 8];

fn parts() {
    let logits = |name: &str| values(load(name, DType::F32).decoder.forward(tokens(&IDS)));
    assert_eq!(logits("llama-00001-of-00003.gguf"), logits("llama.gguf"));
}

/// In fewer bits a model has the weights of the f32 model rounded, and so are those in the file.
fn dtypes() {
    for name in ["types.gguf", "llama.gguf"] {
        let weights = |dtype| weights::named_data(&load(name, dtype).decoder);
        let wide = weights(DType::F32);
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            for ((named, found), (_, wide)) in weights(dtype).into_iter().zip(&wide) {
                assert_eq!(
                    found.as_bytes(),
                    wide.clone().convert_dtype(dtype).as_bytes(),
                    "{name}: {} {dtype:?}",
                    named.name
                );
            }
        }
    }
}

/// Matrices in the forms of the file.
fn in_the_bytes_of_the_file() {
    for (name, of_all) in
        [("llama3.gguf", Some(2)), ("family-granite.gguf", Some(4)), ("llama.gguf", None), ("types.gguf", None)]
    {
        let model = load(name, STORED);
        let matrices = model.decoder.matrices();
        let found: usize = matrices.iter().map(|matrix| matrix.bytes()).sum();
        let elements: usize = matrices.iter().map(|matrix| matrix.weight().dims().iter().product::<usize>()).sum();
        let in_blocks = matrices.iter().filter(|matrix| matches!(matrix.values, Values::Blocks(_))).count();
        match of_all {
            Some(bytes) => assert!(found == bytes * elements && in_blocks == 0, "{name}: {found} bytes"),
            None => assert!(found < 3 * elements && in_blocks >= 7, "{name}: {found} bytes, {in_blocks} in blocks"),
        }
    }
}

/// Activations in 8 bits move logits by a little, and in steps as in a block.
fn rounded(path: &Path, ids: &[u32], most: f64) {
    let logits = |activations, by_step: bool| {
        let model = Model::load(path, Storage { activations, ..STORED }, &Device::default()).unwrap();
        let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
        let mut states = recurrent.initial_states(1);
        match by_step {
            false => values(recurrent.scan(tokens(ids), &mut states)),
            true => {
                ids.iter().flat_map(|id| values(recurrent.step(tokens(&[*id]).reshape([1]), &mut states))).collect()
            }
        }
    };
    let (expected, largest) = (logits(Activations::Float, false), logits(Activations::Float, false));
    let largest = largest.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let off = |found: &[f64], expected: &[f64]| {
        found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
    };
    let [block, steps] = [false, true].map(|by_step| logits(Activations::Int8, by_step));
    // Half a step of 127 in every sum, much of which cancels; and a sum that is rounded otherwise may be rounded to the
    // next of them.
    let rounding = off(&block, &expected);
    assert!(rounding > 1e-5 && rounding < most, "{}: off by {rounding:e}", path.display());
    assert!(off(&steps, &block) < rounding, "{}: steps are off by {:e}", path.display(), off(&steps, &block));
}

fn notes() {
    let notes = |name: &str| {
        let vocabulary = Gguf::open(&testdata().join("gguf").join(name)).unwrap().vocabulary().unwrap();
        vocabulary.notes.join(" ")
    };
    for (name, words) in [
        ("vocab-smollm.gguf", "digit"),
        ("vocab-unsaid.gguf", "does not say how texts are cut"),
        ("vocab-llama-no-space.gguf", "add_space_prefix"),
    ] {
        assert!(notes(name).contains(words), "{name}: {}", notes(name));
    }
    for name in
        ["vocab-gpt2.gguf", "vocab-tekken.gguf", "types.gguf", "llama.gguf", "vocab-llama-old.gguf", "vocab-phi3.gguf"]
    {
        assert_eq!(notes(name), "", "{name}");
    }
    // The command says them when it opens a model.
    assert!(load("types.gguf", DType::F32).warnings().is_empty());
}
