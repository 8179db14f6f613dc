//! Vocabularies of the kind `gpt2`: BPE over bytes, which are written as signs.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::cuts::PreTokenizer;
use super::{Tokens, Vocabulary, bpe};
use crate::tokenizer::sign;

/// What GPT-2's class in transformers has for every special token that nothing names.
const GPT2_SPECIAL: &str = "<|endoftext|>";

pub(super) fn read(tokens: &Tokens<'_>) -> Result<Vocabulary, String> {
    let signs: HashSet<char> = (0..=255).map(sign).collect();
    let spelled = |text: &str| text.chars().all(|sign| signs.contains(&sign));
    let mut vocabulary = HashMap::with_capacity(tokens.texts.len());
    for (id, text) in tokens.texts.iter().enumerate() {
        // What is no writing of bytes is written so, as in transformers.
        let written = if spelled(text) { (*text).to_owned() } else { text.bytes().map(sign).collect() };
        vocabulary.insert(written, id as u32);
    }
    let merges = tokens.merges()?.ok_or("`tokenizer.ggml.merges` is missing; convert the model anew")?;
    let name = tokens.metadata.text("tokenizer.ggml.pre")?;
    let pre = PreTokenizer::of(name)?;
    let bos = tokens.asks("bos")?;
    let mut notes: Vec<String> = pre.note.into_iter().collect();
    // llama.cpp knows of these that texts begin with BOS.
    if bos.is_none() && matches!(name, Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3")) {
        notes.push(
            "the file does not say whether a text begins with BOS (`tokenizer.ggml.add_bos_token`); none is put, as in \
             transformers, while llama.cpp puts one, and Llama 3 was trained with it; ‘bos’ always puts it"
                .into(),
        );
    }
    let parts = json!({
        "added_tokens": tokens.added(&vocabulary, &[GPT2_SPECIAL], spelled),
        "pre_tokenizer": pre.json,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": bpe(json!({ "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false })),
    });
    tokens.files(parts, vocabulary, &merges, (bos.unwrap_or(false), tokens.asks("eos")?.unwrap_or(false)), notes)
}
