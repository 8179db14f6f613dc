//! States that are saved and taken up again, and shown.

use std::cell::Cell;
use std::path::Path;

use burn::tensor::{DType, Device};
use msrnn_bench::bundled;
use msrnn_bench::experiment::manifest::Source;
use msrnn_bench::precision::Precision;
use msrnn_bench::writing::remembered::{Marking, Remembered};
use msrnn_bench::writing::saved::{Aside, Identity, load, save};
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::{Sampler, Sampling};
use msrnn_models::session::Session;
use msrnn_policies::PolicySpec;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{checkpoint, copy, msrnn, succeeds, text_of};

const STORY: &str = "Once upon a time there was a girl who had a small dog. One day";

/// Bounded and unbounded, one of every kind of state.
const POLICIES: [(&str, Protocol); 11] = [
    ("full", Protocol::Strict),
    ("tova@12", Protocol::Strict),
    ("h2o@12", Protocol::Strict),
    ("window+4@200", Protocol::Strict),
    ("every(5, rkv)@24", Protocol::Strict),
    ("random@12", Protocol::Prefill(10)),
    ("after-prompt(tova)@12", Protocol::Prefill(usize::MAX)),
    ("pooled(snapkv(window=4))@12", Protocol::Prefill(usize::MAX)),
    ("int8(tova, group=4, recent=2)@12", Protocol::Strict),
    ("int4(full, group=4, recent=4)", Protocol::Strict),
    ("heads(0: full, *: tova)@12", Protocol::Strict),
];

fn identity(policy: &str, model: &Model) -> (Identity, msrnn_core::compression::Compression) {
    let compression = policy.parse::<PolicySpec>().unwrap().compression(500, |_| 1).unwrap();
    let source = Source { name: "bundled".into(), sha256: [("config.json".into(), "00".into())].into() };
    let _ = model;
    (Identity::new(source, &compression, Precision::F32, Positions::Original), compression)
}

#[test]
fn a_session_that_is_taken_up_again_goes_on_to_the_bit_as_one_that_never_stopped() {
    let model = bundled::load(DType::F32, &Device::flex()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    for (policy, protocol) in POLICIES {
        let (identity, compression) = identity(policy, &model);
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        let prompt = tokenizer.prompt(STORY).unwrap();
        let later = tokenizer.encode(" The girl said that").unwrap();
        let sampling = Sampling { temperature: 0.9, seed: 11, repetition_penalty: 1.1, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling).unwrap();
        sampler.note(&prompt);
        let mut session = Session::new(&model, &recurrent);
        session.read(&prompt, protocol, |_| true).unwrap();
        for stopped in 0..3 {
            // A stop right after reading, after writing, and after more reading.
            match stopped {
                0 => {}
                1 => drop(session.write(&mut sampler, 7, |_| true).unwrap()),
                _ => {
                    session.read(&later, Protocol::Strict, |_| true).unwrap();
                    sampler.note(&later);
                }
            }
            let aside = Aside { seed: 11, drawn: sampler.at(), said: None };
            save(&path, &identity, session.clone(), aside.clone()).unwrap();
            let (mut again, found) = load(&path, &identity, &model, &recurrent).unwrap();
            assert_eq!((again.ids(), &found), (session.ids(), &aside), "{policy}");
            let mut other = Sampler::new(sampling).unwrap().from(found.drawn);
            other.note(&again.ids());
            let mut own = sampler.clone();
            let mut on = session.clone();
            let mut logits: Vec<Vec<u32>> = Vec::new();
            let bits = |drawn: msrnn_models::session::Drawn<'_>| -> Vec<u32> {
                drawn.logits.iter().map(|logit| logit.to_bits()).collect()
            };
            let expected = on.write(&mut own, 25, |drawn| {
                logits.push(bits(drawn));
                true
            });
            let mut at = 0;
            let found = again.write(&mut other, 25, |drawn| {
                assert!(bits(drawn) == logits[at], "{policy}, stop {stopped}, token {at}");
                at += 1;
                true
            });
            assert_eq!((expected.unwrap().tokens, at), (found.unwrap().tokens, logits.len()), "{policy}");
            let held = |session: &Session<'_>| session.states().iter().map(|state| state.held()).collect::<Vec<_>>();
            assert_eq!(held(&again), held(&on), "{policy}");
        }
    }
}

