//! Templates render what transformers renders, to the letter and the id; what cannot be rendered is an error.

use std::path::Path;

use msrnn_models::chat::{ChatTemplate, Message, NaiveDateTime};
use msrnn_models::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::{Map, Value};

fn testdata() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

#[derive(Deserialize)]
struct Golden {
    now: String,
    families: Vec<Family>,
    places: Vec<Place>,
    named: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    config: Map<String, Value>,
    text: String,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    checkpoint: String,
    added: Vec<Value>,
    config: Map<String, Value>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    ids: Option<Vec<u32>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Place {
    config: Map<String, Value>,
    files: Map<String, Value>,
    text: Option<String>,
    error: Option<String>,
}

impl Golden {
    fn now(&self) -> NaiveDateTime {
        self.now.parse().unwrap()
    }
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(testdata().join("goldens/chat.json")).unwrap()).unwrap()
}

impl Family {
    /// Its tokenizer in a directory with these files.
    fn tokenizer(&self, config: &Map<String, Value>, files: &[(&str, &str)]) -> Tokenizer {
        let place = tempfile::tempdir().unwrap();
        let from = testdata().join("checkpoints").join(&self.checkpoint).join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_str(&std::fs::read_to_string(from).unwrap()).unwrap();
        tokenizer["added_tokens"].as_array_mut().unwrap().extend(self.added.iter().cloned());
        let mut all = self.config.clone();
        all.extend(config.clone());
        std::fs::write(place.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(place.path().join("tokenizer_config.json"), Value::Object(all).to_string()).unwrap();
        for (path, text) in files {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Tokenizer::read(place.path(), None).unwrap()
    }
}

#[test]
fn texts_and_ids_of_conversations_are_those_of_transformers() {
    let golden = golden();
    let mut refused = 0;
    for family in &golden.families {
        let template = std::fs::read_to_string(testdata().join(format!("chat/{}.jinja", family.name))).unwrap();
        let tokenizer = family.tokenizer(&Map::new(), &[("chat_template.jinja", &template)]);
        let template = tokenizer.chat().template().unwrap();
        for (number, run) in family.runs.iter().enumerate() {
            let said = format!("{}, run {number}", family.name);
            match template.render(&run.messages, run.add_generation_prompt, golden.now()) {
                Ok(text) => {
                    assert_eq!(Some(&text), run.text.as_ref(), "{said}: {:?}", run.error);
                    assert_eq!(Some(tokenizer.encode(&text).unwrap()), run.ids, "{said}");
                }
                Err(error) => {
                    let expected = run.error.as_ref().unwrap_or_else(|| panic!("{said}: {error}"));
                    assert!(error.to_string().contains(&**expected), "{said}: {error} instead of {expected}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "no conversation was refused");
}

#[test]
fn of_several_templates_the_one_counts_that_transformers_takes() {
    let golden = golden();
    let family = golden.families.iter().find(|family| family.name == "default").unwrap();
    for place in &golden.places {
        let files: Vec<(&str, &str)> =
            place.files.iter().map(|(path, text)| (&**path, text.as_str().unwrap())).collect();
        let tokenizer = family.tokenizer(&place.config, &files);
        let rendered = tokenizer
            .chat()
            .template()
            .and_then(|template| template.render(&[Message::new("user", "the cat")], true, golden.now()));
        match (rendered, &place.text) {
            (Ok(text), expected) => assert_eq!(Some(&text), expected.as_ref(), "{:?}", place.files),
            (Err(error), None) => {
                let error = error.to_string();
                assert!(place.error.is_some() && error.contains("‘chat_template’"), "{error}");
            }
            (Err(error), Some(_)) => panic!("{error}"),
        }
    }
}

#[test]
fn tokens_that_a_template_may_write_have_the_names_that_their_class_gives_them() {
    let golden = golden();
    let family = golden.families.iter().find(|family| family.name == "turns").unwrap();
    let family = Family {
        config: Map::new(),
        added: Vec::new(),
        runs: Vec::new(),
        name: String::new(),
        checkpoint: family.checkpoint.clone(),
    };
    assert!(golden.named.len() > 8);
    for named in &golden.named {
        let template = family.tokenizer(&named.config, &[]).chat().template().unwrap();
        let text = template.render(&[Message::new("user", "x")], false, golden.now()).unwrap();
        assert_eq!(text, named.text, "{:?}", named.config);
    }
}

#[test]
fn templates_that_are_wrong_or_do_not_end_are_errors_with_their_line() {
    let render = |source: &str| {
        let template = ChatTemplate::new(source, [])?;
        template.render(&[Message::new("user", "x")], true, NaiveDateTime::default())
    };
    let fails = |source: &str, words: &[&str]| {
        let error = render(source).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{source:?}: {error}");
    };
    fails("a\n{% for x in %}", &["cannot be read", "line 2"]);
    fails("a\n\n{{ raise_exception('no, thanks') }}", &["no, thanks", "line 3"]);
    fails("{{ messages[0].tool.name }}", &["undefined"]);
    fails("{{ strftime_now('%Q') }}", &["no format of a time"]);
    fails("{{ strftime_now('%z') }}", &["local time"]);
    fails("{{ messages | tojson(ident=2) }}", &["ident"]);
    fails("{{ missing | tojson }}", &["not JSON"]);
    fails("{{ ' now' | nothing }}", &["filter nothing is unknown"]);
    let nested = "{% for a in range(1000) %}".repeat(4);
    fails(&format!("{nested}{}", "{% endfor %}".repeat(4)), &["does not end"]);
    fails(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)), &["cannot be read"]);
    fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", &["recursion"]);
    let template = ChatTemplate::new("x", []).unwrap();
    let error = template.render(&[], true, NaiveDateTime::default()).unwrap_err().to_string();
    assert!(error.contains("give one"), "{error}");
}
