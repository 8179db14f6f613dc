//! `msrnn generate --prompts`: results of single runs, resumed to the same lines.

use std::path::Path;

use serde_json::{Value, json};

use super::{lines, talker};
use crate::common::{msrnn, succeeds, text_of, write};

const COMMON: [&str; 6] = ["--policy", "tova@24", "--dtype", "f64", "--max-new-tokens", "20"];

fn prompts() -> Vec<Value> {
    vec![
        json!({ "id": "a", "prompt": "Once upon a time" }),
        json!({ "id": 7, "prompt": "The dog of the girl was small and", "max_new_tokens": 5 }),
        json!({ "prompt": "One day", "temperature": 1.0, "seed": 3, "top_k": 40, "min_p": 0.01 }),
        json!({ "id": "d", "prompt": "Once", "stop": ["the", "."] }),
        json!({ "id": "e", "prompt": "Every morning the old man", "repetition_penalty": 1.3, "stop": "zzz" }),
    ]
}

fn file(place: &Path, prompts: &[Value]) -> std::path::PathBuf {
    write(place, "prompts.jsonl", prompts.iter().map(|line| format!("{line}\n")).collect::<String>())
}

fn results(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn arguments<'a>(prompts: &'a Path, out: &'a Path) -> Vec<&'a str> {
    [&["generate", "--prompts", text_of(prompts), "--out", text_of(out), "--batch", "2"], &COMMON[..]].concat()
}

#[test]
fn every_line_ends_in_what_a_run_of_its_own_writes() {
    let place = tempfile::tempdir().unwrap();
    let (prompts_file, out) = (file(place.path(), &prompts()), place.path().join("out.jsonl"));
    let done = succeeds(&arguments(&prompts_file, &out));
    assert!(done.stdout.is_empty() && done.stderr.contains("5 of 5 prompts"), "{done:?}");
    let mut found = results(&out);
    found.sort_by_key(|line| line["id"].to_string());
    let ids: Vec<&str> = found.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["7", "a", "d", "e", "line 3"]);
    for line in prompts() {
        let id = line["id"].as_str().map_or_else(|| line["id"].to_string(), str::to_owned);
        let id = if id == "null" { "line 3".to_owned() } else { id };
        let mut single = [&["generate", "--json"], &COMMON[..]].concat();
        let mut options: Vec<(String, String)> = Vec::new();
        for (key, value) in line.as_object().unwrap().iter().filter(|(key, _)| *key != "id") {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            for value in values {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                options.push((format!("--{}", key.replace('_', "-")), value));
            }
        }
        single.retain(|word| {
            !options.iter().any(|(key, _)| key == word) && (*word != "20" || !line["max_new_tokens"].is_u64())
        });
        single.extend(options.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
        let alone = succeeds(&single).json();
        let together = found.iter().find(|line| line["id"] == id.as_str()).unwrap();
        for key in ["ids", "text", "stop", "prompt_tokens"] {
            assert_eq!(together[key], alone[key], "{key} of {id}");
        }
    }
}

#[test]
fn a_run_goes_on_where_it_stopped_and_changes_no_line_that_is_there() {
    let place = tempfile::tempdir().unwrap();
    let (prompts_file, out) = (file(place.path(), &prompts()), place.path().join("out.jsonl"));
    succeeds(&arguments(&prompts_file, &out));
    let whole = std::fs::read_to_string(&out).unwrap();
    let all = results(&out);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for kept in 0..5 {
        let before: String = whole.lines().take(kept).map(|line| format!("{line}\n")).collect();
        // What a writer leaves that is killed within a line.
        let cut = &whole.lines().nth(kept).unwrap()[..20];
        std::fs::write(&out, format!("{before}{cut}")).unwrap();
        succeeds(&arguments(&prompts_file, &out));
        let after = std::fs::read_to_string(&out).unwrap();
        assert!(after.starts_with(&before), "{kept}");
        assert_eq!(sorted(&after), sorted(&whole), "{kept}");
    }
    // All is there.
    let before = std::fs::read(&out).unwrap();
    assert!(succeeds(&arguments(&prompts_file, &out)).stderr.contains("5 of 5 prompts were finished before"));
    assert_eq!(std::fs::read(&out).unwrap(), before);
    // Another setting, prompt or parameter is not mixed in.
    let refused = |done: crate::common::Done| {
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("out.jsonl, line") && done.stderr.contains("another --out"), "{done:?}");
        assert_eq!(std::fs::read(&out).unwrap(), before);
    };
    refused(msrnn(&[&arguments(&prompts_file, &out)[..], &["--temperature", "0.5"]].concat()));
    refused(msrnn(&[&arguments(&prompts_file, &out)[..], &["--positions", "in-state"]].concat()));
    let mut changed = prompts();
    changed[0]["prompt"] = json!("Twice");
    refused(msrnn(&arguments(&file(place.path(), &changed), &out)));
    assert_eq!(all.len(), 5);
    // A file of something else is left alone.
    let other = write(place.path(), "other.jsonl", "{\"precious\": 1}\n");
    let done = msrnn(&arguments(&prompts_file, &other));
    assert!(done.code == Some(1) && done.stderr.contains("nothing is written over"), "{done:?}");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "{\"precious\": 1}\n");
}

