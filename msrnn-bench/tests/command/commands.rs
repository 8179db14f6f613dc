//! Every subcommand does what its help says, on small inputs.

use std::path::Path;

use crate::common::{
    self, assert_close, checkpoint, files, golden, msrnn, perplexity, read_json, split, start, start_in, succeeds,
    testdata, text_of, write, write_ids,
};
use msrnn_policies::registry;
use serde_json::{Value, json};

#[test]
fn policies_lists_every_policy_as_text_and_as_markdown() {
    let text = succeeds(&["policies"]).stdout;
    let markdown = succeeds(&["policies", "--markdown"]).stdout;
    for name in std::iter::once("full").chain(registry::entries().map(|entry| entry.name)) {
        assert!(text.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name} is not in\n{text}");
        assert!(markdown.contains(&format!("| `{name}` |")), "{name} is not in\n{markdown}");
    }
}

#[test]
fn explain_tells_idea_rule_cost_and_source_of_every_policy() {
    for entry in registry::entries() {
        for name in [entry.name, entry.example] {
            let text = succeeds(&["explain", name]).stdout;
            for part in [entry.idea, entry.rule, entry.cost, entry.citation, entry.differences, "sliding window of W"] {
                assert!(text.contains(part), "{part:?} is not in\n{text}");
            }
        }
    }
    assert!(succeeds(&["explain", "window+4"]).stdout.contains("window+4"));
    assert!(succeeds(&["explain", "full"]).stdout.contains("vanilla transformer"));
}

/// A ceiling is compared, and marked as one; what knows no rest of a text refuses it.
#[test]
fn an_oracle_is_a_ceiling_in_comparisons_and_is_refused_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let compare = "compare --policies random,oracle,oracle-head --states 12 --stories 2 --context 160 --out";
    let done = succeeds(&[&split(compare)[..], &[text_of(&out)]].concat());
    assert!(done.stdout.contains("oracle is a ceiling and no policy"), "{}", done.stdout);
    let results = read_json(&out.join("metrics.json"));
    let text = results.to_string();
    assert!(text.contains("oracle-head"), "{text}");
    for refused in [
        "generate --policy oracle@8 --prompt Once",
        "bench --policies oracle --states 8 --prefill 0 --score 8 --decode 0",
        "bench --policies every(4,oracle) --states 8 --prefill 0 --score 0 --decode 8",
        "throughput --policy protect(oracle,first=1) --states 8 --memory 64MiB",
    ] {
        let done = msrnn(&split(refused));
        assert!(
            done.code != Some(0) && done.stderr.contains("is a ceiling and no policy"),
            "{refused}: {}",
            done.stderr
        );
    }
}

#[test]
fn policies_are_listed_as_json_too() {
    let listed: Value = serde_json::from_str(&succeeds(&["policies", "--json"]).stdout).unwrap();
    let tova = listed.as_array().unwrap().iter().find(|policy| policy["name"] == "tova").unwrap();
    assert_eq!((&tova["decides"], &tova["needs"], &tova["bytes_per_state"]), (&json!("layer"), &json!(1), &json!(0)));
    assert!(tova["citation"].as_str().unwrap().contains("2401.06104"));
}

#[test]
fn explain_tells_of_a_policy_that_is_composed_or_typed() {
    let text = succeeds(&["explain", "every(128, protect(tova, newest=16))@512"]).stdout;
    for part in ["every(128, protect(tova, newest=16))", "k + 128 rows", "the newest 16 rows", "sliding window of W"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let text = succeeds(&["explain", "score(m = 0.9*m + weight; keep m; per head)"]).stdout;
    assert!(text.contains("m = 0.9 * m + weight; keep m") && text.contains("once per KV head"), "{text}");
}

/// A policy says how rows are numbered, and that decides which way tokens take.
#[test]
fn explain_tells_the_road_that_a_policys_numbers_make_it_take() {
    let road = |policy| {
        let text = succeeds(&["explain", policy]).stdout;
        text.lines().find(|line| line.starts_with("road")).expect("a road").to_owned()
    };
    assert!(road("window+4@16").contains("inside blocks"), "{}", road("window+4@16"));
    assert!(road("in-state(tova)@16").contains("numbered anew"), "{}", road("in-state(tova)@16"));
    assert!(road("streaming@16").contains("inside blocks"), "{}", road("streaming@16"));
}

#[test]
fn a_typed_score_equal_to_tova_gives_tovas_results() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let of = |policy: &str| perplexity(&checkpoint("llama-gqa"), &ids, policy, &[]);
    let (built_in, typed) = (of("tova@5"), of("score(weight)@5"));
    assert_eq!((&built_in["nll"], &built_in["omitted"]), (&typed["nll"], &typed["omitted"]));
    assert_eq!(typed["policy"], "score(weight)");
    assert_ne!(of("score(1 - weight)@5")["nll"], typed["nll"]);
}

