//! What a directory is that is not a checkpoint in safetensors, and what to do with it.

use std::path::Path;

use super::{CONFIG, INDEX, WEIGHTS};
use crate::error::ModelError;

/// How a Git LFS pointer begins: a small text that stands for a file that was not downloaded.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether a file that begins so is a Git LFS pointer.
pub(crate) fn is_pointer(beginning: &[u8]) -> bool {
    beginning.starts_with(POINTER)
}

/// Refuses a directory that is known to be something else than a checkpoint in safetensors.
///
/// # Errors
///
/// Says what it is and what to do.
pub(crate) fn refuse(directory: &Path) -> Result<(), ModelError> {
    let names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    match other_form(names) {
        Some((name, reason)) => Err(ModelError::OtherForm { path: directory.join(name), reason }),
        None => Ok(()),
    }
}

/// The file that tells, and what is to be said about it.
fn other_form(mut names: Vec<String>) -> Option<(String, String)> {
    names.sort();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let find = |ending: &str| names.iter().find(|name| name.ends_with(ending)).cloned();
    if has("adapter_config.json") {
        let reason = "it is an adapter (LoRA), which is not read: its weights change those of another model; merge it \
                      with peft (`merge_and_unload()`, then `save_pretrained`), or remove the file if the directory \
                      holds the merged model";
        return Some(("adapter_config.json".into(), reason.into()));
    }
    let config = has(CONFIG);
    if config && (has(WEIGHTS) || has(INDEX)) {
        return None;
    }
    let says = |name: String, reason: &str| Some((name, reason.to_owned()));
    if let Some(name) = find(".gguf") {
        return says(
            name,
            "the directory holds no safetensors but a GGUF file, which is read if it is given itself: ‘model’ with the \
             path of the file",
        );
    }
    if let Some(name) = find(".bin").or_else(|| find(".bin.index.json")).filter(|name| name.contains("model")) {
        return says(
            name,
            "weights in PyTorch's own format are not read, for reading them may run code; let transformers convert \
             them (`from_pretrained(directory)`, then `save_pretrained`), or take a revision with safetensors",
        );
    }
    let shard = |name: &&String| name.starts_with("model-") && name.ends_with(".safetensors");
    if let Some(name) = names.iter().find(shard).filter(|_| config) {
        let reason = format!("the index of this part is missing; download {INDEX} beside it");
        return Some((name.clone(), reason));
    }
    let original = |name: &&String| name.starts_with("consolidated.");
    if let Some(name) = names.iter().find(original) {
        return says(
            name.clone(),
            "it is a checkpoint in its maker's own format, which is not read; take the one for transformers (config.json, \
             model*.safetensors), or convert it with transformers' script",
        );
    }
    let foreign = [".h5", ".msgpack", ".onnx", ".pth", ".pt"].into_iter().find_map(find);
    says(foreign?, "weights in this format are not read; let transformers convert them to safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Option<String> {
        other_form(names.iter().map(|name| (*name).to_owned()).collect())
            .map(|(name, reason)| format!("{name}: {reason}"))
    }

    #[test]
    fn other_forms_are_named_with_what_to_do() {
        for (names, words) in [
            (&["adapter_config.json", "adapter_model.safetensors"][..], "merge it with peft"),
            (&["adapter_config.json", CONFIG, WEIGHTS], "merged model"),
            (&[CONFIG, "model.Q4_1.gguf"], "model.Q4_1.gguf: the directory holds no safetensors but a GGUF file"),
            (&["model.gguf"], "path of the file"),
            (&[CONFIG, "pytorch_model.bin"], "pytorch_model.bin: weights in PyTorch's"),
            (&[CONFIG, "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "PyTorch's"),
            (&[CONFIG, "model-00001-of-00002.safetensors"], INDEX),
            (&["params.json", "consolidated.00.pth"], "maker's own format"),
            (&["params.json", "consolidated.safetensors"], "maker's own format"),
            (&[CONFIG, "tf_model.h5"], "tf_model.h5"),
        ] {
            let said = said(names).unwrap_or_default();
            assert!(said.contains(words), "{names:?}: {said}");
        }
    }

    #[test]
    fn what_lies_beside_a_checkpoint_does_not_count() {
        for names in [
            &[CONFIG, WEIGHTS, "pytorch_model.bin", "model.gguf", "consolidated.safetensors", "training_args.bin"][..],
            &[CONFIG, INDEX, "model-00001-of-00002.safetensors"],
            &[CONFIG],
            &[WEIGHTS],
            &[],
        ] {
            assert_eq!(said(names), None, "{names:?}");
        }
    }
}
