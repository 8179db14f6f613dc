//! Model directories with a damaged file: opened, and one context scored.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device};
use msrnn_bench::contexts::Context;
use msrnn_bench::evaluate::{Scoring, evaluate};
use msrnn_bench::open;
use msrnn_bench::precision::Precision;
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::spans::Spans;
use msrnn_models::tokenizer::{SpecialTokens, TextOptions, Tokenizer};
use msrnn_policies::registry;

use crate::common::{checkpoint, copy};
use crate::dice::Dice;
use crate::{Verdict, World};

const CHECKPOINTS: [&str; 9] = [
    "llama-bias",
    "llama-f16",
    "llama-gqa",
    "llama-linear-rope",
    "llama-sharded-bf16",
    "llama-tied",
    "llama3-rope",
    "mistral-window",
    "yi-theta",
];

/// Texts with what tokenizers stumble over.
pub(crate) const TEXT: &str =
    "the cat and the dog  sat on\n\nthe <s>mat</s> in 1984, café ▁ 😀\u{301} it's a\u{feff}b 日本 the end ";

/// A score of some ids under TOVA and under no bound, which must be a number.
pub(crate) fn score(model: &Model, contexts: &[Context]) -> Verdict {
    for compression in [Compression::Unbounded, registry::compression("tova", 4).unwrap()] {
        let never = AtomicBool::new(false);
        let found =
            evaluate(model, contexts, &Scoring::new(compression), &mut (), &never).map_err(|e| e.to_string())?;
        assert!(found.nll().is_finite(), "{found:?}");
        assert!(found.perplexity().is_none_or(f64::is_finite));
    }
    Ok(())
}

fn open(directory: &Path) -> Verdict {
    let device = msrnn_bench::device::DeviceName::Cpu;
    let model = open::open(Some(directory), device, Precision::F32).map_err(|e| e.to_string())?;
    let most = model.decoder.config().vocab_size as u32;
    let ids: Vec<u32> = (0..14).map(|i| (i * 7 + 1) % most).collect();
    score(&model, &[ids.into()])?;
    if let Ok(tokenizer) = model.tokenizer() {
        tokenizers(tokenizer)?;
    }
    Ok(())
}

/// Damages a file of a directory as JSON.
fn damage(directory: &Path, file: &str, dice: &mut Dice) {
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let other = std::fs::read(checkpoint("llama3-rope").join("config.json")).unwrap();
    std::fs::write(&path, dice.json_text(&text, &other)).unwrap();
}

pub(crate) fn config(world: &World, dice: &mut Dice) -> Verdict {
    let directory = copy(&checkpoint(dice.of::<&str>(&CHECKPOINTS)), &world.scratch.join("model"));
    damage(&directory, "config.json", dice);
    open(&directory)
}

pub(crate) fn index(world: &World, dice: &mut Dice) -> Verdict {
    let directory = copy(&checkpoint("llama-sharded-bf16"), &world.scratch.join("model"));
    damage(&directory, "model.safetensors.index.json", dice);
    open(&directory)
}

pub(crate) fn weights(world: &World, dice: &mut Dice) -> Verdict {
    let directory = copy(&checkpoint(dice.of::<&str>(&CHECKPOINTS)), &world.scratch.join("model"));
    let mut names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    names.sort();
    let path = dice.of(&names).clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    match dice.below(3) {
        // The header as JSON, with its length made to fit.
        0 => {
            let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
            let changed = dice.json_text(text.trim(), &bytes);
            let length = (changed.len() as u64).to_le_bytes();
            bytes.splice(..header, [&length[..], &changed].concat()).for_each(drop);
        }
        1 => {
            let mut head = bytes[..header].to_vec();
            dice.bytes(&mut head, &bytes);
            bytes.splice(..header, head).for_each(drop);
        }
        _ => {
            let other = bytes.clone();
            (0..=dice.below(3)).for_each(|_| dice.bytes(&mut bytes, &other));
        }
    }
    std::fs::write(&path, bytes).unwrap();
    open(&directory)
}

/// Encodes, decodes and streams; the parts of a text have the ids of the whole.
fn tokenizers(tokenizer: &Tokenizer) -> Verdict {
    let text = TEXT.repeat(3);
    let said = |e: msrnn_models::error::ModelError| e.to_string();
    let literal = TextOptions { special_tokens: SpecialTokens::Literal, ..TextOptions::default() };
    for tokenizer in [tokenizer.clone(), tokenizer.clone().with(literal).map_err(said)?] {
        let whole = tokenizer.encode_whole(&text).map_err(said)?;
        let mut ids = Vec::new();
        for part in tokenizer.parts(&text, 1) {
            ids.extend(tokenizer.encode_whole(part.text).map_err(said)?);
        }
        assert_eq!(ids, whole, "{:?}", tokenizer.parts(&text, 1).collect::<Vec<_>>());
        let spanned = Spans::new(&tokenizer).of(&text, usize::MAX, 1).map_err(said)?;
        assert_eq!(spanned.ids, whole);
        let bytes: usize = spanned.bytes.iter().map(|&bytes| bytes as usize).sum();
        assert!(whole.is_empty() || bytes == text.len(), "{bytes} of {}", text.len());
        let decoded = tokenizer.decode(&whole).map_err(said)?;
        let mut stream = tokenizer.stream().map_err(said)?;
        let mut streamed = String::new();
        for &id in &whole {
            streamed.push_str(&stream.push(id).map_err(said)?);
        }
        streamed.push_str(&stream.finish().map_err(said)?);
        assert_eq!(streamed, decoded);
        let _ = tokenizer.decode(&[0, 5, u32::MAX, 63, 7]).map_err(said)?;
        let _ = tokenizer.decode_with_ends(&whole).map_err(said)?;
    }
    Ok(())
}