/// Rows that are whole beside few that are packed take more memory than they save.
#[test]
fn what_is_packed_at_a_loss_is_told() {
    let text = testdata().join("../README.md");
    let told = |policy: &str| {
        let run = ["perplexity", "--text", text_of(&text), "--context", "200", "--contexts", "1"];
        succeeds(&[&run[..], &["--policy", policy]].concat()).stderr.contains("takes more memory")
    };
    assert!(told("int4(tova)@16"));
    assert!(!told("int4(tova, group=8, recent=0)@96") && !told("tova@16") && !told("int4(full)"));
}

/// Positions in JSON are those that were used.
#[test]
fn json_tells_how_rows_were_numbered() {
    let text = testdata().join("../README.md");
    let positions = |more: &[&str]| {
        let run = ["perplexity", "--text", text_of(&text), "--context", "40", "--contexts", "1", "--json"];
        succeeds(&[&run[..], more].concat()).json()["positions"].clone()
    };
    assert_eq!(positions(&["--policy", "streaming@16"]), "in-state");
    assert_eq!(positions(&["--policy", "gap-compressed(tova)@16"]), "gap-compressed");
    assert_eq!(positions(&["--policy", "tova@16"]), "original");
    assert_eq!(positions(&["--policy", "tova@16", "--positions", "in-state"]), "in-state");
    assert_eq!(positions(&["--policy", "layers(0: in-state(tova), *: tova)@16"]), Value::Null);
}

/// A window in some heads and all rows in the others: between the two in all heads, in what it costs and in what it holds.
#[test]
fn policies_by_head_hold_what_each_head_says() {
    let text = testdata().join("../README.md");
    let scored = |policy: &str| {
        let run = ["perplexity", "--text", text_of(&text), "--context", "96", "--contexts", "1", "--json"];
        succeeds(&[&run[..], &["--policy", policy]].concat()).json()
    };
    let number = |found: &Value, key: &str| found[key].as_f64().unwrap_or_else(|| panic!("no {key} in {found}"));
    let [window, by_head, full] = ["window+2@8", "heads(0: full, *: window+2)@8", "full"].map(scored);
    let [least, found, most] = [&window, &by_head, &full].map(|of| number(of, "state_bytes"));
    assert!(least < found && found < most, "{least}, {found}, {most}");
    assert_eq!(by_head["policy"], "heads(0: full, *: window+2)");
    assert!(number(&by_head, "nll") != number(&window, "nll") && number(&by_head, "nll") != number(&full, "nll"));
    // A policy of which every head decides by itself is the same said head by head.
    let (whole, split) = (scored("tova-head@8"), scored("heads(*: tova-head)@8"));
    assert!((number(&whole, "nll") - number(&split, "nll")).abs() < 1e-6, "{whole} {split}");
    assert_eq!(whole["omitted"], split["omitted"]);
}

#[test]
fn lists_of_policies_are_parted_by_commas_outside_parentheses() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let list = "tova@8,every(4, tova), layers(0: full, *: window+1)";
    let arguments =
        ["compare", "--policies", list, "--policies", "h2o", "--states", "6", "--stories", "1", "--context", "24"];
    let found = succeeds(&[&arguments[..], &["--json", "--out", text_of(&out)]].concat()).json();
    let arms = found["metrics"][0]["arms"].as_array().unwrap_or_else(|| panic!("no arms in {found}"));
    let policies: Vec<&str> =
        arms.iter().filter(|arm| arm["kind"] == "policy").filter_map(|arm| arm["policy"].as_str()).collect();
    assert_eq!(policies, ["tova", "every(4, tova)", "layers(0: full, *: window+1)", "h2o"]);
    let table = std::fs::read_to_string(out.join("figures/perplexity.csv")).unwrap();
    assert!(table.contains("\"every(4, tova)\""), "{table}");
}