#[test]
fn the_command_goes_on_token_by_token_where_a_saved_state_was() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("state");
    for policy in [
        &["full"][..],
        &["tova@16"],
        &["h2o@16", "--positions", "in-state"],
        &["snapkv(window=4)@16", "--protocol", "prefill"],
    ] {
        let common = [&["generate", "--json", "--temperature", "0.8", "--seed", "9", "--policy"], policy].concat();
        let whole = succeeds(&[&common[..], &["--prompt", STORY, "--max-new-tokens", "30"]].concat()).json();
        let run = |more: &[&str]| succeeds(&[&common[..], more].concat()).json();
        let begun = run(&["--prompt", STORY, "--max-new-tokens", "11", "--state-out", text_of(&file)]);
        let rest = run(&["--max-new-tokens", "19", "--state-in", text_of(&file), "--state-out", text_of(&file)]);
        let ids = |report: &Value| report["ids"].as_array().unwrap().clone();
        assert_eq!([ids(&begun), ids(&rest)].concat(), ids(&whole), "{policy:?}");
        assert_eq!(begun["text"].as_str().unwrap().to_owned() + rest["text"].as_str().unwrap(), whole["text"]);
        // Read once, asked twice.
        let asked =
            |question: &str| ids(&run(&["--max-new-tokens", "9", "--state-in", text_of(&file), "--prompt", question]));
        assert_eq!(asked(" The dog"), asked(" The dog"));
        assert_ne!(asked(" The dog"), asked(" The girl"));
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_state_of_another_model_policy_precision_or_numbering_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let model = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled"), &place.path().join("model"));
    let file = place.path().join("state");
    let of = |model: &Path, more: &[&str]| {
        let base = ["generate", "--max-new-tokens", "4", "--model", text_of(model)];
        msrnn(&[&base[..], more].concat())
    };
    let saved = of(&model, &["--policy", "tova@16", "--prompt", STORY, "--state-out", text_of(&file)]);
    assert_eq!(saved.code, Some(0), "{saved:?}");
    let take = |model: &Path, more: &[&str]| of(model, &[more, &["--state-in", text_of(&file)]].concat());
    assert_eq!(take(&model, &["--policy", "tova@16"]).code, Some(0));
    let refused = |model: &Path, more: &[&str], words: &[&str]| {
        let done = take(model, more);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{words:?}: {done:?}");
        assert!(done.stdout.is_empty());
    };
    refused(&model, &["--policy", "tova@17"], &["policy tova@16", "not tova@17", "--policy tova@16"]);
    refused(&model, &["--policy", "h2o@16"], &["policy tova@16"]);
    refused(&model, &["--policy", "full"], &["not full"]);
    refused(&model, &["--policy", "tova@16", "--dtype", "bf16"], &["precision f32", "--dtype f32"]);
    refused(&model, &["--policy", "tova@16", "--positions", "in-state"], &["positions original"]);
    refused(&model, &["--policy", "tova@5%"], &["number of states"]);
    refused(&model, &["--policy", "tova@16", "--samples", "2"], &["--temperature"]);
    // The same files under another name are the same model, other content is not.
    let moved = copy(&model, &place.path().join("moved"));
    assert_eq!(take(&moved, &["--policy", "tova@16"]).code, Some(0));
    let config = std::fs::read_to_string(moved.join("config.json")).unwrap();
    std::fs::write(moved.join("config.json"), config.replace("1000000.0", "1000000.5")).unwrap();
    refused(&moved, &["--policy", "tova@16"], &["another model", "config.json"]);
    // A file that is none, a directory, none at all.
    std::fs::write(&file, "{}").unwrap();
    refused(&model, &["--policy", "tova@16"], &["--state-out"]);
    std::fs::remove_file(&file).unwrap();
    refused(&model, &["--policy", "tova@16"], &["cannot read"]);
    std::fs::create_dir(&file).unwrap();
    refused(&model, &["--policy", "tova@16"], &["no file"]);
}

/// A saved state of a small model, and what reads it.
fn small(policy: &str, protocol: Protocol, work: impl Fn(&Path, &Identity, &Model, &Recurrent<'_>)) {
    let model = Model::load(&checkpoint("llama-gqa"), DType::F32, &Device::flex()).unwrap();
    let (identity, compression) = identity(policy, &model);
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
    let mut session = Session::new(&model, &recurrent);
    let prompt: Vec<u32> = (1..40).map(|id| id * 7 % 50).collect();
    session.read(&prompt, protocol, |_| true).unwrap();
    session.write(&mut Sampler::new(Sampling::default()).unwrap(), 3, |_| true).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    save(&path, &identity, session, Aside::default()).unwrap();
    work(&path, &identity, &model, &recurrent);
}

#[test]
fn files_that_are_cut_or_damaged_anywhere_are_errors() {
    small("h2o@8", Protocol::Strict, |path, identity, model, recurrent| {
        let whole = std::fs::read(path).unwrap();
        assert!(load(path, identity, model, recurrent).is_ok());
        let error = |bytes: &[u8]| {
            std::fs::write(path, bytes).unwrap();
            load(path, identity, model, recurrent).map(|_| ()).unwrap_err().to_string()
        };
        for length in (0..whole.len()).step_by(whole.len() / 97).chain(whole.len() - 40..whole.len()) {
            assert!(error(&whole[..length]).contains("‘state_out’"), "{length}");
        }
        for at in (0..whole.len()).step_by(whole.len() / 301) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(error(&bytes).contains("‘state_out’"), "{at}");
        }
    });
}

