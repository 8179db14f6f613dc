//! Tokenizer files with settings that are not obeyed, and files that are wrong: an error each, never a panic.

mod chat_templates;

use std::path::Path;

use msrnn_models::tokenizer::{Bos, TextOptions, Tokenizer};
use serde_json::{Value, json};

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints").join(name).join("tokenizer.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn changed(change: impl FnOnce(&mut Value)) -> Tokenizer {
    let mut json = file("llama-tied");
    change(&mut json);
    Tokenizer::from_bytes(json.to_string().as_bytes(), None).unwrap()
}

const TEXT: &str = "the cat and the cat on the sea, the cat and the cat";

#[test]
fn truncation_and_padding_of_the_file_are_off() {
    let plain = changed(|_| {});
    let ids = plain.encode(TEXT).unwrap();
    assert!(ids.len() > 16);
    // A stride as long as the text makes the library panic when it is obeyed.
    for (length, stride) in [(16, 0), (4, 8), (0, 0)] {
        let odd = changed(|json| {
            json["truncation"] = json!({"direction": "Right", "max_length": length, "strategy": "LongestFirst",
                "stride": stride});
            json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
        });
        assert_eq!((odd.encode(TEXT).unwrap(), odd.prefix().unwrap()), (ids.clone(), vec![1]));
        assert!(odd.notes().is_empty(), "{:?}", odd.notes());
    }
}

#[test]
fn dropout_of_the_file_is_off_and_said() {
    let ids = changed(|_| {}).encode(TEXT).unwrap();
    for dropout in [0.1, 1.0] {
        let odd = changed(|json| json["model"]["dropout"] = json!(dropout));
        assert!((0..20).all(|_| odd.encode(TEXT).unwrap() == ids));
        assert!(matches!(odd.notes(), [note] if note.contains("dropout") && note.contains("off")), "{:?}", odd.notes());
    }
    assert!(changed(|json| json["model"]["dropout"] = json!(0.0)).notes().is_empty());
}

#[test]
fn what_a_template_puts_behind_a_text_is_no_prefix_and_said() {
    let behind = changed(|json| {
        json["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1],
            "trim_offsets": true, "add_prefix_space": true});
    });
    assert_eq!(behind.prefix().unwrap(), [1]);
    assert_eq!(behind.prompt("the cat").unwrap(), [1, 48, 51]);
    assert!(behind.notes()[0].contains("[2] behind"), "{:?}", behind.notes());
}

#[test]
fn where_nothing_is_put_before_a_text_the_bos_of_the_model_is_put_only_when_asked_for() {
    let json = file("yi-theta").to_string();
    let tokenizer = Tokenizer::from_bytes(json.as_bytes(), Some(1)).unwrap();
    assert!(tokenizer.prefix().unwrap().is_empty());
    let always = TextOptions { bos: Bos::Always, ..TextOptions::default() };
    assert_eq!(tokenizer.with(always).unwrap().prompt("the cat").unwrap(), [1, 48, 51]);
    let error = Tokenizer::from_bytes(json.as_bytes(), None).unwrap().with(always).unwrap_err().to_string();
    assert!(error.contains("‘bos’"), "{error}");
}

#[test]
fn a_special_token_of_the_configuration_is_special_in_the_text() {
    let mut json = file("llama-tied");
    json["added_tokens"] = json!([]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), json.to_string()).unwrap();
    let bare = Tokenizer::read(directory.path(), None).unwrap();
    assert_eq!(bare.decode(&[48, 2]).unwrap(), "the</s>");
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true}, "add_bos_token": true});
    std::fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let named = Tokenizer::read(directory.path(), None).unwrap();
    assert_eq!((named.decode(&[48, 2]).unwrap(), named.encode("the</s>").unwrap()), ("the".into(), vec![48, 2]));
    std::fs::write(directory.path().join("tokenizer_config.json"), "{\"add_bos_token\": \"yes\"}").unwrap();
    let error = Tokenizer::read(directory.path(), None).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json"), "{error}");
}

/// Every wrong file is an error when it is read, or when a text is encoded or decoded.
#[test]
fn wrong_files_are_errors_and_never_panics() {
    let template =
        |pieces: Value| json!({"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}});
    let part = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = || json!({"Sequence": {"id": "A", "type_id": 0}});
    let second = json!({"Sequence": {"id": "B", "type_id": 0}});
    let wrong: Vec<(&str, Value)> = vec![
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAA"})),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="})),
        ("normalizer", json!({"type": "Replace", "pattern": {"Regex": "(("}, "content": " "})),
        ("decoder", json!({"type": "Replace", "pattern": {"Regex": "(("}, "content": " "})),
        (
            "decoder",
            json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "[a"}, "content": ""}]}),
        ),
        ("decoder", json!(7)),
        ("decoder", json!({"type": "Strip", "content": "t", "start": 1, "stop": 9})),
        ("post_processor", template(json!([part("<nowhere>"), text()]))),
        ("post_processor", template(json!([part("<nowhere>")]))),
        ("post_processor", template(json!([text(), text()]))),
        ("post_processor", template(json!([second]))),
        ("pre_tokenizer", json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false})),
        ("model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})),
        ("model", json!([])),
        ("added_tokens", json!([{"id": 0}])),
        ("version", json!("2.0")),
    ];
    for (key, value) in wrong {
        let mut json = file("llama-tied");
        json[key] = value.clone();
        let result = Tokenizer::from_bytes(json.to_string().as_bytes(), None).and_then(|tokenizer| {
            let ids = tokenizer.encode("the cat\u{fb01} é t")?;
            tokenizer.decode(&ids)?;
            tokenizer.decode(&[])?;
            let mut stream = tokenizer.stream()?;
            ids.iter().try_for_each(|&id| stream.push(id).map(|_| ()))?;
            stream.finish()
        });
        let error = result.map(|text| panic!("{key}: {value} gives {text:?}")).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer: "), "{key}: {value}: {error}");
    }
}
