//! Vocabularies of the kind `llama`: SentencePiece's BPE, with a sign for spaces and bytes for unknown characters.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Tokens, Vocabulary, bpe};
use crate::config::Architecture;

/// What Llama's class in transformers has where nothing is named.
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

pub(super) fn read(tokens: &Tokens<'_>) -> Result<Vocabulary, String> {
    const SCORES: &str = "tokenizer.ggml.scores";
    const SPACE: &str = "tokenizer.ggml.add_space_prefix";
    let vocabulary: HashMap<String, u32> =
        tokens.texts.iter().enumerate().map(|(id, text)| ((*text).to_owned(), id as u32)).collect();
    let merges = match tokens.merges()? {
        Some(merges) => merges,
        None => {
            let scores = tokens.metadata.numbers(SCORES)?;
            let scores = scores.ok_or_else(|| format!("`{SCORES}` is missing; convert the model anew"))?;
            if scores.len() != tokens.texts.len() {
                return Err(format!("`{SCORES}` has {} entries for {} tokens", scores.len(), tokens.texts.len()));
            }
            merges_of_scores(&tokens.texts, &scores)
        }
    };
    let space = tokens.metadata.flag(SPACE)?.unwrap_or(true);
    let mut notes = Vec::new();
    if !space {
        notes.push(format!(
            "`{SPACE}` is false, and so no space is put before a text; transformers, which does not look at it, puts one"
        ));
    }
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    // Phi-3's own tokenizer.json puts the first space before it replaces the others, so that a text that begins with a
    // space gets one more; nothing in a file says so, and transformers goes by the architecture.
    let normalises = tokens.metadata.text("general.architecture")? == Some(Architecture::Phi3ForCausalLM.in_gguf());
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let (normalizer, pre_tokenizer) = match (normalises, space) {
        (true, true) => {
            let prepend = json!({ "type": "Prepend", "prepend": "▁" });
            (json!({ "type": "Sequence", "normalizers": [prepend, replace] }), Value::Null)
        }
        (true, false) => (replace, Value::Null),
        (false, _) => {
            let scheme = if space { "first" } else { "never" };
            let metaspace =
                json!({ "type": "Metaspace", "replacement": "▁", "split": false, "prepend_scheme": scheme });
            (Value::Null, metaspace)
        }
    };
    let parts = json!({
        "added_tokens": tokens.added(&vocabulary, &SPECIAL, |_| true),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": bpe(json!({ "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true })),
    });
    let around = (tokens.asks("bos")?.unwrap_or(true), tokens.asks("eos")?.unwrap_or(false));
    tokens.files(parts, vocabulary, &merges, around, notes)
}

/// The merges that scores imply, in their order: every way to cut a token in two tokens, those of the highest score
/// first (as `generate_merges` of transformers).
pub(crate) fn merges_of_scores<'a>(texts: &[&'a str], scores: &[f64]) -> Vec<[&'a str; 2]> {
    let mut order = Vec::with_capacity(texts.len());
    let mut known: HashMap<&str, (usize, f64)> = HashMap::with_capacity(texts.len());
    for (id, (text, score)) in texts.iter().zip(scores).enumerate() {
        // Of a token that is there twice the first place and the last number count.
        if known.insert(text, (id, *score)).is_none() {
            order.push(*text);
        }
    }
    let mut merges = Vec::new();
    for text in order {
        // The score of the first merge may be −0, which equals 0.
        let score = known[text].1 + 0.0;
        let cuts = text.char_indices().skip(1).enumerate();
        let mut of_token: Vec<_> = cuts
            .filter_map(|(before, (at, _))| {
                let (left, right) = text.split_at(at);
                let (ids, chars) = ((known.get(left)?.0, known.get(right)?.0), text.chars().count());
                Some((ids, Merge { score, left: before + 1, right: chars - before - 1, pair: [left, right] }))
            })
            .collect();
        of_token.sort_by_key(|(ids, _)| *ids);
        merges.extend(of_token.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| b.compare(a));
    merges.into_iter().map(|merge| merge.pair).collect()
}

struct Merge<'a> {
    score: f64,
    /// Characters of both parts.
    left: usize,
    right: usize,
    pair: [&'a str; 2],
}

impl Merge<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then((self.left, self.right).cmp(&(other.left, other.right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_token_is_a_merge_the_highest_score_and_then_the_longest_left_part_first() {
        let texts = ["a", "b", "c", "ab", "bc", "abc", "é", "éa"];
        let scores = [-9.0, -9.0, -9.0, -1.0, -2.0, -0.0, -9.0, -1.0];
        let merges = merges_of_scores(&texts, &scores);
        assert_eq!(merges, [["ab", "c"], ["a", "bc"], ["a", "b"], ["é", "a"], ["b", "c"]]);
    }
}
