//! Inputs as people have them: every command reads the same texts from the same files, and says what it did.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::common::{assert_close, checkpoint, copy, msrnn, read_json, succeeds, testdata, text_of, write};
use serde_json::{Value, json};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

const STORY: &str = "Once upon a time there was a little dog.\n";

/// The same text in every form that it may come in.
fn forms(directory: &Path, text: &str) -> Vec<PathBuf> {
    let line = format!("{}\n", json!({ "text": text, "id": 1 }));
    let cell = format!("id,text\n1,\"{}\"\n", text.replace('"', "\"\""));
    vec![
        write(directory, "marked.txt", format!("\u{feff}{text}")),
        write(directory, "a.txt.gz", gzip(text.as_bytes())),
        write(directory, "a.txt.zst", zstd::stream::encode_all(text.as_bytes(), 1).unwrap()),
        write(directory, "a.jsonl", &line),
        write(directory, "a.ndjson.gz", gzip(line.as_bytes())),
        write(directory, "lines.json", &line),
        write(directory, "array.json", json!([text]).to_string()),
        write(directory, "objects.json", format!("\u{feff}{}", json!([{ "text": text }]))),
        write(directory, "a.csv", &cell),
        write(directory, "a.csv.gz", gzip(cell.as_bytes())),
    ]
}

fn perplexity(more: &[&str]) -> Value {
    succeeds(&[&["perplexity", "--json", "--policy", "tova@16", "--context", "64"], more].concat()).json()
}

#[test]
fn a_text_scores_the_same_in_whatever_form_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    let plain = write(directory.path(), "plain.txt", STORY.repeat(6));
    let expected = perplexity(&["--text", text_of(&plain)]);
    for form in forms(directory.path(), &STORY.repeat(6)) {
        let found = perplexity(&["--text", text_of(&form)]);
        for key in ["contexts", "nll", "tokens", "bits_per_byte"] {
            assert_eq!(found[key], expected[key], "{key} of {}", form.display());
        }
    }
}

#[test]
fn every_command_takes_a_directory_of_mixed_files_and_says_what_it_passes_over() {
    let directory = tempfile::tempdir().unwrap();
    let texts = directory.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    write(&texts, "a.txt", STORY.repeat(9));
    write(&texts, "._a.txt", b"\0\x05\x16\x07");
    write(&texts, "b.jsonl", format!("{}\n{}\n", json!({ "body": "" }), json!({ "body": STORY.repeat(9) })));
    write(&texts, "README.md", "no text");
    let out = directory.path().join("out");
    let out = text_of(&out);
    let small = "--policies window --states 16";
    for command in [
        "perplexity --policy window@16 --contexts 1".to_owned(),
        format!("trace --policy window@16 --contexts 1 --out {out}/trace.jsonl"),
        format!("compare {small} --contexts 1 --out {out}/compare"),
        format!("experiment lm {small} --context 64 --contexts 1 --out {out}/lm"),
        format!("experiment lm --extrapolate {small} --join . --tokens 1030 --full-tokens 0 --out {out}/far --dry-run"),
        format!("experiment retention {small} --context 64 --contexts 2 --no-attention --out {out}/retention"),
        format!("experiment retrieval {small} --task needle --lengths 512 --depths 0 --trials 1 --out {out}/retrieval"),
    ] {
        let given = ["--text", text_of(&texts), "--field", "body"];
        let arguments: Vec<&str> = command.split_whitespace().chain(given).collect();
        let done = msrnn(&arguments);
        // The two stories are too short to extrapolate on, which is said after they were read and joined.
        match command.contains("extrapolate") {
            true => assert!(done.stderr.contains("2 rows") || done.stderr.contains("3 rows"), "{done:?}"),
            false => assert_eq!(done.code, Some(0), "{done:?}"),
        }
        for word in ["passed over", "1 hidden file", "1 file of other kinds (1 .md)"] {
            assert!(done.stderr.contains(word), "{word:?} is not in {}\nof {command}", done.stderr);
        }
        assert_eq!(done.stderr.contains("1 empty text"), !command.contains("--join"), "{done:?}");
    }
    let manifest = std::fs::read_to_string(directory.path().join("out/lm/manifest.toml")).unwrap();
    assert!(manifest.contains("empty = 1") && manifest.contains("hidden = 1"), "{manifest}");
    let metrics = std::fs::read_to_string(directory.path().join("out/lm/metrics.json")).unwrap();
    assert!(metrics.contains("bits_per_byte") && metrics.contains("Passed over among the texts: 1 empty text"));
}

