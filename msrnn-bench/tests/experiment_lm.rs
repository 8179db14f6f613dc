//! `msrnn experiment lm`, its numbers against those of other commands and of its own parts.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use common::{Done, assert_close, msrnn, read_json, split, succeeds, text_of, write};
use serde_json::{Value, json};

/// `msrnn experiment lm` into a directory of its own.
fn lm(out: &Path, arguments: &str, more: &[&str]) -> Done {
    msrnn(&[&["experiment", "lm", "--json", "--out", text_of(out)], &split(arguments)[..], more].concat())
}

/// The same, which must succeed: what it printed.
#[track_caller]
fn results(out: &Path, arguments: &str, more: &[&str]) -> Value {
    let done = lm(out, arguments, more);
    assert_eq!(done.code, Some(0), "{}\n{}", done.command, done.stderr);
    assert_eq!(done.json(), read_json(&out.join("metrics.json")));
    done.json()
}

/// The arm of a policy and number of states of the first model.
fn arm(results: &Value, policy: &str, states: Value) -> Value {
    let arms = results["metrics"][0]["arms"].as_array().unwrap();
    let wanted = |arm: &&Value| arm["policy"] == policy && arm["states"] == states;
    arms.iter().find(wanted).unwrap_or_else(|| panic!("no {policy}@{states}")).clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn numbers_are_those_of_compare_and_distances_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let grid = "--stories 2 --context 256 --batch 2 --policies window,tova,random --states 16,64";
    let found = results(&directory.path().join("lm"), grid, &[]);
    let compared = directory.path().join("compare");
    let compared = succeeds(&[&["compare", "--json", "--out", text_of(&compared)], &split(grid)[..]].concat()).json();
    let runs = compared["runs"].as_array().unwrap();
    assert_eq!(runs.len(), found["metrics"][0]["arms"].as_array().unwrap().len());
    for run in runs {
        let arm = arm(&found, run["policy"].as_str().unwrap(), run["states"].clone());
        // The same computation in the same batches.
        for key in ["mean", "standard_error"] {
            assert_close(&arm["perplexity"][key], &run["perplexity"][key], 1e-12);
        }
        for key in ["omitted", "max_rows", "state_bytes"] {
            assert_eq!(arm[key], run[key], "{arm}");
        }
        if run["kind"] != "full" {
            assert_close(&arm["above_full"]["mean"], &run["above_full"]["mean"], 1e-12);
        }
    }
    for policy in ["window", "tova", "random"] {
        let (few, many) = (arm(&found, policy, json!(16)), arm(&found, policy, json!(64)));
        let (far, near) = (number(&few["kl"]["mean"]), number(&many["kl"]["mean"]));
        assert!(far > near && near > 0.0, "KL of {policy}: {far} at 16 states, {near} at 64");
        let (far, near) = (number(&few["agreement"]["mean"]), number(&many["agreement"]["mean"]));
        assert!(0.0 < far && far < near && near < 1.0, "agreement of {policy}: {far} at 16 states, {near} at 64");
    }
    assert_eq!(arm(&found, "baseline", json!(16))["kl"], Value::Null);
    assert_eq!(arm(&found, "random", json!(16))["above_random"], Value::Null);
    let ends = &arm(&found, "tova", json!(16))["above_random"]["ends"];
    assert!(number(&ends[0]) < number(&ends[1]));
    assert_eq!(found["metrics"][0]["error_over"], "texts");
    let ids: Vec<&str> = found["figures"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["perplexity", "perplexity-lines", "bits-per-byte", "differences", "kl", "agreement"]);
}

#[test]
fn a_bound_that_was_never_reached_changes_no_prediction_and_is_flagged() {
    let directory = tempfile::tempdir().unwrap();
    let done = lm(directory.path(), "--stories 1 --context 128 --policies tova --states 128,8", &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("tova@128 never omitted") && !done.stderr.contains("tova@8 never"), "{}", done.stderr);
    let (unbound, bound) = (arm(&done.json(), "tova", json!(128)), arm(&done.json(), "tova", json!(8)));
    assert_eq!(number(&unbound["agreement"]["mean"]), 1.0);
    // Rounding of 1,024 f32 probabilities per token.
    assert!(number(&unbound["kl"]["mean"]).abs() < 1e-5, "{unbound}");
    assert!(number(&bound["kl"]["mean"]) > 0.1, "{bound}");
    assert_eq!((&unbound["omitted"], &unbound["above_full"]["ends"]), (&json!(0), &Value::Null));
}

