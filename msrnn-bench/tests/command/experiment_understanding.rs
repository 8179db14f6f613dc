//! `msrnn experiment understanding`: questions about documents.

use std::path::Path;

use crate::common::{files, msrnn, split, succeeds, text_of, write};
use crate::writing::{lines, talker};
use serde_json::{Value, json};

/// Two questions about one story, one policy.
const SMALL: &str = "experiment understanding --questions 2 --policies tova --states 16,100 --json";

fn samples(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plan = std::fs::read_to_string(run.join("plan.jsonl")).unwrap();
    let keys: Vec<Value> =
        plan.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].take()).collect();
    lines.sort_by_key(|line| keys.iter().position(|key| *key == line["key"]));
    lines.into_iter().map(|mut line| line["sample"].take()).collect()
}

#[test]
fn every_arm_answers_every_question_and_says_what_its_state_held() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let found = succeeds(&[&split(SMALL)[..], &["--out", text_of(&out)]].concat()).json();
    let rows = found["metrics"]["rows"].as_array().unwrap();
    // A baseline of 16 tokens has no room for a question; that of 100 has.
    let policies: Vec<&str> = rows.iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["full", "baseline@100", "tova@16", "tova@100"]);
    assert!(found["notes"].to_string().contains("no baseline of 16 tokens"), "{}", found["notes"]);
    for row in rows {
        assert_eq!(row["answers"], 2);
        assert!((0.0..=100.0).contains(&row["score"]["mean"].as_f64().unwrap()), "{row}");
    }
    assert_eq!((&rows[0]["omitted"], &rows[1]["omitted"]), (&json!(0), &json!(0)));
    assert_eq!((&rows[2]["max_rows"], &rows[3]["max_rows"]), (&json!(16), &json!(100)));
    // Every token beyond the bound omits a row in each of four layers.
    let tokens: u64 = samples(&out)
        .iter()
        .filter(|sample| sample["policy"] == "tova@16")
        .map(|sample| sample["prompt_tokens"].as_u64().unwrap() + fed(sample) - 16)
        .sum();
    assert_eq!(rows[2]["omitted"].as_u64().unwrap(), 4 * tokens);
    assert!(rows[0]["kept"] == 1.0 && rows[1]["kept"].as_f64().unwrap() < 0.5, "{rows:?}");
    for sample in samples(&out) {
        assert_eq!(sample["prompt_sha256"].as_str().unwrap().len(), 64);
    }
    assert!(files(&out).iter().any(|file| file.ends_with("metrics.json")));
}

/// Tokens of an answer that went through the state: all but the last, and those before an end token.
fn fed(sample: &Value) -> u64 {
    let tokens = sample["tokens"].as_u64().unwrap();
    if sample["ended"] == "eos" { tokens } else { tokens - 1 }
}

#[test]
fn an_answer_is_what_generate_writes_and_scores_full_marks_against_itself() {
    let place = tempfile::tempdir().unwrap();
    let prompt = "The town of Harrow had lost its chipped silver lantern.";
    let generate = ["generate", "--json", "--max-new-tokens", "12", "--policy", "tova@16", "--context", "100"];
    let text = succeeds(&[&generate[..], &["--prompt", prompt]].concat()).json();
    let text = text["text"].as_str().unwrap().trim().to_owned();
    let line = json!({ "prompt": prompt, "references": ["something else", text] });
    let data = write(place.path(), "questions.jsonl", line.to_string());
    for (metric, parts) in [("exact", 1), ("f1", 1), ("rouge", 3)] {
        let out = place.path().join(metric);
        let run = "experiment understanding --json --task jsonl --max-new-tokens 12 --policies tova@16 --context 100";
        let more = ["--metric", metric, "--data", text_of(&data), "--out", text_of(&out)];
        let found = succeeds(&[&split(run)[..], &more].concat()).json();
        let sample = samples(&out).into_iter().find(|sample| sample["policy"] == "tova@16").unwrap();
        assert_eq!(sample["text"], text);
        let row = &found["metrics"]["rows"].as_array().unwrap()[1];
        assert_eq!(row["policy"], "tova@16");
        assert!((row["score"]["mean"].as_f64().unwrap() - 100.0).abs() < 1e-9, "{row}");
        assert_eq!(row["parts"].as_array().unwrap().len(), parts);
    }
    // Cut before a text that ends an answer.
    let stop = text.split_whitespace().nth(2).unwrap();
    let out = place.path().join("stop");
    let run = "experiment understanding --task jsonl --max-new-tokens 12 --policies tova@16 --context 100";
    let more = ["--stop", stop, "--data", text_of(&data), "--out", text_of(&out)];
    succeeds(&[&split(run)[..], &more].concat());
    let sample = samples(&out).into_iter().find(|sample| sample["policy"] == "tova@16").unwrap();
    assert_eq!(sample["ended"], "stop-text");
    assert_eq!(sample["text"], text[..text.find(stop).unwrap()].trim());
}