/// Who damages a file on purpose computes its checksum too. What is then taken has to be a state that can be stepped.
#[test]
fn hostile_files_with_good_checksums_are_errors_or_states_that_can_be_stepped_and_never_panic() {
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    for (policy, protocol) in POLICIES {
        let policy = policy.replace("@200", "@20");
        small(&policy, protocol, |path, identity, model, recurrent| {
            let whole = std::fs::read(path).unwrap();
            let body = whole.len() - 32;
            let header = 16 + u64::from_le_bytes(whole[8..16].try_into().unwrap()) as usize;
            // Names of fields and what is right behind them: lengths, counts, positions, types.
            let names = [
                "batch",
                "slots",
                "seen",
                "held",
                "shape",
                "dtype",
                "bytes",
                "positions",
                "free",
                "heads",
                "layers",
                "memory",
                "latest",
                "first_omission",
                "bound",
                "kv_heads",
                "head_dim",
                "pending",
                "logits",
                "drawn",
            ];
            let places = names.iter().flat_map(|name| {
                let found = whole[header..body].windows(name.len()).enumerate();
                found
                    .filter(|(_, window)| *window == name.as_bytes())
                    .map(|(at, _)| header + at + name.len())
                    .take(2)
                    .collect::<Vec<_>>()
            });
            for (number, place) in places.flat_map(|at| (0..3).map(move |more| at + more)).enumerate() {
                for value in [0x00, 0x3b, 0x9b, whole[place].wrapping_add(1)] {
                    let mut bytes = whole[..body].to_vec();
                    bytes[place] = value;
                    if number % 2 == 0 {
                        // A number of eight bytes in its place.
                        bytes.splice(place..=place, [0x1b, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, value]);
                    }
                    let hash = Sha256::digest(&bytes);
                    bytes.extend(hash);
                    std::fs::write(path, bytes).unwrap();
                    match load(path, identity, model, recurrent) {
                        Err(_) => refused.set(refused.get() + 1),
                        Ok((mut session, _)) => {
                            taken.set(taken.get() + 1);
                            // Numbers may be any; an error is as good as a text.
                            let _ = session.write(&mut Sampler::new(Sampling::default()).unwrap(), 12, |_| true);
                        }
                    }
                }
            }
        });
    }
    assert!(taken.get() > 0 && refused.get() > 1000, "{} taken, {} refused", taken.get(), refused.get());
}

#[test]
fn what_is_shown_is_the_text_with_what_the_states_hold() {
    let model = bundled::load(DType::F32, &Device::flex()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    for (policy, protocol) in [
        ("full", Protocol::Strict),
        ("window@9", Protocol::Strict),
        ("h2o@9", Protocol::Strict),
        ("pooled(snapkv(window=4))@9", Protocol::Prefill(usize::MAX)),
    ] {
        let (_, compression) = identity(policy, &model);
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        let mut session = Session::new(&model, &recurrent);
        session.read(&tokenizer.prompt(STORY).unwrap(), protocol, |_| true).unwrap();
        let remembered = Remembered::of(session.states(), session.seen(), tokenizer).unwrap();
        assert_eq!(remembered.tokens.len(), session.seen().len());
        let text: String = remembered.tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(text, format!("<s>{STORY}"));
        // By the states' own count.
        for (layer, state) in session.states().iter().enumerate() {
            let rows: f64 = remembered.tokens.iter().map(|token| token.held[layer]).sum();
            let held = &state.held()[0];
            let mean = held.iter().map(Vec::len).sum::<usize>() as f64 / held.len() as f64;
            assert!((rows - mean).abs() < 1e-9, "{policy}, layer {layer}");
        }
        let shown = remembered.text(Marking::Brackets, str::to_owned);
        match policy {
            "full" => assert_eq!(shown, text),
            "window@9" => {
                let gone: String =
                    remembered.tokens[..session.seen().len() - 9].iter().map(|token| token.text.as_str()).collect();
                assert_eq!(shown, format!("[-{gone}-]{}", &text[gone.len()..]));
            }
            _ => assert!(shown.contains("[-")),
        }
    }
}

#[test]
fn the_command_shows_what_is_held_in_the_terminal_or_as_a_page() {
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("state.html");
    let base = ["generate", "--policy", "window@8", "--prompt", "Once <b>upon</b> a time", "--max-new-tokens", "9"];
    let plain = succeeds(&base).stdout;
    let done = succeeds(&[&base[..], &["--show-state"]].concat());
    let shown = done.stdout.strip_prefix(&plain).unwrap();
    assert!(shown.starts_with("[-<s>Once <b>") && !shown.contains('\u{1b}'), "{done:?}");
    assert!(done.stderr.contains("tokens seen"), "{done:?}");
    let done = succeeds(&[&base[..], &["--show-state", text_of(&page)]].concat());
    assert_eq!(done.stdout, plain);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("&lt;") && !html.contains("<b>") && html.contains("gone from all layers"), "{html}");
    let json = succeeds(&[&base[..], &["--show-state", "--json"]].concat());
    assert!(json.json()["ids"].is_array() && json.stderr.contains("[-"), "{json:?}");
}
