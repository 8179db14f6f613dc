//! `msrnn experiment story`, and its judge: a server on this machine.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{files, msrnn, read_json, split, succeeds, text_of};
use crate::server::{Reply, Request, Server, Then, nobody};
use msrnn_bench::experiment::story::{Judge, JudgeSetting, Limits};
use serde_json::{Value, json};

const KEY: &str = "sk-very-secret";

/// Two seeds, one policy, a story long enough that a state of 8 rows is full long before its end.
const SMALL: &str = "experiment story --policies tova --states 8 --seeds 2 --max-new-tokens 24 --jobs 1";

fn completion(content: &str) -> Reply {
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": content } }] });
    Reply::Answer(200, vec![], body.to_string().into_bytes())
}

fn judge(url: &str, limits: Limits) -> Judge {
    let setting = JudgeSetting { url: url.into(), model: "judge-1".into() };
    Judge::new(setting, Some(KEY.into()), limits).unwrap()
}

fn quick() -> Limits {
    Limits { requests: 100, attempts: 3, pause: Duration::from_millis(1), patience: Duration::from_secs(20) }
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

/// The content of the question in a request.
fn question(request: &Request) -> String {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_judge_is_asked_as_openai_documents_it() {
    let server = Server::start(|_| completion(" (A) \n"));
    for url in [format!("{}/v1", server.url), format!("{}/v1/chat/completions", server.url)] {
        assert_eq!(judge(&url, quick()).ask("which?", &never()).unwrap().unwrap(), "(A)");
    }
    for request in server.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!((&body["model"], &body["temperature"]), (&json!("judge-1"), &json!(0)));
        assert_eq!(question(&request), "which?");
    }
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_said() {
    // 429 with a pause, then half an answer, then success.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Answer(429, vec![("Retry-After", "0".into())], b"slow down".to_vec()),
        1 => Reply::Half(200, vec![], b"{\"choices\": []}".to_vec(), 4),
        _ => completion("(B)"),
    });
    assert_eq!(judge(&server.url, quick()).ask("?", &never()).unwrap().unwrap(), "(B)");
    assert_eq!(server.requests().len(), 3);

    let error = |url: &str, limits| judge(url, limits).ask("?", &never()).unwrap_err().to_string();
    let failing = Server::start(|_| Reply::Answer(500, vec![], b"out of order".to_vec()));
    let found = error(&failing.url, quick());
    assert!(found.contains("3 attempts: status 500: out of order") && found.contains("same command again"), "{found}");
    assert_eq!(failing.requests().len(), 3);

    let malformed = Server::start(|_| Reply::Answer(200, vec![], b"{\"choices\": [}".to_vec()));
    assert!(error(&malformed.url, quick()).contains("no chat completion"), "{}", error(&malformed.url, quick()));

    let silent = Server::start(|_| Reply::Silence(Duration::from_secs(2)));
    let found = error(&silent.url, Limits { patience: Duration::from_millis(100), ..quick() });
    assert!(found.contains("timeout"), "{found}");
    assert_eq!(silent.requests().len(), 3);

    let found = error(&nobody(), quick());
    assert!(found.contains("check ‘judge’ and the network"), "{found}");

    // A server that repeats the key does not get it into a message.
    let refusing = Server::start(|_| Reply::Answer(401, vec![], format!("bad key {KEY}").into_bytes()));
    let found = error(&refusing.url, quick());
    assert!(found.contains("MSRNN_JUDGE_KEY") && found.contains("[key]") && !found.contains(KEY), "{found}");
    assert_eq!(refusing.requests().len(), 1, "a refusal is not tried again");
    let absent = Server::start(|_| Reply::Answer(404, vec![], b"no such model".to_vec()));
    assert!(error(&absent.url, quick()).contains("‘judge_model’"));

    let found = error(&failing.url, Limits { requests: 2, ..quick() });
    assert!(found.contains("all 2 requests") && found.contains("‘max_requests’"), "{found}");
}

