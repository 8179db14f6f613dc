//! What is not a number is never a result, and results say which predictions were made under the bound.

use std::path::{Path, PathBuf};

use crate::common::{self, change_tensors, checkpoint, copy, msrnn, perplexity, split, succeeds, text_of, write_ids};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a checkpoint in which some tensors' values are multiplied.
fn scaled(to: &Path, factor: f32, names: &[&str]) -> PathBuf {
    let model = copy(&checkpoint("llama-gqa"), &to.join("model"));
    change_tensors(&model.join("model.safetensors"), |tensors| {
        for name in names {
            let (dtype, _, bytes) = tensors.get_mut(*name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(dtype, "F32");
            for value in bytes.as_chunks_mut::<4>().0 {
                *value = (f32::from_le_bytes(*value) * factor).to_le_bytes();
            }
        }
    });
    model
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let ids = write_ids("llama-gqa", directory.path());
    (directory, ids)
}

const VALUES: &str = "model.layers.1.self_attn.v_proj.weight";

/// Values that f32 holds and f16 does not.
#[test]
fn an_overflow_of_f16_states_is_an_error_that_names_context_token_layer_and_remedy() {
    let (directory, ids) = place();
    let model = scaled(directory.path(), 1e7, &[VALUES]);
    let (model, ids) = (text_of(&model), text_of(&ids));
    for policy in ["full", "tova@6", "h2o@6", "window@6"] {
        for form in ["step", "layer"] {
            for command in ["perplexity --json", "trace --json"] {
                let out = directory.path().join("out.jsonl");
                let mut arguments = split(command);
                arguments.extend(["--form", form, "--policy", policy, "--model", model, "--ids", ids]);
                if command.starts_with("trace") {
                    arguments.extend(["--out", text_of(&out)]);
                }
                let works = [&arguments[..], &["--dtype", "f32"]].concat();
                succeeds(&works);
                std::fs::remove_file(&out).ok();
                let done = msrnn(&[&arguments[..], &["--dtype", "f32/f16"]].concat());
                assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
                for word in ["context 0, token ", "layer 1 of 3", "--dtype bf16 or f32"] {
                    assert!(done.stderr.contains(word), "{word:?} is not in {}", done.stderr);
                }
                assert!(!out.exists(), "no file looks like a result");
            }
        }
    }
}

#[test]
fn a_prefill_of_whole_contexts_is_flagged_as_the_full_states_and_counts_are_those_of_the_omissions() {
    let (_directory, ids) = place();
    let model = checkpoint("llama-gqa");
    let n = common::read_json(&ids).as_array().unwrap().len();
    let score = |policy: &str, more: &[&str]| perplexity(&model, &ids, policy, more);
    let full = score("full", &[]);
    assert_eq!((&full["predicted"], &full["under_bound"]), (&json!(n - 1), &json!(0)));
    for policy in ["tova@6", "tova-head@6", "h2o@6", "window+2@6", "random@6"] {
        // The token of position 6 is the first to find six rows: what comes after it is under the bound.
        for form in ["step", "layer"] {
            let strict = score(policy, &["--form", form]);
            assert_eq!((&strict["predicted"], &strict["under_bound"]), (&json!(n - 1), &json!(n - 1 - 7)), "{policy}");
        }
        let part = score(policy, &["--protocol", "prefill:10"]);
        assert_eq!(part["under_bound"], json!(n - 1 - 10), "{policy}");
        let whole = score(policy, &["--protocol", "prefill"]);
        assert!(whole["omitted"].as_u64().unwrap() > 0);
        assert_eq!(whole["under_bound"], json!(0), "{policy}");
        common::assert_close(&whole["perplexity"], &full["perplexity"], 1e-9);
        let contexts = score(policy, &["--context", "12", "--protocol", "prefill:9"]);
        let lengths = (0..n.div_ceil(12)).map(|i| (n - 12 * i).min(12)).filter(|&length| length > 1);
        let expected: usize = lengths.map(|length| (length - 1).saturating_sub(9)).sum();
        assert_eq!(contexts["under_bound"], json!(expected), "{policy}");
    }
    let told = |protocol: &str| {
        let arguments = split("perplexity --policy tova@6 --protocol");
        succeeds(&[&arguments[..], &[protocol, "--model", text_of(&model), "--ids", text_of(&ids)]].concat())
    };
    let whole = told("prefill");
    assert!(whole.stderr.contains("no prediction under its bound") && whole.stdout.contains("0 of "), "{whole:?}");
    assert!(!told("strict").stderr.contains("no prediction"));
}

#[test]
fn a_comparison_flags_what_was_not_made_under_a_bound_in_json_text_and_report() {
    let out = tempfile::tempdir().unwrap();
    let arguments =
        split("compare --json --stories 1 --context 64 --policies tova --states 8 --protocol prefill --out");
    let done = succeeds(&[&arguments[..], &[text_of(out.path())]].concat());
    let found = done.json();
    let arms = found["metrics"][0]["arms"].as_array().unwrap();
    let tova = arms.iter().find(|run| run["policy"] == "tova").unwrap();
    assert_eq!(tova["under_bound"], json!(0));
    assert!(tova["omitted"].as_u64().unwrap() > 0);
    assert!(done.stderr.contains("tova@8 made no prediction under its bound"), "{}", done.stderr);
    let report = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(report.contains("no prediction was made under the bound by tova@8"));
}

#[test]
fn equal_logits_are_worth_one_warning() {
    let (directory, ids) = place();
    let model = scaled(directory.path(), 0.0, &["lm_head.weight"]);
    let arguments = split("perplexity --json --context 8 --policy full --model");
    let done = succeeds(&[&arguments[..], &[text_of(&model), "--ids", text_of(&ids)]].concat());
    assert_eq!(done.stderr.matches("all logits are equal").count(), 1, "{}", done.stderr);
    let model = checkpoint("llama-gqa");
    let done = succeeds(&[&arguments[..], &[text_of(&model), "--ids", text_of(&ids)]].concat());
    assert!(!done.stderr.contains("equal"), "{}", done.stderr);
}

#[test]
fn a_perplexity_beyond_64_bits_is_absent_and_its_nll_is_there() {
    let (directory, ids) = place();
    let model = scaled(directory.path(), 1e6, &["lm_head.weight"]);
    let arguments = ["--policy", "full", "--model", text_of(&model), "--ids", text_of(&ids)];
    let found = succeeds(&[&["perplexity", "--json"][..], &arguments].concat()).json();
    assert_eq!(found["perplexity"], Value::Null);
    assert!(found["nll"].as_f64().unwrap() > 710.0 * found["tokens"].as_f64().unwrap());
    let text = succeeds(&[&["perplexity"][..], &arguments].concat()).stdout;
    assert!(text.contains("perplexity  e^") && !text.contains("inf") && !text.contains("NaN"), "{text}");
}

#[test]
fn a_share_in_generate_is_of_prompt_and_new_tokens_and_what_was_drawn_without_a_bound_is_told() {
    let generate = |more: &str| {
        let arguments = split("generate --json --prompt Once --max-new-tokens 20");
        succeeds(&[&arguments[..], &split(more)].concat())
    };
    let found = generate("--policy window@50%").json();
    let prompt = found["prompt_tokens"].as_u64().unwrap();
    assert_eq!(found["states"].as_u64().unwrap(), (prompt + 20).div_ceil(2));
    assert!(found["under_bound"].as_u64().unwrap() > 0);
    assert_eq!(generate("--policy window@50% --context 200").json()["states"], json!(100));
    // As many states as a model has positions may be asked for, however short the text is.
    let whole = generate("--policy window@500");
    assert_eq!((&whole.json()["states"], &whole.json()["under_bound"]), (&json!(500), &json!(0)));
    assert!(whole.stderr.contains("what the full state writes"), "{}", whole.stderr);
}

#[test]
fn a_seed_that_a_policy_names_is_not_replaced() {
    let (_directory, ids) = place();
    let model = checkpoint("llama-gqa");
    let run = |policy: &str, seed: &str| {
        let found = perplexity(&model, &ids, policy, &["--seed", seed]);
        (found["policy"].as_str().unwrap().to_owned(), found["nll"].as_f64().unwrap())
    };
    let (zero, seven) = (run("random@8", "0"), run("random@8", "7"));
    assert_eq!((zero.0.as_str(), seven.0.as_str()), ("random", "random:7"));
    assert_ne!(zero.1, seven.1);
    assert_eq!(run("random:0@8", "7"), ("random:0".into(), zero.1));
    assert_eq!(run("random:7@8", "0"), seven);
}
