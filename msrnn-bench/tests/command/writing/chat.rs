//! Conversations in bounded memory.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device};
use msrnn_bench::writing::conversation::{Conversation, Said, opening};
use msrnn_bench::writing::{Ended, Writing};
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use msrnn_models::chat::{ChatTemplate, Message, NaiveDateTime};
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::{Sampler, Sampling};
use msrnn_models::session::Session;
use msrnn_policies::PolicySpec;
use serde_json::json;

use super::{fed, lines, talker};
use crate::common::{PATIENCE, configure, succeeds, text_of};

const TURNS: [&str; 3] = ["Who owns the small dog?", "Once upon a time there was a girl.", "Where does she live?"];

/// Takes turns with a model under a policy: every session after a turn, and whether it was read again.
fn talk(
    policy: &str,
    protocol: Protocol,
    template: &str,
    mut each: impl FnMut(usize, &Session<'_>, &[usize], bool, &Model, &Recurrent<'_>),
) {
    let place = tempfile::tempdir().unwrap();
    let model = Model::load(&talker(place.path(), template), DType::F64, &Device::flex()).unwrap();
    let compression = policy.parse::<PolicySpec>().unwrap().compression(500, |_| 1).unwrap();
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
    let template = model.tokenizer().unwrap().chat().template().unwrap();
    let mut conversation =
        Conversation::new(&template, model.tokenizer().unwrap(), Said::default(), NaiveDateTime::default());
    let mut session = Session::new(&model, &recurrent);
    // Where readings end.
    let mut reads = Vec::new();
    for (number, said) in TURNS.iter().enumerate() {
        let turn = conversation.say(Message::new("user", said), &session.ids()).unwrap();
        let fresh = || Session::new(&model, &recurrent);
        assert!(turn.read(&mut session, fresh, protocol, |_| true).unwrap());
        reads.push(session.seen().len());
        let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed: 4, ..Sampling::default() }).unwrap();
        let writing = Writing { max_new_tokens: 15, stop: &[], logprobs: None };
        let never = std::sync::atomic::AtomicBool::new(false);
        let written =
            writing.write(&mut session, model.tokenizer().unwrap(), &mut sampler, &never, |_| Ok(()), || {}).unwrap();
        assert_ne!(written.ended, Ended::Interrupted);
        each(number, &session, &reads, turn.again, &model, &recurrent);
        conversation.answered(turn, &written);
    }
}

#[test]
fn a_conversation_by_turns_reads_only_what_is_new_and_leaves_the_states_that_its_ids_leave_at_once() {
    for (policy, protocol) in [
        ("full", Protocol::Strict),
        ("tova@24", Protocol::Strict),
        ("window+4@24", Protocol::Prefill(usize::MAX)),
        ("h2o@24", Protocol::Strict),
        ("every(8, tova)@24", Protocol::Strict),
        ("snapkv(window=4)@24", Protocol::Prefill(usize::MAX)),
    ] {
        let (mut before, mut turns) = (0, 0);
        talk(policy, protocol, &lines(), |number, session, reads, again, model, recurrent| {
            assert!(!again || number == 0, "{policy}, turn {number}");
            assert!(session.seen().len() > before);
            // All at once, but for the first turn, which the protocol takes.
            let mut plain = Session::new(model, recurrent);
            let (first, rest) = session.seen().split_at(reads[0]);
            plain.read(first, protocol, |_| true).unwrap();
            plain.read(rest, Protocol::Strict, |_| true).unwrap();
            let held = |session: &Session<'_>| session.states().iter().map(MultiState::held).collect::<Vec<_>>();
            assert_eq!(held(session), held(&plain), "{policy}, turn {number}");
            let (found, expected) = (session.clone().into_parts().logits.unwrap(), plain.into_parts().logits.unwrap());
            let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{policy}, turn {number}: {far}");
            (before, turns) = (session.seen().len(), turns + 1);
        });
        assert_eq!(turns, TURNS.len());
    }
}

#[test]
fn a_template_that_changes_what_was_said_is_read_again_from_the_beginning() {
    let forgets = "{{ messages[-1].content }}</s>{{ messages | length }}";
    talk("tova@24", Protocol::Strict, forgets, |number, session, reads, again, model, recurrent| {
        assert_eq!(again, number > 0, "turn {number}");
        let text = format!("{}</s>{}", TURNS[number], 2 * number + 1);
        let expected = model.tokenizer().unwrap().encode(&text).unwrap();
        assert_eq!((reads[number], &session.seen()[..expected.len()]), (expected.len(), &expected[..]));
        let mut plain = Session::new(model, recurrent);
        plain.read(session.seen(), Protocol::Strict, |_| true).unwrap();
        let held = |session: &Session<'_>| session.states().iter().map(MultiState::held).collect::<Vec<_>>();
        assert_eq!(held(session), held(&plain));
    });
}

