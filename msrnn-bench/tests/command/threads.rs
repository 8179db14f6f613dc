//! What comes out does not depend on how many threads share the work.

use std::path::Path;
use std::process::Command;

use crate::common::{self, checkpoint, split, text_of, write_ids};
use serde_json::Value;

/// A prime number, a power of two, one, and what a machine may have.
const THREADS: [usize; 4] = [1, 2, 3, 8];

/// Stdout of `msrnn`, which must succeed, on so many threads.
fn on(threads: usize, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msrnn"));
    let output = command.args(arguments).env("RAYON_NUM_THREADS", threads.to_string()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "msrnn {arguments:?}\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `found` says on one thread, which it must say on any number of them.
#[track_caller]
fn same_on_any_number_of_threads<T: PartialEq + std::fmt::Debug>(found: impl Fn(usize) -> T) -> T {
    let one = found(1);
    for threads in &THREADS[1..] {
        assert_eq!(found(*threads), one, "on {threads} threads");
    }
    one
}

/// A text that is longer than a block of tokens.
fn text(directory: &Path) -> std::path::PathBuf {
    let words = ["Mia", "had", "a", "red", "ball", "and", "Tom", "saw", "the", "dog", "in", "the", "garden", "."];
    let text: Vec<&str> = (0..560).map(|i| words[(i * i + i / 7) % words.len()]).collect();
    common::write(directory, "text.txt", text.join(" "))
}

#[test]
fn the_likelihood_of_a_text_has_the_same_bits_on_any_number_of_threads() {
    let place = tempfile::tempdir().unwrap();
    let text = text(place.path());
    for dtype in ["f32", "bf16", "bf16/f32/bf16", "int8", "int8/f32/int8", "f64"] {
        // Contexts of few tokens are products of few rows, of which gemm has kernels of its own.
        for (form, context, policy) in [
            ("layer", "550", "full"),
            ("layer", "550", "tova@64"),
            ("layer", "12", "full"),
            ("layer", "20", "tova@8"),
            ("step", "90", "h2o@32"),
        ] {
            let more = ["--dtype", dtype, "--form", form, "--context", context, "--policy", policy, "--json"];
            let arguments = [&["perplexity", "--text", text_of(&text)][..], &more].concat();
            let scores = same_on_any_number_of_threads(|threads| {
                let json: Value = serde_json::from_str(&on(threads, &arguments)).unwrap();
                (json["nll"].to_string(), json["contexts"].to_string())
            });
            assert!(scores.1.contains("nll"), "{scores:?}");
        }
    }
}

#[test]
fn every_logit_of_every_checkpoint_has_the_same_bits_on_any_number_of_threads() {
    let place = tempfile::tempdir().unwrap();
    let mut checkpoints: Vec<String> = std::fs::read_dir(checkpoint("").as_path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| checkpoint(name).join("config.json").exists())
        .collect();
    checkpoints.sort();
    let mut looked_at = 0;
    for name in checkpoints.iter().filter(|name| common::testdata().join(format!("goldens/{name}.json")).exists()) {
        let ids = write_ids(name, place.path());
        let (model, logits) = (checkpoint(name), place.path().join("logits.npy"));
        let arguments = ["--model", text_of(&model), "--ids", text_of(&ids), "--logits", text_of(&logits)];
        same_on_any_number_of_threads(|threads| {
            on(threads, &[&["perplexity", "--policy", "full"][..], &arguments].concat());
            let bytes = std::fs::read(&logits).unwrap();
            std::fs::remove_file(&logits).unwrap();
            bytes
        });
        looked_at += 1;
    }
    assert!(looked_at > 3, "{checkpoints:?}");
}

#[test]
fn generated_tokens_are_the_same_on_any_number_of_threads() {
    for dtype in ["f32", "bf16", "bf16/f32/bf16", "int8", "int8/f32/int8", "f64"] {
        let more = ["--dtype", dtype, "--policy", "tova@48", "--max-new-tokens", "120", "--temperature", "1", "--json"];
        let arguments = [&["generate", "--prompt", "Once upon a time there was a girl."][..], &more].concat();
        same_on_any_number_of_threads(|threads| {
            let json: Value = serde_json::from_str(&on(threads, &arguments)).unwrap();
            assert!(json["tokens"].is_array() || json["ids"].is_array() || json["text"].is_string(), "{json}");
            ["tokens", "ids", "text"].map(|key| json[key].to_string())
        });
    }
}

#[test]
fn experiments_end_with_the_same_bytes_on_any_number_of_threads_and_jobs() {
    let place = tempfile::tempdir().unwrap();
    for (number, experiment) in [
        "lm --stories 3 --context 300 --batch 2 --policies window,h2o,tova,random --states 12,64 --seeds 2",
        "lm --stories 2 --context 90 --policies tova,h2o-layer --states 16 --form step",
        "retrieval --lengths 400 --depths 0,1 --states 32 --trials 2",
        "retention --contexts 1 --states 32",
        "story --states 32 --seeds 1 --max-new-tokens 40",
        "understanding --questions 2 --states 64",
    ]
    .into_iter()
    .enumerate()
    {
        same_on_any_number_of_threads(|threads| {
            let out = place.path().join(format!("{number}-{threads}"));
            let jobs = (5 - threads.min(4)).to_string();
            on(
                threads,
                &[&["experiment"], &split(experiment)[..], &["--jobs", &jobs, "--out", text_of(&out)]].concat(),
            );
            std::fs::read_to_string(out.join("metrics.json")).unwrap()
        });
    }
}
