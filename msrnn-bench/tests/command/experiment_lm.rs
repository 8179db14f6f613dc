//! `msrnn experiment lm`, its numbers against those of other commands and of its own parts.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::common::{self, Done, assert_close, msrnn, read_json, split, succeeds, text_of, write};
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
fn numbers_are_those_of_perplexity_and_distances_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let grid = "--stories 2 --context 256 --batch 2 --policies window,tova,random --states 16,64";
    let found = results(&directory.path().join("lm"), grid, &[]);
    // The same stories as files, and the same computation in the same batches.
    let stories = msrnn_bench::texts::stories(0, 2, 256).unwrap();
    let paths: Vec<PathBuf> =
        stories.iter().enumerate().map(|(n, text)| write(directory.path(), &format!("{n}.txt"), &text.text)).collect();
    for (policy, states) in [("full", Value::Null), ("window", json!(16)), ("tova", json!(64)), ("random", json!(16))] {
        let mut given = vec!["perplexity", "--json", "--context", "256", "--contexts", "1", "--batch", "2", "--policy"];
        let spec = states.as_u64().map_or_else(|| policy.to_owned(), |k| format!("{policy}@{k}"));
        given.push(&spec);
        paths.iter().for_each(|path| given.extend(["--text", text_of(path)]));
        let run = succeeds(&given).json();
        let arm = arm(&found, policy, states);
        assert_close(&arm["perplexity"]["mean"], &run["perplexity"], 1e-12);
        for key in ["omitted", "max_rows", "state_bytes"] {
            assert_eq!(arm[key], run[key], "{arm}");
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
    let tables = ["perplexity", "bits-per-byte", "differences", "pairs", "kl", "agreement"];
    let lines = ["perplexity-lines", "above-full-lines", "kl-lines", "agreement-lines"];
    for id in tables.iter().chain(&lines) {
        assert!(ids.contains(id), "{id} is not among {ids:?}");
    }
    assert_eq!(ids.len(), tables.len() + lines.len());
    // Of every two policies with as many states, the difference of what each costs.
    let pairs = found["metrics"][0]["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 6);
    for pair in pairs {
        let nll =
            |which: &str| number(&arm(&found, pair[which].as_str().unwrap(), pair["states"].clone())["nll"]["mean"]);
        let above = number(&pair["above"]["mean"]);
        assert!((above - (nll("policy") - nll("against"))).abs() < 1e-9, "{pair}");
        assert!(number(&pair["above"]["ends"][0]) < above && above < number(&pair["above"]["ends"][1]), "{pair}");
    }
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
    assert_eq!(units, 5, "full, baseline, tova once, random under each seed");
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
fn one_more_policy_state_text_seed_or_model_does_nothing_again_and_ends_with_the_bytes_of_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let story =
        |seed: usize| (0..60).map(|n| format!("The baker sold {} loaves. ", (n + seed) * n % 97)).collect::<String>();
    let (a, b) = (write(directory.path(), "a.txt", story(1)), write(directory.path(), "b.txt", story(5)));
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled");
    // The same weights, called otherwise, and other weights.
    let [same, other] = ["same", "other"].map(|name| {
        let copy = common::copy(&bundled, &at(name));
        // How it was trained is no part of the model that the command brings with it.
        ["train.json", "train.jsonl"].iter().for_each(|file| std::fs::remove_file(copy.join(file)).unwrap());
        copy
    });
    common::configure(&other, json!({ "rms_norm_eps": 1e-3 }));
    let (same, other) = (text_of(&same), text_of(&other));
    let two_models = format!("bundled,{other}");
    let (a, b) = (text_of(&a), text_of(&b));
    let small = "--context 60 --contexts 2 --batch 1 --states";
    let steps: [(&str, &[&str], usize, usize); 7] = [
        // Units in all, and those of them that are new.
        ("8 --policies random,tova", &["--text", a], 8, 8),
        ("8 --policies random,h2o,tova", &["--text", a], 10, 2),
        ("4,8 --policies random,h2o,tova", &["--text", a], 18, 8),
        ("4,8 --policies random,h2o,tova --seeds 2", &["--text", a], 22, 4),
        ("4,8 --policies random,h2o,tova --seeds 2", &["--text", b, "--text", a], 44, 22),
        ("4,8 --policies random,h2o,tova --seeds 2", &["--text", b, "--text", a, "--model", same], 44, 0),
        ("4,8 --policies random,h2o,tova --seeds 2", &["--text", b, "--text", a, "--model", &two_models], 88, 44),
    ];
    for (step, (options, more, all, new)) in steps.into_iter().enumerate() {
        let done = lm(&at("grown"), &format!("{small} {options}"), more);
        assert_eq!(done.code, Some(0), "{done:?}");
        let said = format!("{} of {all} units were finished before", all - new);
        assert!(step == 0 || done.stderr.contains(&said), "step {step}: not {said:?}: {done:?}");
    }
    let (options, more, ..) = steps[6];
    results(&at("whole"), &format!("{small} {options}"), more);
    let metrics = |name: &str| std::fs::read(at(name).join("metrics.json")).unwrap();
    assert!(metrics("grown") == metrics("whole"));
    // What is asked for no more stays where it is.
    let done = lm(&at("grown"), &format!("{small} 8 --policies tova"), &["--text", a]);
    assert!(done.code == Some(1) && done.stderr.contains("finished units are not asked for"), "{done:?}");
    assert!(metrics("grown") == metrics("whole"));
}

#[test]
fn grids_of_other_policies_states_or_models_become_one_whatever_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let small = "--stories 2 --context 64 --batch 1";
    results(&at("tova"), &format!("{small} --policies tova --states 8"), &[]);
    results(&at("h2o"), &format!("{small} --policies h2o --states 16"), &[]);
    results(&at("other"), "--stories 2 --context 48 --batch 1 --policies h2o --states 16", &[]);
    let [tova, h2o, other] = ["tova", "h2o", "other"].map(|name| text_of(&at(name)).to_owned());
    let merged =
        |a: &str, b: &str, name: &str| succeeds(&["report", a, b, "--json", "--out", text_of(&at(name))]).json();
    let (one, two) = (merged(&tova, &h2o, "one"), merged(&h2o, &tova, "two"));
    for (policy, states) in [("tova", 8), ("h2o", 16), ("baseline", 8), ("baseline", 16)] {
        assert_eq!(arm(&one, policy, json!(states))["nll"], arm(&two, policy, json!(states))["nll"]);
    }
    assert_eq!(
        arm(&one, "tova", json!(8))["nll"],
        arm(&read_json(&at("tova").join("metrics.json")), "tova", json!(8))["nll"]
    );
    // What was put together is a run like any other, and goes on.
    let done = lm(&at("one"), &format!("{small} --policies tova,h2o --states 8,16"), &[]);
    assert!(done.code == Some(0) && done.stderr.contains("10 of 14 units were finished before"), "{done:?}");
    let done = msrnn(&["report", &tova, &other, "--out", text_of(&at("none"))]);
    assert!(done.code == Some(1) && done.stderr.contains("context: 64, not 48"), "{done:?}");
    assert!(!at("none").exists());
}

#[test]
fn what_every_context_and_token_cost_adds_up_to_what_is_reported() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let grid = "--stories 2 --context 64 --batch 2 --policies tova,random --states 8 --seeds 2 --per-token";
    let found = results(&out, grid, &[]);

    let mut rows = csv::Reader::from_path(out.join("results.csv")).unwrap();
    let heads = ["model", "policy", "states", "text", "context", "seed", "metric", "value", "error", "n"];
    assert_eq!(rows.headers().unwrap().iter().collect::<Vec<_>>(), heads);
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    let of = |row: &csv::StringRecord| row[7].parse::<f64>().unwrap() * row[9].parse::<f64>().unwrap();
    let file = std::fs::File::open(out.join("tokens.parquet")).unwrap();
    let tokens: Vec<parquet::record::Row> =
        SerializedFileReader::new(file).unwrap().get_row_iter(None).unwrap().map(Result::unwrap).collect();
    for (policy, states, seeds) in [("full", Value::Null, 1.0), ("baseline", json!(8), 1.0), ("random", json!(8), 2.0)]
    {
        let arm = arm(&found, policy, states.clone());
        let k = states.as_u64().map(|k| k.to_string()).unwrap_or_default();
        let nll = |row: &&csv::StringRecord| &row[1] == policy && row[2] == k && &row[6] == "nll";
        let (contexts, whole): (Vec<_>, Vec<_>) = rows.iter().filter(nll).partition(|row| !row[3].is_empty());
        assert_eq!((contexts.len(), whole.len()), (2 * seeds as usize, 1));
        let predicted = |row: &csv::StringRecord| row[9].parse::<f64>().unwrap();
        assert_eq!(predicted(whole[0]) * seeds, contexts.iter().map(|row| predicted(row)).sum::<f64>(), "{policy}");
        assert_close(&json!(whole[0][7].parse::<f64>().unwrap()), &arm["nll"]["mean"], 1e-12);
        assert_close(&json!(whole[0][8].parse::<f64>().unwrap()), &arm["nll"]["standard_error"], 1e-12);
        let sum = contexts.iter().map(|row| of(row)).sum::<f64>() / seeds;
        let expected = number(&arm["nll"]["mean"]) * 126.0;
        assert_close(&json!(sum), &json!(expected), 1e-9);
        let of_policy = tokens.iter().filter(|row| row.get_string(1).unwrap() == policy);
        let costs: Vec<f64> = of_policy.map(|row| row.get_double(7).unwrap()).collect();
        assert_eq!(costs.len(), 126 * seeds as usize);
        assert_close(&json!(costs.iter().sum::<f64>() / seeds), &json!(expected), 1e-5);
    }
}

