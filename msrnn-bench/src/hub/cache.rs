//! The directory that Hugging Face's own programs keep files in, and where a repository's are in it.
//!
//! ```text
//! .locks/models--org--name/ETAG.lock       held by whoever fetches that content
//! models--org--name/blobs/ETAG             contents by name
//! models--org--name/blobs/ETAG.incomplete  what has come of one
//! models--org--name/refs/main              the commit that a revision is
//! models--org--name/snapshots/COMMIT/FILE  a link to its content
//! models--org--name/.no_exist/COMMIT/FILE  empty: the commit has no such file
//! ```
//!
//! Names have been looked at before they come here. Nothing is written through a link: what is below the cache's
//! root is made by this program or Hugging Face's, and a link there to another place was put by somebody else.
//! What is read may be a link as long as it ends inside the cache, as those of snapshots do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::names::is_commit;
use super::{Kind, Repository};

/// What may be wrong with the cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error(
        "{} is a link, and nothing is written through links in a cache; replace it by a directory or remove it, or set \
         HF_HUB_CACHE to another directory", .0.display()
    )]
    Link(PathBuf),
    #[error("cannot write {}: {source}; see who may write there and that its disk has space, or set HF_HUB_CACHE to another directory", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The part of a cache that holds one repository.
#[derive(Clone, Debug)]
pub(super) struct Store {
    root: PathBuf,
    folder: String,
}

impl Store {
    pub(super) fn new(root: &Path, repository: &Repository) -> Self {
        let kind = match repository.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        Self { root: root.into(), folder: format!("{kind}--{}", repository.id.replace('/', "--")) }
    }

    fn place(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    /// The files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.place().join("snapshots").join(commit)
    }

    /// Where it is noted that a commit does not have a file.
    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.place().join(".no_exist").join(commit).join(file)
    }

    /// Whether a commit is known not to have a file.
    pub(super) fn lacks(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).is_file()
    }

    /// Notes that a commit does not have a file.
    pub(super) fn note_absence(&self, commit: &str, file: &str) -> Result<(), CacheError> {
        let path = self.absence(commit, file);
        self.make_way(&path)?;
        Self::open(&path).map(drop)
    }

    /// A content, whole.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.place().join("blobs").join(etag)
    }

    /// What has come of a content.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.place().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The file whose lock is held while a content is fetched.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"))
    }

    /// The commit that a revision was when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut text = String::new();
        let file = File::open(self.place().join("refs").join(revision)).ok()?;
        file.take(64).read_to_string(&mut text).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// The size of a file or content that is whole and ends inside the cache.
    pub(super) fn size(&self, path: &Path) -> Option<u64> {
        let end = fs::canonicalize(path).ok()?;
        let within = |place: &Path| fs::canonicalize(place).is_ok_and(|place| end.starts_with(place));
        let found = fs::metadata(&end).ok().filter(|found| found.is_file())?;
        (within(&self.root) || within(&self.place())).then_some(found.len())
    }

    /// Makes the directories of a path below the root, none of which may be a link.
    pub(super) fn make_way(&self, path: &Path) -> Result<(), CacheError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Write { path, source }
        };
        fs::create_dir_all(&self.root).map_err(failed(&self.root))?;
        let below = path.parent().and_then(|parent| parent.strip_prefix(&self.root).ok()).unwrap_or(Path::new(""));
        let mut at = self.root.clone();
        for part in below {
            at.push(part);
            match fs::create_dir(&at) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&at)(error)),
                _ => {}
            }
            let found = fs::symlink_metadata(&at).map_err(failed(&at))?;
            if found.is_symlink() {
                return Err(CacheError::Link(at));
            }
        }
        Ok(())
    }

    /// Opens a file to write into, which is that file and no other: a link, or a name of a file that has other names
    /// too, is removed first.
    pub(super) fn open(path: &Path) -> Result<File, CacheError> {
        let failed = |source| CacheError::Write { path: path.into(), source };
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() || names_of(&found) > 1) {
            fs::remove_file(path).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        }
        options.open(path).map_err(failed)
    }

    /// Gives a part that is whole its name.
    pub(super) fn finish(&self, etag: &str) -> Result<(), CacheError> {
        let blob = self.blob(etag);
        fs::rename(self.part(etag), &blob).map_err(|source| CacheError::Write { path: blob, source })
    }

    /// Puts a content where a file of a commit is looked for.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf, CacheError> {
        let path = self.snapshot(commit).join(file);
        let depth = 2 + file.matches('/').count();
        let content = Path::new(&"../".repeat(depth)).join("blobs").join(etag);
        let written = whole(&path, |new| {
            #[cfg(unix)]
            return std::os::unix::fs::symlink(&content, new);
            // Links need a right there that few have. Hugging Face's programs copy as well.
            #[cfg(not(unix))]
            return fs::copy(path.parent().unwrap_or(&path).join(&content), new).map(drop);
        });
        written.map(|()| path.clone()).map_err(|source| CacheError::Write { path, source })
    }

    /// Remembers which commit a revision is.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), CacheError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.place().join("refs").join(revision);
        self.make_way(&path)?;
        whole(&path, |new| fs::write(new, commit)).map_err(|source| CacheError::Write { path, source })
    }
}

/// Makes a file under another name and gives it its own when it is whole.
fn whole(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    // Of a process of the same number that was killed.
    let _ = fs::remove_file(&new);
    let made = make(&new).and_then(|()| fs::rename(&new, path));
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

/// How many names a file has.
fn names_of(found: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    {
        let _ = found;
        1
    }
}