#[test]
fn a_policy_that_cannot_be_read_is_shown_with_the_place_marked() {
    for (arguments, line, carets) in [
        (["explain", "protect(tovaa, first=4)"], "protect(tovaa, first=4)", "        ^^^^^"),
        (["bench", "--policies=tova,score(weight *)"], "score(weight *)", "              ^"),
    ] {
        let run = msrnn(&arguments);
        assert_ne!(run.code, Some(0), "{arguments:?}");
        assert!(run.stderr.contains(&format!("\n  {line}\n  {carets}\n")), "{}", run.stderr);
    }
}

#[test]
fn completions_name_the_command_and_its_subcommands() {
    let script = succeeds(&["completions", "bash"]).stdout;
    assert!(script.contains("_msrnn") && script.contains("perplexity"), "{script}");
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(&["completions", shell]).stdout;
        assert!(script.contains("perplexity"), "{shell}");
        assert!(
            ["bash", "zsh", "fish"].iter().all(|&known| known != shell) || script.contains("tova-head"),
            "{shell}: {script}"
        );
    }
}

#[test]
fn help_and_version_are_printed_on_stdout() {
    let version = succeeds(&["--version"]).stdout;
    assert!(version.starts_with(concat!("msrnn ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    assert!(version.contains("; flex, "), "{version}");
    let help = succeeds(&["--help"]).stdout;
    assert!(help.contains("Exit codes"), "{help}");
    for command in ["compare", "perplexity", "generate", "trace", "train", "policies", "explain", "completions"] {
        assert!(help.contains(command), "{command} is not in\n{help}");
        assert!(succeeds(&[command, "--help"]).stdout.contains("Usage"), "{command}");
    }
}

#[test]
fn perplexity_of_ids_equals_the_goldens_under_full_tova_and_prefill() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    for (policy, protocol) in [("full", "strict"), ("tova@5", "strict"), ("tova@6", "prefill:12")] {
        let expected = golden("llama-gqa", policy, protocol);
        let found = perplexity(&checkpoint("llama-gqa"), &ids, policy, &["--protocol", protocol]);
        assert_close(&found["nll"], &expected["nll"], 1e-9);
        assert_eq!(found["omitted"], expected["omitted"].as_array().unwrap().len(), "{policy}");
        assert_eq!(found["protocol"], protocol);
    }
}

#[test]
fn perplexity_prints_one_json_object_with_result_and_setting() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let found = perplexity(&checkpoint("llama-gqa"), &ids, "tova", &["--states", "5"]);
    let keys = "policy states tokens nll perplexity omitted max_rows state_bytes predicted under_bound seconds tokens_per_second contexts \
                complete form model device dtype context protocol positions seed version parameters prefix";
    for key in split(keys) {
        assert!(!found[key].is_null(), "{key} is not in {found}");
    }
    assert_eq!(
        json!({
            "policy": found["policy"], "states": found["states"], "tokens": found["tokens"],
            "max_rows": found["max_rows"], "omitted": found["omitted"], "complete": found["complete"],
        }),
        // Three layers decide for 40 tokens of which five stay.
        json!({ "policy": "tova", "states": 5, "tokens": 39, "max_rows": 5, "omitted": 3 * 35, "complete": true })
    );
    let nll = found["nll"].as_f64().unwrap();
    assert_close(&found["perplexity"], &json!((nll / 39.0).exp()), 1e-12);
    assert_close(&found["contexts"][0]["nll"], &found["nll"], 1e-12);
}

#[test]
fn perplexity_is_the_same_step_by_step_and_layer_by_layer() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    for policy in ["full", "window+2@5", "h2o@5", "tova@5", "random@5"] {
        let form = |form: &str| perplexity(&checkpoint("llama-gqa"), &ids, policy, &["--form", form]);
        let (step, layer) = (form("step"), form("layer"));
        assert_close(&step["nll"], &layer["nll"], 1e-10);
        assert_eq!(step["omitted"], layer["omitted"], "{policy}");
    }
}