#[test]
fn an_interrupt_ends_the_waiting_and_an_address_with_a_password_is_refused() {
    let failing = Server::start(|_| Reply::Answer(500, vec![], vec![]));
    let patient = Limits { pause: Duration::from_secs(1000), ..quick() };
    let interrupt = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| judge(&failing.url, patient).ask("?", &interrupt));
        while failing.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt.store(true, Ordering::Relaxed);
        assert!(asked.join().unwrap().unwrap().is_none());
    });
    let silent = Server::start(|_| Reply::Silence(Duration::from_secs(600)));
    interrupt.store(false, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| (judge(&silent.url, patient).ask("?", &interrupt), Instant::now()));
        while silent.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt.store(true, Ordering::Relaxed);
        let at = Instant::now();
        let (answer, ended) = asked.join().unwrap();
        assert!(answer.unwrap().is_none() && ended.duration_since(at) < Duration::from_secs(1));
    });
    for url in [
        "api.openai.com",
        "https://user:key@host/v1",
        "https://host/v1?api_key=x",
        "https://",
        "file:///v1",
        "https://h\n",
    ] {
        let setting = JudgeSetting { url: url.into(), model: "m".into() };
        let error = Judge::new(setting, None, quick()).unwrap_err().to_string();
        assert!(error.contains("without user, password or query"), "{error}");
    }
}

#[test]
fn a_judge_that_means_harm_gets_no_key_elsewhere_and_no_word_to_the_terminal() {
    let error = |url: &str, limits| judge(url, limits).ask("?", &never()).unwrap_err().to_string();
    let other = Server::start(|_| completion("(A)"));
    let url = other.url.clone();
    for status in [301, 302, 303, 307, 308] {
        let url = url.clone();
        let sending = Server::start(move |_| Reply::Answer(status, vec![("Location", format!("{url}/v1"))], vec![]));
        let found = error(&sending.url, quick());
        assert!(found.contains("sends on to another address"), "{found}");
        assert_eq!(sending.requests().len(), 1);
    }
    assert_eq!(other.requests().len(), 0, "neither key nor question went there");

    let endless = Server::start(|_| Reply::raw("HTTP/1.1 200 OK\nConnection: close\n", b"", Then::Endless));
    let found = error(&endless.url, quick());
    assert!(found.contains("answers with more than"), "{found}");
    let zipped = Server::start(|_| Reply::Answer(200, vec![("Content-Encoding", "gzip".into())], vec![31, 139]));
    assert!(error(&zipped.url, quick()).contains("gzip"));
    let stalling = Server::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\nContent-Length: 99\n", b"{", Then::Hold(Duration::from_secs(600)))
    });
    let found = error(&stalling.url, Limits { patience: Duration::from_millis(100), attempts: 2, ..quick() });
    assert!(found.contains("timeout"), "{found}");
    let shouting = Server::start(|_| Reply::Answer(500, vec![], b"\x1b[2J\r\n\xff\xe2\x80\xae".to_vec()));
    let found = error(&shouting.url, quick());
    assert!(found.chars().all(|sign| !sign.is_control() && sign != '\u{202e}'), "{found:?}");
    let setting = JudgeSetting { url: other.url.clone(), model: "m".into() };
    let found = Judge::new(setting, Some("k\nX: y".into()), quick()).unwrap_err().to_string();
    assert!(found.contains("copy it again") && !found.contains("X: y"), "{found}");
}

