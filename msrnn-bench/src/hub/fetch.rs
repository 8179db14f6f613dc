//! Files of a repository, fetched into the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use msrnn_models::chat::CHAT_TEMPLATE;
use msrnn_models::checkpoint::{CONFIG, INDEX, WEIGHTS};
use msrnn_models::gguf;
use msrnn_models::model::GENERATION_CONFIG;
use msrnn_models::tokenizer::{TOKENIZER, TOKENIZER_CONFIG};
use serde::Deserialize;

use super::cache::{CacheError, Store};
use super::checksum::Checksum;
use super::endpoint::Endpoint;
use super::listing::{self, Described, Listed, Listing};
use super::lock::Lock;
use super::names::{in_address, is_inside};
use super::refusal::{self, Refused};
use super::transfer::{self, Trouble, Wanted};
use super::{Downloads, Hub, Kind, Repository};
use crate::error::BenchError;
use crate::http::{Address, Client, Failure, Following, Method, Request, is_page, shown};

/// How often a file is asked for before giving up. Every time goes on where the last one ended.
const ATTEMPTS: u32 = 3;
/// What a model needs to be a model, if its repository has them.
const COMPANIONS: [&str; 4] = [GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE];

/// Names of shards in an index.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl From<CacheError> for BenchError {
    fn from(error: CacheError) -> Self {
        Self::Input(error.to_string())
    }
}

impl Hub {
    /// The directory of a model's files: configuration, tokenizer and safetensors, fetched as far as
    /// the cache lacks them. Without a network, the cache alone serves if it is complete.
    ///
    /// # Errors
    ///
    /// When they cannot be had; the message says what to do. [`BenchError::Interrupted`] when it was interrupted;
    /// what has come is kept.
    pub fn model(&self, repository: &Repository, downloads: &Downloads) -> Result<PathBuf, BenchError> {
        self.without_token(|| {
            let exchange = Exchange::new(self, repository, downloads)?;
            let cached = exchange.cached();
            // Of a commit nothing can be new, but something may be missing that only the hub knows of.
            let known = |directory: &Path, file| {
                exchange.has(directory, file) || exchange.store.lacks(&repository.revision, file)
            };
            let all = |directory: &PathBuf| COMPANIONS.iter().all(|file| known(directory, file));
            if let Some(directory) = cached.clone().filter(|_| repository.is_commit()).filter(all)
                && exchange.missing(&directory).is_empty()
            {
                return Ok(directory);
            }
            match exchange.look(|directory| exchange.missing(directory).is_empty())? {
                Ok(listing) => exchange.model(&listing),
                Err(reason) => match cached.clone().filter(|directory| exchange.missing(directory).is_empty()) {
                    Some(directory) => Ok(directory),
                    None => Err(exchange.not_cached(cached.as_deref(), &reason)),
                },
            }
        })
    }

    /// One file of a repository.
    ///
    /// # Errors
    ///
    /// As [`Hub::model`].
    pub fn file(&self, repository: &Repository, file: &str, downloads: &Downloads) -> Result<PathBuf, BenchError> {
        self.without_token(|| {
            let exchange = Exchange::new(self, repository, downloads)?;
            let cached = exchange.cached().filter(|directory| is_inside(file) && exchange.has(directory, file));
            let cached = cached.map(|directory| directory.join(file));
            match cached {
                Some(path) if repository.is_commit() => Ok(path),
                cached => match exchange.look(|_| true)? {
                    Ok(listing) => exchange.get(&listing, file),
                    Err(reason) => cached.ok_or_else(|| exchange.not_cached(None, &reason)),
                },
            }
        })
    }

    /// A result whose message does not repeat the token, should a server have said it.
    fn without_token<T>(&self, work: impl FnOnce() -> Result<T, BenchError>) -> Result<T, BenchError> {
        work().map_err(|error| match (&self.token, error) {
            (Some(token), BenchError::Input(text)) if !token.is_empty() => {
                BenchError::Input(text.replace(token.as_str(), "[token]"))
            }
            (_, error) => error,
        })
    }
}

/// One repository, asked for once.
struct Exchange<'s> {
    hub: &'s Hub,
    repository: &'s Repository,
    downloads: &'s Downloads,
    endpoint: Endpoint,
    store: Store,
    client: Client,
}