#[test]
fn an_answer_in_other_tokens_than_its_text_is_cut_into_is_not_read_again() {
    let place = tempfile::tempdir().unwrap();
    let model = Model::load(&talker(place.path(), &lines()), DType::F32, &Device::flex()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let template = ChatTemplate::new(&lines(), [("eos_token", "</s>".to_owned())]).unwrap();
    let mut conversation = Conversation::new(&template, tokenizer, Said::default(), NaiveDateTime::default());
    let first = conversation.say(Message::new("user", "Who?"), &[]).unwrap();
    // The answer, letter by letter.
    let letters: Vec<u32> = ["d", "o", "g"].iter().flat_map(|letter| tokenizer.encode(letter).unwrap()).collect();
    assert_ne!(tokenizer.encode("dog").unwrap(), letters);
    let known = [&first.ids[..], &letters].concat();
    let written = |text: &str, ended| msrnn_bench::writing::Written {
        text: text.into(),
        ids: letters.clone(),
        ended,
        predicting: 0..0,
        uniform: false,
        logprobs: Vec::new(),
    };
    conversation.answered(first.clone(), &written("dog", Ended::Eos));
    let second = conversation.say(Message::new("user", "Why?"), &known).unwrap();
    let new = "</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n";
    assert_eq!((second.again, second.ids), (false, tokenizer.encode(new).unwrap()));
    // What was drawn of a stop text is in the states and not in the answer.
    let mut conversation = Conversation::new(&template, tokenizer, Said::default(), NaiveDateTime::default());
    let first = conversation.say(Message::new("user", "Who?"), &[]).unwrap();
    conversation.answered(first, &written("do", Ended::StopText));
    assert!(conversation.say(Message::new("user", "Why?"), &known).unwrap().again);
}

#[test]
fn lines_of_a_script_are_turns_whose_answers_are_those_of_single_runs_with_saved_states() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    let state = |number: usize| place.path().join(format!("state-{number}"));
    let common = ["--model", text_of(&model), "--policy", "tova@24", "--max-new-tokens", "12", "--dtype", "f64"];
    let mut answers = Vec::new();
    for (number, said) in TURNS.iter().enumerate() {
        let (before, after) = (state(number), state(number + 1));
        let mut arguments =
            [&["generate", "--chat", "--prompt", said, "--state-out", text_of(&after)], &common[..]].concat();
        if number > 0 {
            arguments.extend(["--state-in", text_of(&before)]);
        } else {
            arguments.extend(["--system", "You know all."]);
        }
        answers.push(succeeds(&arguments).stdout);
    }
    let chat = [&["chat", "--system", "You know all."], &common[..]].concat();
    let script = format!("{}\n/help\n{}\n\n/nonsense\n{}\n", TURNS[0], TURNS[1], TURNS[2]);
    let done = fed(&chat, &script);
    assert_eq!((done.code, &done.stdout), (Some(0), &answers.concat()), "{done:?}");
    assert!(done.stderr.contains("/reset") && done.stderr.contains("/nonsense is nothing"), "{done:?}");
    assert!(!done.stderr.contains("read again"), "{done:?}");
    let counted: Vec<&str> = done.stderr.lines().filter(|line| line.contains("tokens seen")).collect();
    assert_eq!(counted.len(), 3, "{done:?}");
    assert!(counted[2].contains("24 rows held") && counted[2].contains("bytes"), "{counted:?}");

    // What is forgotten is forgotten, and what is at an end is at an end.
    let done = fed(&chat, &format!("{}\n/reset\n{}\n/state\n/quit\n{}\n", TURNS[0], TURNS[0], TURNS[1]));
    assert!(done.stdout.starts_with(&answers[0].repeat(2)), "{done:?}");
    let shown = &done.stdout[2 * answers[0].len()..];
    let text = shown.replace("[-", "").replace("-]", "");
    assert!(text.len() < shown.len() && text.contains("You know all.") && text.contains("<|assistant|>"), "{shown:?}");
    assert!(done.stderr.contains("held in some layer"), "{done:?}");

    // A conversation that was saved goes on, wherever it was.
    let saved = place.path().join("saved");
    let first = fed(&[&chat[..], &["--state-out", text_of(&saved)]].concat(), &format!("{}\n", TURNS[0]));
    let go_on = [&["chat", "--state-in", text_of(&saved)], &common[..]].concat();
    let rest = fed(&go_on, &format!("{}\n{}\n", TURNS[1], TURNS[2]));
    assert_eq!(first.stdout + &rest.stdout, answers.concat());

    // A line that the template refuses was not said.
    let strict =
        talker(place.path(), "{% if 'bad' in messages[-1].content %}{{ raise_exception('no') }}{% endif %}x</s>");
    let done = fed(&["chat", "--model", text_of(&strict), "--policy", "full", "--max-new-tokens", "2"], "bad\ngood\n");
    assert!(
        done.code == Some(0) && done.stderr.contains("error: chat template") && !done.stdout.is_empty(),
        "{done:?}"
    );
}

