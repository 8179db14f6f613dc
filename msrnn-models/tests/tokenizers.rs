//! Tokenizers of both families against Hugging Face's libraries, and the laws of streaming on every one.
//!
//! The bundled tokenizer and those of `testdata/checkpoints` are always there; those of Llama 2 and Mistral are not
//! part of this repository, and their tests are ignored where they are absent.

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use msrnn_models::spans::Spans;
use msrnn_models::tokenizer::{Bos, SpecialTokens, TextOptions, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let goldens: Vec<Golden> = read("goldens/tokenizers.json");
    for golden in goldens {
        let directory = place(&golden.tokenizer);
        let there = directory.join("tokenizer.json").is_file();
        let name = golden.tokenizer.clone();
        let (law, at) = (name.clone(), directory.clone());
        trials.push(trial(&name, "gives_the_ids_and_texts_of_hugging_face", there, move || golden.check(&directory)));
        trials.extend(laws(&law, there, move || Tokenizer::read(&at, None).unwrap()));
    }
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../msrnn-bench/bundled");
    trials.extend(laws("bundled", true, move || Tokenizer::read(&bundled, None).unwrap()));
    for (name, base, change, at_least) in variants() {
        trials.push(trial(&name.clone(), PARTS, true, move || {
            let directory = tempfile::tempdir().unwrap();
            let mut json: serde_json::Value = read(&format!("checkpoints/{base}/tokenizer.json"));
            for (key, value) in change.as_object().unwrap() {
                json[key] = value.clone();
            }
            std::fs::write(directory.path().join("tokenizer.json"), json.to_string()).unwrap();
            let cuts = parts_law(&Tokenizer::read(directory.path(), None).unwrap());
            assert!(cuts >= at_least, "{name}: only {cuts} cuts");
            assert!(at_least > 0 || cuts == 0, "{name}: {cuts} cuts of which nothing is known");
        }));
    }
    for (name, json) in OTHERS {
        trials.extend(laws(name, true, || other(json, "{}")));
        trials.extend(laws(&format!("{name}, cleaned"), true, || other(json, CLEANED)));
    }
    trials.push(trial("bos", "is_put_where_transformers_5_puts_it_and_4_is_told_of", true, bos_matrix));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, what: &str, there: bool, run: impl FnOnce() + Send + 'static) -> Trial {
    let run = move || {
        run();
        Ok::<(), Failed>(())
    };
    Trial::test(format!("{name}::{what}"), run).with_ignored_flag(!there)
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

fn place(name: &str) -> PathBuf {
    match name.starts_with("checkpoints/") {
        true => testdata().join(name),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name),
    }
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = testdata().join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// What Hugging Face's libraries make of a tokenizer.
#[derive(Deserialize)]
struct Golden {
    tokenizer: String,
    texts: Vec<GoldenText>,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct GoldenText {
    text: String,
    ids: Vec<u32>,
    with_special: Vec<u32>,
    decoded: String,
    literal: Vec<u32>,
}

#[derive(Deserialize)]
struct Sequence {
    ids: Vec<u32>,
    decoded: String,
}

impl Golden {
    fn check(&self, directory: &Path) {
        let tokenizer = Tokenizer::read(directory, None).unwrap();
        assert!(tokenizer.notes().is_empty(), "{:?}", tokenizer.notes());
        let options = |bos, special_tokens| TextOptions { bos, special_tokens };
        let literal = tokenizer.clone().with(options(Bos::Auto, SpecialTokens::Literal)).unwrap();
        let always = tokenizer.clone().with(options(Bos::Always, SpecialTokens::Auto)).unwrap();
        let never = tokenizer.clone().with(options(Bos::Never, SpecialTokens::Auto)).unwrap();
        assert_eq!((always.prefix().unwrap(), never.prefix().unwrap()), (vec![1], vec![]));
        let prefix = tokenizer.prefix().unwrap();
        for GoldenText { text, ids, with_special, decoded, literal: letters } in &self.texts {
            assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
            assert_eq!(&tokenizer.decode(ids).unwrap(), decoded, "{text:?}");
            assert_eq!(&literal.encode(text).unwrap(), letters, "{text:?}");
            assert_eq!(literal.specials(letters), 0, "{text:?}");
            assert_eq!(tokenizer.specials(ids) > 0, ids != letters, "{text:?}");
            // The one place where a prompt is not Hugging Face's: BOS is not put before one that is spelled.
            let doubled = with_special.strip_prefix(&*prefix).unwrap().starts_with(&prefix) && !prefix.is_empty();
            let expected = if doubled { &with_special[prefix.len()..] } else { with_special };
            assert_eq!(tokenizer.prompt(text).unwrap(), expected, "{text:?}");
            assert_eq!(never.prompt(text).unwrap(), *ids, "{text:?}");
            assert_eq!(always.prompt(text).unwrap().iter().take_while(|&&id| id == 1).count(), 1, "{text:?}");
        }
        for Sequence { ids, decoded } in &self.sequences {
            assert_eq!(&tokenizer.decode(ids).unwrap(), decoded, "{ids:?}");
        }
    }
}

/// The laws of a tokenizer's text.
fn laws(name: &str, there: bool, open: impl Fn() -> Tokenizer + Clone + Send + 'static) -> Vec<Trial> {
    let (first, second, third, fourth) = (open.clone(), open.clone(), open.clone(), open);
    vec![
        trial(name, PARTS, there, move || {
            let cuts = parts_law(&fourth());
            assert!(cuts > 1000, "only {cuts} cuts");
        }),
        trial(name, "what_is_streamed_is_decode_of_all_minus_decode_of_the_prompt", there, move || {
            let tokenizer = first();
            check(&tokenizer, |prompt, new| {
                let mut stream = tokenizer.stream_behind(prompt).unwrap();
                let mut text = String::new();
                for &id in new {
                    let held = stream.held().unwrap();
                    let mut next = stream.clone();
                    text.push_str(&next.push(id).unwrap());
                    // What is held is what would come if nothing else did.
                    assert_eq!(held.unwrap_or_else(|| stream.clone().finish().unwrap()), stream.finish().unwrap());
                    stream = next;
                }
                text.push_str(&stream.finish().unwrap());
                assert_eq!(text, tokenizer.continuation(prompt, new).unwrap());
                let all = tokenizer.decode(&[prompt, new].concat()).unwrap();
                if let Some(rest) = all.strip_prefix(&*tokenizer.decode(prompt).unwrap()) {
                    assert_eq!(text, rest);
                }
            });
        }),
        trial(name, "what_comes_is_never_taken_back", there, move || {
            let tokenizer = second();
            check(&tokenizer, |prompt, new| {
                let mut stream = tokenizer.stream_behind(prompt).unwrap();
                let mut text = String::new();
                for (n, &id) in new.iter().enumerate() {
                    text.push_str(&stream.push(id).unwrap());
                    let so_far = tokenizer.continuation(prompt, &new[..=n]).unwrap();
                    assert!(so_far.starts_with(&text), "{text:?} of {so_far:?}");
                    assert_eq!(format!("{text}{}", stream.clone().finish().unwrap()), so_far);
                }
            });
        }),
        trial(name, "the_texts_of_ids_are_the_text", there, move || {
            let tokenizer = third();
            check(&tokenizer, |prompt, new| {
                let ids = [prompt, new].concat();
                let (text, ends) = tokenizer.decode_with_ends(&ids).unwrap();
                assert_eq!((text.clone(), ends.len()), (tokenizer.decode(&ids).unwrap(), ids.len()));
                assert!(ends.is_sorted() && ends.iter().all(|&end| text.is_char_boundary(end)));
                assert_eq!(ends.last().copied().unwrap_or(0), text.len());
            });
        }),
    ]
}

const PARTS: &str = "parts_have_the_ids_and_bytes_of_the_whole_wherever_a_text_is_cut";

/// The parts of texts have the ids and bytes of the whole, cut at every place there is. The number of cuts.
fn parts_law(tokenizer: &Tokenizer) -> usize {
    let literal = TextOptions { special_tokens: SpecialTokens::Literal, ..TextOptions::default() };
    let both = [tokenizer.clone(), tokenizer.clone().with(literal).unwrap()];
    let spans = both.each_ref().map(Spans::new);
    // What texts are made of, with what ids stand for, special tokens among it.
    let mut pieces: Vec<String> = [
        "a", "b", "the", "cat", "I", "don't", "it's", "é", "ё", "字", "ü\u{301}", "e\u{301}", "\u{301}", "1", "23", "4567",
        "½", ".", ",", "。", "!?", "'", "'s", "/", "▁", "Ġ", "<", "s>", "</s>", "<s>", "[UNK]", "\u{feff}", "\u{200d}", "🐶",
        "\t", "\r\n", "\n\n", "\u{a0}", "\u{3000}", "ﬁ", "ŉ", "가", "ا",
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
fn variants() -> Vec<(String, &'static str, serde_json::Value, usize)> {
    use serde_json::json;
    let (words, bytes) = ("llama-tied", "llama3-rope");
    let added = |content: &str, flags: serde_json::Value| {
        let mut token = json!({"id": 3, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false});
        flags.as_object().unwrap().iter().for_each(|(key, value)| token[key] = value.clone());
        json!([{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true}, token])
    };
    let metaspace = |scheme: &str, split: bool| json!({"normalizer": null, "pre_tokenizer": {"type": "Metaspace",
        "replacement": "▁", "prepend_scheme": scheme, "split": split}});
    let split = |pattern: serde_json::Value, behavior: &str, invert: bool| json!({"type": "Split", "pattern": pattern,
        "behavior": behavior, "invert": invert});
    let byte_level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix,
        "trim_offsets": true, "use_regex": regex});
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
        ("a prefix that is not what spaces become", words, json!({"normalizer": {"type": "Prepend", "prepend": "▁"}}), 0),
        ("a normaliser that is not known", words, json!({"normalizer": {"type": "Strip", "strip_left": true, "strip_right": true}}), 0),
        ("gpt-2", bytes, json!({"pre_tokenizer": byte_level(false, true)}), known),
        ("gpt-2 with a space before", bytes, json!({"pre_tokenizer": byte_level(true, true)}), known),
        ("smollm", bytes, sequence(json!([{"type": "Digits", "individual_digits": true}, byte_level(false, true)])), known),
        ("qwen", bytes, with_nfc, known),
        ("tekken", bytes, sequence(json!([split(json!({"Regex": tekken}), "Isolated", false), byte_level(false, false)])), known),
        ("gpt-4o", bytes, sequence(json!([split(json!({"Regex": gpt_4o}), "Removed", true), byte_level(false, false)])), known),
        ("prefixes after a split", bytes, sequence(json!([split(json!({"Regex": qwen}), "Isolated", false), byte_level(true, false)])), known),
        ("matches removed", bytes, sequence(json!([split(json!({"Regex": qwen}), "Removed", false), byte_level(false, false)])), 0),
        ("a pattern that is not known", bytes, sequence(json!([split(json!({"Regex": r"\S+ \S+|\s|\S+"}), "Isolated", false), byte_level(false, false)])), 0),
        ("an added token of letters", bytes, json!({"added_tokens": added("the cat", json!({}))}), known),
        ("an added token that strips", bytes, json!({"added_tokens": added("cat", json!({"lstrip": true, "rstrip": true}))}), known),
        ("an added token that strips, behind a prefix", words, json!({"added_tokens": added("cat", json!({"lstrip": true, "rstrip": true}))}), known),
        ("an added word, normalised", words, json!({"added_tokens": added("cat", json!({"single_word": true, "normalized": true}))}), known),
        ("an added space", words, json!({"added_tokens": added(" ", json!({}))}), 0),
        ("an added line break", bytes, json!({"added_tokens": added("\n", json!({}))}), known),
    ]
    .map(|(name, base, change, cuts)| (name.to_owned(), base, change, cuts))
    .to_vec()
}

/// Ids of a tokenizer, often bytes and few others, and unknown ones.
fn check(tokenizer: &Tokenizer, law: impl Fn(&[u32], &[u32])) {
    let size = u32::try_from(tokenizer.end_of_ids()).unwrap();
    // Where byte tokens are in the files of Llama 2, Mistral and the small ones; signs of bytes in GPT-2's.
    let id = || prop_oneof![3 => 0..size.min(300), 2 => 3..size.min(15), 2 => 0..size, 1 => Just(size + 7)];
    let ids = |most| prop::collection::vec(id(), 0..most);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(ids(12), ids(24)), |(prompt, new)| {
        law(&prompt, &new);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Decoders that no checkpoint here has.
const OTHERS: [(&str, &str); 5] = [
    ("no decoder", "null"),
    ("metaspace", r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#),
    ("word pieces", r###"{"type": "WordPiece", "prefix": "##", "cleanup": true}"###),
    ("word ends, which need all tokens", r#"{"type": "BPEDecoder", "suffix": "</w>"}"#),
    (
        "bytes before metaspace, and strip",
        r#"{"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "first", "split": true}, {"type": "Fuse"},
            {"type": "Strip", "content": "t", "start": 2, "stop": 0}, {"type": "Strip", "content": "h", "start": 1, "stop": 0}]}"#,
    ),
];

const CLEANED: &str = r#"{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": true}"#;

fn other(decoder: &str, config: &str) -> Tokenizer {
    let pieces = [
        "[UNK]", "<s>", "▁", "▁t", "t", "h", "##h", " .", " ", ".", "'", " '", "n't", "s", " n", "<0xE2>", "<0x82>",
        "<0xAC>", "<0x61>", "<0xFF>", "the</w>", "é", "▁'", "!", "ve",
    ];
    let vocab: Vec<String> =
        pieces.iter().enumerate().map(|(id, piece)| format!("{}: {id}", serde_json::json!(piece))).collect();
    let special = r#"{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}"#;
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{special}], "normalizer": null,
            "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": null, "decoder": {decoder},
            "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "[UNK]"}}}}"#,
        vocab.join(", ")
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), json).unwrap();
    std::fs::write(directory.path().join("tokenizer_config.json"), config).unwrap();
    Tokenizer::read(directory.path(), None).unwrap()
}

#[derive(Deserialize)]
struct Matrix {
    case: Case,
    #[serde(rename = "transformers 4.57.3")]
    four: (Vec<u32>, Vec<u32>),
    #[serde(rename = "transformers 5.23.0")]
    five: (Vec<u32>, Vec<u32>),
}

#[derive(Debug, Deserialize)]
struct Case {
    tokenizer_class: Option<String>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    template: String,
}

/// Templates against `tokenizer_config.json`, as both versions of transformers read them.
fn bos_matrix() {
    let json: serde_json::Value = read("checkpoints/llama-tied/tokenizer.json");
    let lines: Vec<Matrix> = read("goldens/bos.json");
    assert!(lines.len() > 100);
    for Matrix { case, four, five } in lines {
        let mut tokenizer = json.clone();
        let special = |token: &str| serde_json::json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        let single = match &*case.template {
            "bos" => vec![special("<s>"), text],
            "none" => vec![text],
            "eos" => vec![text, special("</s>")],
            "both" => vec![special("<s>"), text, special("</s>")],
            _ => vec![],
        };
        tokenizer["post_processor"]["single"] = single.clone().into();
        tokenizer["post_processor"]["special_tokens"]["</s>"] =
            serde_json::json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
        if single.is_empty() {
            tokenizer["post_processor"] = serde_json::Value::Null;
        }
        let mut config = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
        let set = [
            ("tokenizer_class", case.tokenizer_class.clone().map(Into::into)),
            ("add_bos_token", case.add_bos_token.map(Into::into)),
            ("add_eos_token", case.add_eos_token.map(Into::into)),
        ];
        for (key, value) in set {
            if let Some(value) = value {
                config[key] = value;
            }
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let read = Tokenizer::read(directory.path(), None).unwrap();
        assert_eq!(read.prefix().unwrap(), five.0, "{case:?}");
        let told = |what: &str| read.notes().iter().any(|note| note.contains(what));
        assert_eq!(told("transformers 4 puts"), four.0 != five.0, "{case:?}: {:?}", read.notes());
        assert_eq!(told("behind a text"), !five.1.is_empty(), "{case:?}: {:?}", read.notes());
        let always = read.with(TextOptions { bos: Bos::Always, ..TextOptions::default() }).unwrap();
        assert_eq!(always.prefix().unwrap(), [1]);
    }
}
