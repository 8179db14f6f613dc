//! Ctrl-C ends a command soon, with exit code 130; what was finished is kept and marked as partial.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Done, PATIENCE, Running, configure, copy, files, split, start, succeeds, text_of, write};
use serde_json::{Value, json};

/// A text that takes far longer to score than any test waits.
fn long_text(directory: &Path) -> PathBuf {
    write(directory, "long.txt", "Once upon a time there was a little dog who ran to the garden.\n".repeat(40_000))
}

/// Waits until `there` is true of a command that must still run then.
#[track_caller]
fn wait_until(running: &mut Running, there: impl Fn(&Running) -> bool) {
    let started = Instant::now();
    while !there(running) {
        assert!(running.ended().is_none(), "it ended before it could be interrupted");
        assert!(started.elapsed() < PATIENCE, "nothing happens");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn has_bytes(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

fn signal(running: &Running, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Whether the command has come so far as to catch signals, where the system tells.
fn catches_signals(running: &Running) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", running.id())) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_none_or(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (2 - 1)) != 0)
}

/// Sends a signal and waits for the end, which must be that of an interrupted command.
#[track_caller]
fn interrupt(mut running: Running, name: &str) -> Done {
    wait_until(&mut running, catches_signals);
    signal(&running, name);
    let done = running.wait();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.stderr.contains("interrupted") && done.stderr.contains("partial"), "{done:?}");
    done
}

#[test]
fn an_interrupted_trace_keeps_whole_lines_under_a_name_that_says_partial() {
    for name in ["INT", "TERM"] {
        let directory = tempfile::tempdir().unwrap();
        let text = long_text(directory.path());
        let out = directory.path().join("trace.jsonl");
        let partial = directory.path().join("trace.jsonl.partial");
        let mut running = start(&["trace", "--text", text_of(&text), "--policy", "window@16", "--out", text_of(&out)]);
        wait_until(&mut running, |_| has_bytes(&partial));
        let done = interrupt(running, name);
        assert!(done.stdout.contains(text_of(&partial)), "{done:?}");
        assert_eq!(files(directory.path()), [text, partial.clone()], "no file looks like a result");

        let trace = std::fs::read_to_string(&partial).unwrap();
        assert!(trace.ends_with('\n'), "the last line is cut");
        let lines: Vec<Value> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(done.stdout.starts_with(&format!("{} omissions", lines.len())), "{done:?}");
        // Every step is there with all four layers, from the first that omits on.
        for (index, line) in lines.iter().take(400).enumerate() {
            let step = index / 4;
            let expected = json!({ "row": 0, "step": 16 + step, "layer": index % 4, "head": null, "position": step });
            assert_eq!(line, &expected);
        }
        assert_eq!(lines.len() % 4, 0);
    }
}

#[test]
fn an_interrupted_perplexity_is_marked_incomplete_and_so_are_its_logits() {
    let directory = tempfile::tempdir().unwrap();
    let text = long_text(directory.path());
    let out = directory.path().join("logits.npy");
    let partial = directory.path().join("logits.npy.partial");
    let arguments = ["perplexity", "--json", "--text", text_of(&text), "--policy", "tova@16", "--context", "64"];
    let mut running = start(&[&arguments[..], &["--logits", text_of(&out)]].concat());
    // Some contexts of 64 × 1,024 logits of four bytes.
    wait_until(&mut running, |_| std::fs::metadata(&partial).is_ok_and(|file| file.len() > 1_000_000));
    let done = interrupt(running, "INT");
    let report = done.json();
    assert_eq!(report["complete"], false);
    let contexts = report["contexts"].as_array().unwrap();
    assert!(!contexts.is_empty() && contexts.iter().all(|context| context["tokens"] == 63), "only whole contexts");
    assert_eq!(report["tokens"], 63 * contexts.len());
    assert!(done.stderr.contains(text_of(&partial)), "{done:?}");
    assert_eq!(files(directory.path()), [partial, text], "no file looks like a result");
}

#[test]
fn an_interrupted_comparison_keeps_its_finished_units_and_goes_on_with_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let samples = || std::fs::read_to_string(out.join("samples.jsonl")).unwrap_or_default().lines().count();
    let states = (1..=62).map(|k: usize| k.to_string()).collect::<Vec<_>>().join(",");
    let given = ["compare", "--stories", "3", "--context", "64", "--jobs", "1", "--batch", "1", "--out", text_of(&out)];
    let given = [&given[..], &["--policies", "tova", "--states", &states]].concat();
    let mut running = start(&given);
    wait_until(&mut running, |_| samples() > 2);
    let done = interrupt(running, "INT");
    assert!(done.stdout.is_empty(), "{done:?}");
    assert!(!out.join("metrics.json").exists());
    let before = samples();
    let done = succeeds(&given);
    assert!(done.stderr.contains(&format!("{before} of 372 units were finished before")), "{done:?}");
}

#[test]
fn an_interrupted_generation_is_marked_incomplete() {
    // No token ends a text, so that it goes on until it is told to stop.
    let directory = tempfile::tempdir().unwrap();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled");
    let model = copy(&bundled, &directory.path().join("endless"));
    configure(&model, json!({ "eos_token_id": null }));
    let arguments = ["generate", "--policy", "window@16", "--max-new-tokens", "10000000", "--model", text_of(&model)];
    let mut running = start(&arguments);
    wait_until(&mut running, |running| running.stdout().len() > 200);
    interrupt(running, "INT");

    let mut running = start(&[&arguments[..], &["--json"]].concat());
    // There is nothing to see before the end.
    let started = Instant::now();
    wait_until(&mut running, |_| started.elapsed() > Duration::from_secs(2));
    let report = interrupt(running, "INT").json();
    assert_eq!((&report["complete"], &report["stop"]), (&json!(false), &json!("interrupted")));
    assert_eq!(report["tokens"], report["ids"].as_array().unwrap().len());
}

#[test]
fn an_interrupted_training_leaves_no_model_and_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("model");
    let tiny = "train --hidden-size 16 --intermediate-size 32 --layers 1 --heads 2 --kv-heads 1 --vocab-size 300 \
                --tokenizer-stories 5 --context 200 --batch 2 --warmup 2 --save-every 5 --steps 1000000";
    let arguments = [split(tiny), vec!["--out", text_of(&out)]].concat();
    let mut running = start(&arguments);
    wait_until(&mut running, |_| has_bytes(&out.join("train.jsonl")));
    interrupt(running, "INT");
    assert!(!out.join("model.safetensors").exists(), "an unfinished run leaves no model");
    let lines = || std::fs::read_to_string(out.join("train.jsonl")).unwrap().lines().count();
    let before = lines();

    let mut running = start(&arguments);
    wait_until(&mut running, |_| lines() > before);
    let done = interrupt(running, "INT");
    let steps: Vec<usize> = std::fs::read_to_string(out.join("train.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap() as usize)
        .collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert!(!done.stdout.contains("step      5,"), "it began again: {done:?}");
}

/// A pipe that nobody writes to keeps whoever opens it, as a large text or model keeps whoever reads it.
#[test]
fn before_there_is_a_result_one_signal_ends_any_command_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let out = directory.path().join("run");
    for command in ["perplexity --policy full", "trace --policy window@4 --out trace.jsonl", "experiment lm"] {
        for name in ["INT", "TERM", "HUP"] {
            let mut arguments = [split(command), vec!["--text", text_of(&pipe)]].concat();
            if command.starts_with("experiment") {
                arguments.extend(["--out", text_of(&out)]);
            }
            let mut running = start(&arguments);
            wait_until(&mut running, catches_signals);
            let done = interrupt(running, name);
            assert!(done.stdout.is_empty(), "{done:?}");
        }
    }
}