impl<'s> Exchange<'s> {
    fn new(hub: &'s Hub, repository: &'s Repository, downloads: &'s Downloads) -> Result<Self, BenchError> {
        let endpoint = Endpoint::new(&hub.endpoint, hub.token.as_deref())?;
        let store = Store::new(&hub.cache, repository);
        Ok(Self { hub, repository, downloads, endpoint, store, client: Client::new(hub.patience) })
    }

    /// The files of the revision that were fetched before, if any.
    fn cached(&self) -> Option<PathBuf> {
        let commit = self.store.commit(&self.repository.revision)?;
        Some(self.store.snapshot(&commit)).filter(|directory| directory.is_dir())
    }

    fn has(&self, directory: &Path, file: &str) -> bool {
        self.store.size(&directory.join(file)).is_some()
    }

    /// What a model directory lacks.
    fn missing(&self, directory: &Path) -> Vec<String> {
        let mut wanted = vec![CONFIG.to_owned()];
        match shards(&directory.join(INDEX)) {
            Ok(shards) if !directory.join(WEIGHTS).exists() => wanted.extend(shards),
            _ => wanted.push(WEIGHTS.into()),
        }
        wanted.retain(|file| !is_inside(file) || !self.has(directory, file));
        wanted
    }

    fn not_cached(&self, directory: Option<&Path>, reason: &str) -> BenchError {
        let lacks = match directory.map(|directory| self.missing(directory)) {
            Some(missing) if !missing.is_empty() => format!(" (it lacks {})", shown(&missing.join(", "))),
            _ => String::new(),
        };
        BenchError::Input(format!(
            "{} is neither a directory here nor whole in the cache {}{lacks}, and {reason}; run once with a network and \
             without HF_HUB_OFFLINE, check HF_ENDPOINT and HF_HOME, or give the path of the files",
            self.repository,
            self.hub.cache.display()
        ))
    }

    /// Below the endpoint, where people look at the repository.
    fn path(&self) -> String {
        let datasets = if self.repository.kind == Kind::Dataset { "datasets/" } else { "" };
        format!("{datasets}{}", self.repository.id)
    }

    fn refused(&self, file: Option<&str>, refused: &Refused) -> BenchError {
        let page = self.endpoint.address.below(&self.path()).to_string();
        BenchError::Input(refusal::message(self.repository, file, &page, self.endpoint.credentials.is_some(), refused))
    }

    /// Asks the server what there is. The inner error says why it could not be asked; where the server fails it is
    /// one only if what was fetched before `serves`.
    fn look(&self, serves: impl Fn(&Path) -> bool) -> Result<Result<Listing, String>, BenchError> {
        if self.hub.offline {
            return Ok(Err("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set".into()));
        }
        let kind = if self.repository.kind == Kind::Dataset { "datasets" } else { "models" };
        let Repository { id, revision, .. } = self.repository;
        let path = format!("api/{kind}/{id}/revision/{}?blobs=true", in_address(revision, false));
        let address = self.endpoint.address.below(&path);
        let absent = |reason: String| {
            tracing::warn!("{reason}; looking into the cache");
            Ok(Err(reason))
        };
        let request = Request::get(&address, self.endpoint.credentials.as_ref());
        let answer = self.client.send(request, self.downloads.interrupt);
        let text = answer.and_then(|mut answer| {
            let text = match answer.status {
                200 => answer.whole(listing::LONGEST, self.downloads.interrupt)?,
                _ => Vec::new(),
            };
            Ok((answer, text))
        });
        let (answer, text) = match text {
            Ok(found) => found,
            Err(Failure::Interrupted) => return Err(BenchError::Interrupted),
            Err(Failure::Passing(why)) => return absent(why),
            Err(Failure::Refused(why)) => return Err(BenchError::Input(format!("{}: {why}", self.repository))),
        };
        if answer.status != 200 {
            let refused = Refused::of(&answer);
            return match refused.is_passing() && self.cached().is_some_and(|directory| serves(&directory)) {
                true => absent(format!("{} fails (status {})", self.endpoint.address, refused.status)),
                false => Err(self.refused(None, &refused)),
            };
        }
        if is_page(&answer, &text) {
            return Err(BenchError::Input(format!(
                "{} answers with a web page (HTML) where a hub lists the files of {}; check HF_ENDPOINT, and whether a \
                 login of this network or a proxy is in between",
                answer.address, self.repository
            )));
        }
        let listing = Listing::parse(&text).map_err(|why| {
            BenchError::Input(format!(
                "{} says nothing readable about {} ({why}); is HF_ENDPOINT the address of a hub?",
                self.endpoint.address, self.repository
            ))
        })?;
        if self.repository.is_commit() && listing.commit != self.repository.revision {
            return Err(BenchError::Input(format!(
                "{} speaks of commit {} where {} was asked for; is HF_ENDPOINT the address of a hub?",
                self.endpoint.address, listing.commit, self.repository
            )));
        }
        Ok(Ok(listing))
    }

