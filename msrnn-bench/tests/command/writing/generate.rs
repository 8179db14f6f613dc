//! Options of `msrnn generate`.

use serde_json::{Value, json};

use super::{fed, lines, talker};
use crate::common::{msrnn, succeeds, text_of, write};

const STORY: &str = "Once upon a time there was a girl.";

fn generate(more: &[&str]) -> Value {
    succeeds(&[&["generate", "--json", "--policy", "tova@32", "--max-new-tokens", "40"], more].concat()).json()
}

fn refused(more: &[&str], words: &[&str]) {
    let done = msrnn(&[&["generate", "--policy", "full", "--max-new-tokens", "5"], more].concat());
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
}

#[test]
fn a_prompt_from_a_file_or_standard_input_is_the_prompt() {
    let place = tempfile::tempdir().unwrap();
    let file = write(place.path(), "prompt.txt", STORY);
    let expected = generate(&["--prompt", STORY]);
    assert_eq!(generate(&["--prompt-file", text_of(&file)])["ids"], expected["ids"]);
    let done = fed(&["generate", "--policy", "tova@32", "--max-new-tokens", "40", "--prompt-file", "-"], STORY);
    assert_eq!(done.stdout, format!("{}\n", expected["text"].as_str().unwrap()));
    assert!(
        done.stderr.contains("read ") && done.stderr.contains(&format!("wrote {} tokens in", expected["tokens"])),
        "{done:?}"
    );
    refused(&["--prompt-file", text_of(&place.path().join("none"))], &["none"]);
    let odd = write(place.path(), "odd.txt", b"caf\xe9 \xff");
    refused(&["--prompt-file", text_of(&odd)], &["odd.txt"]);
    refused(&["--prompt", "a", "--prompt-file", "-"], &["cannot be used with"]);
}

#[test]
fn reading_and_writing_are_timed_apart() {
    let found = generate(&["--prompt", STORY]);
    assert_eq!(found["prompt"]["tokens"], found["prompt_tokens"]);
    assert_eq!(found["decoding"]["tokens"], found["tokens"]);
    let [read, wrote, all] = [&found["prompt"]["seconds"], &found["decoding"]["seconds"], &found["seconds"]]
        .map(|seconds| seconds.as_f64().unwrap());
    assert!(read > 0.0 && wrote > 0.0 && read + wrote <= all, "{found}");
    let rate = found["decoding"]["tokens_per_second"].as_f64().unwrap();
    assert!((rate * wrote - found["tokens"].as_f64().unwrap()).abs() < 1e-6, "{found}");
}

#[test]
fn a_text_ends_before_a_stop_text_wherever_tokens_end_and_shows_nothing_of_it() {
    let whole = generate(&["--prompt", STORY]);
    let text = whole["text"].as_str().unwrap();
    // Parts of words: they begin and end inside tokens.
    let signs: Vec<char> = text.chars().collect();
    for from in (0..signs.len() - 5).step_by(9) {
        let stop: String = signs[from..from + 5].iter().collect();
        let expected = &text[..text.find(&stop).unwrap()];
        let found = generate(&["--prompt", STORY, "--stop", "never in it", "--stop", &stop]);
        assert_eq!((found["text"].as_str(), &found["stop"]), (Some(expected), &json!("stop-text")), "{stop:?}");
        assert!(found["tokens"].as_u64() <= whole["tokens"].as_u64() && found["complete"] == true);
    }
    let stop: String = signs[12..17].iter().collect();
    let arguments = ["generate", "--policy", "tova@32", "--max-new-tokens", "40", "--prompt", STORY, "--stop", &stop];
    assert_eq!(succeeds(&arguments).stdout, format!("{STORY}{}\n", &text[..text.find(&stop).unwrap()]));
    refused(&["--prompt", STORY, "--stop", ""], &["stop text is empty"]);
}

