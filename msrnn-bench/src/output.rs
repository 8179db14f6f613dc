//! Files that are whole or marked as not.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::BenchError;

/// A file that is written under `NAME.partial` and gets its name when it is finished.
///
/// What an interrupted run has written stays, under the name that says so.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    partial: PathBuf,
    writer: BufWriter<File>,
}

impl OutputFile {
    /// Opens `NAME.partial` beside `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self, BenchError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let failed = |source| BenchError::Write { path: path.into(), source };
        if path.file_name().is_none() || path.is_dir() {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let writer = BufWriter::new(File::create(&partial).map_err(failed)?);
        Ok(Self { path: path.into(), partial, writer })
    }

    /// Like [`OutputFile::create`], for a result that must not take the place of another.
    ///
    /// # Errors
    ///
    /// When the file exists, or cannot be created.
    pub fn create_new(path: &Path) -> Result<Self, BenchError> {
        match path.exists() && !path.is_dir() {
            true => Err(BenchError::Input(format!(
                "{} exists already; choose another name with --out, or remove it first",
                path.display()
            ))),
            false => Self::create(path),
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// When the rest cannot be written, for example because the disk is full.
    pub fn finish(mut self) -> Result<(), BenchError> {
        let failed = |source| BenchError::Write { path: self.path.clone(), source };
        self.writer.flush().map_err(failed)?;
        self.writer.get_ref().sync_all().map_err(failed)?;
        std::fs::rename(&self.partial, &self.path).map_err(failed)
    }

    /// Leaves the file under the name that says that it is not whole, and returns that name.
    ///
    /// # Errors
    ///
    /// When the rest cannot be written.
    pub fn abandon(mut self) -> Result<PathBuf, BenchError> {
        self.writer.flush().map_err(|source| BenchError::Write { path: self.partial.clone(), source })?;
        Ok(self.partial)
    }

    /// Removes the file, because there is nothing to write after all.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn discard(self) -> Result<(), BenchError> {
        std::fs::remove_file(&self.partial).map_err(|source| BenchError::Write { path: self.partial.clone(), source })
    }

    /// Writes bytes, with the file's name in the error.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        self.writer.write_all(bytes).map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}

/// Writes a whole file at once.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    let mut file = OutputFile::create(path)?;
    file.put(bytes)?;
    file.finish()
}
