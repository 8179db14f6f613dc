//! A tokenizer as the metadata of a GGUF file: the inverse of `gguf::vocabulary`, and seen to be it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::cannot;
use super::file::entry;
use super::texts::Texts;
use crate::chat::ChatFiles;
use crate::checkpoint::Source;
use crate::error::ModelError;
use crate::gguf::write::{Entry, header};
use crate::gguf::{PreTokenizer, merges_of_scores, vocabulary_of};
use crate::tokenizer::{TOKENIZER, Tokenizer};

/// The types of tokens, by their numbers in a file.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A token, and its type.
type Typed = (String, i32);

/// The keys that describe a tokenizer; those that say that there is none, where there is none.
pub(super) fn entries(
    source: &Source,
    texts: &Texts,
    out: &Path,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Entry)>, ModelError> {
    let config = &source.config;
    let model_ids = [("bos", config.bos_token_id), ("eos", config.eos_token_ids.first().copied())];
    let Some(json) = &texts.tokenizer else {
        let ids = model_ids.into_iter().filter_map(|(name, id)| Some((name, id?)));
        let ids = ids.map(|(name, id)| entry(&format!("tokenizer.ggml.{name}_token_id"), Entry::U32(id)));
        return Ok([entry("tokenizer.ggml.model", Entry::Text("none".into()))].into_iter().chain(ids).collect());
    };
    let unfit = |what: &str| {
        cannot(
            format!(
                "{what}, which a GGUF file cannot say; to write the weights alone, convert a copy without {TOKENIZER}"
            ),
            out,
        )
    };
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(unfit(&format!("the tokenizer is of the type {}", model["type"])));
    }
    let tokens = tokens(json, source.config.vocab_size).map_err(|what| unfit(&what))?;
    let merges = merges(model).map_err(|what| unfit(&what))?;
    let bytes = serde_json::to_vec(json).map_err(|e| unfit(&e.to_string()))?;
    let tokenizer = Tokenizer::from_bytes(&bytes, None)?;

    let (kind, pre, space) = match model["byte_fallback"] == true {
        true => ("llama", "default", Some(begins_with_space(json))),
        false => {
            let pre = PreTokenizer::name_of(&json["pre_tokenizer"]);
            ("gpt2", pre.ok_or_else(|| unfit("texts are cut in a way that has no name there (`pre_tokenizer`)"))?, None)
        }
    };
    let text = |key: &str, text: &str| entry(&format!("tokenizer.ggml.{key}"), Entry::Text(text.into()));
    let mut entries = vec![text("model", kind), text("pre", pre)];
    let words: Vec<&str> = tokens.iter().map(|(text, _)| text.as_str()).collect();
    if kind == "llama" {
        let scores = scores(&words, &merges);
        let wide: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
        let implied = merges_of_scores(&words, &wide);
        // Where scores do not say it all, the merges are written as well.
        if implied
            .iter()
            .map(|[left, right]| [*left, *right])
            .ne(merges.iter().map(|[left, right]| [left.as_str(), right.as_str()]))
        {
            entries
                .push(entry("tokenizer.ggml.merges", Entry::Texts(merges.iter().map(|pair| pair.join(" ")).collect())));
        }
        entries.push(entry("tokenizer.ggml.scores", Entry::F32s(scores)));
    } else {
        entries.push(entry("tokenizer.ggml.merges", Entry::Texts(merges.iter().map(|pair| pair.join(" ")).collect())));
    }
    if let Some(space) = space {
        entries.push(entry("tokenizer.ggml.add_space_prefix", Entry::Flag(space)));
    }
    let id_of = |name: &str| words.iter().rposition(|word| *word == name).map(|id| id as u32);
    for (here, there) in
        [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
    {
        let of_model = model_ids.iter().find(|(name, _)| *name == here).and_then(|(_, id)| *id);
        let of_model = of_model.filter(|id| (*id as usize) < words.len());
        if let Some(id) = texts.named(there).and_then(id_of).or(of_model) {
            entries.push(entry(&format!("tokenizer.ggml.{here}_token_id"), Entry::U32(id)));
        }
    }
    let (before, behind) = tokenizer.around()?;
    for (which, key, ids) in [("bos", "bos_token", before), ("eos", "eos_token", behind)] {
        let named = entries.iter().find_map(|(found, value)| match value {
            Entry::U32(id) if *found == format!("tokenizer.ggml.{which}_token_id") => Some(*id),
            _ => None,
        });
        match ids[..] {
            [] => {}
            [id] if Some(id) == named => {}
            _ => return Err(unfit(&format!("the template puts {ids:?} around texts, and not `{key}`"))),
        }
        entries.push(entry(&format!("tokenizer.ggml.add_{which}_token"), Entry::Flag(!ids.is_empty())));
    }
    // Of several templates the one that counts.
    let chat = ChatFiles::new(texts.tokenizer_config.get("chat_template"), Default::default());
    if let Some(template) = chat.map_err(|reason| unfit(&reason))?.text() {
        entries.push(entry("tokenizer.chat_template", Entry::Text(template.into())));
    }
    let (words, types): (Vec<String>, Vec<i32>) = tokens.into_iter().unzip();
    entries.push(entry("tokenizer.ggml.tokens", Entry::Texts(words)));
    entries.push(entry("tokenizer.ggml.token_type", Entry::I32s(types)));
    let architecture = entry("general.architecture", Entry::Text(config.architecture.in_gguf().into()));
    let whole = [&[architecture], &entries[..]].concat();
    let again = vocabulary_of(&header(&whole, &[])).map_err(|what| unfit(&what))?;
    let again = Tokenizer::of_vocabulary(&out.display().to_string(), again, None)?;
    // Whole words that are tokens but not by merges: whoever reads the file must know of them.
    let words = (0..source.config.vocab_size as u32).filter(|_| model["ignore_merges"] == true);
    let mut words: Vec<String> = words.map(|id| tokenizer.decode(&[id])).collect::<Result<_, _>>()?;
    // Added tokens that take spaces with them, or are found in words only; one space too, since two may be a token.
    let added = json["added_tokens"].as_array().into_iter().flatten();
    words.extend(
        added.filter_map(|token| token["content"].as_str()).map(|text| format!("a {text} a  {text}  a{text}a")),
    );
    if let Some(text) = first_difference(&tokenizer, &again, &words)? {
        notes.push(format!(
            "the file gives other ids to some texts than {TOKENIZER}, such as {text:?}: a GGUF file does not say all that is \
             there; score texts with the directory where ids matter"
        ));
    }
    Ok(entries)
}

