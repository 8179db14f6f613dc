//! Models in GGUF files: the format of llama.cpp, with configuration, tokenizer and weights in one file or a few.
//!
//! A file is looked at as a whole when it is opened: counts, lengths, places and overlaps are checked before anything
//! is made from them, and what it says is read where it lies, in the mapped file. Weights are read, and taken out of
//! their blocks, when a model is made of them, tensor by tensor, by the same code that reads safetensors
//! (`checkpoint`). The format is that of ggml's `gguf.md`; what its values mean is what llama.cpp's converter writes.
//!
//! The reader is msrnn's own. The maintained one in Rust, candle-core's, comes with all of candle, reserves memory by
//! the numbers that a file gives, and does not look whether tensors lie on one another; and reading the header is the
//! smallest part of what is here: a page, beside formats, names, the order of rows, and tokenizers.

mod config;
mod cursor;
mod frequencies;
mod header;
mod metadata;
mod names;
mod split;
#[cfg(test)]
mod tests;
mod vocabulary;
pub(crate) mod write;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use msrnn_core::kernels::Format;

use crate::checkpoint::is_pointer;
use crate::config::{Architecture, ModelConfig};
use crate::error::ModelError;
use header::{Header, Refusal, Tensor};
use metadata::Metadata;

pub(crate) use config::{FACTORS, UNROTATED_EVERY};
pub(crate) use frequencies::factors;
pub(crate) use names::{RowOrder, in_gguf, order};
pub use split::{EXTENSION, parts};
pub use vocabulary::Vocabulary;
pub(crate) use vocabulary::{PreTokenizer, merges_of_scores};

/// A model's file, or the files that it is split into, opened and checked.
#[derive(Debug)]
pub struct Gguf {
    files: Vec<Opened>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

/// Where a tensor lies.
pub(crate) struct Place<'a> {
    /// Which of [`Gguf::paths`].
    pub(crate) file: usize,
    /// As Hugging Face calls it; its own name, where it has none there.
    pub(crate) name: String,
    /// As the file calls it.
    pub(crate) own_name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) format: Format,
    pub(crate) start: usize,
}

/// Whether a path names a GGUF file: by its name, or by how it begins.
pub fn is_gguf(path: &Path) -> bool {
    let begins = || {
        let mut beginning = [0; 4];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut beginning));
        read.is_ok() && beginning == *header::MAGIC
    };
    path.is_file() && (path.extension().is_some_and(|extension| extension == EXTENSION) || begins())
}

impl Gguf {
    /// Opens a file, and where its name says that it is one of several, all of them.
    ///
    /// # Errors
    ///
    /// When one is missing, damaged, of a version or with a tensor in a format that is not read.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let paths: Vec<PathBuf> = match split::part(name) {
            Some(_) => parts(name).iter().map(|part| path.with_file_name(part)).collect(),
            None => vec![path.into()],
        };
        let absent = paths.iter().filter(|part| !part.exists());
        let names: Vec<String> = absent.map(|part| part.display().to_string()).collect();
        if !names.is_empty() {
            return Err(ModelError::MissingShards { path: path.into(), names });
        }
        let files = paths.into_iter().map(Opened::read).collect::<Result<Vec<_>, _>>()?;
        let model = Self { files };
        model.check_parts()?;
        Ok(model)
    }

    /// Sees that the files are the parts of one whole.
    fn check_parts(&self) -> Result<(), ModelError> {
        let (count, mut names) = (self.files.len(), BTreeSet::new());
        for (index, file) in self.files.iter().enumerate() {
            let damaged = |reason| ModelError::Damaged { path: file.path.clone(), reason };
            let said = |key: &str| file.metadata().count(key).map_err(damaged);
            let (number, of) = (said("split.no")?.unwrap_or(0), said("split.count")?.unwrap_or(1));
            if of as usize != count && count == 1 {
                return Err(ModelError::OtherForm {
                    path: file.path.clone(),
                    reason: format!(
                        "it is part {} of a model in {of} files; put all of them into one directory, under their names \
                         (NAME-00001-of-{of:05}.{EXTENSION}), or merge them with llama.cpp (`llama-gguf-split --merge`)",
                        number.saturating_add(1)
                    ),
                });
            }
            if (number as usize, of as usize) != (index, count) {
                return Err(damaged(format!(
                    "its name says part {} of {count}, and it says part {} of {of}",
                    index + 1,
                    number.saturating_add(1)
                )));
            }
            if let Some(twice) = file.header.tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
                return Err(damaged(format!("tensor {} is in another part too", twice.name)));
            }
        }
        let first = &self.files[0];
        let damaged = |reason| ModelError::Damaged { path: first.path.clone(), reason };
        match first.metadata().count("split.tensors.count").map_err(damaged)? {
            Some(said) if said != names.len() as u64 => {
                Err(damaged(format!("it speaks of {said} tensors, and the files have {}", names.len())))
            }
            _ => Ok(()),
        }
    }

    /// The first file.
    pub fn path(&self) -> &Path {
        &self.files[0].path
    }

    /// All files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The configuration, and what is to be said about it.
    ///
    /// # Errors
    ///
    /// When the model is of an architecture that is not read, or what is said of it is missing, impossible or
    /// something that msrnn does not compute.
    pub fn config(&self) -> Result<(ModelConfig, Vec<String>), ModelError> {
        config::read(self).map_err(|reason| ModelError::Config { path: self.path().into(), reason })
    }

    /// The vocabulary, as the files of a tokenizer on Hugging Face.
    ///
    /// # Errors
    ///
    /// When there is none, or it is of a kind that is not read.
    pub fn vocabulary(&self) -> Result<Vocabulary, ModelError> {
        let reason = |reason| ModelError::Tokenizer(format!("{}: {reason}", self.path().display()));
        Vocabulary::read(self.metadata()).map_err(reason)
    }

    /// What the model is called, if the file says it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.metadata().text("general.name").ok().flatten()
    }

    fn metadata(&self) -> Metadata<'_> {
        self.files[0].metadata()
    }

    /// The architecture that it names, if it is one that is read.
    fn architecture(&self) -> Option<Architecture> {
        self.metadata().text("general.architecture").ok().flatten().and_then(Architecture::of_gguf)
    }

    /// The tensors of all files.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let fused = self.architecture().is_some_and(Architecture::is_fused);
        self.files.iter().enumerate().flat_map(move |(file, opened)| {
            opened.header.tensors.iter().map(move |tensor| Place {
                file,
                name: names::on_hugging_face(&tensor.name, fused).unwrap_or_else(|| tensor.name.clone()),
                own_name: &tensor.name,
                shape: &tensor.shape,
                format: tensor.format,
                start: tensor.start,
            })
        })
    }

    /// A tensor by the file's own name, and the file's bytes.
    fn tensor(&self, name: &str) -> Option<(&Tensor, &[u8])> {
        self.files.iter().find_map(|file| {
            let tensor = file.header.tensors.iter().find(|tensor| tensor.name == name)?;
            Some((tensor, &file.map[tensor.start..tensor.start + tensor.size]))
        })
    }
}

