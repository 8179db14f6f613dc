//! Tokenizers of both families against Hugging Face's libraries, and the laws of streaming on every one.
//!
//! The bundled tokenizer and those of `testdata/checkpoints` are always there; those of Llama 2 and Mistral are not
//! part of this repository, and their tests are ignored where they are absent. `MSRNN_TOKENIZER=DIR` puts one of your own to
//! the law of parts.

#[path = "tokenizer_parts/mod.rs"]
mod parts;

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use msrnn_models::tokenizer::{Bos, SpecialTokens, TextOptions, Tokenizer};
use parts::{PARTS, parts_law, variants};
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
    // One of your own, and one that came with a checkpoint.
    let own = std::env::var_os("MSRNN_TOKENIZER").map_or_else(|| place("stories260K"), PathBuf::from);
    let there = own.join("tokenizer.json").is_file();
    trials.push(trial("MSRNN_TOKENIZER", PARTS, there, move || {
        assert!(parts_law(&Tokenizer::read(&own, None).unwrap()) > 1000);
    }));
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
        // The model's BOS, for the tokenizers that name none: it is put where it is asked for alone.
        let tokenizer = Tokenizer::read(directory, Some(1)).unwrap();
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