#[test]
fn perplexity_of_a_text_begins_every_context_with_bos_and_says_what_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", "Once upon a time there was a little dog.\n".repeat(8));
    let run = |more: &[&str]| {
        let arguments = ["perplexity", "--text", text_of(&text), "--context", "32", "--policy", "window+4@16"];
        succeeds(&[&arguments, more].concat())
    };
    let found = run(&["--json"]).json();
    assert_eq!(found["prefix"], json!([0]));
    let contexts = found["contexts"].as_array().unwrap();
    assert!(contexts.len() > 1 && contexts[0]["tokens"] == 31, "{found}");
    assert!(found["omitted"].as_u64().unwrap() > 0 && found["max_rows"] == 16, "{found}");

    let shown = run(&[]).stdout;
    let perplexity = format!("{:.4}", found["perplexity"].as_f64().unwrap());
    for part in ["window+4@16", "16 states", &perplexity, "begun with [0]", "omissions", "tokens/s"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    // The bundled model is an ordinary model directory.
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled");
    assert_eq!(run(&["--json", "--model", text_of(&bundled)]).json()["contexts"], found["contexts"]);
    // Contexts side by side are still contexts of their own.
    assert_close(&run(&["--json", "--batch", "4"]).json()["nll"], &found["nll"], 1e-5);
}

#[test]
fn perplexity_warns_where_a_bound_was_never_reached_or_the_context_is_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let model = checkpoint("llama-gqa");
    let arguments = ["perplexity", "--model", text_of(&model), "--ids", text_of(&ids)];
    let warnings = succeeds(&[&arguments[..], &["--policy", "tova@1000", "--context", "100000"]].concat()).stderr;
    assert!(warnings.contains("tova@1000 never omitted a row"), "{warnings}");
    assert!(warnings.contains("beyond the model's"), "{warnings}");
}

#[test]
fn the_length_of_a_text_is_limited_by_the_positions_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let model = checkpoint("llama-gqa");
    let scored = |policy: &str, positions: &str, context: &str| {
        let (model, ids) = (text_of(&model), text_of(&ids));
        let arguments = ["perplexity", "--model", model, "--ids", ids, "--policy", policy, "--positions", positions];
        msrnn(&[&arguments[..], &["--context", context]].concat())
    };
    // A state of 8 rows and the new one has 9 positions, however long a stream is.
    for context in ["100000", "100000000"] {
        let found = scored("tova@8", "in-state", context);
        assert!(found.code == Some(0) && !found.stderr.contains("beyond"), "{}", found.stderr);
        let found = scored("tova@8", "gap-compressed", context);
        assert!(found.code == Some(0) && !found.stderr.contains("beyond"), "{}", found.stderr);
    }
    // Trained on 256: 14 for every gap are more.
    assert!(scored("tova@20", "gap-compressed", "100000").stderr.contains("comes to 295 positions, beyond"));
    for (policy, positions) in [("tova@8", "original"), ("full", "in-state")] {
        let found = scored(policy, positions, "100000000");
        assert_eq!(found.code, Some(1), "{policy}, {positions}");
        assert!(found.stderr.contains("16777216") && found.stderr.contains("in-state"), "{}", found.stderr);
    }
    let found = scored("tova@8", "in-state", "3000000000");
    assert_eq!(found.code, Some(1));
    assert!(found.stderr.contains("2147483647"), "{}", found.stderr);

    let written = |positions: &str, tokens: &str| {
        msrnn(&["generate", "--policy", "tova@16", "--positions", positions, "--max-new-tokens", tokens])
    };
    // The bundled model has 1,024 positions.
    assert!(written("original", "1100").stderr.contains("beyond the model's 1024 positions"));
    let found = written("in-state", "1100");
    assert!(found.code == Some(0) && !found.stderr.contains("beyond"), "{}", found.stderr);
    assert_eq!(written("original", "20000000").code, Some(1));
}

#[test]
fn logits_are_those_of_the_golden_array() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let (model, out) = (checkpoint("llama-gqa"), directory.path().join("logits.npy"));
    let arguments = ["perplexity", "--model", text_of(&model), "--ids", text_of(&ids), "--policy", "full", "--logits"];
    for form in ["step", "layer"] {
        succeeds(&[&arguments[..], &[text_of(&out), "--form", form]].concat());
        let (found, golden) = (std::fs::read(&out).unwrap(), testdata().join("goldens/llama-gqa.logits.npy"));
        std::fs::remove_file(&out).unwrap();
        let found = npyz::NpyFile::new(&found[..]).unwrap();
        assert_eq!((found.shape(), found.order()), (&[40, 64][..], npyz::Order::C));
        let found = found.into_vec::<f32>().unwrap();
        let expected = npyz::NpyFile::new(&std::fs::read(golden).unwrap()[..]).unwrap().into_vec::<f64>().unwrap();
        let largest = expected.iter().fold(0.0, |largest: f64, logit| largest.max(logit.abs()));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-4 * largest, "{found} should be {expected}");
        }
    }
    assert_eq!(files(directory.path()), [ids], "nothing else is left behind");
}

