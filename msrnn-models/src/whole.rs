//! Files that appear whole or not at all, and have one writer.
//!
//! A file is written under `NAME.partial` and renamed when it is finished. While it is written it is locked,
//! so that a second writer of the same name is refused instead of mixed with the first. Nothing is written
//! through a link: what a link points to is not what the user named.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

/// A file that is being written under another name.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl WholeFile {
    /// Opens `NAME.partial` beside `path`, in place of one that a writer left who is gone.
    ///
    /// # Errors
    ///
    /// When `path` or `NAME.partial` is there and no plain file, or somebody else writes it.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().ok_or_else(|| Error::from(ErrorKind::IsADirectory))?.to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        match path.symlink_metadata() {
            // Another name of the same file keeps what was there before.
            Ok(found) => plain(path, &found, false)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let file = lock(&partial)?;
        file.set_len(0)?;
        Ok(Self { path: path.into(), partial, file })
    }

    /// The file as it is so far.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits until all is on disk and gives the file its name, in place of one that has it.
    ///
    /// # Errors
    ///
    /// When the disk is full or refuses.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)?;
        sync_directory(&self.path)
    }

    /// Leaves what there is under the name that says that it is not whole, which is returned.
    pub fn leave(self) -> PathBuf {
        self.partial
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn discard(self) -> Result<()> {
        std::fs::remove_file(&self.partial)
    }
}

/// Writes a whole file at once, or leaves what was there as it was.
///
/// # Errors
///
/// As [`WholeFile::create`] and [`WholeFile::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = WholeFile::create(path)?;
    match file.file().write_all(bytes) {
        Ok(()) => file.finish(),
        Err(error) => {
            // The first error is the one to tell.
            let _ = file.discard();
            Err(error)
        }
    }
}

/// Waits until the directory of a file has noted its name.
///
/// # Errors
///
/// When the disk refuses.
pub fn sync_directory(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(directory)?.sync_all() {
            // Some file systems have no such thing for directories.
            Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => return Err(e),
            _ => {}
        }
    }
    let _ = path;
    Ok(())
}

/// Opens a plain file to read and write, and makes it if it is not there: never through a link.
/// True if it was made.
///
/// # Errors
///
/// When something else has that name, or it cannot be opened.
pub fn open(path: &Path) -> Result<(File, bool)> {
    for _ in 0..TRIES {
        match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (file, true)),
        }
        let found = match path.symlink_metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            found => found?,
        };
        plain(path, &found, true)?;
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // Between the look and the opening another file may have come there.
            Ok(file) if !is_at(&file, path)? => {}
            opened => return opened.map(|file| (file, false)),
        }
    }
    Err(Error::other("others make and remove it again and again"))
}

/// As [`open`], for one writer alone: until the file is closed nobody else gets it from here. Where the file
/// system cannot lock, only who made the file gets it.
///
/// # Errors
///
/// [`ErrorKind::WouldBlock`] when somebody else has it; [`ErrorKind::AlreadyExists`] when it is there and
/// the file system cannot lock.
pub fn lock(path: &Path) -> Result<File> {
    lock_by(path, File::try_lock)
}

/// [`lock`], with what locks.
fn lock_by(path: &Path, try_lock: impl Fn(&File) -> std::result::Result<(), TryLockError>) -> Result<File> {
    for _ in 0..TRIES {
        let (file, made) = open(path)?;
        match try_lock(&file) {
            // Who had it before may have renamed or removed it after it was opened here.
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason = format!("another msrnn is writing {}", path.display());
                return Err(Error::new(ErrorKind::WouldBlock, reason));
            }
            Err(TryLockError::Error(_)) if made => return Ok(file),
            Err(TryLockError::Error(error)) => {
                let reason = format!(
                    "{} is there already, and this file system cannot lock ({error}), so that nobody can tell \
                     whether another msrnn still writes it; if none does, remove that file",
                    path.display()
                );
                return Err(Error::new(ErrorKind::AlreadyExists, reason));
            }
        }
    }
    Err(Error::other("others make and remove it again and again"))
}

/// Tries before giving up on a file that changes all the time.
const TRIES: usize = 100;

/// Refuses what is no plain file, or one that has a second name where it is `alone` that counts.
fn plain(path: &Path, found: &Metadata, alone: bool) -> Result<()> {
    // No name at all: somebody removed it while it was looked at, which the opening finds out.
    if found.is_file() && (!alone || names(found) <= 1) {
        return Ok(());
    }
    let what = match () {
        () if found.is_symlink() => "a link",
        () if found.is_dir() => "a directory",
        () if found.is_file() => "a file that has another name too (a hard link)",
        () => "no plain file",
    };
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("{} is {what}, which msrnn does not write through; remove it or use another name", path.display()),
    ))
}

/// Under how many names a file is known.
fn names(found: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    {
        let _ = found;
        1
    }
}

/// Whether an open file is the one that has that name now.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let there = match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let here = file.metadata()?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(there.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name in a directory of its own.
    fn place() -> (PathBuf, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (directory.path().join("file"), directory)
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let (path, directory) = place();
        write(&path, b"before").unwrap();
        let file = WholeFile::create(&path).unwrap();
        file.file().write_all(b"after").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_done_and_what_a_dead_one_left_is_taken_over() {
        let (path, _directory) = place();
        let first = WholeFile::create(&path).unwrap();
        let error = WholeFile::create(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains("another msrnn"), "{error}");
        first.file().write_all(b"half of").unwrap();
        drop(first);
        write(&path, b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn where_nothing_can_be_locked_only_who_makes_the_file_writes_it() {
        let (path, _directory) = place();
        let cannot = |_: &File| Err(TryLockError::Error(Error::from(ErrorKind::Unsupported)));
        lock_by(&path, cannot).unwrap();
        let error = lock_by(&path, cannot).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("cannot lock") && error.to_string().contains("remove"), "{error}");
    }

    /// The name goes to another file between the opening and the lock, as when a first writer finishes just then.
    #[test]
    fn a_lock_on_a_file_that_has_lost_its_name_does_not_count() {
        let (path, directory) = place();
        let lost = std::cell::Cell::new(false);
        let file = lock_by(&path, |file| {
            if !lost.replace(true) {
                std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
            }
            file.try_lock()
        });
        assert!(is_at(&file.unwrap(), &path).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_removed_while_it_was_looked_at_has_no_second_name() {
        let (path, _directory) = place();
        let file = File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!(names(&found), 0);
        plain(&path, &found, true).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link_or_into_what_is_no_plain_file() {
        use std::os::unix::fs::symlink;
        let (path, directory) = place();
        let (other, partial) = (directory.path().join("other"), directory.path().join("file.partial"));
        std::fs::write(&other, "precious").unwrap();
        for link in [&path, &partial] {
            for target in [other.as_path(), Path::new("nowhere"), Path::new("/dev/null"), directory.path()] {
                symlink(target, link).unwrap();
                let error = write(&path, b"x").unwrap_err().to_string();
                assert!(error.contains("is a link"), "{error}");
                std::fs::remove_file(link).unwrap();
            }
        }
        std::fs::hard_link(&other, &partial).unwrap();
        let error = write(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("hard link"), "{error}");
        std::fs::remove_file(&partial).unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        write(&path, b"x").unwrap();
        assert!(write(directory.path(), b"x").is_err() && write(Path::new("/dev/null"), b"x").is_err());
        assert_eq!(std::fs::read(&other).unwrap(), b"precious");
        assert!(!directory.path().join("nowhere").exists());
    }
}
