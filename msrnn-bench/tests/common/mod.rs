//! What the tests of the `msrnn` command share: they run the real binary and look at what comes out.

// Every test file uses its own part of these.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// Long enough for any machine; it only keeps a hanging command from hanging the tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

pub(crate) fn checkpoint(name: &str) -> PathBuf {
    testdata().join("checkpoints").join(name)
}

pub(crate) fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The golden run of a policy on a checkpoint.
pub(crate) fn golden(model: &str, policy: &str, protocol: &str) -> Value {
    let all = read_json(&testdata().join("goldens/policies.json"));
    let wanted = |run: &&Value| run["model"] == model && run["policy"] == policy && run["protocol"] == protocol;
    all.as_array().unwrap().iter().find(wanted).unwrap_or_else(|| panic!("no golden for {policy}")).clone()
}

/// Writes the golden ids of a checkpoint as a file for `--ids`.
pub(crate) fn write_ids(model: &str, directory: &Path) -> PathBuf {
    let golden = read_json(&testdata().join(format!("goldens/{model}.json")));
    write(directory, "ids.json", golden["ids"].to_string())
}

pub(crate) fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A copy of a model directory that may be damaged.
pub(crate) fn copy(model: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(model).unwrap() {
        let entry = entry.unwrap();
        // Not `fs::copy`, which would keep a read-only file read-only.
        std::fs::write(to.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
    }
    to.to_owned()
}

/// Sets keys of a model directory's `config.json`.
pub(crate) fn configure(model: &Path, changes: Value) {
    let path = model.join("config.json");
    let mut config = read_json(&path);
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
}

/// A tensor of a safetensors file: dtype, shape, bytes.
pub(crate) type Tensor = (String, Value, Vec<u8>);

/// The tensors of a safetensors file, put back after `change`.
pub(crate) fn change_tensors(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let file = std::fs::read(path).unwrap();
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, entry)| {
            let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            let dtype = entry["dtype"].as_str().unwrap().to_owned();
            (name, (dtype, entry["shape"].clone(), data[at(0)..at(1)].to_vec()))
        })
        .collect();
    change(&mut tensors);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let start = data.len();
        data.extend(bytes);
        header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    std::fs::write(path, file).unwrap();
}

/// The names of all files under a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) command: String,
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Stdout, which must be one JSON object and nothing else.
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert!(value.is_object(), "{self:?}");
        value
    }
}

/// A running `msrnn`, ended when dropped. Its output goes to files, so that it never waits for a reader.
pub(crate) struct Running {
    child: Child,
    command: String,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `msrnn` with arguments.
pub(crate) fn start<S: AsRef<str>>(arguments: &[S]) -> Running {
    start_in(arguments, Path::new("."))
}

/// Starts `msrnn` with arguments in a directory.
pub(crate) fn start_in<S: AsRef<str>>(arguments: &[S], directory: &Path) -> Running {
    let (stdout, stderr) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let child = Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args(&arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(stdout.reopen().unwrap())
        .stderr(stderr.reopen().unwrap())
        .spawn()
        .unwrap();
    Running { child, command: arguments.join(" "), stdout, stderr }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Waits until it ends.
    pub(crate) fn wait(mut self) -> Done {
        let started = Instant::now();
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None => assert!(started.elapsed() < PATIENCE, "msrnn {} does not end", self.command),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        assert!(!stderr.contains("panicked"), "msrnn {}\n{stderr}", self.command);
        Done { command: self.command.clone(), code: status.code(), stdout, stderr }
    }
}

fn text(file: &NamedTempFile) -> String {
    String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned()
}

/// Runs `msrnn` to its end.
pub(crate) fn msrnn<S: AsRef<str>>(arguments: &[S]) -> Done {
    start(arguments).wait()
}

/// Runs `msrnn`, which must succeed.
pub(crate) fn succeeds<S: AsRef<str>>(arguments: &[S]) -> Done {
    let done = msrnn(arguments);
    assert_eq!(done.code, Some(0), "msrnn {}\n{}", done.command, done.stderr);
    done
}

/// `msrnn perplexity` of ids as JSON, in f64 for exactness.
pub(crate) fn perplexity(model: &Path, ids: &Path, policy: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["perplexity", "--json", "--dtype", "f64", "--policy", policy];
    arguments.extend(["--model", text_of(model), "--ids", text_of(ids)]);
    arguments.extend(more);
    succeeds(&arguments).json()
}

/// Arguments without spaces.
pub(crate) fn split(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

pub(crate) fn text_of(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Asserts |found − expected| ≤ tolerance · |expected|.
#[track_caller]
pub(crate) fn assert_close(found: &Value, expected: &Value, tolerance: f64) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{found} should be {expected}");
}

/// Where numbers begin and end.
pub(crate) fn numbers(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, byte) in text.iter().chain(b" ").enumerate() {
        match (start, byte.is_ascii_digit()) {
            (None, true) => start = Some(at),
            (Some(first), false) => {
                found.push(first..at);
                start = None;
            }
            _ => {}
        }
    }
    found
}