#[test]
fn trace_writes_the_omissions_of_the_golden_run() {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    let (model, out) = (checkpoint("llama-gqa"), directory.path().join("below/trace.jsonl"));
    for (policy, protocol) in [("h2o@5", "strict"), ("tova@5", "strict"), ("tova-head@6", "prefill:12")] {
        let arguments = [
            ["trace", "--json"],
            ["--dtype", "f64"],
            ["--model", text_of(&model)],
            ["--ids", text_of(&ids)],
            ["--policy", policy],
            ["--protocol", protocol],
            ["--out", text_of(&out)],
        ];
        let report = succeeds(&arguments.concat()).json();
        let expected: Vec<Value> = golden("llama-gqa", policy, protocol)["omitted"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| json!({ "row": 0, "step": o[0], "layer": o[1], "head": o[2], "position": o[3] }))
            .collect();
        let text = std::fs::read_to_string(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, expected, "{policy}");
        assert_eq!((&report["lines"], &report["complete"]), (&json!(expected.len()), &json!(true)));
    }
    assert_eq!(files(directory.path()), [ids], "nothing else is left behind");
}

#[test]
fn generate_repeats_itself_for_a_seed_and_shows_prompt_and_continuation() {
    let arguments = ["generate", "--prompt", "Once upon a time", "--policy", "tova@32", "--max-new-tokens", "60"];
    let run = |more: &[&str]| succeeds(&[&arguments, more].concat());
    let found = run(&["--json", "--temperature", "1", "--seed", "3"]).json();
    let text = found["text"].as_str().unwrap();
    assert!(!text.is_empty());
    for _ in 0..2 {
        assert_eq!(run(&["--temperature", "1", "--seed", "3"]).stdout, format!("Once upon a time{text}\n"));
    }
    let others = ["4", "5", "6"].map(|seed| run(&["--json", "--temperature", "1", "--seed", seed]).json());
    assert!(others.iter().any(|other| other["ids"] != found["ids"]), "the seed makes no difference");

    let ids = found["ids"].as_array().unwrap().len();
    assert_eq!((&found["tokens"], &found["complete"]), (&json!(ids), &json!(true)));
    assert_eq!((&found["policy"], &found["states"], &found["seed"]), (&json!("tova"), &json!(32), &json!(3)));
    assert!(found["max_rows"].as_u64().unwrap() <= 32 && found["prompt_tokens"].as_u64().unwrap() > 1, "{found}");
    assert!(["eos", "length"].contains(&found["stop"].as_str().unwrap()), "{found}");
    for key in ["omitted", "state_bytes", "seconds", "tokens_per_second", "protocol", "model", "dtype", "version"] {
        assert!(!found[key].is_null(), "{key} is not in {found}");
    }
}

#[test]
fn generate_takes_the_same_tokens_under_full_and_under_a_bound_that_is_never_reached() {
    let run = |policy: &str, protocol: &str| {
        let arguments = ["generate", "--json", "--prompt", "One day", "--max-new-tokens", "80", "--policy", policy];
        succeeds(&[&arguments[..], &["--protocol", protocol]].concat()).json()
    };
    let full = run("full", "strict");
    assert!(full["ids"].as_array().unwrap().len() > 10, "{full}");
    assert_eq!(full["omitted"], 0);
    for (policy, protocol) in [("tova@1000", "strict"), ("tova@1000", "prefill"), ("h2o@1000", "prefill:2")] {
        let bounded = run(policy, protocol);
        assert_eq!(bounded["ids"], full["ids"], "{policy}, {protocol}");
        assert_eq!(bounded["protocol"], protocol);
    }
}

/// Two policies and two bounds on two short stories.
const SMALL: &str = "--stories 2 --context 160 --policies tova,window --states 16,32";