#[test]
fn structured_files_are_refused_by_every_command_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        (write(directory.path(), "a.tsv", "text\nOnce\n"), ".csv or .jsonl"),
        (write(directory.path(), "a.html", "<p>Once</p>"), "take the text out"),
        (write(directory.path(), "lines.txt", "{\"text\": \"Once\"}\n{\"text\": \"upon\"}\n"), ".jsonl"),
        (write(directory.path(), "packed.txt", gzip(b"Once upon")), "ends in .gz"),
        (write(directory.path(), "zeros.txt", b"Once\0upon"), "byte 4 is 0"),
        (write(directory.path(), "wide.txt", b"\xff\xfeO\0n\0"), "UTF-16"),
    ];
    for (path, says) in &cases {
        for command in
            ["perplexity --policy full", "compare", "experiment lm", "experiment retention", "experiment retrieval"]
        {
            let arguments: Vec<&str> = command.split_whitespace().chain(["--text", text_of(path)]).collect();
            let done = msrnn(&arguments);
            assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
            assert!(done.stderr.contains(says) && done.stderr.contains(text_of(path)), "{done:?}");
        }
    }
}

#[test]
fn settings_and_model_files_may_begin_with_a_byte_order_mark() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy(&checkpoint("llama-gqa"), &directory.path().join("model"));
    let mark = |name: &str, content: &str| write(&model, name, format!("\u{feff}{content}"));
    mark("config.json", &std::fs::read_to_string(model.join("config.json")).unwrap());
    mark("tokenizer.json", &std::fs::read_to_string(testdata().join("texts/tokenizer.json")).unwrap());
    mark("generation_config.json", "{\"eos_token_id\": 2}");
    let ids = write(directory.path(), "ids.json", "\u{feff}[1, 5, 7, 9]");
    succeeds(&["perplexity", "--policy", "full", "--model", text_of(&model), "--ids", text_of(&ids)]);
    let text = write(directory.path(), "text.txt", "mara kept the lamp");
    succeeds(&["perplexity", "--policy", "full", "--model", text_of(&model), "--text", text_of(&text)]);

    let sharded = copy(&checkpoint("llama-sharded-bf16"), &directory.path().join("sharded"));
    let index = "model.safetensors.index.json";
    write(&sharded, index, format!("\u{feff}{}", std::fs::read_to_string(sharded.join(index)).unwrap()));
    succeeds(&["perplexity", "--policy", "full", "--model", text_of(&sharded), "--ids", text_of(&ids)]);

    let out = directory.path().join("run");
    let config = "\u{feff}stories = 1\ncontext = 64\npolicies = \"window\"\nstates = 16\n";
    let config = write(directory.path(), "grid.toml", config);
    let run = ["experiment", "lm", "--config", text_of(&config), "--out", text_of(&out)];
    succeeds(&run);
    let manifest = out.join("manifest.toml");
    std::fs::write(&manifest, format!("\u{feff}{}", std::fs::read_to_string(&manifest).unwrap())).unwrap();
    assert!(succeeds(&run).stderr.contains("were finished before"));
}

/// Rows joined as Hugging Face's guide on perplexity joins them, under the tokenizer and model of its golden runs.
#[test]
fn strided_perplexity_of_joined_rows_is_that_of_hugging_faces_guide() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy(&checkpoint("llama-gqa"), &directory.path().join("model"));
    std::fs::copy(testdata().join("texts/tokenizer.json"), model.join("tokenizer.json")).unwrap();
    let golden = read_json(&testdata().join("texts/strided.json"));
    let rows = testdata().join("texts/rows.jsonl");
    let runs = golden["runs"].as_array().unwrap();
    assert!(runs.len() > 4);
    for run in runs {
        let (context, stride) = (run["context"].to_string(), run["stride"].to_string());
        let mut arguments =
            vec!["perplexity", "--json", "--dtype", "f64", "--policy", "full", "--model", text_of(&model)];
        arguments.extend(["--text", text_of(&rows), "--join", "\\n\\n", "--context", &context, "--stride", &stride]);
        let found = succeeds(&arguments).json();
        assert_eq!((&found["tokens"], &found["prefix"]), (&run["tokens"], &json!([1])), "{run}");
        assert_close(&found["nll"], &run["nll"], 1e-9);
        let nll = run["nll"].as_f64().unwrap() / run["tokens"].as_f64().unwrap();
        assert_close(&found["perplexity"], &json!(nll.exp()), 1e-9);
        // The guide's own loss is in f32.
        assert_close(&found["perplexity_guide"], &run["guide"], 1e-6);
        // All bytes are predicted where every token but BOS is.
        if found["tokens"].as_u64() == golden["ids"].as_u64().map(|ids| ids - 1) {
            let bits = run["nll"].as_f64().unwrap() / 2f64.ln() / golden["text"].as_str().unwrap().len() as f64;
            assert_close(&found["bits_per_byte"], &json!(bits), 1e-9);
        }
        // Windows side by side, and blocks of one token, are the same windows.
        for more in [["--batch", "3"], ["--form", "step"]] {
            assert_close(&succeeds(&[&arguments[..], &more].concat()).json()["nll"], &run["nll"], 1e-9);
        }
    }
}