/// What every conversation with that message begins with is the same whatever the user says, and stays held.
#[test]
fn what_the_system_says_is_never_let_go_where_that_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    let said = "You know all about the small dog and its friends.";
    let opened = Model::load(&model, DType::F64, &Device::flex()).unwrap();
    let tokenizer = opened.tokenizer().unwrap();
    let template = tokenizer.chat().template().unwrap();
    let first = opening(&template, tokenizer, said, NaiveDateTime::default()).unwrap();
    let of = |user: &str| {
        let messages = [Message::new("system", said), Message::new("user", user)];
        tokenizer.encode(&template.render(&messages, true, NaiveDateTime::default()).unwrap()).unwrap()
    };
    assert!(tokenizer.encode(said).unwrap().len() <= first, "{first}");
    assert!(of(TURNS[0])[..first] == of(TURNS[1])[..first]);

    let states = first + 6;
    let common = ["--model", text_of(&model), "--dtype", "f64", "--max-new-tokens", "20", "--system", said];
    let written = |policy: &str, more: &[&str]| {
        let policy = format!("{policy}@{states}");
        let one = [&["generate", "--chat", "--prompt", TURNS[0], "--policy", &policy], &common[..], more].concat();
        let chat = fed(&[&["chat", "--policy", &policy], &common[..], more].concat(), &format!("{}\n", TURNS[0]));
        let one = succeeds(&one).stdout;
        assert_eq!(chat.stdout, one, "{chat:?}");
        one
    };
    let protected = written("window", &["--protect-system"]);
    assert_eq!(protected, written(&format!("protect(window, first={first})"), &[]));
    // That many rows is what the option makes of it: one fewer protected, or one more, is another text or another state.
    let state = place.path().join("state");
    let policy = format!("window@{states}");
    let save = ["generate", "--chat", "--prompt", TURNS[0], "--policy", &policy, "--state-out", text_of(&state)];
    succeeds(&[&save[..], &common[..], &["--protect-system"]].concat());
    let go_on = ["generate", "--chat", "--prompt", TURNS[1], "--policy", &policy, "--state-in", text_of(&state)];
    let done = fed(&[&go_on[..], &common[..6]].concat(), "");
    assert!(done.code != Some(0) && done.stderr.contains(&format!("protect(window, first={first})")), "{done:?}");
    // A bound below it is refused.
    let low = ["chat", "--policy", "window@4", "--protect-system"];
    let done = fed(&[&low[..], &common[..]].concat(), "Hello\n");
    assert!(done.code != Some(0) && done.stderr.contains("needs at least"), "{done:?}");
}

#[test]
fn a_conversation_is_refused_where_it_cannot_be_one() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    let refused = |more: &[&str], words: &[&str]| {
        let done = fed(&[&["chat", "--max-new-tokens", "5"], more].concat(), "Hello\n");
        assert_ne!(done.code, Some(0), "{done:?}");
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
    };
    refused(&["--policy", "full"], &["no chat template", "--chat-template"]);
    let here = ["--model", text_of(&model), "--policy"];
    let with =
        |more: &[&'static str]| [&here[..], more].concat().iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (more, words) in [
        (&["tova@25%"][..], &["--context"][..]),
        (&["snapkv(window=4)@24"], &["prefill"]),
        (&["full", "--bos", "never"], &["--bos"]),
        (&["full", "--json"], &["generate --chat"]),
        (&["full", "--stop", ""], &["stop text"]),
        (&["full", "--top-p", "0"], &["top-p"]),
    ] {
        let more = with(more);
        refused(&more.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_between_turns_the_command() {
    let place = tempfile::tempdir().unwrap();
    let model = talker(place.path(), &lines());
    // No token ends an answer.
    configure(&model, json!({ "eos_token_id": null }));
    let out = place.path().join("stdout");
    let arguments = ["chat", "--model", text_of(&model), "--policy", "window+4@16", "--max-new-tokens", "10000000"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args(arguments)
        .args(["--positions", "in-state"])
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let written = || std::fs::metadata(&out).unwrap().len();
    let until = |there: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !there() {
            assert!(started.elapsed() < PATIENCE, "nothing happens");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let interrupt =
        |id: u32| assert!(Command::new("kill").args(["-s", "INT", &id.to_string()]).status().unwrap().success());
    let rests = || {
        let before = written();
        std::thread::sleep(Duration::from_millis(300));
        written() == before
    };
    for turn in 0..2 {
        let before = written();
        writeln!(stdin, "Say something, turn {turn}.").unwrap();
        until(&|| written() > before + 100);
        interrupt(child.id());
        until(&rests);
        assert!(child.try_wait().unwrap().is_none(), "the command ended with the answer");
    }
    interrupt(child.id());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(stderr.matches("stopped").count(), 2, "{stderr}");
}