/// Texts in which tokenizers differ that are the same in most.
const PROBES: [&str; 12] = [
    "a",
    " a",
    "  a  b   ",
    "\n\n a\r\n\tb\n",
    "1 22  333   4444\n 55",
    "I'm HE'LL they'Ve",
    "Größe, déjà vu, Война; 吾輩は猫である。 مرحبا हिन्दी",
    "😀 👩‍👩‍👧 e\u{301}\u{a0}x\u{3000}y\u{feff}",
    "def f(x):\n    return x[1:] != 2\n\n\nclass A:\n\tpass",
    "https://example.org/a?b=c&d=%20#e_f-g CamelCase ALLCAPS",
    "\u{0}\u{7f}!!??... ((\u{2581}Ġ",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune must be in want of a wife.",
];

/// The first of some texts, `more` among them, that two tokenizers give different ids.
fn first_difference(a: &Tokenizer, b: &Tokenizer, more: &[String]) -> Result<Option<String>, ModelError> {
    let joined = PROBES.concat();
    for text in PROBES.into_iter().chain([joined.as_str()]).chain(more.iter().map(String::as_str)) {
        if a.encode(text)? != b.encode(text)? {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}

/// All ids of a tokenizer and a model, in their order. What neither vocabulary nor added tokens have is called by its
/// number, as llama.cpp does.
fn tokens(json: &Value, vocab_size: usize) -> Result<Vec<Typed>, String> {
    let unknown = json["model"]["unk_token"].as_str().unwrap_or("<unk>");
    let mut known: BTreeMap<u64, Typed> = BTreeMap::new();
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let kind = match text.as_str() {
            text if text == unknown && json["model"]["byte_fallback"] == true => UNKNOWN,
            _ if is_byte => BYTE,
            _ => NORMAL,
        };
        known.insert(id.as_u64().ok_or("an id of its vocabulary is no number")?, (text.clone(), kind));
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) else {
            return Err("an added token has no id or no text".into());
        };
        let kind = match known.get(&id) {
            Some((_, UNKNOWN)) => UNKNOWN,
            _ if token["special"] == true => CONTROL,
            _ => USER_DEFINED,
        };
        known.insert(id, (text.to_owned(), kind));
    }
    match known.keys().next_back() {
        Some(last) if *last >= vocab_size as u64 => {
            Err(format!("the tokenizer has ids up to {last} and the model an embedding for {vocab_size}"))
        }
        _ => Ok((0..vocab_size as u64).map(|id| known.remove(&id).unwrap_or((format!("[PAD{id}]"), UNUSED))).collect()),
    }
}

/// The merges of a `tokenizer.json`, in both of its spellings.
fn merges(model: &Value) -> Result<Vec<[String; 2]>, String> {
    let pair = |merge: &Value| {
        let parts: Option<Vec<String>> = match merge {
            Value::String(text) => Some(text.split(' ').map(str::to_owned).collect()),
            _ => merge.as_array()?.iter().map(|part| part.as_str().map(str::to_owned)).collect(),
        };
        let pair: [String; 2] = parts?.try_into().ok()?;
        pair.iter().all(|part| !part.contains(' ')).then_some(pair)
    };
    let merges = model["merges"].as_array().ok_or("the tokenizer has no merges")?;
    merges
        .iter()
        .map(|merge| pair(merge).ok_or_else(|| format!("{merge} is no pair of tokens without spaces")))
        .collect()
}

/// Scores of tokens: the earlier they are merged, the higher; those that are not merged come last.
fn scores(words: &[&str], merges: &[[String; 2]]) -> Vec<f32> {
    let mut first = std::collections::HashMap::new();
    for (index, [left, right]) in merges.iter().enumerate() {
        first.entry(format!("{left}{right}")).or_insert(index);
    }
    // Ranks, and not indices: they are exact in 32 bits for as many tokens as there are.
    let mut indices: Vec<usize> = first.values().copied().collect();
    indices.sort_unstable();
    let rank = |index: &usize| indices.binary_search(index).unwrap_or(indices.len());
    words.iter().map(|word| -(first.get(*word).map_or(indices.len(), rank) as f32)).collect()
}

/// Whether a space is put before a text.
fn begins_with_space(json: &Value) -> bool {
    fn parts<'j>(json: &'j Value, list: &str) -> Vec<&'j Value> {
        json[list].as_array().map_or_else(|| vec![json], |all| all.iter().collect())
    }
    let prepends = |part: &&Value| part["type"] == "Prepend";
    let scheme = |part: &&Value| part["type"] == "Metaspace" && part["prepend_scheme"] != "never";
    parts(&json["normalizer"], "normalizers").iter().any(prepends)
        || parts(&json["pre_tokenizer"], "pretokenizers").iter().any(scheme)
}
