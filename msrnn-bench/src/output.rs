//! Files that are whole or marked as not.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use msrnn_models::whole::{self, WholeFile};

use crate::error::BenchError;

/// A file that is written under `NAME.partial` and gets its name when it is finished. Whoever else
/// writes a file of that name meanwhile is refused; so are links.
///
/// What an interrupted run has written stays, under the name that says so.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    writer: BufWriter<Handle>,
    /// Whether it must not take the place of another.
    new: bool,
}

/// A [`WholeFile`] as a buffer writes to it.
#[derive(Debug)]
struct Handle(WholeFile);

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut file: &File = self.0.file();
        file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl OutputFile {
    /// Opens `NAME.partial` beside `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be created, is being written by another program, or `path` is a link or no plain file.
    pub fn create(path: &Path) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Write { path: path.into(), source };
        if path.file_name().is_none() || path.is_dir() {
            return Err(failed(std::io::Error::from(ErrorKind::IsADirectory)));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = WholeFile::create(path).map_err(failed)?;
        Ok(Self { path: path.into(), writer: BufWriter::new(Handle(file)), new: false })
    }

    /// Like [`OutputFile::create`], for a result that must not take the place of another.
    ///
    /// # Errors
    ///
    /// When the file exists, or cannot be created.
    pub fn create_new(path: &Path) -> Result<Self, BenchError> {
        let file = Self { new: true, ..Self::create(path)? };
        // Not before it is claimed: another run may have finished it in between.
        match file.refuse_other() {
            Ok(()) => Ok(file),
            Err(error) => {
                file.discard()?;
                Err(error)
            }
        }
    }

    fn refuse_other(&self) -> Result<(), BenchError> {
        match self.new && self.path.symlink_metadata().is_ok() {
            true => Err(BenchError::Input(format!(
                "{} exists already; choose another name, or remove it first",
                self.path.display()
            ))),
            false => Ok(()),
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// When the rest cannot be written, for example because the disk is full.
    pub fn finish(mut self) -> Result<(), BenchError> {
        self.flush()?;
        self.refuse_other()?;
        let (path, file) = self.into_parts();
        file.finish().map_err(|source| BenchError::Write { path, source })
    }

    /// Leaves the file under the name that says that it is not whole, and returns that name.
    ///
    /// # Errors
    ///
    /// When the rest cannot be written.
    pub fn abandon(mut self) -> Result<PathBuf, BenchError> {
        self.flush()?;
        Ok(self.into_parts().1.leave())
    }

    /// Removes the file, because there is nothing to write after all.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn discard(self) -> Result<(), BenchError> {
        let (path, file) = self.into_parts();
        file.discard().map_err(|source| BenchError::Write { path, source })
    }

    /// Writes bytes, with the file's name in the error.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.writer.write_all(bytes).map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        self.writer.flush().map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }

    /// Path and file, without what is still in the buffer.
    fn into_parts(self) -> (PathBuf, WholeFile) {
        (self.path, self.writer.into_parts().0.0)
    }
}

/// Finds out, before the work is done, whether a result can be written to `path` at its end. `may_be`: a file that it may take
/// the place of, such as the one that it goes on from.
///
/// # Errors
///
/// As [`OutputFile::create_new`].
pub(crate) fn check_free(path: &Path, may_be: Option<&Path>) -> Result<(), BenchError> {
    match may_be == Some(path) {
        true => OutputFile::create(path)?.discard(),
        false => OutputFile::create_new(path)?.discard(),
    }
}

/// Writes a whole file at once.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    let mut file = OutputFile::create(path)?;
    file.put(bytes)?;
    file.finish()
}

/// A directory within a result directory, made if it is not there. A link in its place is refused, since what
/// it leads to is not part of the result.
///
/// # Errors
///
/// When something else has that name, or it cannot be made.
pub(crate) fn subdirectory(path: &Path) -> Result<(), BenchError> {
    let failed = |source| BenchError::Write { path: path.into(), source };
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(failed(std::io::Error::new(
            ErrorKind::NotADirectory,
            "it is a link or a file where a directory belongs, and nothing is written through links; remove it",
        ))),
        Err(e) if e.kind() == ErrorKind::NotFound => std::fs::create_dir_all(path).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

/// Opens a file of lines to add to, without what a writer who was killed left of a last line. Such a file is
/// not locked: it lies in a directory that is [claimed](crate::claim::Claim).
///
/// # Errors
///
/// When it is a link or no plain file, or cannot be read or written.
pub(crate) fn open_lines(path: &Path) -> Result<(File, Vec<u8>), BenchError> {
    use std::io::{Read, Seek, SeekFrom};
    let failed = |source| BenchError::Write { path: path.into(), source };
    let (mut file, made) = whole::open(path).map_err(failed)?;
    if made {
        whole::sync_directory(path).map_err(failed)?;
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed)?;
    text.truncate(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
    file.set_len(text.len() as u64).map_err(failed)?;
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok((file, text))
}
