//! What the command makes of texts and prompts: what they begin with, special tokens in them, and the text that comes.

use std::path::Path;

use crate::common::{self, checkpoint, copy, msrnn, read_json, split, succeeds, text_of, write};
use msrnn_bench::experiment::Watch;
use msrnn_bench::experiment::generation::{Ended, Generation};
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::generate::generate;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use msrnn_models::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// A checkpoint of each family.
const FAMILIES: [&str; 3] = ["llama-tied", "yi-theta", "llama3-rope"];

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn generate_shows_what_the_new_ids_add_to_the_text_of_the_prompt() {
    for name in FAMILIES {
        let tokenizer = Tokenizer::read(&checkpoint(name), Some(1)).unwrap();
        let model = checkpoint(name);
        for (seed, prompt) in ["the", "the cat", "café", "the ", "<s>the"].iter().enumerate() {
            let seed = seed.to_string();
            let run = ["generate", "--policy", "full", "--temperature", "1", "--max-new-tokens", "60", "--seed", &seed];
            let run = [&run[..], &["--model", text_of(&model), "--prompt", prompt]].concat();
            let report = succeeds(&[&run[..], &["--json"]].concat()).json();
            let expected = tokenizer.continuation(&tokenizer.prompt(prompt).unwrap(), &ids(&report["ids"])).unwrap();
            assert_eq!(report["text"], expected, "{name}, {prompt:?}");
            assert_eq!(succeeds(&run).stdout, format!("{prompt}{expected}\n"));
        }
    }
}

#[test]
fn answers_and_stop_texts_are_looked_for_in_that_text() {
    let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &std::sync::atomic::AtomicBool::new(false) };
    let device = burn::tensor::Device::flex();
    for name in FAMILIES {
        let model = Model::load(&checkpoint(name), burn::tensor::DType::F64, &device).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let prompt = tokenizer.prompt("the cat").unwrap();
        let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
        for seed in 0..6 {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
            let drawn = generate(&model, &recurrent, &prompt, Protocol::Strict, sampling, 60, |_| true).unwrap().tokens;
            let whole = tokenizer.continuation(&prompt, &drawn).unwrap();
            let write = |stop: &[String]| {
                let generation = Generation {
                    compression: Compression::Unbounded,
                    positions: Positions::Original,
                    protocol: Protocol::Strict,
                    sampling,
                    max_new_tokens: 60,
                    stop,
                };
                generation.write(&model, &prompt, &[], &watch).unwrap().unwrap()
            };
            assert_eq!(write(&[]).text, whole.trim());
            // Every character of the text as a stop text ends it at its first place, with the token that brings it.
            for stop in whole.chars().collect::<std::collections::BTreeSet<char>>() {
                let written = write(&[stop.to_string()]);
                assert_eq!(
                    (&*written.text, written.ended),
                    (whole.split(stop).next().unwrap().trim(), Ended::StopText)
                );
                let brings = |n: &usize| tokenizer.continuation(&prompt, &drawn[..*n]).unwrap().contains(stop);
                assert_eq!(Some(written.tokens), (1..=drawn.len()).find(brings), "{stop:?} in {whole:?}");
            }
        }
    }
}

/// `msrnn perplexity` of a text.
fn score(model: &Path, text: &Path, more: &[&str]) -> common::Done {
    let run = ["perplexity", "--policy", "full", "--context", "8", "--model", text_of(model), "--text", text_of(text)];
    succeeds(&[&run[..], more].concat())
}

#[test]
fn contexts_begin_as_the_tokenizer_says_or_as_bos_asks_for() {
    let place = tempfile::tempdir().unwrap();
    let text = write(place.path(), "text.txt", "the cat and the cat on the sea and the cat");
    let spelled = write(place.path(), "spelled.txt", "<s>the cat and the cat on the sea and the cat");
    let of = |name: &str, text: &Path, bos: &str| score(&checkpoint(name), text, &["--json", "--bos", bos]).json();
    for (name, auto) in [("llama-tied", json!([1])), ("yi-theta", json!([]))] {
        let report = of(name, &text, "auto");
        assert_eq!((&report["prefix"], &report["bos"]), (&auto, &json!("auto")), "{name}");
        let (always, never) = (of(name, &text, "always"), of(name, &text, "never"));
        assert_eq!((&always["prefix"], &never["prefix"]), (&json!([1]), &json!([])), "{name}");
        // Without a token before it the first one of a context is not predicted.
        let contexts = never["contexts"].as_array().unwrap().len() as u64;
        assert_eq!(never["tokens"].as_u64().unwrap() + contexts, always["tokens"].as_u64().unwrap());
        assert_eq!(if auto == json!([]) { &never["nll"] } else { &always["nll"] }, &report["nll"]);
        // A BOS that the text spells itself is not put twice.
        let twice = of(name, &spelled, "always");
        assert_eq!((&twice["nll"], &twice["tokens"]), (&always["nll"], &always["tokens"]), "{name}");
    }
    let said = score(&checkpoint("yi-theta"), &text, &[]).stdout;
    assert!(said.contains("first token of each is not predicted"), "{said}");
    assert!(score(&checkpoint("llama-tied"), &text, &[]).stdout.contains("each begun with [1]"));
}

