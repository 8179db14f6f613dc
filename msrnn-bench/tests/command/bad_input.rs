//! Every bad input ends with an exit code, and with an error on stderr that names the thing and the
//! remedy: no panic, nothing on stdout, no file that looks like a result.

use std::path::{Path, PathBuf};

use crate::common::{
    self, change_tensors, checkpoint, configure, copy, files, msrnn, testdata, text_of, write, write_ids,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs a command that must be refused with `code`, saying all of `words`, and must leave
/// `directory` as it was.
#[track_caller]
fn refused(directory: &Path, code: i32, arguments: &[&str], words: &[&str]) {
    let before = files(directory);
    let done = msrnn(arguments);
    assert_eq!(done.code, Some(code), "{done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    assert!(done.stderr.contains("error"), "{done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is not in {}\nof msrnn {}", done.stderr, done.command);
    }
    assert_eq!(files(directory), before, "msrnn {}", done.command);
}

/// A directory with ids for `llama-gqa` and a text.
struct Place {
    directory: TempDir,
    ids: PathBuf,
    text: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ids = write_ids("llama-gqa", directory.path());
        let text = write(directory.path(), "text.txt", "Once upon a time there was a little dog.\n");
        Self { directory, ids, text }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A copy of a checkpoint of `testdata`.
    fn copy(&self, name: &str) -> PathBuf {
        copy(&checkpoint(name), &self.path().join("model"))
    }

    /// Scoring the ids with a model must be refused.
    #[track_caller]
    fn refuses_model(&self, model: &Path, words: &[&str]) {
        let arguments =
            ["perplexity", "--policy", "full", "--ids", text_of(&self.ids), "--model", text_of(model), "--json"];
        refused(self.path(), 1, &arguments, words);
    }

    /// Scoring the text with the bundled model must be refused.
    #[track_caller]
    fn refuses(&self, code: i32, more: &[&str], words: &[&str]) {
        let arguments = ["perplexity", "--text", text_of(&self.text), "--json"];
        refused(self.path(), code, &[&arguments, more].concat(), words);
    }
}

#[test]
fn a_model_directory_that_is_not_there_is_named_with_what_to_give_instead() {
    let place = Place::new();
    let nowhere = place.path().join("nowhere");
    place.refuses_model(&nowhere, &[text_of(&nowhere), "Hugging Face model directory", "leave --model out"]);
    place.refuses_model(&place.text, &[text_of(&place.text), "no directory"]);
}

#[test]
fn a_model_directory_without_a_file_it_needs_is_refused_by_that_files_name() {
    for name in ["config.json", "model.safetensors"] {
        let place = Place::new();
        let model = place.copy("llama-gqa");
        std::fs::remove_file(model.join(name)).unwrap();
        place.refuses_model(&model, &[text_of(&model.join(name)), "expected a Hugging Face model directory"]);
    }
}

#[test]
fn a_configuration_that_is_not_json_is_refused() {
    let place = Place::new();
    let model = place.copy("llama-gqa");
    for text in ["", "{\"hidden_size\": ", "[]", "{}", "no"] {
        let config = write(&model, "config.json", text);
        place.refuses_model(&model, &[text_of(&config), "not a model configuration"]);
    }
}

#[test]
fn an_unsupported_configuration_is_refused_with_what_is_supported() {
    let cases: [(Value, &[&str]); 8] = [
        (json!({ "architectures": ["GPT2LMHeadModel"] }), &["GPT2LMHeadModel", "supported are LlamaForCausalLM"]),
        (json!({ "architectures": [], "model_type": null }), &["architectures", "LlamaForCausalLM"]),
        (json!({ "hidden_act": "gelu" }), &["gelu", "silu"]),
        (json!({ "rope_scaling": { "rope_type": "longrope", "factor": 4.0 } }), &["longrope", "\"llama3\""]),
        (json!({ "rope_scaling": { "rope_type": "linear" } }), &["linear", "`factor`"]),
        (json!({ "num_key_value_heads": 3 }), &["num_key_value_heads", "multiple"]),
        (json!({ "num_hidden_layers": 0 }), &["num_hidden_layers", "positive"]),
        (json!({ "hidden_size": -8 }), &["`hidden_size` is -8", "positive"]),
    ];
    for (change, words) in cases {
        let place = Place::new();
        let model = place.copy("llama-gqa");
        configure(&model, change);
        place.refuses_model(&model, &[&[text_of(&model.join("config.json"))], words].concat());
    }
}

#[test]
fn a_damaged_weight_file_is_refused_by_its_name() {
    let place = Place::new();
    let model = place.copy("llama-gqa");
    let weights = model.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let cut = whole.len() - 100;
    let huge_header = [&u64::MAX.to_le_bytes(), &whole[8..]].concat();
    for damaged in [&whole[..cut], &whole[..200], &whole[..3], &[], &huge_header, b"<html>404: Not Found</html>"] {
        std::fs::write(&weights, damaged).unwrap();
        place.refuses_model(&model, &[text_of(&weights), "not a whole safetensors file", "download the file again"]);
    }
}

#[test]
fn a_damaged_or_missing_shard_is_refused_by_its_name() {
    let place = Place::new();
    let model = place.copy("llama-sharded-bf16");
    let shard = model.join("model-00002-of-00003.safetensors");
    let whole = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    place.refuses_model(&model, &[text_of(&shard), "not a whole safetensors file"]);
    std::fs::remove_file(&shard).unwrap();
    let index = model.join("model.safetensors.index.json");
    place.refuses_model(&model, &[text_of(&index), "model-00002-of-00003.safetensors", "download what is missing"]);

    let index = write(&model, "model.safetensors.index.json", "{\"weight_map\": 3}");
    place.refuses_model(&model, &[text_of(&index), "download the file again"]);
}

#[test]
fn a_missing_tensor_is_refused_by_its_name() {
    let place = Place::new();
    let model = place.copy("llama-gqa");
    change_tensors(&model.join("model.safetensors"), |tensors| {
        tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    });
    place.refuses_model(&model, &["1 tensor is missing: model.layers.1.mlp.up_proj.weight", "incomplete"]);
    configure(&model, json!({ "num_hidden_layers": 9 }));
    place.refuses_model(&model, &["model.layers.3.", "and 50 more", "incomplete"]);
}

#[test]
fn a_shape_that_contradicts_the_configuration_is_refused_with_both() {
    for (change, words) in [
        (json!({ "hidden_size": 64 }), "[64, 64]"),
        (json!({ "intermediate_size": 40 }), "[40, 32]"),
        (json!({ "num_key_value_heads": 4 }), "[32, 32]"),
    ] {
        let place = Place::new();
        let model = place.copy("llama-gqa");
        configure(&model, change);
        place.refuses_model(&model, &["tensor model.", words, "configuration and weights are of different models"]);
    }
}

#[test]
fn a_tensor_of_a_dtype_that_cannot_be_read_is_refused_by_its_name() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    for (dtype, bytes) in [("I32", 4), ("F8_E4M3", 1), ("I8", 1), ("BOOL", 1)] {
        let place = Place::new();
        let model = place.copy("llama-gqa");
        change_tensors(&model.join("model.safetensors"), |tensors| {
            let tensor = tensors.get_mut(name).unwrap();
            tensor.2.truncate(tensor.2.len() / 4 * bytes);
            tensor.0 = dtype.into();
        });
        place.refuses_model(&model, &[name, dtype, "supported are F64, F32, F16 and BF16", "converted first"]);
    }
}

#[test]
fn a_damaged_tokenizer_or_generation_config_is_refused_by_its_name() {
    for name in ["tokenizer.json", "generation_config.json"] {
        let place = Place::new();
        let model = place.copy("llama-gqa");
        let path = write(&model, name, "{\"model\": ");
        place.refuses_model(&model, &[text_of(&path)]);
    }
}

#[test]
fn a_text_for_a_model_without_tokenizer_is_refused_with_what_to_add() {
    let place = Place::new();
    let model = checkpoint("llama-gqa");
    place.refuses(1, &["--model", text_of(&model), "--policy", "full"], &["tokenizer.json", "token ids instead"]);
    let arguments = ["generate", "--model", text_of(&model), "--policy", "full", "--prompt", "Once"];
    refused(place.path(), 1, &arguments, &["tokenizer.json"]);
    let arguments = ["compare", "--model", text_of(&model), "--out", text_of(place.path())];
    refused(place.path(), 1, &arguments, &["tokenizer.json"]);
}

#[test]
fn a_bound_that_the_policy_cannot_have_is_refused_with_one_that_it_can() {
    let place = Place::new();
    place.refuses(1, &["--policy", "tova@0"], &["at least one state"]);
    place.refuses(1, &["--policy", "tova", "--states", "0"], &["at least one state"]);
    place.refuses(1, &["--policy", "tova@1B"], &["1B", "at least one state"]);
    place.refuses(1, &["--policy", "window+4@4"], &["window+4", "window+4@5"]);
    place.refuses(2, &["--policy", "window+18446744073709551615@4"], &["protects as many rows", "protect fewer"]);
    let compare = |policies: &str, states: &str, words: &[&str]| {
        let arguments =
            ["compare", "--stories", "1", "--policies", policies, "--states", states, "--out", text_of(place.path())];
        refused(place.path(), 1, &arguments, words);
    };
    compare("tova", "0", &["at least one state"]);
    compare("tova,window+4", "16,4", &["window+4@5"]);
}

#[test]
fn layers_and_heads_that_the_model_has_not_are_refused_with_how_many_there_are() {
    let place = Place::new();
    let there = |policy: &str, words: &[&str]| place.refuses(1, &["--policy", policy], words);
    there("layers(0-63: full, *: tova)@5", &["names layer 63", "counted from 0"]);
    there("heads(31: full, *: tova)@5", &["names KV head 31"]);
    // Before anything runs, also where there are many runs, and where nothing is to run.
    let before = |command: &[&str]| refused(place.path(), 1, command, &["names layer 63"]);
    let policy = "layers(63: full, *: tova)";
    let compare = ["compare", "--stories", "1", "--policies", policy, "--states", "16"];
    before(&compare);
    before(&[&compare[..], &["--dry-run"]].concat());
    let packed = "layers(63: full, *: int4(full))";
    before(&["compare", "--stories", "1", "--policies", packed, "--states", "16"]);
    before(&["experiment", "story", "--policies", policy, "--states", "16", "--dry-run"]);
    before(&["experiment", "retrieval", "--policies", policy, "--states", "16", "--dry-run"]);
    let bench = ["bench", "--shape", "2x24x4:2x32x50", "--policies", policy, "--states", "16"];
    before(&[&bench[..], &["--prefill", "8", "--score", "0", "--decode", "0"]].concat());
    before(&[
        "throughput",
        "--shape",
        "2x24x4:2x32x50",
        "--policy",
        policy,
        "--states",
        "16",
        "--memory",
        "1MiB",
        "--dry-run",
    ]);
    there("layers(1: heads(31: full, *: window), *: tova)@5", &["names KV head 31"]);
    there("protect(every(3, heads(31: full, *: tova)), first=1)@5", &["names KV head 31"]);
}

#[test]
fn a_bound_that_no_run_takes_is_not_explained() {
    let place = Place::new();
    refused(place.path(), 1, &["explain", "streaming@4"], &["in-state(window+4)@5"]);
    refused(place.path(), 1, &["explain", "pooled(snapkv)@40"], &["@"]);
}

#[test]
fn a_policy_that_cannot_be_read_is_refused_with_those_there_are() {
    let place = Place::new();
    place.refuses(2, &["--policy", "tovaa@5"], &["tovaa", "tova-head", "window+i", "full"]);
    place.refuses(2, &["--policy", "window+x@5"], &["window+x", "window+4"]);
    place.refuses(2, &["--policy", "tova@many"], &["many", "64MiB"]);
    place.refuses(2, &["--policy", "tova@-5"], &["-5", "64MiB"]);
    place.refuses(2, &["--policy", "tova@0%"], &["0%", "64MiB"]);
    place.refuses(2, &["--policy", "full@5"], &["full keeps every state"]);
    place.refuses(2, &["--policy", "tova", "--states", "x"], &["\"x\"", "64MiB"]);
    place.refuses(2, &[], &["--policy"]);
    refused(place.path(), 1, &["explain", "tovaa"], &["tovaa", "tova-head"]);
}

#[test]
fn states_that_are_missing_or_too_many_are_refused_with_what_to_leave_out_or_give() {
    let place = Place::new();
    place.refuses(1, &["--policy", "tova"], &["tova needs a number of states", "tova@512", "--states"]);
    place.refuses(1, &["--policy", "tova@5", "--states", "6"], &["@5", "--states", "leave one out"]);
    place.refuses(1, &["--policy", "full", "--states", "6"], &["full keeps every state", "leave --states out"]);
}

#[test]
fn ids_that_the_model_cannot_take_are_refused_with_the_reason() {
    let place = Place::new();
    let model = checkpoint("llama-gqa");
    let cases: [(&str, &[&str]); 8] = [
        ("[1, 2, 64]", &["token id 64 at index 2", "vocabulary of 64"]),
        ("[1, 2, -3]", &["-3 at index 2", "[1, 42, 7]"]),
        ("[1, 2, 99999999999]", &["99999999999 at index 2", "JSON array of token ids"]),
        ("[1, 2.5]", &["2.5 at index 1", "JSON array of token ids"]),
        ("{\"ids\": [1, 2]}", &["JSON array of token ids"]),
        ("1 2 3", &["JSON array of token ids"]),
        ("[]", &["no token to predict", "longer text"]),
        ("[1]", &["no token to predict", "longer text"]),
    ];
    for (text, words) in cases {
        let ids = write(place.path(), "bad.json", text);
        let arguments =
            ["perplexity", "--policy", "full", "--model", text_of(&model), "--ids", text_of(&ids), "--json"];
        refused(place.path(), 1, &arguments, words);
    }
}

#[test]
fn a_text_that_cannot_be_scored_is_refused_by_its_name() {
    let place = Place::new();
    let nowhere = place.path().join("nowhere.txt");
    std::fs::create_dir(place.path().join("below")).unwrap();
    write(&place.path().join("below"), "README.md", "no text");
    let cases: [(PathBuf, &[&str]); 4] = [
        (nowhere, &["No such file", "check the path"]),
        (place.path().join("below"), &["there is no text", "1 file of other kinds (1 .md)", "a directory of .txt"]),
        (write(place.path(), "empty.txt", ""), &["the file is empty", "give a text"]),
        (write(place.path(), "latin1.txt", b"caf\xe9 au lait"), &["not UTF-8 at byte 3", "iconv"]),
    ];
    for (path, words) in cases {
        let words = [&[text_of(&path)], words].concat();
        refused(place.path(), 1, &["perplexity", "--policy", "full", "--text", text_of(&path)], &words);
        refused(place.path(), 1, &["compare", "--text", text_of(&path), "--out", text_of(place.path())], &words);
    }
    refused(place.path(), 2, &["perplexity", "--policy", "full"], &["--text", "--ids"]);
    let both = ["--policy", "full", "--ids", text_of(&place.ids)];
    place.refuses(2, &both, &["--text", "--ids", "cannot be used with"]);
}

#[test]
fn a_context_without_a_predicted_token_is_refused() {
    let place = Place::new();
    for context in ["0", "1"] {
        place.refuses(1, &["--policy", "full", "--context", context], &["--context", "at least 2"]);
    }
    place.refuses(2, &["--policy", "full", "--context", "-1"], &["-1"]);
    let arguments = ["compare", "--stories", "0", "--out", text_of(place.path())];
    refused(place.path(), 2, &arguments, &["--stories", "from 1 to"]);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_by_its_name() {
    let place = Place::new();
    let below_a_file = place.text.join("below");
    for out in [below_a_file.as_path(), place.path(), Path::new("/")] {
        let words = ["cannot write", text_of(out), "choose another place"];
        place.refuses(1, &["--policy", "full", "--logits", text_of(out)], &words);
        let arguments = ["trace", "--text", text_of(&place.text), "--policy", "tova@4", "--out", text_of(out)];
        refused(place.path(), 1, &arguments, &words);
    }
    for out in [&place.text, &below_a_file] {
        let words = ["cannot write", text_of(out), "choose another place"];
        let arguments =
            ["compare", "--text", text_of(&place.text), "--policies", "tova", "--states", "4", "--out", text_of(out)];
        refused(place.path(), 1, &arguments, &words);
        let done = msrnn(&["train", "--steps", "1", "--out", text_of(out)]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("cannot write") && done.stderr.contains(text_of(out)), "{done:?}");
    }
}

/// No file may be longer than a block of the shell, 512 or 1,024 bytes: as on a disk that is full after that.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_no_result_appears() {
    use std::process::Command;
    let place = Place::new();
    let long = write(place.path(), "long.txt", "Once upon a time there was a little dog. ".repeat(20));
    let check = |arguments: &[&str], path: &Path| {
        let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
        let command = [&["-c", script, env!("CARGO_BIN_EXE_msrnn")], arguments].concat();
        let output = Command::new("sh").args(command).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for word in ["cannot write", text_of(path), "free some space"] {
            assert!(error.contains(word), "{word:?} is not in {error}");
        }
        assert!(!path.exists());
    };
    let at = |name: &str| place.path().join(name);
    let (logits, trace, compare) = (at("logits.npy"), at("trace.jsonl"), at("manifest.toml"));
    let text = text_of(&long);
    check(&["perplexity", "--text", text, "--policy", "full", "--logits", text_of(&logits)], &logits);
    check(&["trace", "--text", text, "--policy", "tova@4", "--out", text_of(&trace)], &trace);
    let out = ["--out", text_of(place.path())];
    let policies = ["--text", text, "--policies", "tova", "--states", "4"];
    check(&[&["compare"], &policies[..], &out].concat(), &compare);
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_on_a_full_disk_is_an_error_and_no_panic() {
    use std::process::Command;
    let place = Place::new();
    let text = text_of(&place.text);
    for arguments in [
        &["policies"][..],
        &["completions", "bash"],
        &["perplexity", "--text", text, "--policy", "full"],
        &["perplexity", "--text", text, "--policy", "full", "--json"],
        &["generate", "--policy", "full", "--prompt", "Once"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_msrnn")).args(arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("cannot write standard output") && !stderr.contains("panicked"), "{stderr}");
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
#[test]
fn a_device_that_is_not_built_in_is_refused_with_the_feature_that_has_it() {
    let place = Place::new();
    for (device, feature) in [("wgpu", "wgpu"), ("wgpu:1", "wgpu"), ("cuda", "cuda"), ("cuda:1", "cuda")] {
        let words = [&format!("without {feature}"), "cargo build --release", &format!("--features {feature}")];
        place.refuses(1, &["--policy", "full", "--device", device], &words);
    }
}

#[test]
fn an_unknown_device_dtype_form_or_numbering_is_refused_with_those_there_are() {
    let place = Place::new();
    for device in ["tpu", "cpu:1", "cuda:x", ""] {
        place.refuses(2, &["--policy", "full", "--device", device], &["cpu, wgpu[:n] and cuda[:n]"]);
    }
    place.refuses(2, &["--policy", "full", "--dtype", "f8"], &["f8", "bf16"]);
    place.refuses(2, &["--policy", "full", "--form", "other"], &["other", "layer"]);
    place.refuses(2, &["--policy", "full", "--positions", "other"], &["original, gap-compressed or in-state"]);
}

#[test]
fn an_unknown_protocol_is_refused_with_those_there_are() {
    let place = Place::new();
    for protocol in ["lax", "prefill:", "prefill:0", "prefill:x", "prefill:-1", ""] {
        place.refuses(2, &["--policy", "full", "--protocol", protocol], &["strict", "prefill:N"]);
    }
}

#[test]
fn sampling_that_makes_no_sense_is_refused_before_anything_is_printed() {
    let place = Place::new();
    let generate = |more: &[&str], words: &[&str]| {
        refused(place.path(), 1, &[&["generate", "--policy", "full", "--prompt", "Once"], more].concat(), words);
    };
    for temperature in ["-1", "-0.5", "NaN", "inf"] {
        generate(&["--temperature", temperature], &["temperature", "must be 0 or more"]);
    }
    for top_p in ["0", "-0.5", "1.5", "NaN"] {
        generate(&["--top-p", top_p], &["top-p", "above 0 and at most 1"]);
    }
    let arguments = ["generate", "--policy", "full", "--temperature", "warm"];
    refused(place.path(), 2, &arguments, &["warm", "--temperature"]);
}

#[test]
fn training_that_cannot_be_done_is_refused_with_the_reason() {
    let place = Place::new();
    let out = place.path().join("model");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--batch", "3", "--threads", "2"], &["batch of 3", "multiple"]),
        (&["--heads", "3", "--kv-heads", "2"], &["num_key_value_heads", "multiple"]),
        (&["--vocab-size", "100"], &["at least 258"]),
        (&["--steps", "0"], &["steps", "positive"]),
        (&["--heads", "0"], &["num_attention_heads", "positive"]),
    ];
    for (more, words) in cases {
        let done = msrnn(&[&["train", "--out", text_of(&out)], more].concat());
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
        assert!(!out.exists(), "nothing was trained");
    }
}

#[test]
fn a_command_or_option_that_is_not_there_is_refused_with_the_usage() {
    let place = Place::new();
    refused(place.path(), 2, &["perplexiti"], &["perplexiti", "perplexity"]);
    refused(place.path(), 2, &["trace", "--ids", text_of(&place.ids), "--policy", "tova@4"], &["--out"]);
    place.refuses(2, &["--polcy", "full"], &["--polcy"]);
}

#[test]
fn the_checkpoints_that_are_damaged_here_are_good_before() {
    let place = Place::new();
    for name in ["llama-gqa", "llama-sharded-bf16"] {
        let model = copy(&testdata().join("checkpoints").join(name), &place.path().join(name));
        if name == "llama-gqa" {
            change_tensors(&model.join("model.safetensors"), |_| ());
        }
        configure(&model, json!({}));
        let arguments =
            ["perplexity", "--policy", "full", "--ids", text_of(&place.ids), "--model", text_of(&model), "--json"];
        common::succeeds(&arguments);
    }
}
