//! Models and data by name: a path on this machine, or a repository of the Hugging Face hub.
//!
//! `--model org/name[@revision]` and `hf:org/dataset[@revision]/path` are fetched into the cache that
//! Hugging Face's own programs use, only the files that are needed. A path that exists always wins and
//! needs no network.
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_HOME` | where cache and token are; `~/.cache/huggingface` if absent |
//! | `HF_HUB_CACHE` | where the cache is; `$HF_HOME/hub` if absent |
//! | `HF_TOKEN` | token for gated and private repositories; that of `hf auth login` if absent |
//! | `HF_ENDPOINT` | another server; `https://huggingface.co` if absent |
//! | `HF_HUB_OFFLINE` | set to 1: nothing but the cache |

#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod refusal;

use std::fmt;
use std::path::{Path, PathBuf};

use msrnn_models::error::ModelError;

use crate::error::BenchError;

/// What `--model` names, as a directory: one that exists, else a repository of the hub.
///
/// # Errors
///
/// When it is neither, or cannot be fetched; the message says what to do.
pub fn locate(name: &str) -> Result<PathBuf, BenchError> {
    let path = Path::new(name);
    match Repository::parse(name, Kind::Model) {
        Some(repository) if !path.exists() => Hub::from_env()?.model(&repository),
        _ if path.is_dir() => Ok(path.into()),
        _ => Err(ModelError::NoDirectory(path.into()).into()),
    }
}

/// A file of texts or questions: a path, or `hf:org/dataset[@revision]/path` on the hub.
///
/// # Errors
///
/// When it is on the hub and cannot be fetched. A path is not looked at.
pub fn locate_data(name: &str) -> Result<PathBuf, BenchError> {
    let Some(remote) = name.strip_prefix("hf:") else { return Ok(name.into()) };
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
    Hub::from_env()?.file(&repository, file)
}

/// Whether a path stays inside the directory that it is put in.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && !path.contains('\\') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
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
    /// Reads `org/name[@revision]`; none where a text is something else, such as a path of other depth.
    pub fn parse(text: &str, kind: Kind) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = id.split_once('/')?;
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let named = word(owner) && word(name) && is_inside(revision);
        named.then(|| Self { kind, id: id.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the revision is a commit, which never changes.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit())
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
#[derive(Clone)]
pub struct Hub {
    /// The server's address, without a slash at its end.
    pub endpoint: String,
    /// The directory of the cache.
    pub cache: PathBuf,
    /// Sent to the server. Not part of any output.
    pub token: Option<String>,
    /// Only look into the cache.
    pub offline: bool,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, offline, .. } = self;
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("offline", offline)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// When there is no home directory to put a cache into.
    pub fn from_env() -> Result<Self, BenchError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = || {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).map(|path| path.join("huggingface"))
        };
        let home = variable("HF_HOME").map(PathBuf::from).or_else(home).ok_or_else(|| {
            BenchError::Input("there is no home directory for the cache of models; set HF_HOME".into())
        })?;
        let token = variable("HF_TOKEN").or_else(|| {
            let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            std::fs::read_to_string(file).ok().filter(|token| !token.trim().is_empty())
        });
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = variable("HF_HUB_OFFLINE");
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: token.map(|token| token.trim().to_owned()),
            offline: offline.is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())),
        })
    }
}

#[cfg(not(feature = "hub"))]
impl Hub {
    fn absent(repository: &Repository) -> BenchError {
        BenchError::Input(format!(
            "there is no {} on this machine, and this msrnn cannot ask the Hugging Face hub for it; build it with \
             `--features hub`, or download the files and give their path",
            repository.id
        ))
    }

    /// The directory of a model's files.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    pub fn model(&self, repository: &Repository) -> Result<PathBuf, BenchError> {
        Err(Self::absent(repository))
    }

    /// A file of a repository.
    ///
    /// # Errors
    ///
    /// Always: this program was built without the feature `hub`.
    pub fn file(&self, repository: &Repository, _file: &str) -> Result<PathBuf, BenchError> {
        Err(Self::absent(repository))
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
        for other in ["bundled", "/a/b", "./b", "../b", "a/b/c", "a/", "~/b", "a/b@", "a/b@../c", "a b/c", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_that_exists_wins_and_what_is_neither_is_refused() {
        assert_eq!(locate("src/hub").unwrap(), Path::new("src/hub"));
        assert!(locate("/nowhere/at/all").unwrap_err().to_string().contains("give a Hugging Face model directory"));
        for name in ["hf:org", "hf:org/set", "hf:org/set/../x", "hf:/set/x"] {
            assert!(locate_data(name).unwrap_err().to_string().contains("hf:org/dataset/path"), "{name}");
        }
        assert_eq!(locate_data("some/file.jsonl").unwrap(), Path::new("some/file.jsonl"));
    }

    #[test]
    fn a_token_is_not_shown() {
        let hub = Hub { endpoint: "e".into(), cache: "c".into(), token: Some("hf_secret".into()), offline: false };
        assert!(!format!("{hub:?}").contains("hf_secret"));
    }
}