#[test]
fn special_tokens_that_a_scored_text_spells_are_counted_or_taken_literally() {
    let place = tempfile::tempdir().unwrap();
    let text = write(place.path(), "text.txt", "the cat</s> and the</s> cat");
    let model = checkpoint("llama-tied");
    let warns = |done: &common::Done| done.stderr.contains("spells 2 special tokens");
    let parsed = score(&model, &text, &["--json"]);
    let literal = score(&model, &text, &["--json", "--special-tokens", "literal"]);
    assert!(warns(&parsed) && parsed.stderr.contains("--special-tokens literal"), "{}", parsed.stderr);
    assert!(!warns(&literal), "{}", literal.stderr);
    assert!(literal.json()["tokens"].as_u64() > parsed.json()["tokens"].as_u64());
    assert_eq!(literal.json()["special_tokens"], "literal");
    // A prompt may spell them.
    let generate = ["generate", "--policy", "full", "--prompt", "the</s>", "--max-new-tokens", "2"];
    assert!(!succeeds(&[&generate[..], &["--model", text_of(&model)]].concat()).stderr.contains("spells"));
}

#[test]
fn ids_that_the_model_has_no_embedding_for_are_said_and_refused_when_a_text_needs_them() {
    let place = tempfile::tempdir().unwrap();
    let model = copy(&checkpoint("llama-tied"), &place.path().join("model"));
    let mut tokenizer = read_json(&model.join("tokenizer.json"));
    let added = json!({"id": 64, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    write(&model, "tokenizer.json", tokenizer.to_string());
    let text = write(place.path(), "text.txt", "the cat and the cat");
    let done = score(&model, &text, &[]);
    assert!(done.stderr.contains("ids up to 64") && done.stderr.contains("embedding for 64"), "{}", done.stderr);
    write(place.path(), "text.txt", "the cat<pad> and the cat");
    let run = ["perplexity", "--policy", "full", "--model", text_of(&model), "--text", text_of(&text)];
    let done = msrnn(&run);
    assert!(done.code == Some(1) && done.stderr.contains("token id 64"), "{done:?}");
}

#[test]
fn a_broken_tokenizer_is_an_error_of_its_name() {
    let place = tempfile::tempdir().unwrap();
    let text = write(place.path(), "text.txt", "the cat and the cat");
    let broken = [
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAA"})),
        ("decoder", json!({"type": "Replace", "pattern": {"Regex": "(("}, "content": ""})),
    ];
    for (key, value) in broken {
        let model = copy(&checkpoint("llama-tied"), &place.path().join(key));
        let mut tokenizer = read_json(&model.join("tokenizer.json"));
        tokenizer[key] = value;
        let path = write(&model, "tokenizer.json", tokenizer.to_string());
        let run = ["perplexity", "--policy", "full", "--model", text_of(&model), "--text", text_of(&text)];
        let done = msrnn(&run);
        assert!(done.code == Some(1) && done.stderr.contains(text_of(&path)), "{done:?}");
    }
}

#[test]
fn how_texts_are_read_is_part_of_an_experiments_setting() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let run = split("experiment lm --stories 1 --context 40 --policies window --states 8 --batch 1 --jobs 1 --out");
    let run = [&run[..], &[text_of(&out)]].concat();
    succeeds(&run);
    let notes = std::fs::read_to_string(out.join("metrics.json")).unwrap();
    assert!(notes.contains("each begun with [0] (bos: auto)"), "{notes}");
    let manifest = std::fs::read_to_string(out.join("manifest.toml")).unwrap();
    assert!(manifest.contains("bos = \"auto\"") && manifest.contains("special_tokens = \"auto\""), "{manifest}");
    let done = msrnn(&[&run[..], &["--bos", "never"]].concat());
    assert!(done.code == Some(1) && done.stderr.contains("never"), "{done:?}");
    // Where it leads to the same ids nothing is done again.
    let done = succeeds(&[&run[..], &["--special-tokens", "literal"]].concat());
    assert!(done.stderr.contains("3 of 3 units were finished before"), "{done:?}");
    let never = place.path().join("never");
    let run = [&run[..run.len() - 1], &[text_of(&never), "--bos", "never"]].concat();
    succeeds(&run);
    let notes = std::fs::read_to_string(never.join("metrics.json")).unwrap();
    assert!(notes.contains("first token of each is not predicted"), "{notes}");
}
