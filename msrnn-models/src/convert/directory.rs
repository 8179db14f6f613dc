//! A Hugging Face directory.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::texts::Texts;
use super::{WrittenAs, cannot};
use crate::checkpoint::{CONFIG, Source, WEIGHTS};
use crate::error::ModelError;
use crate::model::GENERATION_CONFIG;
use crate::tokenizer::{TOKENIZER, TOKENIZER_CONFIG};
use crate::weights::Stored;
use crate::whole;

/// The files that are written. The configuration comes last.
const FILES: [&str; 5] = [TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, WEIGHTS, CONFIG];
/// Locked while a directory is written.
const CLAIM: &str = ".writing";

/// Writes the files into `out.partial`, and gives the directory its name when it is whole.
pub(super) fn write(
    source: &Source,
    texts: &Texts,
    out: &Path,
    written_as: WrittenAs,
) -> Result<Vec<PathBuf>, ModelError> {
    let Some(dtype) = written_as.dtype() else {
        return Err(cannot(
            format!(
                "a Hugging Face directory has no weights in {written_as}; choose f32, f16 or bf16, or a name in .gguf"
            ),
            out,
        ));
    };
    let failed = |source| ModelError::Write { path: out.into(), source };
    let mut name = out.file_name().ok_or_else(|| failed(ErrorKind::IsADirectory.into()))?.to_owned();
    name.push(".partial");
    let partial = out.with_file_name(name);
    let claim = claim(&partial).map_err(failed)?;
    let written = files(source, texts, &partial, dtype);
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_dir_all(&partial);
    }
    let names = written?;
    std::fs::remove_file(partial.join(CLAIM)).map_err(failed)?;
    // Takes the place of nothing but an empty directory.
    std::fs::rename(&partial, out).map_err(failed)?;
    whole::sync_directory(out).map_err(failed)?;
    drop(claim);
    Ok(names.into_iter().map(|name| out.join(name)).collect())
}

/// Makes a directory, or takes over what a writer left who is gone, for one writer alone.
fn claim(partial: &Path) -> std::io::Result<File> {
    if let Some(parent) = partial.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::create_dir(partial) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && partial.symlink_metadata()?.is_dir() => {}
        made => made?,
    }
    let claim = whole::lock(&partial.join(CLAIM))?;
    for entry in std::fs::read_dir(partial)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.strip_suffix(".partial").unwrap_or(name) {
            CLAIM => {}
            known if FILES.contains(&known) => std::fs::remove_file(path)?,
            _ => {
                let reason = format!("{} is in the way; remove it, or choose another name", path.display());
                return Err(std::io::Error::new(ErrorKind::AlreadyExists, reason));
            }
        }
    }
    Ok(claim)
}

fn files(
    source: &Source,
    texts: &Texts,
    directory: &Path,
    dtype: burn::tensor::DType,
) -> Result<Vec<&'static str>, ModelError> {
    let mut written = Vec::new();
    let mut put = |name: &'static str, json: &Value, pretty: bool| {
        let path = directory.join(name);
        let text = if pretty { serde_json::to_vec_pretty(json) } else { serde_json::to_vec(json) };
        let text = text.map_err(|e| ModelError::Write { path: path.clone(), source: e.into() })?;
        whole::write(&path, &text).map_err(|source| ModelError::Write { path, source })?;
        written.push(name);
        Ok::<(), ModelError>(())
    };
    if let Some(tokenizer) = &texts.tokenizer {
        put(TOKENIZER, tokenizer, false)?;
    }
    if !texts.tokenizer_config.is_empty() {
        put(TOKENIZER_CONFIG, &Value::Object(texts.tokenizer_config.clone()), true)?;
    }
    if let Some(generation) = &texts.generation {
        put(GENERATION_CONFIG, generation, true)?;
    }
    weights(source, &directory.join(WEIGHTS), dtype)?;
    let mut config = source.config.to_json();
    config["torch_dtype"] = name_of(dtype).1.into();
    put(CONFIG, &config, true)?;
    written.push(WEIGHTS);
    Ok(written)
}

/// As safetensors and as transformers call it.
fn name_of(dtype: burn::tensor::DType) -> (&'static str, &'static str) {
    match dtype {
        burn::tensor::DType::F16 => ("F16", "float16"),
        burn::tensor::DType::BF16 => ("BF16", "bfloat16"),
        _ => ("F32", "float32"),
    }
}

/// One safetensors file, whose tensors are read when it is their turn.
fn weights(source: &Source, path: &Path, dtype: burn::tensor::DType) -> Result<(), ModelError> {
    let failed = |source| ModelError::Write { path: path.into(), source };
    let tensors = source.stored();
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut end = 0;
    for Stored { whole, .. } in &tensors {
        let start = end;
        end += whole.shape.iter().product::<usize>() * dtype.size();
        let described = json!({ "dtype": name_of(dtype).0, "shape": whole.shape, "data_offsets": [start, end] });
        header.insert(whole.name.clone(), described);
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| failed(e.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let file = whole::WholeFile::create(path).map_err(failed)?;
    let written = (|| {
        let mut writer = BufWriter::new(file.file());
        writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        writer.write_all(&header).map_err(failed)?;
        for stored in &tensors {
            for part in source.read(stored, dtype)? {
                writer.write_all(part.as_bytes()).map_err(failed)?;
            }
        }
        writer.flush().map_err(failed)
    })();
    match written {
        Ok(()) => file.finish().map_err(failed),
        Err(error) => {
            // The first error is the one to tell.
            let _ = file.discard();
            Err(error)
        }
    }
}
