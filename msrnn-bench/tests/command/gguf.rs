//! The command on GGUF files, and `msrnn convert`.

use std::path::PathBuf;

use crate::common::{checkpoint, msrnn, perplexity, succeeds, testdata, text_of, write, write_ids};
use serde_json::Value;

fn gguf(name: &str) -> PathBuf {
    testdata().join("gguf").join(name)
}

#[test]
fn a_gguf_file_and_the_directory_made_of_it_give_the_same_results() {
    let directory = tempfile::tempdir().unwrap();
    for (file, prompt) in [("types.gguf", "The cat sat"), ("llama.gguf", "In 2024 there were")] {
        let (source, out) = (gguf(file), directory.path().join(file.trim_end_matches(".gguf")));
        let done = succeeds(&["convert", "--model", text_of(&source), "--out", text_of(&out)]);
        for name in
            ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
        {
            assert!(out.join(name).is_file() && done.stdout.contains(name), "{}", done.stdout);
        }
        let text = write(
            directory.path(),
            "text.txt",
            "The cat sat on the mat,\n  and 12 other cats did not: déjà vu. 猫\n".repeat(4),
        );
        let both = |run: &[&str], keys: &[&str]| {
            let of = |model: &PathBuf| {
                let done = succeeds(&[run, &["--json", "--dtype", "f64", "--model", text_of(model)]].concat());
                assert_eq!(done.stderr, "", "no warning");
                let json = done.json();
                keys.iter().map(|key| json[key].clone()).collect::<Vec<Value>>()
            };
            let (found, expected) = (of(&source), of(&out));
            assert_eq!(found, expected, "{file}: {run:?}");
            assert!(found.iter().all(|value| !value.is_null()), "{found:?}");
        };
        let run = ["perplexity", "--text", text_of(&text), "--context", "32", "--policy", "tova@8"];
        both(&run, &["nll", "bits_per_byte", "omitted", "prefix"]);
        both(&["generate", "--prompt", prompt, "--policy", "window+4@8", "--max-new-tokens", "24"], &["ids", "text"]);
    }
}

#[test]
fn a_directory_and_the_gguf_file_made_of_it_give_the_same_perplexity() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let (source, out) = (checkpoint("llama-gqa"), directory.path().join("m.gguf"));
    succeeds(&["convert", "--model", text_of(&source), "--out", text_of(&out)]);
    let nll = |model: &PathBuf| perplexity(model, &ids, "h2o@8", &[])["nll"].as_f64().unwrap();
    assert!((nll(&out) - nll(&source)).abs() < 1e-6 * nll(&source));
}

#[test]
fn checkpoints_of_every_architecture_and_their_gguf_files_are_scored_alike() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["qwen2-tied", "qwen3-norms", "smollm3", "phi3", "granite"] {
        let ids = write_ids(name, directory.path());
        let nll = |model: &PathBuf| perplexity(model, &ids, "tova@6", &[])["nll"].as_f64().unwrap();
        let (file, source) = (nll(&gguf(&format!("family-{name}.gguf"))), nll(&checkpoint(name)));
        assert!((file - source).abs() < 1e-5 * source, "{name}: {file} and {source}");
    }
}

#[test]
fn a_qwen_begins_with_nothing_a_phi_with_bos_and_both_are_compared_and_continue_text() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", "the cat and the cat on the sea, it's on and on. ".repeat(8));
    let wide = ["--dtype", "f64", "--json"];
    for (name, prefix) in [("qwen2-tied", serde_json::json!([])), ("phi3", serde_json::json!([1]))] {
        let model = checkpoint(name);
        let on = |run: &[&str]| succeeds(&[run, &wide, &["--model", text_of(&model)]].concat());
        let scored = ["perplexity", "--policy", "full", "--context", "32", "--text", text_of(&text)];
        assert_eq!(on(&scored).json()["prefix"], prefix, "{name}");
        // What is asked for is config.json's, which of this Qwen has none.
        let always = msrnn(&[&scored[..], &["--bos", "always", "--model", text_of(&model)]].concat());
        assert_eq!(always.code, Some(if name == "phi3" { 0 } else { 1 }), "{}", always.stderr);
        let out = directory.path().join(name);
        let compared = ["compare", "--text", text_of(&text), "--context", "32", "--contexts", "2", "--states", "6"];
        on(&[&compared[..], &["--out", text_of(&out)]].concat());
        let made = on(&["generate", "--prompt", "the cat", "--policy", "window+2@6", "--max-new-tokens", "12"]);
        assert!(made.json()["text"].is_string(), "{name}: {}", made.stdout);
    }
}

