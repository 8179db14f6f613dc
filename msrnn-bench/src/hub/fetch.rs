//! Files of a repository, fetched into the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use msrnn_models::checkpoint::{CONFIG, INDEX, WEIGHTS};
use msrnn_models::model::GENERATION_CONFIG;
use msrnn_models::tokenizer::{TOKENIZER, TOKENIZER_CONFIG};
use serde::Deserialize;

use super::refusal::{self, Refused};
use super::{Hub, Kind, Repository, is_inside};
use crate::error::BenchError;

/// How often a file is asked for before giving up. Every time goes on where the last one ended.
const ATTEMPTS: u32 = 3;
/// For the answer to what a repository holds. Files may take any time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server says about a repository at a revision.
#[derive(Debug, Deserialize)]
struct Info {
    /// The commit.
    sha: String,
    siblings: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    rfilename: String,
    size: Option<u64>,
}

/// Names of shards in an index.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Hub {
    /// The directory of a model's files: configuration, tokenizer and safetensors, fetched as far as
    /// the cache lacks them. Without a network, the cache alone serves if it is complete.
    ///
    /// # Errors
    ///
    /// When they cannot be had; the message says what to do.
    pub fn model(&self, repository: &Repository) -> Result<PathBuf, BenchError> {
        let whole = |directory: &PathBuf| missing(directory).is_empty();
        if let Some(directory) = self.cached(repository).filter(|_| repository.is_commit()).filter(whole) {
            return Ok(directory);
        }
        match self.look(repository)? {
            Ok(snapshot) => snapshot.model(),
            Err(reason) => match self.cached(repository).filter(whole) {
                Some(directory) => Ok(directory),
                None => Err(self.not_cached(repository, self.cached(repository).as_deref(), &reason)),
            },
        }
    }

    /// One file of a repository.
    ///
    /// # Errors
    ///
    /// As [`Hub::model`].
    pub fn file(&self, repository: &Repository, file: &str) -> Result<PathBuf, BenchError> {
        match self.look(repository)? {
            Ok(snapshot) => snapshot.get(file),
            Err(reason) => {
                let path = self.cached(repository).map(|directory| directory.join(file));
                path.filter(|path| path.exists()).ok_or_else(|| self.not_cached(repository, None, &reason))
            }
        }
    }

    /// Asks the server what there is. The inner error says why it could not be asked.
    fn look<'h>(&'h self, repository: &'h Repository) -> Result<Result<Snapshot<'h>, String>, BenchError> {
        if self.offline {
            return Ok(Err("HF_HUB_OFFLINE is set".into()));
        }
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_user_agent("msrnn", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| BenchError::Input(format!("cannot ask the Hugging Face hub: {e}")))?;
        let request = api.repo(self.repo(repository, &repository.revision)).info_request().query("blobs", "true");
        let request = request.config().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        let mut answer = match request.call() {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!("{} does not answer ({error}); looking into the cache", self.endpoint);
                return Ok(Err(format!("{} does not answer ({error})", self.endpoint)));
            }
        };
        if !answer.status().is_success() {
            return Err(self.refused(repository, None, Refused::of(&answer)));
        }
        let info = answer.body_mut().with_config().limit(64 << 20).read_json();
        let info: Info = info.map_err(|e| {
            BenchError::Input(format!(
                "{} says nothing readable about {repository} ({e}); is HF_ENDPOINT the address of a hub?",
                self.endpoint
            ))
        })?;
        if !is_inside(&info.sha) || info.sha.contains('/') {
            return Err(BenchError::Input(format!("{} gives no commit for {repository}", self.endpoint)));
        }
        Ok(Ok(Snapshot { hub: self, repository, api, info }))
    }

    fn repo(&self, repository: &Repository, revision: &str) -> Repo {
        let kind = match repository.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(repository.id.clone(), kind, revision.into())
    }

    /// The files of a revision that were fetched before, if any.
    fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        let repo = self.repo(repository, &repository.revision);
        let root = self.cache.join(repo.folder_name());
        let commit = std::fs::read_to_string(root.join("refs").join(&repository.revision));
        let commit = commit.unwrap_or_else(|_| repository.revision.clone());
        Some(root.join("snapshots").join(commit.trim())).filter(|directory| directory.is_dir())
    }

    fn not_cached(&self, repository: &Repository, directory: Option<&Path>, reason: &str) -> BenchError {
        let lacks = match directory.map(missing) {
            Some(missing) if !missing.is_empty() => format!(" (it lacks {})", missing.join(", ")),
            _ => String::new(),
        };
        BenchError::Input(format!(
            "{repository} is neither a directory here nor whole in the cache {}{lacks}, and {reason}; run once with a \
             network and without HF_HUB_OFFLINE, check HF_ENDPOINT and HF_HOME, or give the path of the files",
            self.cache.display()
        ))
    }

    fn refused(&self, repository: &Repository, file: Option<&str>, refused: Refused) -> BenchError {
        let datasets = if repository.kind == Kind::Dataset { "datasets/" } else { "" };
        let page = format!("{}/{datasets}{}", self.endpoint, repository.id);
        BenchError::Input(refusal::message(repository, file, &page, self.token.is_some(), &refused))
    }
}