/// The vocabulary that a file has which begins with these bytes and is not written yet.
///
/// # Errors
///
/// As [`Gguf::vocabulary`].
pub(crate) fn vocabulary_of(bytes: &[u8]) -> Result<Vocabulary, String> {
    match Header::parse(bytes) {
        Ok(header) => Vocabulary::read(Metadata { values: &header.metadata, bytes }),
        Err(Refusal::Damaged(reason) | Refusal::Other(reason)) => Err(reason),
    }
}

impl Opened {
    fn read(path: PathBuf) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read { path: path.clone(), source };
        let damaged = |reason: String| ModelError::Damaged { path: path.clone(), reason };
        let file = File::open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(damaged("it is empty".into()));
        }
        // SAFETY: the file is opened read-only; one that another process truncates while it is mapped is outside what
        // any reader of memory-mapped weights can handle.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        if is_pointer(&map) {
            return Err(ModelError::Pointer(path));
        }
        match Header::parse(&map) {
            Ok(header) => Ok(Self { path, map, header }),
            Err(Refusal::Damaged(reason)) => Err(damaged(reason)),
            Err(Refusal::Other(reason)) => Err(ModelError::OtherForm { path, reason }),
        }
    }

    fn metadata(&self) -> Metadata<'_> {
        Metadata { values: &self.header.metadata, bytes: &self.map }
    }
}

/// Keys that a file has and that nothing reads, by name, but for those of `known`: what the model may mean and msrnn
/// does not compute.
fn unknown<'a>(metadata: Metadata<'a>, prefix: &'a str, known: &[&str]) -> Vec<&'a str> {
    metadata.keys_behind(prefix).filter(|key| !known.contains(key)).collect()
}

#[cfg(test)]
mod opening {
    use super::*;

    fn testdata(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/gguf").join(name)
    }

    #[test]
    fn any_part_opens_all_of_them_and_they_have_what_the_whole_file_has() {
        let tensors = |name: &str| {
            let model = Gguf::open(&testdata(name)).unwrap();
            let mut all: Vec<_> =
                model.places().map(|place| (place.name, place.shape.to_vec(), place.format)).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            (all, model.config().unwrap())
        };
        let whole = tensors("llama.gguf");
        for part in 1..=3 {
            assert_eq!(tensors(&format!("llama-0000{part}-of-00003.gguf")), whole);
        }
    }

    #[test]
    fn parts_that_are_missing_renamed_or_of_another_model_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let put = |from: &str, to: &str| {
            std::fs::copy(testdata(from), directory.path().join(to)).unwrap();
        };
        let part = |index: usize| format!("llama-0000{index}-of-00003.gguf");
        let refused = |name: &str| Gguf::open(&directory.path().join(name)).unwrap_err().to_string();
        put(&part(1), &part(1));
        let error = refused(&part(1));
        assert!(error.contains(&part(2)) && error.contains(&part(3)) && error.contains("download"), "{error}");
        put(&part(1), "alone.gguf");
        let error = refused("alone.gguf");
        assert!(error.contains("part 1 of a model in 3 files") && error.contains("--merge"), "{error}");
        put(&part(3), &part(2));
        put(&part(2), &part(3));
        assert!(refused(&part(1)).contains("its name says part 2 of 3, and it says part 3 of 3"));
        put("types.gguf", &part(2));
        assert!(refused(&part(1)).contains("it says part 1 of 1"));
    }

    #[test]
    fn what_is_no_gguf_file_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let (named, begun, other) = (file("a.gguf", b""), file("blob", b"GGUF"), file("b.txt", b"GGML"));
        assert!(is_gguf(&named) && is_gguf(&begun) && !is_gguf(&other) && !is_gguf(directory.path()));
        let pointer = file("p.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n");
        for (path, words) in [
            (named, "it is empty"),
            (begun, "more than the file has"),
            (other, "does not begin"),
            (pointer, "Git LFS pointer"),
            (file("v1", b"GGUF\x01\0\0\0"), "GGUF version 1 is not read"),
            (file("be", b"GGUF\0\0\0\x03"), "big-endian"),
        ] {
            let error = Gguf::open(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