#[test]
fn plots_for_a_paper_have_their_size_and_letters_and_replace_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (out, plots) = (directory.path().join("out"), directory.path().join("plots"));
    results(&out, "--stories 2 --context 48 --policies tova,window --states 8,16", &[]);
    let report =
        |more: &[&str]| msrnn(&[&["report", text_of(&out), "--tables", "--plots", text_of(&plots)][..], more].concat());
    let before = std::fs::read(out.join("figures/perplexity-lines.svg")).unwrap();
    let done = report(&["--size", "85x60mm", "--font", "Times New Roman", "--font-size", "7", "--titles"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let svg = std::fs::read_to_string(plots.join("perplexity-lines.svg")).unwrap();
    assert!(svg.contains("font-family=\"Times New Roman\"") && !svg.contains("sans-serif"), "{svg}");
    assert!(svg.contains("width=\"3.346") && svg.contains("Perplexity over states\n"), "{svg}");
    assert!(plots.join("above-full-lines.svg").exists() && !plots.join("perplexity.svg").exists());
    // The run's own stay as they are, and so does what was written once.
    assert_eq!(std::fs::read(out.join("figures/perplexity-lines.svg")).unwrap(), before);
    let other = report(&[]);
    assert!(other.code == Some(1) && other.stderr.contains("looks otherwise"), "{other:?}");
    assert_eq!(std::fs::read_to_string(plots.join("perplexity-lines.svg")).unwrap(), svg);
    for (more, words) in [(&["--size", "85x60"][..], "85x60mm"), (&["--font-size", "0"], "3 to 36")] {
        let refused = report(more);
        assert!(refused.code != Some(0) && refused.stderr.contains(words), "{refused:?}");
    }
    if !cfg!(feature = "pdf") {
        let none = report(&["--format", "pdf"]);
        assert!(none.code == Some(1) && none.stderr.contains("--features pdf"), "{none:?}");
        assert!(none.stderr.contains("rsvg-convert") && !plots.join("perplexity-lines.pdf").exists(), "{none:?}");
    }
    let alone = msrnn(&["report", text_of(&out), "--size", "85x60mm"]);
    assert!(alone.code == Some(2) && alone.stderr.contains("--plots"), "{alone:?}");
}

#[test]
fn a_policy_that_finds_no_number_is_left_out_with_its_reason_and_the_others_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let policies = ["--policies", "tova,score(log(weight - 2))"];
    let done = lm(&out, "--stories 1 --context 48 --states 8", &policies);
    assert_eq!(done.code, Some(3), "{done:?}");
    let found = done.json();
    assert_eq!(found, read_json(&out.join("metrics.json")));
    let missing = found["missing"].as_array().unwrap();
    assert!(missing.len() == 1 && missing[0]["unit"].as_str().unwrap().starts_with("score("), "{missing:?}");
    assert!(number(&arm(&found, "tova", json!(8))["nll"]["mean"]) > 0.0);
    assert_eq!(found["metrics"][0]["arms"].as_array().unwrap().len(), 3);
    let report = msrnn(&["report", text_of(&out)]);
    assert!(report.code == Some(3) && report.stdout.contains("MISSING: 1 of 4 units failed"), "{report:?}");
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap().contains("MISSING"));
    // It is tried again, and nothing else is done.
    let done = lm(&out, "--stories 1 --context 48 --states 8", &policies);
    assert!(done.code == Some(3) && done.stderr.contains("3 of 4 units were finished before"), "{done:?}");
    // Who has the option reads it wherever the reason is shown; files and `report`, which has not, name the setting.
    let shown = split("experiment lm --stories 1 --context 48 --states 8 --out");
    let shown = msrnn(&[&shown[..], &[text_of(&out)], &policies].concat());
    assert!(shown.stdout.contains("(or a later one of its block; --form step tells)"), "{shown:?}");
    assert!(shown.stderr.contains("--form step tells") && !shown.stdout.contains('‘'), "{shown:?}");
    assert!(report.stdout.contains("‘form’ step tells"), "{report:?}");
    assert!(missing[0]["reason"].as_str().unwrap().contains("‘form’ step tells"), "{missing:?}");
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

#[test]
fn a_policy_that_keeps_all_rows_in_fewer_bits_stands_under_every_number_of_states() {
    let place = tempfile::tempdir().unwrap();
    let table = |policies: &str, more: &[&str]| {
        let out = place.path().join(more.len().to_string());
        let run = ["compare", "--stories", "1", "--context", "64", "--policies", policies, "--out", text_of(&out)];
        let text = succeeds(&[&run[..], more].concat()).stdout;
        let row = |name: &str| -> Vec<String> {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
            line[name.len()..].split_whitespace().map(str::to_owned).collect()
        };
        (row("int4(full, group=8, recent=8)"), row("full"))
    };
    let (alone, full) = table("int4(full, group=8, recent=8)", &[]);
    assert!(alone.len() == 1 && full.len() == 1 && alone != full, "{alone:?} {full:?}");
    let (beside, _) = table("int4(full, group=8, recent=8),tova", &["--states", "16,32"]);
    assert_eq!(beside, [alone[0].clone(), alone[0].clone()]);
}