#[test]
fn samples_are_what_runs_of_their_own_with_the_next_seeds_write() {
    let found = generate(&["--prompt", STORY, "--temperature", "1", "--seed", "5", "--samples", "3"]);
    let samples = found["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    for (index, sample) in samples.iter().enumerate() {
        let seed = (5 + index).to_string();
        let alone = generate(&["--prompt", STORY, "--temperature", "1", "--seed", &seed]);
        for key in ["ids", "text", "stop", "omitted", "seed"] {
            assert_eq!(sample[key], alone[key], "{key} of sample {index}");
        }
    }
    assert_ne!(samples[0]["ids"], samples[1]["ids"]);
    refused(&["--samples", "2"], &["--temperature"]);
    refused(&["--samples", "2", "--temperature", "1", "--show-state"], &["--show-state"]);
}

#[test]
fn log_probabilities_are_of_the_model_whatever_the_draw_is_narrowed_by() {
    let plain = generate(&["--prompt", STORY, "--logprobs", "3"]);
    let tokens = plain["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, plain["tokens"].as_u64().unwrap());
    let mut text = String::new();
    for (token, id) in tokens.iter().zip(plain["ids"].as_array().unwrap()) {
        assert_eq!(&token["id"], id);
        text.push_str(token["token"].as_str().unwrap());
        let top = token["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["id"]), (3, id), "greedy takes the most likely");
        assert_eq!(top[0]["logprob"], token["logprob"]);
        let of = |at: usize| top[at]["logprob"].as_f64().unwrap();
        assert!(of(0) <= 0.0 && of(0) >= of(1) && of(1) >= of(2), "{token}");
    }
    assert_eq!(text, plain["text"].as_str().unwrap());
    let narrow = ["--temperature", "0.01", "--top-k", "1", "--min-p", "0.9", "--repetition-penalty", "1.0000001"];
    let narrowed = generate(&[&["--prompt", STORY, "--logprobs", "3"], &narrow[..]].concat());
    assert_eq!(narrowed["logprobs"][0], plain["logprobs"][0]);
    assert!(generate(&["--prompt", STORY])["logprobs"].is_null());
    refused(&["--logprobs", "3"], &["--json"]);
}

#[test]
fn a_repetition_penalty_keeps_the_words_of_the_prompt_away() {
    let strong = generate(&["--prompt", STORY, "--repetition-penalty", "1000", "--logprobs", "0"]);
    let ids = strong["ids"].as_array().unwrap();
    let once: std::collections::BTreeSet<_> = ids.iter().map(Value::to_string).collect();
    assert_eq!(once.len(), ids.len(), "no token comes twice: {ids:?}");
    assert_ne!(generate(&["--prompt", STORY])["ids"], strong["ids"]);
    for (option, value, words) in [
        ("--repetition-penalty", "0", "above 0"),
        ("--repetition-penalty", "-1", "above 0"),
        ("--min-p", "1.5", "from 0 to 1"),
        ("--min-p", "nan", "from 0 to 1"),
    ] {
        refused(&[option, value], &[words]);
    }
}

#[test]
fn a_model_without_a_chat_template_is_refused_with_the_remedy_and_takes_another() {
    let place = tempfile::tempdir().unwrap();
    refused(&["--chat", "--prompt", "Hello"], &["no chat template", "--chat-template"]);
    let template = write(place.path(), "lines.jinja", lines());
    let model = talker(place.path(), "{{ raise_exception('not I') }}");
    let chat = ["--chat", "--prompt", "Who owns the dog?", "--model", text_of(&model)];
    refused(&chat, &["not I"]);
    let other = [&chat[..], &["--chat-template", text_of(&template)]].concat();
    let found = generate(&other);
    // Its text, with nothing before it.
    let rendered = "<|user|>\nWho owns the dog?</s>\n<|assistant|>\n";
    let tokenizer = msrnn_models::tokenizer::Tokenizer::read(&model, None).unwrap();
    assert_eq!(found["prompt_tokens"], tokenizer.encode(rendered).unwrap().len());
    let system = generate(&[&other[..], &["--system", "You know."]].concat());
    let rendered = format!("<|system|>\nYou know.</s>\n{rendered}");
    assert_eq!(system["prompt_tokens"], tokenizer.encode(&rendered).unwrap().len());
    refused(&[&other[..], &["--bos", "always"]].concat(), &["--bos"]);
    refused(&[&other[..], &["--special-tokens", "literal"]].concat(), &["--special-tokens"]);
    refused(&["--system", "x"], &["--chat"]);
    refused(&["--chat", "--model", text_of(&model)], &["--prompt"]);
}
