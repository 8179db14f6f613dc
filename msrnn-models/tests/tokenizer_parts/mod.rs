//! The law that a text may be cut where it is cut, and tokenizers to try it on.

use msrnn_models::spans::Spans;
use msrnn_models::tokenizer::{SpecialTokens, TextOptions, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::read;

pub(crate) const PARTS: &str = "parts_have_the_ids_and_bytes_of_the_whole_wherever_a_text_is_cut";

/// The parts of texts have the ids and bytes of the whole, cut at every place there is. The number of cuts.
pub(crate) fn parts_law(tokenizer: &Tokenizer) -> usize {
    let literal = TextOptions { special_tokens: SpecialTokens::Literal, ..TextOptions::default() };
    let both = [tokenizer.clone(), tokenizer.clone().with(literal).unwrap()];
    let spans = both.each_ref().map(Spans::new);
    // What texts are made of, with what ids stand for, special tokens among it.
    let mut pieces: Vec<String> = [
        "a",
        "b",
        "the",
        "cat",
        "I",
        "don't",
        "it's",
        "é",
        "ё",
        "字",
        "ü\u{301}",
        "e\u{301}",
        "\u{301}",
        "1",
        "23",
        "4567",
        "½",
        ".",
        ",",
        "。",
        "!?",
        "'",
        "'s",
        "/",
        "▁",
        "Ġ",
        "<",
        "s>",
        "</s>",
        "<s>",
        "[UNK]",
        "\u{feff}",
        "\u{200d}",
        "🐶",
        "\t",
        "\r\n",
        "\n\n",
        "\u{a0}",
        "\u{3000}",
        "ﬁ",
        "ŉ",
        "가",
        "ا",
    ]
    .map(String::from)
    .to_vec();
    let size = u32::try_from(tokenizer.end_of_ids()).unwrap();
    pieces.extend((0..size).step_by(size.div_ceil(60).max(1) as usize).filter_map(|id| tokenizer.decode(&[id]).ok()));
    let between = prop_oneof![8 => Just(" "), 2 => Just("\n"), 2 => Just(""), 1 => Just("  "), 1 => Just("\n ")];
    let words = prop::collection::vec((prop::sample::select(pieces), between), 0..40);
    let cuts = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
    let result = runner.run(&words, |words| {
        let text: String = words.iter().flat_map(|(word, between)| [word.as_str(), between]).collect();
        for (tokenizer, spans) in both.iter().zip(&spans) {
            let whole = tokenizer.encode_whole(&text).unwrap();
            let mut ids = Vec::new();
            for part in tokenizer.parts(&text, 1) {
                ids.extend(tokenizer.encode_whole(part.text).unwrap());
                cuts.set(cuts.get() + 1);
            }
            cuts.set(cuts.get() - usize::from(!text.is_empty()));
            prop_assert_eq!(&ids, &whole, "{:?} of {:?}", tokenizer.parts(&text, 1).collect::<Vec<_>>(), text);
            let one = spans.of(&text, usize::MAX, text.len()).unwrap();
            prop_assert_eq!(&one.ids, &whole);
            prop_assert_eq!(one.bytes.iter().sum::<u32>() as usize, if whole.is_empty() { 0 } else { text.len() });
            prop_assert_eq!(spans.of(&text, usize::MAX, 1).unwrap(), one, "{:?}", text);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    cuts.get()
}

/// Tokenizers as others have them, made of those here: a name, what of is changed in which, and how many cuts there are
/// at least; 0 where no cut may be made.
pub(crate) fn variants() -> Vec<(String, &'static str, serde_json::Value, usize)> {
    use serde_json::json;
    let (words, bytes) = ("llama-tied", "llama3-rope");
    let added = |content: &str, flags: serde_json::Value| {
        let mut token = json!({"id": 3, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false});
        flags.as_object().unwrap().iter().for_each(|(key, value)| token[key] = value.clone());
        json!([{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true}, token])
    };
    let metaspace = |scheme: &str, split: bool| {
        json!({"normalizer": null, "pre_tokenizer": {"type": "Metaspace",
        "replacement": "▁", "prepend_scheme": scheme, "split": split}})
    };
    let split = |pattern: serde_json::Value, behavior: &str, invert: bool| {
        json!({"type": "Split", "pattern": pattern,
        "behavior": behavior, "invert": invert})
    };
    let byte_level = |prefix: bool, regex: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": prefix,
        "trim_offsets": true, "use_regex": regex})
    };
    let sequence = |all: serde_json::Value| json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": all}});
    let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let gpt_4o = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut with_nfc = sequence(json!([split(json!({"Regex": qwen}), "Isolated", false), byte_level(false, false)]));
    with_nfc["normalizer"] = json!({"type": "NFC"});
    let mut gemma = json!({"pre_tokenizer": split(json!({"String": " "}), "MergedWithPrevious", false)});
    gemma["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let stories = json!({"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}});
    let mut merging: serde_json::Value = read("checkpoints/llama-tied/tokenizer.json");
    merging["model"]["ignore_merges"] = true.into();
    let known = 1000;
    [
        ("metaspace first, split", words, metaspace("first", true), known),
        ("metaspace always, split", words, metaspace("always", true), known),
        ("metaspace never, split", words, metaspace("never", true), known),
        ("metaspace first, whole", words, metaspace("first", false), known),
        ("metaspace always, whole", words, metaspace("always", false), known),
        ("spaces replaced before they would be split at", words, gemma, known),
        ("spaces stripped", words, stories, known),
        ("words merged only where they are no tokens", words, json!({"model": merging["model"]}), 0),
        (
            "a prefix that is not what spaces become",
            words,
            json!({"normalizer": {"type": "Prepend", "prepend": "▁"}}),
            0,
        ),
        (
            "a normaliser that is not known",
            words,
            json!({"normalizer": {"type": "Strip", "strip_left": true, "strip_right": true}}),
            0,
        ),
        ("gpt-2", bytes, json!({"pre_tokenizer": byte_level(false, true)}), known),
        ("gpt-2 with a space before", bytes, json!({"pre_tokenizer": byte_level(true, true)}), known),
        (
            "smollm",
            bytes,
            sequence(json!([{"type": "Digits", "individual_digits": true}, byte_level(false, true)])),
            known,
        ),
        ("qwen", bytes, with_nfc, known),
        (
            "tekken",
            bytes,
            sequence(json!([split(json!({"Regex": tekken}), "Isolated", false), byte_level(false, false)])),
            known,
        ),
        (
            "gpt-4o",
            bytes,
            sequence(json!([split(json!({"Regex": gpt_4o}), "Removed", true), byte_level(false, false)])),
            known,
        ),
        (
            "prefixes after a split",
            bytes,
            sequence(json!([split(json!({"Regex": qwen}), "Isolated", false), byte_level(true, false)])),
            known,
        ),
        (
            "matches removed",
            bytes,
            sequence(json!([split(json!({"Regex": qwen}), "Removed", false), byte_level(false, false)])),
            0,
        ),
        (
            "a pattern that is not known",
            bytes,
            sequence(json!([split(json!({"Regex": r"\S+ \S+|\s|\S+"}), "Isolated", false), byte_level(false, false)])),
            0,
        ),
        ("an added token of letters", bytes, json!({"added_tokens": added("the cat", json!({}))}), known),
        (
            "an added token that strips",
            bytes,
            json!({"added_tokens": added("cat", json!({"lstrip": true, "rstrip": true}))}),
            known,
        ),
        (
            "an added token that strips, behind a prefix",
            words,
            json!({"added_tokens": added("cat", json!({"lstrip": true, "rstrip": true}))}),
            known,
        ),
        (
            "an added word, normalised",
            words,
            json!({"added_tokens": added("cat", json!({"single_word": true, "normalized": true}))}),
            known,
        ),
        ("an added space", words, json!({"added_tokens": added(" ", json!({}))}), 0),
        ("an added line break", bytes, json!({"added_tokens": added("\n", json!({}))}), known),
    ]
    .map(|(name, base, change, cuts)| (name.to_owned(), base, change, cuts))
    .to_vec()
}