    fn model(&self, listing: &Listing) -> Result<PathBuf, BenchError> {
        // A repository of GGUF files need not have a configuration beside them.
        if !listing.has(CONFIG) && !listing.ending(gguf::EXTENSION).is_empty() {
            return Err(self.no_safetensors(listing));
        }
        let config = self.get(listing, CONFIG)?;
        for file in COMPANIONS {
            match listing.has(file) {
                true => drop(self.get(listing, file)?),
                // Only saves a question the next time.
                false => drop(self.store.note_absence(&listing.commit, file)),
            }
        }
        // In the order in which they are looked for when the model is opened.
        if listing.has(WEIGHTS) {
            self.get(listing, WEIGHTS)?;
        } else if listing.has(INDEX) {
            for shard in shards(&self.get(listing, INDEX)?)? {
                self.get(listing, &shard)?;
            }
        } else {
            return Err(self.no_safetensors(listing));
        }
        Ok(config.parent().unwrap_or(&config).into())
    }

    /// What to do about a repository without safetensors.
    fn no_safetensors(&self, listing: &Listing) -> BenchError {
        let gguf = listing.ending(gguf::EXTENSION);
        BenchError::Input(match gguf.first() {
            Some(first) => format!(
                "{} has no weights as safetensors but GGUF files ({}); name one of them, as in ‘model’ {}/{first}",
                self.repository,
                gguf.join(", "),
                self.repository
            ),
            None => format!(
                "{} has no weights as safetensors or GGUF, which is all that msrnn reads; choose a repository or revision \
                 that has {WEIGHTS}, {INDEX} or a .{} file, or convert them",
                self.repository,
                gguf::EXTENSION
            ),
        })
    }

    /// A file of the commit, from the cache if it is there.
    fn get(&self, listing: &Listing, file: &str) -> Result<PathBuf, BenchError> {
        let Some(listed) = listing.file(file) else {
            let (count, some) = listing.examples();
            return Err(BenchError::Input(format!(
                "{} has no file {:?} that can be put on a disk by that name; it has {count} files, such as {some}",
                self.repository,
                shown(file)
            )));
        };
        let path = self.store.snapshot(&listing.commit).join(file);
        let known = listed.size().map_err(|sizes| self.untrue(file, &sizes_differ(sizes)))?;
        let here = self.store.size(&path).is_some_and(|size| known.is_none_or(|known| known == size));
        if !here {
            self.fetch(listing, listed, known)?;
        }
        // By the name that was asked for, so that it is found without a network. A cache that cannot be written
        // still serves what is in it.
        if let Err(error) = self.store.remember(&self.repository.revision, &listing.commit) {
            tracing::warn!("{error}");
        }
        Ok(path)
    }

    fn untrue(&self, file: &str, why: &str) -> BenchError {
        BenchError::Input(format!(
            "{file} of {} is not taken from {}: {why}. Nothing of it was kept; run the same command again, and see that \
             HF_ENDPOINT is the address of a hub that you trust",
            self.repository, self.endpoint.address
        ))
    }