#[test]
fn in_the_chat_template_an_answer_is_what_generate_writes_in_a_chat() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    let [document, asked] = ["The town of Harrow had lost its lantern.", " Who owns the dog?"];
    let said = format!("{document}{asked}");
    let common = ["--model", text_of(&model), "--dtype", "f64", "--json", "--max-new-tokens", "12", "--context", "100"];
    let generate = [&["generate", "--chat", "--prompt", &said, "--policy", "tova@16"], &common[..]].concat();
    let text = succeeds(&generate).json()["text"].as_str().unwrap().trim().to_owned();
    let data = json!({ "document": document, "prompt": asked, "references": ["x"] }).to_string();
    let data = write(place.path(), "questions.jsonl", data);
    let run = ["experiment", "understanding", "--task", "jsonl", "--policies", "tova@16", "--data", text_of(&data)];
    let answer = |more: &[&str], name: &str| {
        let out = place.path().join(name);
        succeeds(&[&run[..], &common[..], more, &["--out", text_of(&out)]].concat());
        let of_tova = |sample: &Value| sample["policy"] == "tova@16";
        samples(&out).into_iter().find(of_tova).unwrap()["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(answer(&["--chat"], "chat"), text);
    assert_ne!(answer(&[], "plain"), text);
    let out = place.path().join("refused");
    let refused = msrnn(&[&run[..], &common[..], &["--chat", "--bos", "always", "--out", text_of(&out)]].concat());
    assert!(refused.code != Some(0) && refused.stderr.contains("leave --bos out"), "{refused:?}");
    let silent = write(&model, "chat_template.jinja", "{{ messages | length }}");
    let out = place.path().join("silent");
    let refused = msrnn(&[&run[..], &common[..], &["--chat", "--out", text_of(&out)]].concat());
    assert!(
        refused.code != Some(0) && refused.stderr.contains("does not say what the user says"),
        "{silent:?}: {refused:?}"
    );
}

#[test]
fn a_document_is_cut_at_its_end_so_that_prompt_and_answer_fit() {
    let place = tempfile::tempdir().unwrap();
    let document = "Mira owned the old copper bell and lived in the mill. ".repeat(40);
    let paper = json!({ "2001.00001": { "title": "On bells", "abstract": "We study bells.",
        "full_text": [{ "section_name": "Bells", "paragraphs": [document] }],
        "qas": [{ "question": "Who owned the bell?", "question_id": "q", "answers": [
            { "answer": { "unanswerable": true, "extractive_spans": [], "yes_no": null, "free_form_answer": "" } },
            { "answer": { "unanswerable": false, "extractive_spans": ["Mira"], "yes_no": null, "free_form_answer": "" } },
        ] }] } });
    let data = write(place.path(), "qasper.json", paper.to_string());
    let out = place.path().join("run");
    let run = "experiment understanding --json --task qasper --context 400 --max-new-tokens 8 --policies window+4 --states 25%";
    let found = succeeds(&[&split(run)[..], &["--data", text_of(&data), "--out", text_of(&out)]].concat()).json();
    assert_eq!(found["metrics"]["metric"], "f1");
    assert_eq!(found["metrics"]["rows"][1]["policy"], "window+4@100");
    for sample in samples(&out) {
        let tokens = sample["prompt_tokens"].as_u64().unwrap();
        assert!((380..=392).contains(&tokens), "{sample}");
        let kept = sample["kept"].as_f64().unwrap();
        assert!(kept > 0.1 && kept < 0.5, "{sample}");
    }
    assert!(found["notes"].to_string().contains("cut in 1 of 1 prompts"), "{}", found["notes"]);
}

#[test]
fn what_is_wrong_with_the_data_is_said_with_what_was_expected() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| text_of(&write(place.path(), name, text)).to_owned();
    let prose = file("prose.txt", "Once upon a time\n");
    let bare =
        file("bare.jsonl", "{\"document\": \"a\", \"questions\": [{\"question_text\": \"q\", \"responses\": []}]}");
    let other = file("other.jsonl", "{\"text\": \"a\"}");
    let twice = file("twice.jsonl", "{\"id\": \"1\", \"prompt\": \"p\", \"references\": [\"r\"]}\n".repeat(2).as_str());
    let long = file("long.jsonl", &json!({ "prompt": "Mira ".repeat(2000), "references": ["r"] }).to_string());
    let gone = place.path().join("gone.jsonl");
    let gone = text_of(&gone);
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--task", "squality"], &["--task squality needs --data FILE"]),
        (&["--data", &prose], &["--data needs the --task"]),
        (&["--task", "squality", "--data", gone], &[gone, "check the path"]),
        (&["--task", "squality", "--data", &prose], &["line 1", "\"response_text\"", "SCROLLS"]),
        (&["--task", "squality", "--data", &bare], &["question 1 has no response"]),
        (&["--task", "qasper", "--data", &other], &["missing field", "\"extractive_spans\""]),
        (&["--task", "jsonl", "--data", &other], &["line 1", "missing field `prompt`", "\"references\""]),
        (&["--task", "jsonl", "--data", &format!("{twice},{twice}")], &["two questions have the id \"1\""]),
        (&["--task", "jsonl", "--data", &long], &["even without the document", "--context"]),
    ];
    for (arguments, says) in cases {
        let out = place.path().join("run");
        let start = ["experiment", "understanding", "--out", text_of(&out)];
        let done = msrnn(&[&start[..], arguments].concat());
        assert_eq!(done.code, Some(1), "{arguments:?}\n{}", done.stderr);
        for part in says {
            assert!(done.stderr.contains(part), "{arguments:?} should say {part:?}: {}", done.stderr);
        }
        assert!(!out.exists(), "{arguments:?}");
    }
}