#[test]
fn a_gguf_file_is_held_as_it_is_stored_unless_another_precision_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write(directory.path(), "ids.json", "[1, 5, 50, 17, 2, 42, 8, 11, 60, 33, 7, 19]");
    let (file, source) = (gguf("types.gguf"), checkpoint("llama-gqa"));
    let path = text_of(&ids);
    let scored = |model: &PathBuf, options: &[&str]| {
        let run = ["perplexity", "--json", "--policy", "tova@6", "--ids", path, "--model", text_of(model)];
        succeeds(&[&run[..], options].concat()).json()
    };
    for (options, dtype) in [
        (&[][..], "stored"),
        (&["--activations", "int8"], "stored/f32/int8"),
        (&["--dtype", "stored/f16"], "stored/f16"),
        (&["--dtype", "bf16"], "bf16"),
        (&["--dtype", "f32", "--activations", "f32"], "f32"),
    ] {
        assert_eq!(scored(&file, options)["dtype"], dtype);
    }
    assert_eq!(scored(&source, &[])["dtype"], "f32");
    assert_eq!(scored(&source, &["--dtype", "bf16", "--activations", "bf16"])["dtype"], "bf16/bf16/bf16");
    // Of a directory what is stored is floats.
    let nll = |found: Value| found["nll"].as_f64().unwrap();
    assert_eq!(nll(scored(&source, &["--dtype", "stored"])), nll(scored(&source, &[])));

    let refused = |run: &[&str], words: &[&str]| {
        let done = msrnn(run);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{}", done.stderr);
    };
    let scoring = ["perplexity", "--ids", path, "--policy", "full", "--activations", "int8"];
    refused(&[&scoring[..], &["--dtype", "f32", "--model", text_of(&file)]].concat(), &["not beside f32", "stored"]);
    // Nothing of it is in blocks, so that nothing would be rounded.
    refused(
        &[&scoring[..], &["--dtype", "stored", "--model", text_of(&source)]].concat(),
        &["no matrix in blocks", "--dtype int8"],
    );
    let scoring =
        ["perplexity", "--ids", path, "--policy", "full", "--activations", "bf16", "--model", text_of(&source)];
    refused(&[&scoring[..], &["--dtype", "f32"]].concat(), &["not beside f32", "--dtype bf16"]);
    refused(&[&scoring[..], &["--dtype", "stored"]].concat(), &["no matrix in bf16", "--dtype bf16"]);
    let bundled = ["perplexity", "--ids", path, "--policy", "full", "--dtype", "stored", "--activations", "int8"];
    refused(&bundled, &["the bundled model has no matrix in blocks"]);
    refused(&["bench", "--shape", "2x64x4:2x128x50", "--dtype", "stored"], &["only files", "--dtype int8"]);
    let planned = ["throughput", "--model", text_of(&file), "--states", "8", "--memory", "1GiB", "--dry-run"];
    assert_eq!(succeeds(&[&planned[..], &["--json"]].concat()).json()["dtype"], "stored");
    let shape = ["throughput", "--shape", "2x64x4:2x128x50", "--dtype", "stored"];
    refused(&shape, &["only files", "--dtype int8"]);
}

#[test]
fn an_experiments_manifest_has_the_hashes_of_every_part() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let text = write(directory.path(), "text.txt", "The cat sat on the mat, and the other cat did not. ".repeat(8));
    let model = gguf("llama-00001-of-00003.gguf");
    let run = ["experiment", "lm", "--json", "--policies", "window@8", "--context", "32", "--contexts", "1"];
    let paths = ["--model", text_of(&model), "--text", text_of(&text), "--out", text_of(&out)];
    succeeds(&[&run[..], &paths].concat());
    let manifest = std::fs::read_to_string(out.join("manifest.toml")).unwrap();
    for part in 1..=3 {
        assert!(manifest.contains(&format!("llama-0000{part}-of-00003.gguf")), "{manifest}");
    }
}

#[test]
fn what_cannot_be_converted_or_opened_says_why_with_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let damaged = write(directory.path(), "damaged.gguf", b"GGUF\x03\0\0\0\0");
    let out = directory.path().join("out");
    let fails = |arguments: &[&str], words: &str| {
        let done = msrnn(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(words), "{}", done.stderr);
        assert!(!out.exists());
    };
    fails(&["convert", "--model", text_of(&damaged), "--out", text_of(&out)], "download the file again");
    fails(&["generate", "--policy", "full", "--model", text_of(&damaged)], "download the file again");
    fails(&["convert", "--model", "bundled", "--out", text_of(&out)], "part of the command");
    let types = gguf("types.gguf");
    fails(&["convert", "--model", text_of(&types), "--out", text_of(&out), "--dtype", "q8_0"], "f32, f16 or bf16");
    let vocabulary = gguf("vocab-gpt2.gguf");
    fails(&["generate", "--policy", "full", "--model", text_of(&vocabulary)], "missing");
}
