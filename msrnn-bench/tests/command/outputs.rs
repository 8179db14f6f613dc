//! Files that commands write beside run directories: none takes the place of another, and whether one can be written is known
//! before the work is done.

use std::fs;

use crate::common::{msrnn, succeeds, text_of, write};
use serde_json::Value;

const WRITES: &[&str] = &["generate", "--policy", "tova@8", "--prompt", "Once upon", "--max-new-tokens", "3"];
const SCORES: &[&str] = &["--policy", "tova@8", "--contexts", "1", "--context", "40"];

#[test]
fn no_file_takes_the_place_of_another_whatever_it_is() {
    let place = tempfile::tempdir().unwrap();
    let text = write(place.path(), "text.txt", "Once upon a time there was a girl who had a small dog. ".repeat(9));
    let notes = write(place.path(), "notes", "mine\n");
    let notes = text_of(&notes);
    let scored = |command: &'static str| [&[command, "--text", text_of(&text)], SCORES].concat();
    for command in [
        [&scored("trace")[..], &["--out", notes]].concat(),
        [&scored("perplexity")[..], &["--logits", notes]].concat(),
        [WRITES, &["--show-state", notes]].concat(),
        [WRITES, &["--state-out", notes]].concat(),
    ] {
        let done = msrnn(&command);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("exists already; choose another name"), "{done:?}");
        assert_eq!(done.stdout, "", "nothing is done for a result that cannot be written: {done:?}");
        assert_eq!(fs::read_to_string(notes).unwrap(), "mine\n", "{done:?}");
    }
    // A directory, too, is known before anything is read.
    let done = msrnn(&[WRITES, &["--state-out", text_of(place.path())]].concat());
    assert!(done.code == Some(1) && done.stdout.is_empty(), "{done:?}");
}

#[test]
fn a_state_may_take_the_place_of_the_one_that_it_goes_on_from() {
    let place = tempfile::tempdir().unwrap();
    let (state, other) = (place.path().join("state"), place.path().join("other"));
    let (state, other) = (text_of(&state), text_of(&other));
    succeeds(&[WRITES, &["--state-out", state]].concat());
    let before = fs::read(state).unwrap();
    succeeds(&[WRITES, &["--state-in", state, "--state-out", state]].concat());
    assert_ne!(fs::read(state).unwrap(), before);
    succeeds(&[WRITES, &["--state-out", other]].concat());
    let done = msrnn(&[WRITES, &["--state-in", state, "--state-out", other]].concat());
    assert!(done.code == Some(1) && done.stderr.contains("exists already"), "{done:?}");
}

#[test]
fn quiet_commands_say_nothing_but_their_result() {
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("page.html");
    let prompts = write(place.path(), "prompts.jsonl", "{\"prompt\": \"Once upon\"}\n");
    let out = place.path().join("out.jsonl");
    for command in [
        [WRITES, &["-q"]].concat(),
        [WRITES, &["-q", "--show-state", text_of(&page)]].concat(),
        vec![
            "generate",
            "-q",
            "--policy",
            "tova@8",
            "--max-new-tokens",
            "3",
            "--prompts",
            text_of(&prompts),
            "--out",
            text_of(&out),
        ],
    ] {
        let done = succeeds(&command);
        assert_eq!(done.stderr, "", "{done:?}");
    }
}

#[test]
fn a_budget_in_bytes_is_never_exceeded_whatever_is_kept_beside_rows() {
    let place = tempfile::tempdir().unwrap();
    let text = write(place.path(), "text.txt", "Once upon a time there was a girl who had a small dog. ".repeat(60));
    let common = ["perplexity", "--json", "-q", "--contexts", "1", "--context", "450", "--text", text_of(&text)];
    for policy in [
        "tova",
        "streaming",
        "every(8, tova)",
        "every(8, snapkv(window=16))",
        "every(32, snapkv)",
        "int8(tova)",
        "merge(h2o, threshold=ema0.5)",
        "pooled(every(16, tova))",
        "every(16, pooled(knorm))",
        "pooled(every(16, snapkv(window=8)))",
        "heads(0: every(8, snapkv(window=8)), *: tova)",
    ] {
        let spec = format!("{policy}@700KiB");
        let done = succeeds(&[&common[..], &["--policy", &spec]].concat());
        let found: Value = serde_json::from_str(&done.stdout).unwrap();
        let (bytes, budget) = (found["state_bytes"].as_u64().unwrap(), 700 << 10);
        // As many rows as there is room for.
        assert!(bytes <= budget && 10 * bytes > 9 * budget, "{spec}: {bytes} of {budget} bytes");
    }
    let done = msrnn(&[&common[..], &["--policy", "every(32, snapkv)@100KiB"]].concat());
    assert!(done.code == Some(1) && done.stderr.contains("fewer queries"), "{done:?}");
}