#[test]
fn without_a_judge_stories_are_kept_and_judged_later() {
    let place = tempfile::tempdir().unwrap();
    let (written, judged) = (place.path().join("written"), place.path().join("judged"));
    let found = succeeds(&[&split(SMALL)[..], &["--json", "--out", text_of(&written)]].concat()).json();
    let row = &found["metrics"]["rows"][1];
    assert_eq!(row["policy"], "tova@8");
    assert!(row["omitted"].as_u64().unwrap() > 0 && row["max_rows"] == 8, "{row}");
    assert!(row["verdicts"].is_null());
    assert!(found["notes"].to_string().contains("directory as ‘stories’"));
    assert_eq!(found["metrics"]["rows"][0]["max_rows"].as_u64().unwrap() as usize, prompt_tokens(&written) + 23);

    // The judge prefers the longer of two words that the stories do not share: whatever it says, both
    // orders agree, because it looks at texts only.
    let server = Server::start(|request| {
        let question = question(request);
        let (_, first) = question.split_once("- Response (A): ").unwrap();
        let (first, second) = first.split_once("- Response (B): ").unwrap();
        let second = second.split("Comparing these two").next().unwrap();
        let first = first.trim_end_matches(|c: char| c == '\u{2014}' || c.is_whitespace());
        completion(if first.trim() > second.trim() { "(A)" } else { "(B)" })
    });
    let url = format!("{}/v1", server.url);
    let later = ["experiment", "story", "--json", "--stories", text_of(&written), "--out", text_of(&judged)];
    let by = ["--judge", &url, "--judge-model", "judge-1"];
    let output = Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args([&later[..], &by[..]].concat())
        .env("MSRNN_JUDGE_KEY", KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &found["metrics"]["rows"][1];
    let count = |key: &str| row["verdicts"][key].as_u64().unwrap_or(0);
    let identical = row["identical"].as_u64().unwrap();
    assert_eq!(count("judged") + identical, 2);
    assert_eq!((count("ties"), count("unclear")), (0, 0), "a judge without a favourite position: {row}");
    assert_eq!(count("wins") + count("losses"), count("judged"));
    assert_eq!(server.requests().len() as u64, 2 * count("judged"), "two orders, identical pairs not asked about");
    assert!(server.requests().iter().all(|request| request.headers["authorization"] == format!("Bearer {KEY}")));
    for file in files(place.path()) {
        assert!(!String::from_utf8_lossy(&std::fs::read(&file).unwrap()).contains(KEY), "{}", file.display());
    }

    // The same command finds everything done, and asks nobody.
    let asked = server.requests().len();
    let again = succeeds(&[&later[..], &by[..]].concat()).json();
    assert_eq!((again, server.requests().len()), (found, asked));

    // What stories bring with them cannot be asked for again.
    let refused = msrnn(&[&later[..], &by[..], &["--seeds", "3"]].concat());
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

fn prompt_tokens(run: &Path) -> usize {
    let samples = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let line: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    line["sample"]["prompt_tokens"].as_u64().unwrap() as usize
}

#[test]
fn a_run_that_ran_out_of_requests_goes_on_and_ends_as_one_that_did_not() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(|_| completion("(C)"));
    let run = |out: &Path, requests: &str| {
        let by = ["--judge", &server.url, "--judge-model", "j", "--max-requests", requests, "--out", text_of(out)];
        msrnn(&[&split(SMALL)[..], &by[..]].concat())
    };
    let (whole, parts) = (place.path().join("whole"), place.path().join("parts"));
    assert_eq!(run(&whole, "100").code, Some(0));
    // Three requests judge one pair of two orders, and half of another.
    let ended = run(&parts, "3");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("--max-requests"), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(parts.join("samples.jsonl")).unwrap().lines().count(), 1);
    assert_eq!(run(&parts, "100").code, Some(0));
    let metrics = |run: &Path| std::fs::read(run.join("metrics.json")).unwrap();
    assert!(metrics(&whole) == metrics(&parts));
    assert_eq!(read_json(&whole.join("metrics.json"))["metrics"]["rows"][1]["verdicts"]["ties"], 2);
}

#[test]
fn what_cannot_be_written_is_refused_before_it_is_tried() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    for (more, says) in [
        ("--context 20", "do not fit a context of 20"),
        ("--policies full", "nothing to compare the full state with"),
        ("--temperature -1", "temperature -1 must be 0 or more"),
        ("--states 0", "0"),
    ] {
        let arguments = ["experiment story --max-new-tokens 24 --seeds 1 ", more].concat();
        let done = msrnn(&[&split(&arguments)[..], &["--out", text_of(&out)]].concat());
        assert_eq!(done.code, Some(1), "{more}");
        assert!(done.stderr.contains(says), "{more}: {}", done.stderr);
        assert!(!out.join("samples.jsonl").exists(), "{more}");
    }
}