/// The logits of every token under a policy, written by `msrnn perplexity`: one row per token.
fn logits(directory: &Path, policy: &str, options: &[&str]) -> Vec<Vec<f64>> {
    let path = directory.join(format!("{policy}.npy"));
    let run = ["perplexity", "--dtype", "f64", "--policy", policy, "--logits", text_of(&path)];
    succeeds(&[&run[..], options].concat());
    let file = std::fs::read(path).unwrap();
    let array = npyz::NpyFile::new(&file[..]).unwrap();
    let vocab = array.shape()[1] as usize;
    let values: Vec<f32> = array.into_vec().unwrap();
    values.chunks(vocab).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
}

#[test]
fn distances_are_those_of_written_logits() {
    let directory = tempfile::tempdir().unwrap();
    let story: String = (0..30).map(|n| format!("The baker sold {} loaves to the king. ", n * n % 97)).collect();
    let text = write(directory.path(), "text.txt", story);
    let options = ["--context", "60", "--text", text_of(&text)];
    let (full, tova) = (logits(directory.path(), "full", &options), logits(directory.path(), "tova@16", &options));
    let (mut kl, mut agreed, mut tokens) = (0.0, 0_u32, 0_u32);
    for (t, (p, q)) in full.iter().zip(&tova).enumerate() {
        // The last token of a context predicts nothing that is known.
        if t % 60 == 59 || t + 1 == full.len() {
            continue;
        }
        let sum = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>();
        let (zp, zq) = (sum(p), sum(q));
        kl += p.iter().zip(q).map(|(p, q)| p.exp() / zp * ((p.exp() / zp) / (q.exp() / zq)).ln()).sum::<f64>();
        let top = |x: &[f64]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
        agreed += u32::from(top(p) == top(q));
        tokens += 1;
    }
    let found = results(&directory.path().join("lm"), "--dtype f64 --policies tova --states 16", &options);
    assert_eq!(found["metrics"][0]["tokens"], tokens);
    let arm = arm(&found, "tova", json!(16));
    // The logits are written in f32.
    assert_close(&arm["kl"]["mean"], &json!(kl / f64::from(tokens)), 1e-4);
    assert_close(&arm["agreement"]["mean"], &json!(f64::from(agreed) / f64::from(tokens)), 1e-12);
}

#[test]
fn seeds_are_averaged_and_only_what_draws_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let story: String = (0..300).map(|n| format!("The baker sold {} loaves to the king. ", n * n % 97)).collect();
    let text = write(directory.path(), "text.txt", story);
    let run = |name: &str, seeds: &str| {
        let grid = "--context 200 --contexts 2 --policies tova,random --states 16 --batch 2";
        let out = directory.path().join(name);
        let found = results(&out, &format!("{grid} {seeds}"), &["--text", text_of(&text)]);
        (found, std::fs::read_to_string(out.join("samples.jsonl")).unwrap().lines().count())
    };
    let (both, units) = run("both", "--seed 3 --seeds 2");
    assert_eq!(units, 4, "references, tova once, random under each seed");
    let nll = |found: &Value| number(&arm(found, "random", json!(16))["nll"]["mean"]);
    let singles = [run("first", "--seed 3"), run("second", "--seed 4")].map(|(found, _)| nll(&found));
    assert!((singles[0] - singles[1]).abs() > 1e-6, "the seeds do not differ");
    assert!((nll(&both) - (singles[0] + singles[1]) / 2.0).abs() < 1e-9);
    assert_eq!(arm(&both, "random", json!(16))["seeds"], 2);
    assert_eq!(arm(&both, "tova", json!(16))["seeds"], 1);
    // One text: its contexts are what errors are over.
    assert_eq!((&both["metrics"][0]["error_over"], &both["metrics"][0]["n"]), (&json!("contexts"), &json!(2)));
}

#[test]
fn parts_put_together_are_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let grid = "--stories 3 --context 64 --policies window,tova --states 8 --batch 2";
    results(&at("whole"), grid, &[]);
    for part in ["1/2", "2/2"] {
        assert_eq!(lm(&at(&part[..1]), grid, &["--shard", part]).code, Some(0));
    }
    let parts = [at("1"), at("2"), at("both")];
    let [first, second, both] = parts.each_ref().map(|path| text_of(path));
    succeeds(&["report", first, second, "--out", both]);
    let metrics = |name: &str| std::fs::read(at(name).join("metrics.json")).unwrap();
    assert!(metrics("whole") == metrics("both"));
}