#[test]
fn bits_per_byte_are_those_worked_out_by_hand_and_the_same_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    // ASCII and not; with BOS before it, every byte is predicted.
    let content = format!("{} Zwölf Bäume – 🐶.\n", STORY.trim_end());
    let text = write(directory.path(), "text.txt", &content);
    let given = ["--text", text_of(&text)];
    let found = perplexity(&given);
    let nll = found["nll"].as_f64().unwrap();
    assert_close(&found["bits_per_byte"], &json!(nll / 2f64.ln() / content.len() as f64), 1e-12);
    assert_eq!(found["contexts"][0]["bytes"], json!(content.len()));
    let shown = succeeds(&[&["perplexity", "--policy", "tova@16"], &given[..]].concat()).stdout;
    assert!(shown.contains(&format!("{:.4} bits per byte", found["bits_per_byte"].as_f64().unwrap())), "{shown}");

    let out = directory.path().join("lm");
    let grid = ["--policies", "tova", "--states", "16", "--context", "64", "--out", text_of(&out)];
    let printed = succeeds(&[&["compare"], &given[..], &grid].concat()).stdout;
    let metrics = read_json(&out.join("metrics.json"));
    let summary = &metrics["metrics"][0];
    for arm in summary["arms"].as_array().unwrap() {
        let nll = arm["nll"]["mean"].as_f64().unwrap() * summary["tokens"].as_f64().unwrap();
        assert_close(&arm["bits_per_byte"], &json!(nll / 2f64.ln() / content.len() as f64), 1e-12);
    }
    assert!(printed.contains("bits per byte"), "{printed}");
    // Of ids nothing is known.
    let ids = write(directory.path(), "ids.json", "[0, 5, 9, 7]");
    assert_eq!(perplexity(&["--ids", text_of(&ids)])["bits_per_byte"], Value::Null);
}

#[test]
fn a_text_cut_off_counts_only_the_bytes_that_are_predicted() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", STORY.repeat(20));
    let given = ["--text", text_of(&text)];
    let all = perplexity(&given);
    let first = perplexity(&[&given[..], &["--contexts", "1"]].concat());
    assert_eq!(first["contexts"].as_array().unwrap().len(), 1);
    assert_eq!(first["contexts"][0], all["contexts"][0]);
    let bytes =
        |value: &Value| value["contexts"].as_array().unwrap().iter().map(|c| c["bytes"].as_u64().unwrap()).sum();
    let (first, all): (u64, u64) = (bytes(&first), bytes(&all));
    assert!(first < all && all == 20 * STORY.len() as u64, "{first} of {all}");
}

#[test]
fn several_lists_of_ids_are_each_cut_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let model = checkpoint("llama-gqa");
    let (a, b) = (write(directory.path(), "a.json", "[1, 2, 3, 4, 5]"), write(directory.path(), "b.json", "[6, 7]"));
    let arguments = ["--model", text_of(&model), "--ids", text_of(&a), "--ids", text_of(&b), "--context", "3"];
    let found = succeeds(&[&["perplexity", "--json", "--policy", "full"], &arguments[..]].concat()).json();
    let tokens: Vec<u64> =
        found["contexts"].as_array().unwrap().iter().map(|context| context["tokens"].as_u64().unwrap()).collect();
    assert_eq!(tokens, [2, 1, 1]);
    let bad = write(directory.path(), "bad.json", "[1, 2, 3, 4, 64]");
    let done = msrnn(&[
        "perplexity",
        "--policy",
        "full",
        "--model",
        text_of(&model),
        "--context",
        "2",
        "--ids",
        text_of(&bad),
    ]);
    assert!(done.stderr.contains("bad.json") && done.stderr.contains("token id 64 at index 4"), "{done:?}");
}

#[test]
fn a_stride_or_limit_that_makes_no_sense_is_refused_with_one_that_does() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", STORY);
    for (more, code, says) in [
        (["--stride", "0"], 1, "give 1 to 16"),
        (["--stride", "17"], 1, "give 1 to 16"),
        (["--contexts", "0"], 2, "at least 1"),
        (["--limit", "0"], 2, "at least 1"),
        (["--join", "\\x"], 2, "there are \\n"),
    ] {
        let arguments = ["perplexity", "--policy", "full", "--context", "16", "--text", text_of(&text)];
        let done = msrnn(&[&arguments, &more[..]].concat());
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(says), "{done:?}");
    }
}