#[test]
fn compare_is_the_experiment_lm() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("new/compared"), directory.path().join("lm"));
    let with = |command: &'static str, out: &Path| {
        let out = text_of(out).to_owned();
        succeeds(&[&split(command)[..], &split(SMALL), &["--out", &out]].concat()).stdout.replace(&out, "OUT")
    };
    let printed = with("compare", &one);
    assert_eq!(printed, with("experiment lm", &two));
    for name in ["metrics.json", "samples.jsonl", "plan.jsonl"] {
        let read = |out: &Path| {
            let text = std::fs::read_to_string(out.join(name)).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(read(&one), read(&two), "{name}");
    }
    let written = files(&one);
    assert!(written.iter().all(|path| path.extension().is_some_and(|ending| ending != "partial")), "{written:?}");
    for name in ["report.html", "figures/perplexity.csv", "figures/perplexity-lines.svg", "figures/run-times.parquet"] {
        assert!(written.contains(&one.join(name)), "{name} is not among {written:?}");
    }

    let arms = read_json(&one.join("metrics.json"))["metrics"][0]["arms"].as_array().unwrap().clone();
    let made: Vec<(&str, &str, Option<u64>)> = arms
        .iter()
        .map(|arm| (arm["kind"].as_str().unwrap(), arm["policy"].as_str().unwrap(), arm["states"].as_u64()))
        .collect();
    assert_eq!(
        made,
        [
            ("full", "full", None),
            ("baseline", "baseline", Some(16)),
            ("baseline", "baseline", Some(32)),
            ("policy", "tova", Some(16)),
            ("policy", "tova", Some(32)),
            ("policy", "window", Some(16)),
            ("policy", "window", Some(32)),
        ]
    );
    for arm in &arms {
        let shown = format!("{:.3}", arm["perplexity"]["mean"].as_f64().unwrap());
        assert!(printed.contains(&shown), "{shown} is not in\n{printed}");
        if arm["kind"] == "policy" {
            assert!(arm["max_rows"].as_u64() <= arm["states"].as_u64(), "{arm}");
            assert!(arm["omitted"].as_u64().unwrap() > 0, "{arm}");
        } else {
            assert_eq!(arm["omitted"], 0);
        }
        // Paired: the difference of the means is the mean of the differences.
        let mean = |value: &Value| value["mean"].as_f64().unwrap();
        if arm["kind"] != "full" {
            let above = (mean(&arm["perplexity"]) / mean(&arms[0]["perplexity"])).ln();
            assert!((mean(&arm["above_full"]) - above).abs() < 1e-9, "{arm}");
        }
    }
}

#[test]
fn compare_gives_the_same_table_for_a_seed_whatever_else_runs_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let table = |name: &str, more: &[&str]| {
        let out = directory.path().join(name);
        let printed = succeeds(&[&["compare"], &split(SMALL)[..], &["--out", text_of(&out)], more].concat()).stdout;
        // All but the last line, which tells the place.
        printed.trim_end().rsplit_once('\n').unwrap().0.to_owned()
    };
    let first = table("first", &["--seed", "7"]);
    assert_eq!(table("first", &["--seed", "7"]), first);
    assert_eq!(table("one", &["--seed", "7", "--jobs", "1", "--threads", "1"]), first);
    assert_ne!(table("other", &["--seed", "8"]), first);
}

#[test]
fn compare_prints_the_json_that_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", "Once upon a time there was a little dog.\n".repeat(8));
    let out = directory.path().join("out");
    let paths = ["--text", text_of(&text), "--out", text_of(&out)];
    let grid = split("compare --json --context 40 --policies full,tova@25%,random --states 8");
    let run = split("--protocol prefill:20 --form step --jobs 2");
    let printed = succeeds(&[&grid[..], &run, &paths].concat()).json();
    assert_eq!(printed, read_json(&out.join("metrics.json")));
    let arms = printed["metrics"][0]["arms"].as_array().unwrap();
    let names: Vec<(&str, Option<u64>)> =
        arms.iter().map(|arm| (arm["policy"].as_str().unwrap(), arm["states"].as_u64())).collect();
    let expected =
        [("full", None), ("baseline", Some(8)), ("baseline", Some(10)), ("tova", Some(10)), ("random", Some(8))];
    assert_eq!(names, expected);
    assert!(printed["notes"].to_string().contains("Protocol prefill:20"), "{printed}");
}

