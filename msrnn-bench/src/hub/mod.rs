//! Models and data by name: a path on this machine, or a repository of the Hugging Face hub.
//!
//! `--model org/name[@revision]`, `--model org/name[@revision]/file.gguf` and `hf:org/dataset[@revision]/path` are fetched into the cache that
//! Hugging Face's own programs use, only the files that are needed. A path that exists always wins and
//! needs no network.
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_HOME` | where cache and token are; `huggingface` in `XDG_CACHE_HOME`, or `~/.cache`, if absent |
//! | `HF_HUB_CACHE` | where the cache is; `HUGGINGFACE_HUB_CACHE`, or `$HF_HOME/hub`, if absent |
//! | `HF_TOKEN` | token for gated and private repositories; `HUGGING_FACE_HUB_TOKEN`, or that of `hf auth login` in `HF_TOKEN_PATH` or `$HF_HOME/token`, if absent |
//! | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | set to 1: no token is sent |
//! | `HF_ENDPOINT` | another server; `https://huggingface.co` if absent |
//! | `HF_HUB_OFFLINE` | set to 1: nothing but the cache; `TRANSFORMERS_OFFLINE` if absent |
//!
//! They are read as `huggingface_hub` reads them: `~`, `$NAME` and `${NAME}` are replaced in paths, and true is
//! 1, on, yes or true in any case.
//!
//! # Trust
//!
//! A hub, and whom it sends to, may say anything. Whatever it says is looked at before it becomes a path, a length or
//! an address: names (`names`), lists and headers (`listing`), bytes (`checksum`), time and redirects
//! (`http`), and nothing is written outside the cache or through a link in it (`cache`). The page
//! `docs/trust.md` says what is promised and tested.
//!
//! That is why there is a client here. The crate hf-hub 0.5 joins the server's `ETag` and commit to paths as they are,
//! sends the token wherever the first answer leads, follows redirects without end, and has no time-outs. Version 1.0
//! still puts the `ETag` into a path as it is and checks no hash, and comes with an async runtime, a second HTTP stack
//! and some 280 crates. What is needed of the protocol is one list, and one `HEAD` and one `GET` a file.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod checksum;
#[cfg(feature = "hub")]
mod endpoint;
#[cfg(feature = "hub")]
mod environment;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod listing;
#[cfg(feature = "hub")]
mod lock;
mod names;
#[cfg(feature = "hub")]
mod refusal;
#[cfg(feature = "hub")]
mod space;
#[cfg(feature = "hub")]
mod transfer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use msrnn_models::error::ModelError;
use msrnn_models::gguf;

use crate::error::BenchError;
#[cfg(feature = "hub")]
pub use crate::http::Patience;
use names::is_inside;

/// How far a file is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its name in the repository.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that it has.
    pub size: u64,
}

/// Who watches downloads, and whether they shall go on.
#[derive(Clone, Copy, Debug)]
pub struct Downloads {
    /// Called with every piece that came.
    pub advance: fn(&Progress<'_>),
    /// Set when a download shall end; what has come of it is kept.
    pub interrupt: &'static AtomicBool,
}

/// Never set.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Downloads {
    /// Nobody watches, and nothing ends them.
    pub const UNWATCHED: Self = Self { advance: |_| {}, interrupt: &NEVER };
}

/// What `--model` names, as a directory or a GGUF file: one that exists, else one of the hub.
///
/// # Errors
///
/// When it is neither, or cannot be fetched; the message says what to do.
pub(crate) fn locate(name: impl AsRef<Path>, downloads: &Downloads) -> Result<PathBuf, BenchError> {
    let path = name.as_ref();
    if path.is_dir() || gguf::is_gguf(path) {
        return Ok(path.into());
    }
    // What is no Unicode is a path of this machine.
    let name = path.to_str().filter(|_| !path.exists());
    // Before repositories: a revision may have slashes as well.
    if let Some((repository, file)) = name.and_then(gguf_of_hub) {
        // All parts, where there are several; any of them leads to the others.
        let parts = gguf::parts(file).into_iter().map(|part| of_hub(&repository, Some(&part), downloads));
        return Ok(parts.collect::<Result<Vec<_>, _>>()?.swap_remove(0));
    }
    match name.and_then(|name| Repository::parse(name, Kind::Model)) {
        Some(repository) => of_hub(&repository, None, downloads),
        None => Err(ModelError::NoDirectory(path.into()).into()),
    }
}

/// Reads `org/name[@revision]/path.gguf`.
fn gguf_of_hub(name: &str) -> Option<(Repository, &str)> {
    let (owner, rest) = name.split_once('/')?;
    let (repository, file) = rest.split_once('/')?;
    let is_gguf = is_inside(file) && Path::new(file).extension().is_some_and(|ending| ending == gguf::EXTENSION);
    let repository = Repository::parse(&format!("{owner}/{repository}"), Kind::Model)?;
    is_gguf.then_some((repository, file))
}

/// A file of texts or questions: a path, or `hf:org/dataset[@revision]/path` on the hub.
///
/// # Errors
///
/// When it is on the hub and cannot be fetched. A path is not looked at.
pub(crate) fn locate_data(name: impl AsRef<Path>, downloads: &Downloads) -> Result<PathBuf, BenchError> {
    let name = name.as_ref();
    let Some(remote) = name.to_str().and_then(|name| name.strip_prefix("hf:")) else { return Ok(name.into()) };
    let parts = remote.splitn(3, '/').collect::<Vec<_>>();
    let found = match parts[..] {
        [owner, dataset, file] if is_inside(file) => {
            Repository::parse(&format!("{owner}/{dataset}"), Kind::Dataset).map(|repository| (repository, file))
        }
        _ => None,
    };
    let Some((repository, file)) = found else {
        return Err(BenchError::Input(format!(
            "{name:?} names no file of a data set; expected hf:org/dataset/path or hf:org/dataset@revision/path"
        )));
    };
    of_hub(&repository, Some(file), downloads)
}

