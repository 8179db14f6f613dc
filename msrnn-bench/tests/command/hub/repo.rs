//! A repository as a hub serves it.

use std::path::Path;

use msrnn_bench::hub::{Downloads, Hub, Kind, Patience, Repository};
use serde_json::{Value, json};
use sha1::Digest;

use crate::common::checkpoint;
use crate::server::{Reply, Request};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const ID: &str = "org/tiny";
pub(crate) const UNWATCHED: &Downloads = &Downloads::UNWATCHED;

/// A repository on a server: its files, and what happens to requests for them.
#[derive(Clone)]
pub(crate) struct Repo {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) kind: Kind,
}

impl Repo {
    pub(crate) fn of(directory: &Path, more: &[&str]) -> Self {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect();
        files.extend(more.iter().map(|name| ((*name).to_owned(), b"not needed".to_vec())));
        files.sort();
        Self { files, kind: Kind::Model }
    }

    /// A small checkpoint.
    pub(crate) fn small() -> Self {
        Self::of(&checkpoint("llama-gqa"), &[])
    }

    /// A file that replaces one, or is added.
    pub(crate) fn with(mut self, name: &str, bytes: &[u8]) -> Self {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), bytes.to_vec()));
        self
    }

    pub(crate) fn listing(&self) -> Value {
        let listed = |(name, bytes): &(String, Vec<u8>)| match is_large(name) {
            true => json!({ "rfilename": name, "size": bytes.len(), "blobId": "f".repeat(40),
                            "lfs": { "sha256": etag(name, bytes), "size": bytes.len(), "pointerSize": 134 } }),
            false => json!({ "rfilename": name, "size": bytes.len(), "blobId": etag(name, bytes) }),
        };
        json!({ "sha": COMMIT, "siblings": self.files.iter().map(listed).collect::<Vec<_>>(), "id": ID })
    }

    /// The file that a request is for.
    pub(crate) fn asked(&self, request: &Request) -> Option<&(String, Vec<u8>)> {
        let files = match self.kind {
            Kind::Model => format!("/{ID}/resolve/"),
            Kind::Dataset => format!("/datasets/{ID}/resolve/"),
        };
        let (revision, name) = request.path.strip_prefix(&files)?.split_once('/')?;
        self.files.iter().find(|(known, _)| ["main", "v1", COMMIT].contains(&revision) && known == name)
    }

    /// What a hub says to a request.
    pub(crate) fn reply(&self, request: &Request) -> Reply {
        let api = match self.kind {
            Kind::Model => format!("/api/models/{ID}/revision/"),
            Kind::Dataset => format!("/api/datasets/{ID}/revision/"),
        };
        if let Some(revision) = request.path.strip_prefix(&api) {
            return match revision.split('?').next().unwrap() {
                "main" | "v1" | COMMIT => Reply::Answer(200, vec![], self.listing().to_string().into_bytes()),
                _ => refuse(404, "RevisionNotFound"),
            };
        }
        match self.asked(request) {
            Some((name, bytes)) => serve(request, name, bytes),
            None if request.path.contains("/resolve/") && request.path.contains(ID) => refuse(404, "EntryNotFound"),
            None => refuse(404, "RepoNotFound"),
        }
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

fn digits(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that a hub gives to a content.
pub(crate) fn etag(name: &str, bytes: &[u8]) -> String {
    match is_large(name) {
        true => digits(sha2::Sha256::digest(bytes)),
        false => digits(sha1::Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat())),
    }
}

/// A file, or the range of it that is asked for.
pub(crate) fn serve(request: &Request, name: &str, bytes: &[u8]) -> Reply {
    let mut headers = vec![("ETag", format!("\"{}\"", etag(name, bytes))), ("X-Repo-Commit", COMMIT.to_owned())];
    let Some(range) = request.headers.get("range") else { return Reply::Answer(200, headers, bytes.to_vec()) };
    let range = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let start: usize = range.0.parse().unwrap();
    let end = range.1.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
    if start >= bytes.len() {
        return Reply::Answer(416, vec![], vec![]);
    }
    headers.push(("Content-Range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
    Reply::Answer(206, headers, bytes[start..end].to_vec())
}

pub(crate) fn refuse(status: u16, code: &str) -> Reply {
    Reply::Answer(status, vec![("X-Error-Code", code.to_owned())], b"{}".to_vec())
}

pub(crate) fn model(name: &str) -> Repository {
    Repository::parse(name, Kind::Model).unwrap()
}

pub(crate) fn hub(url: &str, home: &Path) -> Hub {
    Hub { endpoint: url.into(), cache: home.join("hub"), token: None, offline: false, patience: Patience::default() }
}