#[test]
fn what_cannot_be_scored_is_refused_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &str| text_of(&write(directory.path(), name, content)).to_owned();
    let out = directory.path().join("out");
    let jsonl = at("texts.jsonl", "{\"body\": \"Once upon a time\", \"id\": 3}\n");
    let one = at("one.txt", "Once upon a time there was a king.");
    let two = at("two.txt", "Once upon a time there was a queen.");
    let cases: [(&str, &[&str], &str); 7] = [
        ("", &["--text", &jsonl], "choose one of these with --field: body, id"),
        ("", &["--text", &one, "--text", &one], "give each once"),
        ("--policies tova,tova@16 --states 16", &["--text", &one], "tova@16 is asked for twice"),
        ("--positions original,in-state", &["--text", &one], "give one kind of --positions"),
        ("--context 1", &["--text", &one], "give at least 2"),
        ("--extrapolate", &["--text", &one, "--text", &two], "takes one text, not 2"),
        ("--extrapolate", &["--text", &one], "give a longer text"),
    ];
    for (options, texts, remedy) in cases {
        let done = lm(&out, options, texts);
        assert_eq!(done.code, Some(1), "{}", done.command);
        assert!(done.stderr.contains(remedy), "{}: {}", done.command, done.stderr);
        assert!(!out.exists(), "{} left something behind", done.command);
    }
}

#[test]
fn an_extrapolation_ends_where_perplexity_says() {
    let directory = tempfile::tempdir().unwrap();
    let story: String = (0..600).map(|n| format!("The baker sold {} loaves to the king. ", n * n % 97)).collect();
    let text = write(directory.path(), "text.txt", story);
    let text = text_of(&text);
    let out = directory.path().join("out");
    let options = "--extrapolate --tokens 1200 --full-tokens 1100 --policies tova --states 32";
    let found = results(&out, options, &["--text", text]);
    let metrics = found["metrics"].as_array().unwrap();
    let names: Vec<&Value> = metrics.iter().map(|arm| &arm["positions"]).collect();
    assert_eq!(names, ["original", "original", "gap-compressed", "in-state"]);
    for (arm, policy, context) in [(&metrics[0], "full", "1100"), (&metrics[1], "tova@32", "1200")] {
        let perplexity = ["perplexity", "--json", "--policy", policy, "--context", context, "--text", text];
        let expected = succeeds(&perplexity).json();
        // The first of its contexts; threads may split the sum otherwise.
        let first = &expected["contexts"][0];
        let nll = json!(number(&first["nll"]) / number(&first["tokens"]));
        assert_close(&json!(number(&arm["perplexity"]).ln()), &nll, 1e-6);
        assert_eq!(arm["tokens"], first["tokens"]);
    }
    let lines = found["figures"][0]["content"]["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 4);
    let points = lines[2]["points"].as_array().unwrap();
    assert!((200..=301).contains(&points.len()), "{} points", points.len());
    assert_eq!(points[points.len() - 1]["x"], 1199.0);
    // Beyond the trained length the numberings differ.
    let ends: Vec<f64> = metrics[1..].iter().map(|arm| number(&arm["perplexity"])).collect();
    assert!((ends[0] - ends[1]).abs() > 1e-6 && (ends[1] - ends[2]).abs() > 1e-6, "{ends:?}");
    assert!(metrics[1..].iter().all(|arm| arm["observed"]["max_rows"] == 32));
}

/// The checkpoint `stories260K` and two books, if they are there.
fn shared() -> Option<(PathBuf, PathBuf)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let (model, books) = (data.join("stories260K"), data.join("books"));
    if model.is_dir() && books.is_dir() {
        return Some((model, books));
    }
    // Past the capture of the test harness, so that it is seen.
    let _ = writeln!(std::io::stderr(), "skipped: {} or {} is not there", model.display(), books.display());
    None
}

#[test]
fn a_trained_checkpoint_reads_books() {
    let Some((model, books)) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let options = "--contexts 2 --policies window+4,tova,random --states 64,128 --batch 4";
    let found = results(directory.path(), options, &["--model", text_of(&model), "--text", text_of(&books)]);
    let summary = &found["metrics"][0];
    assert_eq!((&summary["error_over"], &summary["n"], &summary["contexts"]), (&json!("texts"), &json!(2), &json!(4)));
    assert_eq!((&summary["tokens"], &summary["llama_2_7b"]), (&json!(4 * 511), &json!(false)));
    let full = number(&arm(&found, "full", Value::Null)["perplexity"]["mean"]);
    let short = number(&arm(&found, "baseline", json!(64))["perplexity"]["mean"]);
    assert!(1.0 < full && full < short, "{full} with the whole context, {short} with 64 tokens");
}
