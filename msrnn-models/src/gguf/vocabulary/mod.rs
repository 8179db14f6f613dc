//! From the vocabulary of a file to the files of a tokenizer on Hugging Face, as transformers makes them of it.
//!
//! There are two kinds: `gpt2`, byte-level BPE, and `llama`, SentencePiece's BPE with bytes for unknown characters.
//! What each text becomes is that of transformers 5.23's `AutoTokenizer.from_pretrained(directory, gguf_file=name)`,
//! but for what `docs/fidelity.md` says.

mod byte_level;
mod cuts;
mod sentencepiece;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};

use super::metadata::{Metadata, shown};

pub(crate) use cuts::PreTokenizer;
pub(crate) use sentencepiece::merges_of_scores;

/// The types of tokens, by their numbers in a file.
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

/// Keys of named tokens: in the file, and in `tokenizer_config.json`.
const NAMED: [(&str, &str); 4] = [
    ("bos_token_id", "bos_token"),
    ("eos_token_id", "eos_token"),
    ("unknown_token_id", "unk_token"),
    ("padding_token_id", "pad_token"),
];

/// A tokenizer as Hugging Face has it.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// `tokenizer.json`, without words and merges.
    frame: Value,
    words: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    /// `tokenizer_config.json`, the chat template in it.
    pub config: Value,
    /// What is to be said about them: sentences for a warning each.
    pub notes: Vec<String>,
}

/// What a file says about its tokens.
struct Tokens<'a> {
    metadata: Metadata<'a>,
    texts: Vec<&'a str>,
    /// As many as texts, or none at all.
    types: Vec<i128>,
    /// Those with a part of their own, by their keys in `tokenizer_config.json`.
    named: BTreeMap<&'static str, (u32, &'a str)>,
}

impl Vocabulary {
    /// The vocabulary of a file.
    ///
    /// # Errors
    ///
    /// What is missing, damaged or not read.
    pub(super) fn read(metadata: Metadata<'_>) -> Result<Self, String> {
        let kind = metadata.text("tokenizer.ggml.model")?;
        let tokens = || Tokens::read(metadata);
        match kind {
            Some("gpt2") => byte_level::read(&tokens()?),
            Some("llama") => sentencepiece::read(&tokens()?),
            None | Some("none" | "no_vocab") => {
                Err("the file has no vocabulary; give token ids instead of text".into())
            }
            Some(other) => Err(format!(
                "vocabularies of the kind {} (`tokenizer.ggml.model`) are not read; read are \"gpt2\" and \"llama\": \
                 take the model's directory with {}, or give token ids instead of text",
                shown(other),
                crate::tokenizer::TOKENIZER
            )),
        }
    }

    /// `tokenizer.json`
    pub fn tokenizer(&self) -> Value {
        let mut tokenizer = self.frame.clone();
        let words: Map<String, Value> = self.words.iter().map(|(text, id)| (text.clone(), (*id).into())).collect();
        tokenizer["model"]["vocab"] = words.into();
        tokenizer["model"]["merges"] = self.merges.iter().map(|(left, right)| json!([left, right])).collect();
        tokenizer
    }

    /// What the library makes of `tokenizer.json`, without all the words in between, which take several times the memory as
    /// JSON and as what the library reads of it.
    ///
    /// # Errors
    ///
    /// When the vocabulary contradicts itself.
    pub(crate) fn into_library(self) -> Result<tokenizers::Tokenizer, tokenizers::Error> {
        let Self { mut frame, words, merges, .. } = self;
        // In this order, since added tokens get the ids of words.
        let added: Vec<AddedToken> = serde_json::from_value(std::mem::replace(&mut frame["added_tokens"], json!([])))?;
        let mut made = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&frame)?)?;
        let ModelWrapper::BPE(empty) = made.get_model() else { unreachable!("all kinds are BPE") };
        let mut model = BPE::builder()
            .vocab_and_merges(words.into_iter().collect::<Vocab>(), merges)
            .fuse_unk(empty.fuse_unk)
            .byte_fallback(empty.byte_fallback)
            .ignore_merges(empty.ignore_merges);
        if let Some(unknown) = &empty.unk_token {
            model = model.unk_token(unknown.clone());
        }
        if let Some(prefix) = &empty.continuing_subword_prefix {
            model = model.continuing_subword_prefix(prefix.clone());
        }
        if let Some(suffix) = &empty.end_of_word_suffix {
            model = model.end_of_word_suffix(suffix.clone());
        }
        let model = model.build()?;
        made.with_model(model);
        made.add_tokens(&added);
        Ok(made)
    }
}