#[test]
fn a_bad_line_is_an_error_that_names_line_and_field_before_anything_is_done() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out.jsonl");
    for (line, words) in [
        ("{\"prompt\": 3}", "field `prompt`: invalid type"),
        ("{\"id\": \"x\"}", "field `prompt`: it is missing"),
        ("{\"prompt\": \"x\", \"temprature\": 1}", "field `temprature`: there is no such field"),
        ("{\"prompt\": \"x\", \"top_k\": -1}", "field `top_k`: invalid value"),
        ("{\"prompt\": \"x\", \"temperature\": -1}", "temperature -1 must be 0 or more"),
        ("{\"prompt\": \"x\", \"max_new_tokens\": 0}", "field `max_new_tokens`"),
        ("{\"prompt\": \"x\", \"stop\": [\"\"]}", "field `stop`"),
        ("{\"prompt\": \"x\", \"id\": [1]}", "field `id`"),
        ("{\"prompt\": \"x\", \"id\": \"a\"}", "field `id`: \"a\" is that of line 1 already"),
        ("{\"messages\": []}", "--chat"),
        ("{\"messages\": [], \"prompt\": \"x\"}", "give one of them"),
        ("[1]", "no JSON object"),
        ("{\"prompt\": \"x\"", "no JSON object"),
    ] {
        let text = format!("{}\n\n{line}\n", prompts()[0]);
        let file = write(place.path(), "bad.jsonl", text);
        let done = msrnn(&arguments(&file, &out));
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("bad.jsonl, line 3: ") && done.stderr.contains(words), "{line}: {done:?}");
        assert!(!out.exists());
    }
    let empty = write(place.path(), "empty.jsonl", "\n");
    assert!(msrnn(&arguments(&empty, &out)).stderr.contains("no prompt in it"));
    let file = file(place.path(), &prompts());
    let done = msrnn(&[&arguments(&file, &out)[..], &["--protocol", "prefill"]].concat());
    assert!(done.code == Some(1) && done.stderr.contains("--protocol"), "{done:?}");
}

#[test]
fn messages_become_text_by_the_chat_template() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    let file = file(
        place.path(),
        &[
            json!({ "id": "p", "prompt": "Who owns the dog?" }),
            json!({ "id": "m", "messages": [{ "role": "user", "content": "Who owns the dog?" }] }),
            json!({ "id": "s", "messages": [{ "role": "system", "content": "Sleep." }, { "role": "user", "content": "x" }] }),
        ],
    );
    let out = place.path().join("out.jsonl");
    let chat = ["--chat", "--system", "Know.", "--model", text_of(&model)];
    succeeds(&[&arguments(&file, &out)[..], &chat].concat());
    let found = results(&out);
    let of = |id: &str| found.iter().find(|line| line["id"] == id).unwrap();
    let single = [&["generate", "--json", "--prompt", "Who owns the dog?"], &COMMON[..], &chat].concat();
    let alone = succeeds(&single).json();
    assert_eq!((&of("p")["ids"], &of("m")["ids"]), (&alone["ids"], &alone["ids"]));
    assert_ne!(of("s")["prompt_tokens"], alone["prompt_tokens"]);
    let wrong = write(place.path(), "wrong.jsonl", "{\"messages\": [{\"role\": \"user\"}]}\n");
    let done = msrnn(&[&arguments(&wrong, &out)[..], &chat].concat());
    assert!(done.stderr.contains("line 1: field `messages`: missing field `content`"), "{done:?}");
}
