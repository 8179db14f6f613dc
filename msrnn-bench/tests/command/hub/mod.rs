//! Models and data from a hub: a server on this machine that serves a small checkpoint.

mod lengths;
mod links;
mod redirects;
mod repo;
mod trust;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::repo::{COMMIT, ID, Repo, UNWATCHED, hub, model, refuse};
use crate::common::{self, checkpoint, write_ids};
use crate::server::{Reply, Request, Server, nobody};
use msrnn_bench::hub::{Hub, Kind, Repository};
use serde_json::json;

fn sharded() -> Repo {
    Repo::of(&checkpoint("llama-sharded-bf16"), &["README.md", "pytorch_model.bin", "onnx/model.onnx"])
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// That a directory has exactly the files of a checkpoint that a model is loaded from.
fn assert_whole(found: &Path, original: &Path) {
    let mut expected = names(original);
    expected.retain(|name| {
        name.ends_with(".safetensors")
            || [
                "config.json",
                "generation_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "chat_template.jinja",
                "model.safetensors.index.json",
            ]
            .contains(&name.as_str())
    });
    assert_eq!(names(found), expected);
    for name in expected {
        assert!(std::fs::read(found.join(&name)).unwrap() == std::fs::read(original.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn only_what_a_model_needs_is_fetched_once_and_then_found_without_a_network() {
    let home = tempfile::tempdir().unwrap();
    let original = checkpoint("llama-sharded-bf16");
    let repo = sharded();
    let server = Server::start(move |request| repo.reply(request));
    let online = Hub { token: Some("hf_token".into()), ..hub(&server.url, home.path()) };
    let directory = online.model(&model(ID), UNWATCHED).unwrap();
    assert_whole(&directory, &original);
    assert!(directory.ends_with(format!("models--org--tiny/snapshots/{COMMIT}")), "{}", directory.display());
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.headers["authorization"] == "Bearer hf_token"));
    assert!(requests.iter().all(|request| !request.path.contains("README") && !request.path.contains("bin")));

    // What is there is not fetched again; the question what there is costs one request.
    assert_eq!(online.model(&model(ID), UNWATCHED).unwrap(), directory);
    assert_eq!(server.requests().len(), requests.len() + 1);
    // A commit is not even asked for, whatever it is called.
    assert_eq!(online.model(&model(&format!("{ID}@{COMMIT}")), UNWATCHED).unwrap(), directory);
    assert_eq!(server.requests().len(), requests.len() + 1);

    let offline = Hub { offline: true, ..hub(&server.url, home.path()) };
    assert_eq!(offline.model(&model(ID), UNWATCHED).unwrap(), directory);
    assert_eq!(server.requests().len(), requests.len() + 1);
    assert_eq!(hub(&nobody(), home.path()).model(&model(ID), UNWATCHED).unwrap(), directory, "no network");
    let error = offline.model(&model("org/tiny@v1"), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let error = |reply: fn(&Repo, &Request) -> Reply, name: &str, token: Option<&str>| {
        let repo = sharded();
        let server = Server::start(move |request| reply(&repo, request));
        let hub = Hub { token: token.map(str::to_owned), ..hub(&server.url, home.path()) };
        let error = hub.model(&model(name), UNWATCHED).unwrap_err().to_string();
        assert!(!error.contains("hf_token"), "{error}");
        error
    };
    let served: fn(&Repo, &Request) -> Reply = Repo::reply;
    let found = error(served, "org/tiny@v2", None);
    assert!(found.contains("no revision \"v2\"") && found.contains("/org/tiny"), "{found}");
    let found = error(served, "org/other", None);
    assert!(found.contains("no such directory") && found.contains("does not exist") && found.contains("HF_TOKEN"));
    // A gated repository says what it holds, and refuses the files.
    let gated = |repo: &Repo, request: &Request| match request.path.starts_with("/api") {
        true => repo.reply(request),
        false => refuse(403, "GatedRepo"),
    };
    let found = error(gated, ID, None);
    assert!(found.contains("gated: ask for access at http") && found.contains("set HF_TOKEN"), "{found}");
    let found = error(gated, ID, Some("hf_token"));
    assert!(found.contains("the token that was sent"), "{found}");
    let found = error(|_, _| refuse(401, "RepoNotFound"), ID, Some("hf_token"));
    assert!(found.contains("private") && found.contains("status 401"), "{found}");
    let found = error(|_, _| refuse(503, ""), ID, None);
    assert!(found.contains("try again later"), "{found}");
    let found = error(|_, _| Reply::Answer(200, vec![], b"<html>".to_vec()), ID, None);
    assert!(found.contains("HF_ENDPOINT"), "{found}");
    let found = hub(&nobody(), home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(found.contains("does not answer") && found.contains("run once with a network"), "{found}");
    // Weights in another format only.
    let found = error(
        |_, request| {
            let bare = Repo::of(&checkpoint("llama-sharded-bf16"), &["pytorch_model.bin"]);
            let files = bare.files.into_iter().filter(|(name, _)| !name.contains("safetensors")).collect();
            Repo { files, kind: Kind::Model }.reply(request)
        },
        ID,
        None,
    );
    assert!(found.contains("no weights as safetensors"), "{found}");
}

#[test]
fn half_a_download_goes_on_where_it_ended() {
    let home = tempfile::tempdir().unwrap();
    let original = checkpoint("llama-gqa");
    // Weights break off after a third of what was asked for, `broken` times.
    let serve = |broken: usize| {
        let (repo, breaks) = (Repo::small(), AtomicUsize::new(0));
        Server::start(move |request| match repo.reply(request) {
            Reply::Answer(status, headers, body)
                if request.path.ends_with(".safetensors")
                    && request.method == "GET"
                    && breaks.fetch_add(1, Ordering::Relaxed) < broken =>
            {
                let third = body.len() / 3;
                Reply::Half(status, headers, body, third)
            }
            reply => reply,
        })
    };
    let ranges = |server: &Server| -> Vec<Option<String>> {
        let weights = |request: &Request| request.path.ends_with(".safetensors") && request.method == "GET";
        server.requests().into_iter().filter(weights).map(|request| request.headers.get("range").cloned()).collect()
    };
    let size = std::fs::metadata(original.join("model.safetensors")).unwrap().len();

    let server = serve(usize::MAX);
    let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("did not come whole") && error.contains("run the same command again"), "{error}");
    let asked = ranges(&server);
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[..2], [None, Some(format!("bytes={}-", size / 3))]);
    let unfinished = hub(&nobody(), home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(unfinished.contains("it lacks model.safetensors"), "{unfinished}");

    let server = serve(1);
    assert_whole(&hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap(), &original);
    assert!(ranges(&server)[0].is_some(), "{:?}", ranges(&server));
}

#[test]
fn a_snapshot_of_a_commit_that_lacks_a_file_is_completed() {
    let home = tempfile::tempdir().unwrap();
    let name = format!("{ID}@{COMMIT}");
    let repo = Repo::small().with("tokenizer.json", b"{\"a\": 1}").with("generation_config.json", b"{}");
    let repo = repo.with("chat_template.jinja", b"{{ messages }}");
    let files = repo.files.clone();
    let server = Server::start(move |request| repo.reply(request));
    let directory = hub(&server.url, home.path()).model(&model(&name), UNWATCHED).unwrap();
    for lost in ["tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json", "model.safetensors"]
    {
        std::fs::remove_file(directory.join(lost)).unwrap();
        assert_eq!(hub(&server.url, home.path()).model(&model(&name), UNWATCHED).unwrap(), directory);
        let (_, bytes) = files.iter().find(|(name, _)| name == lost).unwrap();
        assert!(std::fs::read(directory.join(lost)).unwrap() == *bytes, "{lost}");
    }
}

#[test]
fn a_file_of_a_data_set_is_fetched_by_its_path() {
    let home = tempfile::tempdir().unwrap();
    let files = vec![("dev/part.jsonl".to_owned(), b"{}\n".to_vec()), ("train.jsonl".to_owned(), b"{}".to_vec())];
    let repo = Repo { files, kind: Kind::Dataset };
    let server = Server::start(move |request| repo.reply(request));
    let hub = hub(&server.url, home.path());
    let repository = Repository::parse(ID, Kind::Dataset).unwrap();
    let path = hub.file(&repository, "dev/part.jsonl", UNWATCHED).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
    assert!(path.ends_with(format!("datasets--org--tiny/snapshots/{COMMIT}/dev/part.jsonl")));
    let error = hub.file(&repository, "test.jsonl", UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("has no file \"test.jsonl\"") && error.contains("train.jsonl"), "{error}");
    let offline = Hub { offline: true, ..hub };
    assert_eq!(offline.file(&repository, "dev/part.jsonl", UNWATCHED).unwrap(), path);
    assert!(offline.file(&repository, "train.jsonl", UNWATCHED).is_err());
}

/// Runs `msrnn` with a server as its hub.
fn with_hub(server: &Server, home: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args(arguments)
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", &server.url)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_command_takes_a_name_and_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let repo = Repo::small();
    let server = Server::start(move |request| repo.reply(request));
    let ids = write_ids("llama-gqa", home.path());
    let perplexity = |model: &str| {
        let run = ["perplexity", "--json", "--policy", "full", "--model", model, "--ids", ids.to_str().unwrap()];
        with_hub(&server, home.path(), &run)["perplexity"].clone()
    };
    assert_eq!(perplexity(ID), perplexity(checkpoint("llama-gqa").to_str().unwrap()));
    assert!(home.path().join("hub/models--org--tiny/refs/main").exists());
}

#[test]
fn a_gguf_file_of_a_repository_is_fetched_with_all_its_parts_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let repo = Repo::of(&common::testdata().join("gguf"), &["README.md"]);
    let server = Server::start(move |request| repo.reply(request));
    let ids = write_ids("llama-gqa", home.path());
    let perplexity = |model: &str| {
        let run = ["perplexity", "--json", "--policy", "full", "--model", model, "--ids", ids.to_str().unwrap()];
        with_hub(&server, home.path(), &run)["perplexity"].clone()
    };
    let here = common::testdata().join("gguf/llama.gguf");
    for name in ["llama-00002-of-00003.gguf", "llama.gguf"] {
        assert_eq!(perplexity(&format!("{ID}/{name}")), perplexity(here.to_str().unwrap()), "{name}");
    }
    assert_eq!(perplexity(&format!("{ID}@{COMMIT}/llama.gguf")), perplexity(here.to_str().unwrap()));
    let snapshot = home.path().join(format!("hub/models--org--tiny/snapshots/{COMMIT}"));
    let parts = (1..=3).map(|part| format!("llama-0000{part}-of-00003.gguf"));
    assert_eq!(names(&snapshot), parts.chain(["llama.gguf".to_owned()]).collect::<Vec<_>>());
    // Of a repository without safetensors a file has to be named.
    let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(
        error.contains("GGUF files")
            && error.contains("llama-00001-of-00003.gguf")
            && error.contains(&format!("‘model’ {ID}/")),
        "{error}"
    );
}

#[test]
fn an_experiment_takes_a_file_of_a_data_set() {
    let home = tempfile::tempdir().unwrap();
    let question = json!({ "prompt": "The town of", "references": ["Harrow"] }).to_string();
    let repo = Repo { files: vec![("dev/part.jsonl".to_owned(), question.into_bytes())], kind: Kind::Dataset };
    let server = Server::start(move |request| repo.reply(request));
    let out = home.path().join("run");
    let run = ["experiment", "understanding", "--json", "--task", "jsonl", "--data", "hf:org/tiny/dev/part.jsonl"];
    let small = ["--policies", "tova@8", "--context", "40", "--max-new-tokens", "12", "--out", out.to_str().unwrap()];
    let found = with_hub(&server, home.path(), &[&run[..], &small[..]].concat());
    assert_eq!(found["metrics"]["rows"][0]["answers"], 1);
    let manifest = std::fs::read_to_string(out.join("manifest.toml")).unwrap();
    assert!(manifest.contains("hf:org/tiny/dev/part.jsonl") && manifest.contains("sha256"), "{manifest}");
}
