//! How texts are cut before their parts become tokens, by the names that GGUF files have for it.

use serde_json::{Value, json};

use super::super::metadata::shown;

/// Llama 3's.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's, of Nemo and later.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expressions that transformers knows, with all their names; the first is the one that is written.
const CUTS: [(&str, &[&str]); 4] = [
    (
        LLAMA3,
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
            "dbrx",
            "smaug-bpe",
        ],
    ),
    (TEKKEN, &["tekken"]),
    (QWEN2, &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"]),
    (GPT4O, &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"]),
];
/// Names of GPT-2's way.
const GPT2: [&str; 6] = ["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"];
/// What converters write that do not know the way.
const UNKNOWN: &str = "default";
/// Names of GPT-2's way with every digit on its own, which transformers takes for GPT-2's.
const DIGITS: [&str; 7] = ["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"];

/// How texts are cut.
#[derive(Clone, Debug)]
pub(crate) struct PreTokenizer {
    /// As in `tokenizer.json`.
    pub(crate) json: Value,
    /// What is to be said about it.
    pub(crate) note: Option<String>,
}

impl PreTokenizer {
    /// The one of that name; GPT-2's where a file has none.
    ///
    /// # Errors
    ///
    /// When nothing is known of the name.
    pub(crate) fn of(name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name.filter(|name| *name != UNKNOWN) else {
            let note = "the file does not say how texts are cut (`tokenizer.ggml.pre`); GPT-2's way is taken, as in \
                        transformers, which may not be the model's; a newer file says it";
            return Ok(Self { json: gpt2(), note: Some(note.into()) });
        };
        if let Some((expression, _)) = CUTS.iter().find(|(_, names)| names.contains(&name)) {
            return Ok(Self { json: split(expression), note: None });
        }
        if GPT2.contains(&name) {
            return Ok(Self { json: gpt2(), note: None });
        }
        if DIGITS.contains(&name) {
            let note = format!(
                "the file's way to cut texts, {name:?}, parts digits from what stands before them; transformers takes it for \
                 GPT-2's, and so does this: where several spaces or line breaks stand before a digit, ids are others than \
                 those of llama.cpp and of the model's own tokenizer.json"
            );
            return Ok(Self { json: gpt2(), note: Some(note) });
        }
        Err(format!(
            "nothing is known of the way to cut texts that is called {} (`tokenizer.ggml.pre`), and another would give \
             other ids; take the model's directory with its {}, or give token ids instead of text",
            shown(name),
            crate::tokenizer::TOKENIZER
        ))
    }

    /// The name of one of a `tokenizer.json`, if it has one.
    pub(crate) fn name_of(json: &Value) -> Option<&'static str> {
        let plain = |json: &Value, regex: bool| {
            json["type"] == "ByteLevel"
                && json["add_prefix_space"] == false
                && json["use_regex"].as_bool().unwrap_or(true) == regex
        };
        if plain(json, true) {
            return Some(GPT2[0]);
        }
        match json["pretokenizers"].as_array().map(Vec::as_slice) {
            Some([first, second]) if first["type"] == "Digits" => {
                (first["individual_digits"] == true && plain(second, true)).then_some(DIGITS[0])
            }
            Some([first, second]) if first["type"] == "Split" => {
                let whole =
                    first["behavior"] == "Isolated" && first["invert"].as_bool() != Some(true) && plain(second, false);
                let expression = first["pattern"]["Regex"].as_str().filter(|_| whole)?;
                let (_, names) = CUTS.iter().find(|(known, _)| *known == expression)?;
                names.first().copied()
            }
            _ => None,
        }
    }
}

fn gpt2() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
}

fn split(expression: &str) -> Value {
    json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back_and_unknown_ones_are_refused() {
        for name in ["llama-bpe", "tekken", "qwen2", "gpt-4o", "gpt-2"] {
            let pre = PreTokenizer::of(Some(name)).unwrap();
            assert_eq!((PreTokenizer::name_of(&pre.json), pre.note), (Some(name), None));
        }
        let digits =
            json!({ "type": "Sequence", "pretokenizers": [{ "type": "Digits", "individual_digits": true }, gpt2()] });
        assert_eq!(PreTokenizer::name_of(&digits), Some("smollm"));
        assert!(PreTokenizer::of(Some("smollm")).unwrap().note.unwrap().contains("digit"));
        for unsaid in [None, Some("default")] {
            assert!(PreTokenizer::of(unsaid).unwrap().note.unwrap().contains("does not say"));
        }
        let error = PreTokenizer::of(Some("deepseek-llm")).unwrap_err();
        assert!(error.contains("deepseek-llm") && error.contains("tokenizer.json"), "{error}");
        assert_eq!(PreTokenizer::name_of(&json!({ "type": "Whitespace" })), None);
    }
}