/// A repository at one commit.
struct Snapshot<'h> {
    hub: &'h Hub,
    repository: &'h Repository,
    api: Api,
    info: Info,
}

impl Snapshot<'_> {
    fn has(&self, file: &str) -> bool {
        self.info.siblings.iter().any(|sibling| sibling.rfilename == file)
    }

    fn model(&self) -> Result<PathBuf, BenchError> {
        let config = self.get(CONFIG)?;
        for file in [GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG] {
            if self.has(file) {
                self.get(file)?;
            }
        }
        if self.has(INDEX) {
            for shard in shards(&self.get(INDEX)?)? {
                self.get(&shard)?;
            }
        } else if self.has(WEIGHTS) {
            self.get(WEIGHTS)?;
        } else {
            return Err(BenchError::Input(format!(
                "{} has no weights as safetensors, which is all that msrnn reads; choose a repository or revision \
                 that has {WEIGHTS} or {INDEX}, or convert them",
                self.repository
            )));
        }
        Ok(config.parent().unwrap_or(&config).into())
    }

    /// A file of the commit, from the cache if it is there.
    fn get(&self, file: &str) -> Result<PathBuf, BenchError> {
        let Some(listed) = self.info.siblings.iter().find(|sibling| sibling.rfilename == file && is_inside(file))
        else {
            let some: Vec<&str> = self.info.siblings.iter().map(|file| file.rfilename.as_str()).take(8).collect();
            return Err(BenchError::Input(format!(
                "{} has no file {file:?}; it has {} files, such as {}",
                self.repository,
                self.info.siblings.len(),
                some.join(", ")
            )));
        };
        let repo = self.hub.repo(self.repository, &self.info.sha);
        let cache = Cache::new(self.hub.cache.clone()).repo(repo.clone());
        let path = cache.pointer_path(&self.info.sha).join(file);
        let fits = |path: &Path| {
            let size = std::fs::metadata(path).map(|metadata| metadata.len()).ok();
            size.is_some_and(|size| listed.size.is_none_or(|listed| listed == size))
        };
        if !fits(&path) {
            // Nothing, or a leftover that is not what the server lists.
            let blob = std::fs::canonicalize(&path).ok();
            [Some(path.clone()), blob].into_iter().flatten().for_each(|path| drop(std::fs::remove_file(path)));
            self.download(&repo, file, listed.size)?;
        }
        if !fits(&path) {
            let size = std::fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
            let _ = std::fs::remove_file(std::fs::canonicalize(&path).unwrap_or_default());
            let _ = std::fs::remove_file(&path);
            return Err(BenchError::Input(format!(
                "{file} of {} came with {size} bytes where {} were listed, and was removed; run the same command \
                 again",
                self.repository,
                listed.size.unwrap_or(0)
            )));
        }
        // By the name that was asked for, so that it is found without a network.
        let named = Cache::new(self.hub.cache.clone()).repo(self.hub.repo(self.repository, &self.repository.revision));
        let _ = named.create_ref(&self.info.sha);
        Ok(path)
    }

    fn download(&self, repo: &Repo, file: &str, size: Option<u64>) -> Result<(), BenchError> {
        let mut attempt = 1;
        loop {
            let error = match self.api.repo(repo.clone()).download(file) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let status = match &error {
                ApiError::RequestError(error) => match **error {
                    ureq::Error::StatusCode(code) => Some(code),
                    _ => None,
                },
                _ => None,
            };
            match status {
                // Asked for what follows the end of a file that was whole and had not got its name yet.
                Some(416) if attempt == 1 => self.remove_parts(size),
                Some(code) if code < 500 && code != 429 => {
                    let refused = Refused { status: code, ..Refused::default() };
                    return Err(self.hub.refused(self.repository, Some(file), refused));
                }
                _ if attempt < ATTEMPTS => std::thread::sleep(Duration::from_millis(250 << attempt)),
                _ => {
                    return Err(BenchError::Input(format!(
                        "{file} of {} did not come whole ({error}); what has come is kept in {}: run the same command \
                         again to go on, and see that there is space on that disk",
                        self.repository,
                        self.hub.cache.display()
                    )));
                }
            }
            attempt += 1;
        }
    }

    /// Removes parts of that size.
    fn remove_parts(&self, size: Option<u64>) {
        let repo = self.hub.repo(self.repository, &self.info.sha);
        let blobs = self.hub.cache.join(repo.folder_name()).join("blobs");
        for entry in std::fs::read_dir(blobs).into_iter().flatten().flatten() {
            let whole = entry.metadata().is_ok_and(|metadata| Some(metadata.len()) == size);
            if whole && entry.path().extension().is_some_and(|ending| ending == "part") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The shards that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>, BenchError> {
    let text = std::fs::read(index).map_err(|source| BenchError::Read { path: index.into(), source })?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|e| BenchError::Input(format!("{}: {e}; remove the file and run again", index.display())))?;
    Ok(parsed.weight_map.into_values().collect())
}

/// What a model directory lacks.
fn missing(directory: &Path) -> Vec<String> {
    let mut wanted = vec![CONFIG.to_owned()];
    match shards(&directory.join(INDEX)) {
        Ok(shards) => wanted.extend(shards),
        Err(_) => wanted.push(WEIGHTS.into()),
    }
    wanted.retain(|file| !directory.join(file).exists());
    wanted
}