pub(crate) fn tokenizer(world: &World, dice: &mut Dice) -> Verdict {
    let base = *dice.of(&["llama-tied", "llama3-rope", "yi-theta"]);
    let directory = copy(&checkpoint(base), &world.scratch.join("model"));
    let file = "tokenizer.json";
    // Stages of one tokenizer in another are what others have.
    if dice.one_in(3) {
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(checkpoint(name).join(file)).unwrap()).unwrap()
        };
        let (mut json, other) = (read(base), read(dice.of::<&str>(&["llama-tied", "llama3-rope"])));
        let key = *dice.of(&["normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"]);
        json[key] = other[key].clone();
        if dice.one_in(2) {
            json[key] = stage(key, dice);
        }
        std::fs::write(directory.join(file), json.to_string()).unwrap();
    }
    damage(&directory, file, dice);
    let read = Tokenizer::read(&directory, Some(1)).map_err(|e| e.to_string())?;
    tokenizers(&read)
}

/// A stage that the library knows.
fn stage(key: &str, dice: &mut Dice) -> serde_json::Value {
    let text = dice.text();
    let all = match key {
        "normalizer" => vec![
            serde_json::json!({"type": "NFC"}),
            serde_json::json!({"type": "NFKD"}),
            serde_json::json!({"type": "Lowercase"}),
            serde_json::json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            serde_json::json!({"type": "StripAccents"}),
            serde_json::json!({"type": "Nmt"}),
            serde_json::json!({"type": "Precompiled", "precompiled_charsmap": text}),
            serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": text}),
            serde_json::json!({"type": "Replace", "pattern": {"Regex": text}, "content": "x"}),
            serde_json::json!({"type": "Prepend", "prepend": text}),
            serde_json::json!({"type": "Prepend", "prepend": "▁"}),
            serde_json::json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true}),
        ],
        "pre_tokenizer" => vec![
            serde_json::json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}),
            serde_json::json!({"type": "Metaspace", "replacement": "x", "prepend_scheme": "always", "split": false}),
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}),
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
            serde_json::json!({"type": "Whitespace"}),
            serde_json::json!({"type": "WhitespaceSplit"}),
            serde_json::json!({"type": "BertPreTokenizer"}),
            serde_json::json!({"type": "UnicodeScripts"}),
            serde_json::json!({"type": "Punctuation", "behavior": "MergedWithNext"}),
            serde_json::json!({"type": "Digits", "individual_digits": true}),
            serde_json::json!({"type": "CharDelimiterSplit", "delimiter": "a"}),
            serde_json::json!({"type": "FixedLength", "length": dice.below(5)}),
            serde_json::json!({"type": "Split", "pattern": {"String": text}, "behavior": "Contiguous", "invert": false}),
            serde_json::json!({"type": "Split", "pattern": {"Regex": text}, "behavior": "Removed", "invert": true}),
        ],
        "decoder" => vec![
            serde_json::json!({"type": "WordPiece", "prefix": text, "cleanup": true}),
            serde_json::json!({"type": "Strip", "content": "t", "start": dice.below(9), "stop": dice.below(9)}),
            serde_json::json!({"type": "CTC", "pad_token": "t", "word_delimiter_token": text, "cleanup": true}),
            serde_json::json!({"type": "BPEDecoder", "suffix": text}),
            serde_json::json!({"type": "ByteFallback"}),
            serde_json::json!({"type": "Fuse"}),
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true}),
        ],
        "added_tokens" => {
            vec![serde_json::json!([{"id": dice.below(70), "content": text, "single_word": dice.one_in(2),
            "lstrip": dice.one_in(2), "rstrip": dice.one_in(2), "normalized": dice.one_in(2), "special": dice.one_in(2)}])]
        }
        _ => vec![serde_json::Value::Null],
    };
    dice.of(&all).clone()
}

pub(crate) fn settings(world: &World, dice: &mut Dice) -> Verdict {
    let directory = copy(&checkpoint("llama-tied"), &world.scratch.join("model"));
    match dice.one_in(2) {
        true => damage(&directory, "tokenizer_config.json", dice),
        false => {
            let text =
                r#"{"bos_token_id": 1, "eos_token_id": [2, 7], "max_length": 64, "temperature": 0.6, "top_p": 0.9}"#;
            std::fs::write(directory.join("generation_config.json"), dice.json_text(text, b"")).unwrap();
        }
    }
    let read = Model::load(&directory, DType::F32, &Device::flex()).map_err(|e| e.to_string())?;
    read.tokenizer().map_err(|e| e.to_string()).and_then(tokenizers)
}
