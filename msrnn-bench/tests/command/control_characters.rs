//! What files say reaches a terminal spelled out, wherever it is said: no character of theirs moves a cursor, colours a
//! line or turns the direction of writing.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{self, checkpoint, configure, copy, text_of, write, write_ids};
use msrnn_bench::experiment::manifest::{Identity, Manifest, hash};
use serde_json::json;

/// Clears the screen, sets a title, goes back to the beginning of the line, turns the direction of writing.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{202e}\u{9b}1m";

/// Commands of a terminal, and marks of direction.
fn commands_a_terminal(text: &str) -> bool {
    let marks =
        ['\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2069}'];
    text.chars().any(|sign| (sign.is_control() && sign != '\n' && sign != '\t') || marks.contains(&sign))
}

#[track_caller]
fn says(arguments: &[&str], code: i32) {
    let done = common::msrnn(arguments);
    assert_eq!(done.code, Some(code), "{done:?}");
    // As we spell it, as JSON does, or as the library for warnings does.
    let spelled = ["\\u{1b}", "\\u001b", "\\x1b"];
    assert!(spelled.iter().any(|it| done.stderr.contains(it)), "it says nothing of it: {done:?}");
    assert!(!commands_a_terminal(&done.stderr), "{done:?}");
}

#[test]
fn names_keys_and_values_of_files_are_spelled_out_in_errors_and_warnings() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let ids = write_ids("llama-gqa", at);
    let scored = |model: &Path| {
        let model = text_of(model).to_owned();
        says(&["perplexity", "--policy", "full", "--ids", text_of(&ids), "--model", &model], 1);
    };
    // Models: values of a configuration, names in an index and of tensors, tokens.
    let model = |name: &str, from: &str| copy(&checkpoint(from), &at.join(name));
    let configured = model("configured", "llama-gqa");
    configure(&configured, json!({ "hidden_act": EVIL }));
    scored(&configured);
    let kind = model("kind", "llama-gqa");
    configure(&kind, json!({ "architectures": [EVIL], "model_type": EVIL }));
    scored(&kind);
    let indexed = model("indexed", "llama-sharded-bf16");
    let index = indexed.join("model.safetensors.index.json");
    let mut json = common::read_json(&index);
    json["weight_map"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(|file| *file = json!(format!("{EVIL}.safetensors")));
    std::fs::write(&index, json.to_string()).unwrap();
    scored(&indexed);
    let tensors = model("tensors", "llama-gqa");
    common::change_tensors(&tensors.join("model.safetensors"), |all| {
        let norm = all["model.norm.weight"].clone();
        all.insert(format!("model.{EVIL}.weight"), norm);
    });
    says(&["perplexity", "--policy", "full", "--ids", text_of(&ids), "--model", text_of(&tensors)], 0);

    // Texts: names of files, fields of JSON, columns, and special tokens that a file of such a name spells.
    let text = |name: &str, content: &str| write(at, name, content);
    let perplexity = |text: &Path, code| {
        let arguments =
            ["perplexity", "--policy", "tova@4", "--context", "16", "--text", text_of(text)].map(str::to_owned);
        says(&arguments.each_ref().map(String::as_str), code);
    };
    perplexity(&text("a.jsonl", &format!("{}\n", json!({ EVIL: 1 }))), 1);
    perplexity(&text("a.csv", &format!("{}\none\n", EVIL.replace('\r', ""))), 1);
    perplexity(&text(&format!("{EVIL}.zip"), "x"), 1);
    perplexity(&text(&format!("{EVIL}.txt"), "Once upon a time </s> there was a fox </s> and a dog."), 0);

    // Options in a file: its keys, its syntax, and values that the command line would refuse.
    for content in [
        format!("{} = 1\n", json!(EVIL)),
        format!("form = {}\n", json!(EVIL)),
        format!("policies = [{}]\n", json!(EVIL)),
        format!("a = \u{1b}{EVIL}\n"),
    ] {
        let options = text("options.toml", &content);
        let done = common::msrnn(&["experiment", "lm", "--config", text_of(&options), "--dry-run"]);
        assert!(matches!(done.code, Some(1 | 2)), "{content:?}: {done:?}");
        assert!(!commands_a_terminal(&done.stderr) && done.stderr.contains("error"), "{content:?}: {done:?}");
    }

    // Run directories: the experiment's name.
    let run = at.join("run");
    std::fs::create_dir(&run).unwrap();
    let identity = Identity {
        experiment: EVIL.into(),
        meaning: 1,
        device: "cpu".into(),
        dtype: "f32".into(),
        units: 0,
        plan: hash(b""),
        models: Vec::new(),
        data: Vec::new(),
        setting: toml::Table::new(),
    };
    Manifest::new(identity, Vec::new()).unwrap().write(&run).unwrap();
    std::fs::write(run.join("plan.jsonl"), "").unwrap();
    std::fs::write(run.join("samples.jsonl"), "").unwrap();
    says(&["report", text_of(&run)], 1);
}

#[test]
fn results_on_a_terminal_are_spelled_out_and_elsewhere_are_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let name = format!("{EVIL}.txt");
    write(place.path(), &name, "Once upon a time there was a fox and a dog, who went to the town of Brim.");
    let command = "\"$MSRNN\" compare --policies tova --states 4 --context 16 --contexts 1 --text \"$NAME\" --out \"run-$NAME\" 2>/dev/null";
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(place.path())
            .env("MSRNN", env!("CARGO_BIN_EXE_msrnn"))
            .env("NAME", &name)
            .stdin(Stdio::null())
            .output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let plain = run("sh", &["-c", command]).unwrap();
    assert!(plain.contains(EVIL), "{plain:?}");
    // util-linux's, which every Debian has; a terminal for one command.
    let Ok(shown) = run("script", &["-qec", command, "/dev/null"]) else {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: there is no `script` to make a terminal with");
        return;
    };
    let shown = shown.replace("\r\n", "\n");
    assert!(shown.contains("Perplexity") && shown.contains("\\u{1b}"), "{shown:?}");
    assert!(!commands_a_terminal(&shown), "{shown:?}");
}
