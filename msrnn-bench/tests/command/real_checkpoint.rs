//! A trained checkpoint of another project, in Hugging Face layout, against numbers that others
//! measured on it. It is not part of this repository; without it the tests say so and pass.

use std::path::{Path, PathBuf};

use crate::common::{assert_close, perplexity, read_json, succeeds, testdata, text_of, write};
use msrnn_models::tokenizer::Tokenizer;
use serde_json::Value;

/// The checkpoint `stories260K` and text of its domain, if they are there.
fn data() -> Option<(PathBuf, String)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let (model, text) = (data.join("stories260K"), data.join("tinystories_val.txt"));
    if !model.is_dir() || !text.is_file() {
        // Past the capture of the test harness, so that it is seen.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: {} or {} is not there", model.display(), text.display());
        return None;
    }
    let text = std::fs::read_to_string(text).unwrap();
    Some((model, text.chars().take(120_000).collect()))
}

/// Contexts of 512 tokens that the reference numbers are of.
const CONTEXTS: usize = 24;

#[test]
fn perplexity_of_full_and_of_sliding_windows_is_what_others_measured() {
    let Some((model, text)) = data() else { return };
    let directory = tempfile::tempdir().unwrap();
    // Enough for the contexts that count, with a rest: how a text is cut at its end is no matter.
    let text: String = text.chars().take(28_000).collect();
    let text = write(directory.path(), "text.txt", text);
    // A window of w states with the current one is our window of w − 1 states before it.
    let measured = [("full", 4.25), ("window@63", 4.40), ("window@31", 4.65), ("window@15", 4.97), ("window@7", 5.50)];
    for (policy, expected) in measured {
        let paths = ["--model", text_of(&model), "--text", text_of(&text)];
        let run = ["perplexity", "--json", "--context", "512", "--batch", "8", "--policy", policy];
        let report = succeeds(&[&run[..], &paths].concat()).json();
        let contexts = report["contexts"].as_array().unwrap();
        assert!(contexts.len() > CONTEXTS, "{} contexts", contexts.len());
        assert_eq!(report["prefix"], serde_json::json!([1]));
        let sum = |key: &str| contexts.iter().take(CONTEXTS).map(|context| context[key].as_f64().unwrap()).sum::<f64>();
        assert_eq!(sum("tokens"), 511.0 * CONTEXTS as f64);
        let found = (sum("nll") / sum("tokens")).exp();
        assert!((found - expected).abs() < 0.01, "{policy}: {found} should be {expected}");
        println!("{policy}: {found:.4}, measured {expected}");
    }
}

#[test]
fn likelihood_and_omissions_of_every_policy_are_those_of_the_independent_implementation() {
    let Some((model, text)) = data() else { return };
    let goldens = read_json(&testdata().join("goldens/stories260k.json"));
    let directory = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::read(&model, Some(1)).unwrap();
    let encoded = tokenizer.encode(&text).unwrap();
    assert_eq!(encoded.len(), goldens["encoded_ids"].as_u64().unwrap() as usize);
    let ids: Vec<u32> = encoded.chunks(511).take(2).flat_map(|run| [&[1], run].concat()).collect();
    let ids = write(directory.path(), "ids.json", serde_json::to_vec(&ids).unwrap());

    for golden in goldens["policies"].as_array().unwrap() {
        let policy = golden["policy"].as_str().unwrap();
        let protocol = golden["protocol"].as_str().unwrap();
        let runs = golden["runs"].as_array().unwrap();
        let report = perplexity(&model, &ids, policy, &["--context", "512", "--protocol", protocol]);
        let contexts = report["contexts"].as_array().unwrap();
        assert_eq!(contexts.len(), runs.len());
        for (context, run) in contexts.iter().zip(runs) {
            assert_close(&context["nll"], &run["nll"], 1e-9);
        }
        let omissions = |run: &Value| run["omissions"].as_u64().unwrap();
        assert_eq!(report["omitted"], runs.iter().map(omissions).sum::<u64>(), "{policy}");

        let out = directory.path().join("trace.jsonl");
        let paths = ["--model", text_of(&model), "--ids", text_of(&ids), "--out", text_of(&out)];
        let run = ["trace", "--dtype", "f64", "--context", "512", "--policy", policy, "--protocol", protocol];
        succeeds(&[&run[..], &paths].concat());
        let mut traced = vec![0; runs.len()];
        for line in std::fs::read_to_string(&out).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            traced[line["row"].as_u64().unwrap() as usize] += 1;
        }
        assert_eq!(traced, runs.iter().map(omissions).collect::<Vec<u64>>(), "{policy}");
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn the_most_likely_story_is_english() {
    let Some((model, _)) = data() else { return };
    for policy in ["full", "tova@64", "window+4@64"] {
        let run = ["generate", "--json", "--prompt", "Once upon a time", "--temperature", "0"];
        let story = succeeds(&[&run[..], &["--model", text_of(&model), "--policy", policy]].concat()).json();
        assert!(story["tokens"].as_u64().unwrap() >= 60, "{story}");
        let text = story["text"].as_str().unwrap();
        let plain = |c: char| c.is_ascii_alphabetic() || c.is_ascii_whitespace() || ",.!?'\"-".contains(c);
        assert!(text.chars().all(plain), "{text}");
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).collect();
        for word in ["the", "was", "a", "to"] {
            assert!(words.contains(&word), "{word:?} is not in {text}");
        }
        println!("{policy}: {text}\n");
    }
}