/// Real questions on a real checkpoint, where they are: neither is part of this repository.
#[test]
fn a_sample_of_squality_runs_on_a_trained_checkpoint() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let (model, data) = (shared.join("stories260K"), shared.join("squality/dev-sample.jsonl"));
    if !model.is_dir() || !data.is_file() {
        // Past the capture of the test harness, so that it is seen.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: {} or {} is not there", model.display(), data.display());
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    let run = "experiment understanding --json --task squality --questions 12 --max-new-tokens 64 --policies window+4,tova \
               --states 12.5%,25%";
    let paths = ["--model", text_of(&model), "--data", text_of(&data), "--out", text_of(&out)];
    let found = succeeds(&[&split(run)[..], &paths].concat()).json();
    let rows = found["metrics"]["rows"].as_array().unwrap();
    assert_eq!(rows[0]["documents"], 3, "five questions each");
    assert_eq!(rows[0]["cut"], 12, "no story fits 512 tokens");
    for row in rows {
        let score = &row["score"];
        // English against English: never nothing, and such a model does not summarise.
        assert!((0.5..30.0).contains(&score["mean"].as_f64().unwrap()), "{row}");
        assert!(score["standard_error"].as_f64().unwrap() > 0.0);
    }
    let bounded: Vec<&Value> = rows.iter().filter(|row| row["policy"].as_str().unwrap().contains("tova")).collect();
    assert!(bounded.iter().all(|row| row["omitted"].as_u64().unwrap() > 0));
    println!("{}", serde_json::to_string_pretty(rows).unwrap());
}

