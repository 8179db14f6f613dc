//! The cache and the environment, with Hugging Face's own client on the other side.
//!
//! ```sh
//! MSRNN_HF_PYTHON=venv/bin/python cargo test --release -p msrnn-bench --test hub_python
//! ```
//!
//! Runs without libtest, so that without a Python that has huggingface_hub (`testdata/hub_client.py` says which)
//! everything counts as ignored.

#[cfg(feature = "hub")]
mod common;
#[cfg(feature = "hub")]
#[path = "command/hub/repo.rs"]
mod repo;
#[cfg(feature = "hub")]
#[path = "common/server.rs"]
mod server;

use std::process::ExitCode;

#[cfg(not(feature = "hub"))]
fn main() -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(feature = "hub")]
fn main() -> ExitCode {
    use libtest_mimic::{Arguments, Trial};

    let python = std::env::var_os("MSRNN_HF_PYTHON").map(std::path::PathBuf::from);
    let has = |python: &std::path::PathBuf| {
        let run = std::process::Command::new(python).args(["-c", "import huggingface_hub"]).output();
        run.is_ok_and(|run| run.status.success())
    };
    let python = python.filter(has);
    if python.is_none() {
        eprintln!("ignoring all: MSRNN_HF_PYTHON names no Python that has huggingface_hub");
    }
    type Test = fn(&with::Python);
    let all: [(&str, Test); 5] = [
        ("its_client_finds_our_files", with::its_client_finds_our_files),
        ("we_find_the_files_of_its_client", with::we_find_the_files_of_its_client),
        ("a_lock_of_its_client_is_waited_for", with::a_lock_of_its_client_is_waited_for),
        ("both_at_once_fetch_once", with::both_at_once_fetch_once),
        ("the_environment_means_the_same_to_both", with::the_environment_means_the_same_to_both),
    ];
    let trials = all.map(|(name, test)| {
        let (ignored, python) = (python.is_none(), with::Python(python.clone().unwrap_or_default()));
        let run = move || {
            test(&python);
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

#[cfg(feature = "hub")]
mod with {
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use msrnn_bench::hub::Hub;
    use serde_json::Value;

    use crate::common::testdata;
    use crate::repo::{COMMIT, ID, Repo, UNWATCHED, etag, hub, model};
    use crate::server::{Request, Server};

    pub(crate) struct Python(pub(crate) PathBuf);

    impl Python {
        /// Its client, with nothing in the environment but that.
        fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
            Command::new(&self.0)
                .arg(testdata().join("hub_client.py"))
                .args(arguments)
                .env_clear()
                .env("HF_HUB_DISABLE_TELEMETRY", "1")
                .envs(environment.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        }

        fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
            said(self.start(arguments, environment))
        }
    }

    fn said(child: Child) -> Value {
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&done.stderr)))
    }

    /// A checkpoint in shards with a tokenizer, and what its files are called.
    fn repo() -> (Repo, Vec<String>) {
        let repo = Repo::of(&crate::common::checkpoint("llama-sharded-bf16"), &[]).with("tokenizer.json", b"{}");
        let names = repo.files.iter().map(|(name, _)| name.clone()).collect();
        (repo, names)
    }

    fn contents(server: &Server) -> usize {
        server.requests().iter().filter(|asked| asked.path.contains("/resolve/") && asked.method == "GET").count()
    }

    fn assert_same(repo: &Repo, paths: &[PathBuf]) {
        for ((name, bytes), path) in repo.files.iter().zip(paths) {
            assert!(path.ends_with(name) && std::fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
    }

    pub(crate) fn its_client_finds_our_files(python: &Python) {
        let home = tempfile::tempdir().unwrap();
        let (repo, names) = repo();
        let served = repo.clone();
        let server = Server::start(move |request| served.reply(request));
        let directory = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap();
        let cache = home.path().join("hub");
        let mut arguments = vec!["find", cache.to_str().unwrap(), ID];
        arguments.extend(names.iter().map(String::as_str));
        let found = python.run(&arguments, &[]);
        assert_eq!(Path::new(found["snapshot"].as_str().unwrap()), directory);
        let paths: Vec<PathBuf> = serde_json::from_value(found["files"].clone()).unwrap();
        assert_same(&repo, &paths);
        assert_eq!(serde_json::from_value::<Vec<String>>(found["scanned"].clone()).unwrap(), names);
        assert_eq!(found["warnings"], serde_json::json!([]));
    }

    pub(crate) fn we_find_the_files_of_its_client(python: &Python) {
        let home = tempfile::tempdir().unwrap();
        let (repo, names) = repo();
        let served = repo.clone();
        let server = Server::start(move |request| served.reply(request));
        let cache = home.path().join("hub");
        let mut arguments = vec!["download", &server.url, cache.to_str().unwrap(), ID];
        arguments.extend(names.iter().map(String::as_str));
        let paths: Vec<PathBuf> = serde_json::from_value(python.run(&arguments, &[])).unwrap();
        assert_same(&repo, &paths);
        let fetched = contents(&server);
        let online = hub(&server.url, home.path());
        let offline = Hub { offline: true, ..online.clone() };
        for hub in [offline, online] {
            assert_eq!(hub.model(&model(ID), UNWATCHED).unwrap(), paths[0].parent().unwrap());
            assert_eq!(hub.model(&model(&format!("{ID}@{COMMIT}")), UNWATCHED).unwrap(), paths[0].parent().unwrap());
        }
        assert_eq!(contents(&server), fetched, "nothing is fetched again");
    }

    pub(crate) fn a_lock_of_its_client_is_waited_for(python: &Python) {
        let home = tempfile::tempdir().unwrap();
        let repo = Repo::small();
        let (name, bytes) = repo.files.iter().find(|(name, _)| name == "config.json").unwrap().clone();
        let lock = home.path().join(format!("hub/.locks/models--org--tiny/{}.lock", etag(&name, &bytes)));
        let mut holder = python.start(&["hold", lock.to_str().unwrap()], &[]);
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        let server = Server::start(move |request| repo.reply(request));
        let hub = hub(&server.url, home.path());
        std::thread::scope(|scope| {
            let download = scope.spawn(|| hub.model(&model(ID), UNWATCHED));
            let asked = |request: &Request| request.path.ends_with("config.json");
            while !server.requests().iter().any(asked) {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_secs(1));
            assert!(!download.is_finished() && contents(&server) == 0);
            drop(holder.stdin.take());
            download.join().unwrap().unwrap();
        });
        holder.wait().unwrap();
    }

    pub(crate) fn both_at_once_fetch_once(python: &Python) {
        let home = tempfile::tempdir().unwrap();
        let repo = Repo::small();
        let (served, weights) = (repo.clone(), "model.safetensors");
        let server = Server::start(move |request| {
            if request.path.ends_with(weights) && request.method == "GET" {
                // Long enough for all the others to come.
                std::thread::sleep(Duration::from_secs(8));
            }
            served.reply(request)
        });
        let cache = home.path().join("hub");
        let arguments = ["download", &server.url, cache.to_str().unwrap(), ID, "config.json", weights];
        let theirs: Vec<Child> = (0..2).map(|_| python.start(&arguments, &[])).collect();
        let hub = hub(&server.url, home.path());
        let directory = hub.model(&model(ID), UNWATCHED).unwrap();
        for child in theirs {
            let paths: Vec<PathBuf> = serde_json::from_value(said(child)).unwrap();
            assert_eq!(paths, [directory.join("config.json"), directory.join(weights)]);
        }
        let (_, bytes) = repo.files.iter().find(|(name, _)| name == weights).unwrap();
        assert!(std::fs::read(directory.join(weights)).unwrap() == *bytes);
        let asked =
            server.requests().into_iter().filter(|asked| asked.path.ends_with(weights) && asked.method == "GET");
        assert_eq!(asked.count(), 1);
    }

    pub(crate) fn the_environment_means_the_same_to_both(python: &Python) {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        for (file, token) in
            [("token", "hf_of_home\n"), (".cache/huggingface/token", "hf_default"), ("other", " hf_other\r\n")]
        {
            let path = Path::new(home).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, token).unwrap();
        }
        let settings: [&[(&str, &str)]; 24] = [
            &[],
            &[("HF_HOME", "~/hf")],
            &[("HF_HOME", "$HOME/hf")],
            &[("HF_HOME", home)],
            &[("XDG_CACHE_HOME", "~/xdg")],
            &[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/y")],
            &[("HF_HUB_CACHE", "${HOME}/a/$NOT_SET/${ALSO NOT}/$")],
            &[("HF_HUB_CACHE", "$A$B-$A_"), ("A", "/one"), ("B", "$A")],
            &[("HF_HUB_CACHE", "~"), ("HUGGINGFACE_HUB_CACHE", "/old")],
            &[("HUGGINGFACE_HUB_CACHE", "~/old"), ("HF_HOME", "/hf")],
            &[("HF_HOME", "/a/$X"), ("X", "$Y"), ("Y", "z")],
            &[("HF_TOKEN", "hf_a"), ("HUGGING_FACE_HUB_TOKEN", "hf_b")],
            &[("HF_TOKEN", ""), ("HUGGING_FACE_HUB_TOKEN", "hf_b")],
            &[("HF_TOKEN", " hf_a\r\n ")],
            &[("HF_TOKEN_PATH", "~/other")],
            &[("HF_TOKEN_PATH", "$HOME/absent")],
            &[("HF_TOKEN", "hf_a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "YES")],
            &[("HF_HUB_OFFLINE", "1")],
            &[("HF_HUB_OFFLINE", "on")],
            &[("HF_HUB_OFFLINE", "yes"), ("TRANSFORMERS_OFFLINE", "0")],
            &[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")],
            &[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "True")],
            &[("TRANSFORMERS_OFFLINE", "1")],
            &[("HF_HUB_OFFLINE", "y")],
        ];
        for setting in settings {
            let environment = [&[("HOME", home)], setting].concat();
            let theirs = python.run(&["environment"], &environment);
            let value =
                |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            let ours = Hub::from_variables(&value).unwrap();
            assert_eq!(theirs["cache"], *ours.cache.to_str().unwrap(), "{setting:?}");
            assert_eq!(theirs["offline"], ours.offline, "{setting:?}");
            let authorization = ours.token.map(|token| format!("Bearer {token}"));
            assert_eq!(theirs["authorization"].as_str(), authorization.as_deref(), "{setting:?}");
        }
    }
}