#[test]
fn without_a_directory_nothing_is_overwritten_and_what_is_part_of_it_is_reused() {
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let done = start_in(&split(arguments), place.path()).wait();
        assert_eq!(done.code, Some(0), "{done:?}");
        done
    };
    let small = "compare --stories 1 --context 48 --states 8 --policies ";
    run(&format!("{small}window"));
    let first = std::fs::read(place.path().join("out/lm/metrics.json")).unwrap();
    let done = run(&format!("{small}tova"));
    assert!(done.stdout.contains("out/lm-2") && done.stderr.contains("out/lm-2"), "{done:?}");
    assert_eq!(std::fs::read(place.path().join("out/lm/metrics.json")).unwrap(), first);
    let done = run(&format!("{small}window,tova"));
    assert!(done.stdout.contains("out/lm/") && done.stderr.contains("3 of 4 units were finished before"), "{done:?}");
    let done = run(&format!("{small}tova,h2o --reuse out/lm --out new"));
    assert!(done.stderr.contains("3 of 4 units were finished before"), "{done:?}");
}

#[test]
fn quiet_says_nothing_but_errors_and_no_escape_reaches_a_file() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let run = split("compare --stories 1 --context 48 --states 48 --policies window --out");
    let done = succeeds(&[&run[..], &[text_of(&out)]].concat());
    assert!(done.stderr.contains("never omitted") && !done.stderr.contains('\u{1b}'), "{done:?}");
    let done = succeeds(&[&run[..], &[text_of(&out), "-q"]].concat());
    assert!(done.stderr.is_empty() && done.stdout.contains("report.html"), "{done:?}");
    assert_eq!(msrnn(&["-q", "perplexity", "--policy", "tova@8", "--text", "nowhere"]).code, Some(1));
    assert!(msrnn(&["-q", "perplexity", "--policy", "tova@8", "--text", "nowhere"]).stderr.contains("nowhere"));
    assert_eq!(msrnn(&[&run[..], &[text_of(&out), "--threads", "0"]].concat()).code, Some(1));
}

const TINY: &str = "--hidden-size 16 --intermediate-size 32 --layers 1 --heads 2 --kv-heads 1 --vocab-size 300 \
    --tokenizer-stories 5 --context 200 --batch 2 --warmup 2 --save-every 2 --steps 4";

#[test]
fn train_makes_a_model_directory_and_leaves_a_finished_one_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model");
    let train = |more: &[&str]| msrnn(&[&["train", "--out", text_of(&out)][..], &split(TINY), more].concat());
    let planned = train(&["--dry-run"]);
    assert!(planned.stdout.starts_with("1 unit, 1600 tokens, at most "), "{planned:?}");
    assert!(planned.stdout.contains("steps 1 to 4, contexts of 200") && !out.exists(), "{planned:?}");
    let done = train(&[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("step      4") && done.stdout.contains("validation perplexity"), "{done:?}");

    let text = write(directory.path(), "text.txt", "Once upon a time there was a little dog.\n".repeat(4));
    let arguments = ["perplexity", "--json", "--model", text_of(&out), "--text", text_of(&text), "--policy", "tova@8"];
    let found = succeeds(&arguments).json();
    assert_eq!((&found["context"], &found["max_rows"], &found["prefix"]), (&json!(200), &json!(8), &json!([0])));
    // Nearly untrained: about as good as guessing among all ids.
    let perplexity = found["perplexity"].as_f64().unwrap();
    assert!((50.0..500.0).contains(&perplexity), "{perplexity}");

    let content = || files(&out).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>();
    let before = content();
    assert_eq!(train(&[]).code, Some(0));
    assert!(content() == before, "a second run changed the finished directory");

    let refused = train(&["--learning-rate", "0.5"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(text_of(&out)) && refused.stderr.contains("--out"), "{}", refused.stderr);
    assert!(content() == before, "a refused run changed the finished directory");
}

#[cfg(unix)]
#[test]
fn a_reader_who_closes_the_pipe_ends_no_command_with_an_error() {
    use std::process::{Command, Stdio};
    for arguments in [&["policies"][..], &["explain", "tova"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_msrnn"));
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn generate_shows_text_while_it_still_draws() {
    // No token ends a text, so that it goes on until it is told to stop.
    let directory = tempfile::tempdir().unwrap();
    let model = common::copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled"), &directory.path().join("endless"));
    common::configure(&model, json!({ "eos_token_id": null }));
    let arguments = ["generate", "--model", text_of(&model), "--policy", "window@16", "--max-new-tokens", "10000000"];
    let mut running = start(&[&arguments[..], &["--prompt", "Once", "--temperature", "1"]].concat());
    while running.stdout().len() < 200 {
        assert!(running.ended().is_none(), "{:?}", running.wait());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(running.stdout().starts_with("Once"));
}