impl<'a> Tokens<'a> {
    fn read(metadata: Metadata<'a>) -> Result<Self, String> {
        const TEXTS: &str = "tokenizer.ggml.tokens";
        const TYPES: &str = "tokenizer.ggml.token_type";
        let texts = metadata.texts(TEXTS)?.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| format!("`{TEXTS}` is missing or empty; convert the model anew"))?;
        let types = metadata.integers(TYPES)?.unwrap_or_default();
        if !types.is_empty() && types.len() != texts.len() {
            return Err(format!("`{TYPES}` has {} entries for {} tokens", types.len(), texts.len()));
        }
        let mut named = BTreeMap::new();
        for (here, there) in NAMED {
            let key = format!("tokenizer.ggml.{here}");
            let Some(id) = metadata.count(&key)? else { continue };
            match usize::try_from(id).ok().and_then(|id| texts.get(id)) {
                Some(text) => drop(named.insert(there, (id as u32, *text))),
                // Written by some converters for "none".
                None if id == u64::from(u32::MAX) => {}
                None => return Err(format!("`{key}` is {id}, and there are {} tokens", texts.len())),
            }
        }
        Ok(Self { metadata, texts, types, named })
    }

    /// Texts of a type.
    fn of_type(&self, wanted: i128) -> impl Iterator<Item = &'a str> {
        let of = self.texts.iter().zip(&self.types).filter(move |(_, kind)| **kind == wanted);
        of.map(|(text, _)| *text)
    }

    /// The pairs that are merged, in their order, if the file has them.
    fn merges(&self) -> Result<Option<Vec<[&'a str; 2]>>, String> {
        const KEY: &str = "tokenizer.ggml.merges";
        let pair = |merge: &'a str| match merge.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => Ok([left, right]),
            _ => Err(format!("`{KEY}` has {}, which is no pair", shown(merge))),
        };
        let merges = self.metadata.texts(KEY)?;
        merges.map(|merges| merges.into_iter().map(pair).collect()).transpose()
    }

    /// Whether the file asks for a token before texts, and behind; none where it does not say it.
    fn asks(&self, which: &str) -> Result<Option<bool>, String> {
        self.metadata.flag(&format!("tokenizer.ggml.add_{which}_token"))
    }

    /// The `added_tokens` of `tokenizer.json`: `special` ones, those of the types control and user-defined, and
    /// named ones, as far as `vocabulary` has them.
    fn added(
        &self,
        vocabulary: &HashMap<String, u32>,
        special: &[&'a str],
        control: impl Fn(&str) -> bool,
    ) -> Vec<Value> {
        let mut added: BTreeMap<u32, (&str, bool)> = BTreeMap::new();
        let mut add = |text: &'a str, special: bool| {
            if let Some(id) = vocabulary.get(text).filter(|_| !text.is_empty()) {
                added.entry(*id).or_insert((text, special)).1 |= special;
            }
        };
        special.iter().for_each(|text| add(text, true));
        self.of_type(CONTROL).filter(|text| control(text)).for_each(|text| add(text, true));
        self.of_type(USER_DEFINED).for_each(|text| add(text, false));
        self.named.values().for_each(|(_, text)| add(text, true));
        let token = |(id, (text, special)): (u32, (&str, bool))| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special })
        };
        added.into_iter().map(token).collect()
    }

    /// The files of a tokenizer: its `parts` of `tokenizer.json`, its words and merges, and the rest. `bos`, `eos`: whether they
    /// are put around texts.
    fn files(
        &self,
        parts: Value,
        words: HashMap<String, u32>,
        merges: &[[&str; 2]],
        (bos, eos): (bool, bool),
        notes: Vec<String>,
    ) -> Result<Vocabulary, String> {
        let part = |asked: bool, key: &str| self.named.get(key).copied().filter(|_| asked);
        let (before, behind) = (part(bos, "bos_token"), part(eos, "eos_token"));
        let piece = |token: &(u32, &str), side: usize| json!({ "SpecialToken": { "id": token.1, "type_id": side } });
        let text = |name: &str, side: usize| json!({ "Sequence": { "id": name, "type_id": side } });
        let around = |name: &str, side: usize| {
            let before = before.iter().map(move |token| piece(token, side));
            before.chain([text(name, side)]).chain(behind.iter().map(move |token| piece(token, side)))
        };
        let special: Map<String, Value> = before
            .iter()
            .chain(&behind)
            .map(|(id, text)| ((*text).to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] })))
            .collect();
        let mut tokenizer = json!({ "version": "1.0", "truncation": null, "padding": null, "normalizer": null });
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": around("A", 0).collect::<Vec<_>>(),
            "pair": around("A", 0).chain(around("B", 1)).collect::<Vec<_>>(),
            "special_tokens": special,
        });
        if let (Value::Object(tokenizer), Value::Object(parts)) = (&mut tokenizer, parts) {
            tokenizer.extend(parts);
        }
        // A class that takes the file as it is, in transformers 4 and 5.
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "add_bos_token": before.is_some(), "add_eos_token": behind.is_some(),
        });
        for (key, (_, text)) in &self.named {
            config[*key] = (*text).into();
        }
        let architecture = self.metadata.text("general.architecture")?.unwrap_or_default();
        if let Some(length) = self.metadata.count(&format!("{architecture}.context_length"))? {
            config["model_max_length"] = length.into();
        }
        if let Some(template) = self.metadata.text("tokenizer.chat_template")? {
            config["chat_template"] = template.into();
        }
        let merges = merges.iter().map(|[left, right]| ((*left).to_owned(), (*right).to_owned())).collect();
        Ok(Vocabulary { frame: tokenizer, words, merges, config, notes })
    }
}

/// A BPE in `tokenizer.json`, without words and merges, with what its kind has.
fn bpe(kind: Value) -> Value {
    let mut model = json!({ "type": "BPE", "dropout": null, "unk_token": null, "ignore_merges": false, "vocab": {},
        "merges": [] });
    if let (Value::Object(model), Value::Object(kind)) = (&mut model, kind) {
        model.extend(kind);
    }
    model
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::gguf::Gguf;

    #[test]
    fn what_is_made_of_words_and_merges_is_what_the_library_reads_in_json() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/gguf");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Some(vocabulary) = Gguf::open(&path).ok().and_then(|gguf| gguf.vocabulary().ok()) else { continue };
            let json = serde_json::to_vec(&vocabulary.tokenizer()).unwrap();
            let expected = tokenizers::Tokenizer::from_bytes(json).unwrap().to_string(false).unwrap();
            let found = vocabulary.into_library().unwrap().to_string(false).unwrap();
            assert!(found == expected, "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 10, "{seen} vocabularies");
    }
}