    /// Brings a file into the cache.
    fn fetch(&self, listing: &Listing, listed: &Listed, known: Option<u64>) -> Result<(), BenchError> {
        let (commit, file) = (listing.commit.as_str(), listed.name.as_str());
        let path = format!("{}/resolve/{commit}/{}", self.path(), in_address(file, true));
        let address = self.endpoint.address.below(&path);
        let described = self.with_patience(file, || self.describe(&address, commit))?;
        let etag = described.etag.as_str();
        let size = listing::one(known, described.size).map_err(|sizes| self.untrue(file, &sizes_differ(sizes)))?;
        let checksum = Checksum::of(listed, etag).map_err(|hash| {
            self.untrue(file, &format!("its hash is listed as {hash}, and its content is called {etag} (ETag)"))
        })?;
        let (blob, part) = (self.store.blob(etag), self.store.part(etag));
        for path in [&blob, &self.store.lock(etag), &self.store.snapshot(commit).join(file)] {
            self.store.make_way(path)?;
        }
        let Some(_lock) = Lock::take(&self.store.lock(etag), self.downloads.interrupt)? else {
            return Err(BenchError::Interrupted);
        };
        let here = self.store.size(&blob).is_some_and(|found| size.is_none_or(|size| size == found));
        if !here {
            let wanted = Wanted { file, address, credentials: self.endpoint.credentials.as_ref(), size, checksum };
            self.with_patience(file, || {
                let mut open = Store::open(&part).map_err(|error| Trouble::Disk(error.to_string()))?;
                transfer::fetch(&self.client, &wanted, &mut open, &part, self.downloads)
            })?;
            self.store.finish(etag)?;
        }
        self.store.link(etag, commit, file)?;
        Ok(())
    }

    /// What the server says about a file: the last answer before it sends to another host.
    fn describe(&self, address: &Address, commit: &str) -> Result<Described, Trouble> {
        let mut request = Request::get(address, self.endpoint.credentials.as_ref());
        request.method = Method::HEAD;
        request.following = Following::AtOrigin;
        let answer = self.client.send(request, self.downloads.interrupt)?;
        match answer.status {
            200 | 301 | 302 | 303 | 307 | 308 => Described::of(&answer, commit).map_err(|why| {
                Trouble::Untrue(match is_page(&answer, b"") {
                    true => format!("a web page came (HTML) in its place, as from a login or a proxy; {why}"),
                    false => why,
                })
            }),
            _ => Err(Trouble::Status(Refused::of(&answer))),
        }
    }

    /// Tries a few times, as long as another try may help.
    fn with_patience<T>(&self, file: &str, work: impl Fn() -> Result<T, Trouble>) -> Result<T, BenchError> {
        let mut attempt = 1;
        loop {
            let why = match work() {
                Ok(done) => return Ok(done),
                Err(Trouble::Interrupted) => return Err(BenchError::Interrupted),
                Err(Trouble::Untrue(why)) => return Err(self.untrue(file, &why)),
                Err(Trouble::Disk(why)) => {
                    return Err(BenchError::Input(format!("{file} of {}: {why}", self.repository)));
                }
                Err(Trouble::Status(refused)) if !refused.is_passing() || attempt == ATTEMPTS => {
                    return Err(self.refused(Some(file), &refused));
                }
                Err(Trouble::Status(refused)) => format!("status {}", refused.status),
                Err(Trouble::Passing(why)) => why,
            };
            if attempt == ATTEMPTS {
                return Err(BenchError::Input(format!(
                    "{file} of {} did not come whole in {ATTEMPTS} attempts ({why}); what has come is kept in {}: run \
                     the same command again to go on",
                    self.repository,
                    self.hub.cache.display()
                )));
            }
            pause(Duration::from_millis(250 << attempt), self.downloads.interrupt);
            attempt += 1;
        }
    }
}

fn sizes_differ((first, second): (u64, u64)) -> String {
    format!("it is said to have {first} bytes, and {second}")
}

/// Waits, unless it is interrupted.
fn pause(duration: Duration, interrupt: &AtomicBool) {
    let started = Instant::now();
    while started.elapsed() < duration && !interrupt.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The shards that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>, BenchError> {
    let text = std::fs::read(index).map_err(|source| BenchError::Read { path: index.into(), source })?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|e| BenchError::Input(format!("{}: {e}; remove the file and run again", index.display())))?;
    Ok(parsed.weight_map.into_values().collect())
}