/// A model's directory, or a file, of the hub that the environment names.
#[cfg(feature = "hub")]
fn of_hub(repository: &Repository, file: Option<&str>, downloads: &Downloads) -> Result<PathBuf, BenchError> {
    let hub = Hub::from_env()?;
    match file {
        None => hub.model(repository, downloads),
        Some(file) => hub.file(repository, file, downloads),
    }
}

#[cfg(not(feature = "hub"))]
fn of_hub(repository: &Repository, _file: Option<&str>, _downloads: &Downloads) -> Result<PathBuf, BenchError> {
    Err(BenchError::Input(format!(
        "there is no {} on this machine, and this msrnn cannot ask the Hugging Face hub for it; build it with \
         `cargo build --release --features hub`, or download the files and give their path",
        repository.id
    )))
}

/// What is in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// A repository of the hub at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What is in it.
    pub kind: Kind,
    /// `org/name`.
    pub id: String,
    /// Branch, tag or commit; `main` if none was given.
    pub revision: String,
}

impl Repository {
    /// Reads `org/name[@revision]`; none where a text is something else, such as a path of other depth, or is no
    /// name that Hugging Face gives: those have no `--`, with which the cache parts owner and name.
    pub fn parse(text: &str, kind: Kind) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = id.split_once('/')?;
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !text.ends_with(['-', '.'])
                && !text.contains("--")
                && !text.contains("..")
        };
        let named = word(owner) && word(name) && id.len() <= 96 && !id.ends_with(".git") && is_inside(revision);
        named.then(|| Self { kind, id: id.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the revision is a commit, which never changes.
    pub fn is_commit(&self) -> bool {
        names::is_commit(&self.revision)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.id),
            revision => write!(f, "{}@{revision}", self.id),
        }
    }
}

/// Where repositories come from and where they are kept.
#[cfg(feature = "hub")]
#[derive(Clone)]
pub struct Hub {
    /// The server's address. A user and password in it are sent to that server where there is no token, and shown
    /// nowhere.
    pub endpoint: String,
    /// The directory of the cache.
    pub cache: PathBuf,
    /// Sent to the server's own origin. Not part of any output.
    pub token: Option<String>,
    /// Only look into the cache.
    pub offline: bool,
    /// How long the server may keep one waiting.
    pub patience: Patience,
}

#[cfg(feature = "hub")]
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, offline, .. } = self;
        f.debug_struct("Hub").field("cache", cache).field("offline", offline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        let parse = |text| Repository::parse(text, Kind::Model);
        let repository = parse("meta-llama/Llama-2-7b-hf").unwrap();
        assert_eq!((repository.id.as_str(), repository.revision.as_str()), ("meta-llama/Llama-2-7b-hf", "main"));
        assert_eq!(parse("01-ai/Yi-6B@refs/pr/3").unwrap().to_string(), "01-ai/Yi-6B@refs/pr/3");
        for other in [
            "bundled", "/a/b", "./b", "../b", "a/b/c", "a/", "~/b", "a/b@", "a/b@../c", "a b/c", "", "a--b/c",
            "a/b--c", "a/b..c", "a/b.", "a/b.git", "a/b@NUL", "a/b@x\\y",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn gguf_files_of_the_hub_are_told_from_paths() {
        let of = |name| gguf_of_hub(name).map(|(repository, file)| (repository.to_string(), file.to_owned()));
        assert_eq!(of("a/b/m.gguf"), Some(("a/b".into(), "m.gguf".into())));
        assert_eq!(of("a/b@v1/sub/m-Q4_K.gguf"), Some(("a/b@v1".into(), "sub/m-Q4_K.gguf".into())));
        for other in
            ["a/b", "a/b/", "a/b/m.bin", "a/m.gguf", "/a/b/m.gguf", "./b/m.gguf", "a/b/../m.gguf", "../a/b/m.gguf"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_that_exists_wins_and_what_is_neither_is_refused() {
        assert_eq!(locate("src/hub", &Downloads::UNWATCHED).unwrap(), Path::new("src/hub"));
        assert!(
            locate("/nowhere/at/all", &Downloads::UNWATCHED)
                .unwrap_err()
                .to_string()
                .contains("give a Hugging Face model directory")
        );
        for name in ["hf:org", "hf:org/set", "hf:org/set/../x", "hf:/set/x"] {
            assert!(
                locate_data(name, &Downloads::UNWATCHED).unwrap_err().to_string().contains("hf:org/dataset/path"),
                "{name}"
            );
        }
        assert_eq!(locate_data("some/file.jsonl", &Downloads::UNWATCHED).unwrap(), Path::new("some/file.jsonl"));
    }

    #[cfg(feature = "hub")]
    #[test]
    fn neither_token_nor_password_is_shown() {
        let hub = Hub {
            endpoint: "https://me:hf_secret@host".into(),
            cache: "c".into(),
            token: Some("hf_secret".into()),
            offline: false,
            patience: Patience::default(),
        };
        assert!(!format!("{hub:?}").contains("hf_secret"));
    }
}