/// The context is read and compressed once; what is asked about it comes later, as from a saved state.
#[test]
fn asked_after_an_answer_is_what_a_saved_state_of_the_document_alone_answers() {
    let place = tempfile::tempdir().unwrap();
    let document =
        "Mira owned the old copper bell and lived in the mill. Once upon a time there was a girl. ".repeat(3);
    let rest = "\n\nWho owned the bell?";
    let line = json!({ "document": document, "prompt": rest, "references": ["Mira"] });
    let data = write(place.path(), "questions.jsonl", line.to_string());
    let run = "experiment understanding --task jsonl --json --max-new-tokens 12 --policies tova,snapkv(window=4)@20 --states 20 --no-baseline";
    let out = place.path().join("after");
    let after = [&split(run)[..], &["--ask-after", "--data", text_of(&data), "--out", text_of(&out)]].concat();
    let found = succeeds(&after).json();
    assert!(found["notes"].to_string().contains("after the cut"), "{}", found["notes"]);
    let all = samples(&out);
    let policies: Vec<&str> = all.iter().map(|sample| sample["policy"].as_str().unwrap()).collect();
    assert_eq!(policies, ["full", "after-prompt(tova)@20", "snapkv(window=4, pool=avg5)@20"]);
    for sample in &all {
        let state = place.path().join("state");
        let policy = sample["policy"].as_str().unwrap();
        let generate = |more: &[&str]| {
            let base = ["generate", "--json", "--policy", policy, "--protocol", "prefill"];
            succeeds(&[&base[..], more].concat()).json()
        };
        generate(&["--prompt", &document, "--max-new-tokens", "0", "--state-out", text_of(&state)]);
        let answer = generate(&["--prompt", rest, "--max-new-tokens", "12", "--state-in", text_of(&state)]);
        assert_eq!(sample["text"], answer["text"].as_str().unwrap().trim(), "{policy}");
        assert_eq!(sample["tokens"], answer["tokens"]);
        std::fs::remove_file(&state).unwrap();
        // Rows of the document went, and none of what came after the cut: in four layers, under snapkv in two heads each.
        let document = sample["prompt_tokens"].as_u64().unwrap() - answer["prompt_tokens"].as_u64().unwrap();
        let heads = if policy.starts_with("snapkv") { 2 } else { 1 };
        let gone = if policy == "full" { 0 } else { 4 * heads * (document - 20) };
        assert_eq!(sample["omitted"], gone, "{policy}");
    }
    // It is another run than one whose question is part of the prompt, and the manifest says which.
    let manifest = std::fs::read_to_string(out.join("manifest.toml")).unwrap();
    assert!(manifest.contains("ask_after = true"), "{manifest}");
    let included = [&split(run)[..], &["--protocol", "prefill", "--data", text_of(&data)]].concat();
    assert_eq!(msrnn(&[&included[..], &["--out", text_of(&out)]].concat()).code, Some(1));
    let other = place.path().join("included");
    succeeds(&[&included[..], &["--out", text_of(&other)]].concat());
    assert!(!std::fs::read_to_string(other.join("manifest.toml")).unwrap().contains("ask_after"));
    // Without a document there is nothing to compress.
    let bare = write(place.path(), "bare.jsonl", json!({ "prompt": "Who?", "references": ["x"] }).to_string());
    let refused = msrnn(
        &[&split(run)[..], &["--ask-after", "--data", text_of(&bare), "--out", text_of(&place.path().join("x"))]]
            .concat(),
    );
    assert!(refused.code == Some(1) && refused.stderr.contains("no document"), "{refused:?}");
    assert_eq!(msrnn(&[&after[..], &["--protocol", "strict"]].concat()).code, Some(2));
}
