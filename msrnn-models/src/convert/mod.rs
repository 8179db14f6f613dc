//! A model from one form to another: a Hugging Face directory from a GGUF file, and the reverse, so that one checkpoint
//! can be given to every program.
//!
//! What is written appears whole or not at all. Tensors pass through one by one.

mod config;
mod directory;
mod file;
mod texts;
mod vocabulary;

use std::path::{Path, PathBuf};

use burn::tensor::DType;

use crate::checkpoint::Source;
use crate::error::ModelError;
use crate::gguf::EXTENSION;
use msrnn_core::kernels::Format;
use texts::Texts;

/// In which form matrices are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenAs {
    /// 32-bit floats, which hold exactly what any file has that is not in f64.
    #[default]
    F32,
    /// Half floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// 8 bits with a scale for every 32 values; in GGUF files only.
    Q8_0,
}

impl WrittenAs {
    const ALL: [(Self, &'static str); 4] =
        [(Self::F32, "f32"), (Self::F16, "f16"), (Self::BF16, "bf16"), (Self::Q8_0, "q8_0")];

    /// The dtype, if it is one.
    fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::BF16 => Some(DType::BF16),
            Self::Q8_0 => None,
        }
    }

    fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::BF16 => Format::BF16,
            Self::Q8_0 => Format::Q8_0,
        }
    }
}

impl std::fmt::Display for WrittenAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(value, _)| value == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl std::str::FromStr for WrittenAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        let names = Self::ALL.map(|(_, name)| name).join(", ");
        found.map(|(value, _)| *value).ok_or_else(|| format!("expected one of {names}"))
    }
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Number of weights.
    pub parameters: usize,
    /// What their user should know: sentences for a warning each.
    pub notes: Vec<String>,
}

/// Writes the model of a Hugging Face directory or a GGUF file as a GGUF file, where `out` ends in `.gguf`, else as a
/// Hugging Face directory: configuration, weights, and as far as there are any, tokenizer, chat template, and which
/// tokens end a text.
///
/// # Errors
///
/// When the model cannot be read, `out` is there already or cannot be written, or the form has no place for what the
/// model is.
pub fn convert(source: &Path, out: &Path, written_as: WrittenAs) -> Result<Converted, ModelError> {
    if std::fs::symlink_metadata(out).is_ok() && std::fs::read_dir(out).map_or(true, |mut all| all.next().is_some()) {
        return Err(cannot("it is there already; choose another name, or remove it first", out));
    }
    let opened = Source::open(source)?;
    let texts = Texts::read(source, &opened)?;
    let mut notes = [opened.notes.clone(), texts.notes.clone()].concat();
    if !opened.unused.is_empty() {
        notes.push(format!("tensors that the model does not use are left out: {}", opened.unused.join(", ")));
    }
    let files = match out.extension().is_some_and(|extension| extension == EXTENSION) {
        true => {
            notes.extend(file::write(&opened, &texts, out, written_as)?);
            vec![out.to_owned()]
        }
        false => directory::write(&opened, &texts, out, written_as)?,
    };
    Ok(Converted { files, parameters: opened.config.parameters(), notes })
}

/// What cannot be written, or not so.
fn cannot(reason: impl Into<String>, out: &Path) -> ModelError {
    ModelError::OtherForm { path: out.into(), reason: reason.into() }
}
