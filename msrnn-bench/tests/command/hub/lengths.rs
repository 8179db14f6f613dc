//! How much comes, how fast, and who ends it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use msrnn_bench::error::BenchError;
use msrnn_bench::hub::{Downloads, Hub, Patience};
use serde_json::{Value, json};

use super::repo::{COMMIT, ID, Repo, UNWATCHED, etag, hub, model};
use super::trust::{answers, home, lists, refuses};
use crate::server::{Reply, Request, Server, Then};

const WEIGHTS: &str = "model.safetensors";
/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(600);

fn is_weights(request: &Request) -> bool {
    request.path.ends_with(WEIGHTS) && request.method == "GET"
}

fn weights() -> Vec<u8> {
    Repo::small().files.into_iter().find(|(name, _)| name == WEIGHTS).unwrap().1
}

fn part(home: &Path) -> PathBuf {
    home.join("hub/models--org--tiny/blobs").join(format!("{}.incomplete", etag(WEIGHTS, &weights())))
}

/// The head of an answer with made-up headers.
fn head(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\nConnection: close\n{more}")
}

fn set_sizes(listing: &mut Value, size: &Value) {
    for file in listing["siblings"].as_array_mut().unwrap() {
        file["size"] = size.clone();
        if let Some(large) = file.get_mut("lfs") {
            large["size"] = size.clone();
        }
    }
}

#[test]
fn a_size_that_does_not_fit_onto_the_disk_is_refused_before_it_is_asked_for() {
    for size in [10u64.pow(15), 1 << 62, u64::MAX] {
        let (home, _) = home();
        let whole = {
            let repo = Repo::small();
            Server::start(move |request| match repo.asked(request) {
                Some((name, bytes)) => {
                    let headers =
                        vec![("ETag", format!("\"{}\"", etag(name, bytes))), ("X-Linked-Size", size.to_string())];
                    Reply::Answer(200, headers, bytes.clone())
                }
                None => {
                    let mut listing = repo.listing();
                    set_sizes(&mut listing, &json!(size));
                    Reply::Answer(200, vec![], listing.to_string().into_bytes())
                }
            })
        };
        let error = refuses(&hub(&whole.url, home.path()), home.path(), ID);
        assert!(error.contains("free") && error.contains("HF_HUB_CACHE"), "{error}");
        assert!(whole.requests().iter().all(|asked| asked.method == "HEAD" || asked.path.starts_with("/api")));
    }
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    // The list says one more byte, or none at all that can be read.
    for size in [json!(0), json!(7), json!(1000), json!(10u64.pow(9)), json!(-1), json!(1e300), json!("9")] {
        let (home, _) = home();
        let told = size.clone();
        let server = lists(move |listing| set_sizes(listing, &told));
        let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
        assert!(error.contains("is said to have") || error.contains("nothing readable"), "{size}: {error}");
    }
    // The answer announces another length than was listed, and the same content.
    for length in [0usize, 1, 100, 1 << 40] {
        let (home, _) = home();
        let server = answers(move |request, reply| match request.method.as_str() {
            "GET" => Reply::raw(&head("200 OK", &format!("Content-Length: {length}\n")), b"{", Then::Close),
            _ => reply,
        });
        let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
        assert!(error.contains("are announced where"), "{length}: {error}");
    }
    // Nothing says how long it is.
    let (home, _) = home();
    let repo = Repo::small();
    let server = Server::start(move |request| match (request.path.starts_with("/api"), request.method.as_str()) {
        (true, _) => {
            let mut listing = repo.listing();
            set_sizes(&mut listing, &Value::Null);
            Reply::Answer(200, vec![], listing.to_string().into_bytes())
        }
        (false, "HEAD") => Reply::raw(&head("200 OK", "ETag: \"abc\"\n"), b"", Then::Close),
        _ => Reply::raw(&head("200 OK", ""), b"", Then::Endless),
    });
    let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("nothing says how many bytes") || error.contains("hash"), "{error}");
}

#[test]
fn a_body_without_end_ends_at_the_size_of_the_file() {
    for announced in ["", "Transfer-Encoding: chunked\n"] {
        let (home, _) = home();
        let server = answers(move |request, reply| match request.method.as_str() {
            "GET" if announced.is_empty() => Reply::raw(&head("200 OK", ""), b"", Then::Endless),
            "GET" => {
                let chunks = "1000\r\n".to_owned() + &"x".repeat(0x1000) + "\r\n";
                Reply::raw(&head("200 OK", announced), chunks.repeat(64).as_bytes(), Then::Close)
            }
            _ => reply,
        });
        let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
        assert!(error.contains("more bytes come"), "{error}");
    }
    // Nor does a list go on for ever.
    let (home, _) = home();
    let server = Server::start(|_| Reply::raw(&head("200 OK", ""), b"", Then::Endless));
    assert!(refuses(&hub(&server.url, home.path()), home.path(), ID).contains("answers with more than"));
}

#[test]
fn an_encoded_answer_is_refused() {
    for encoding in ["gzip", "br", "deflate", "x-\u{1b}"] {
        for stage in ["/api", "/resolve/"] {
            let (home, _) = home();
            let repo = Repo::small();
            let server = Server::start(move |request| match repo.reply(request) {
                Reply::Answer(status, mut headers, body) if request.path.contains(stage) => {
                    headers.push(("Content-Encoding", encoding.into()));
                    Reply::Answer(status, headers, body)
                }
                reply => reply,
            });
            refuses(&hub(&server.url, home.path()), home.path(), ID);
            assert!(server.requests().iter().all(|asked| asked.headers["accept-encoding"] == "identity"));
        }
    }
}

#[test]
fn a_range_is_taken_only_for_what_was_asked() {
    let bytes = weights();
    let (have, size) = (bytes.len() / 2, bytes.len());
    // What is answered when the second half is asked for, and whether it may be used at once.
    let cases: Vec<(String, Vec<u8>)> = vec![
        (
            head("206 Partial", &format!("Content-Range: bytes {}-{}/{size}\n", have + 1, size - 1)),
            bytes[have + 1..].to_vec(),
        ),
        (head("206 Partial", &format!("Content-Range: bytes 0-{}/{size}\n", size - 1)), bytes.clone()),
        (
            head("206 Partial", &format!("Content-Range: bytes {have}-{}/{}\n", size - 1, size + 1)),
            bytes[have..].to_vec(),
        ),
        (head("206 Partial", &format!("Content-Range: bytes {have}-{}/{size}\n", size + 5)), bytes[have..].to_vec()),
        (head("206 Partial", "Content-Range: bytes x-y/z\n"), bytes[have..].to_vec()),
        (head("206 Partial", ""), bytes[have..].to_vec()),
        (head("416 Range", ""), vec![]),
        (head("200 OK", ""), bytes.clone()),
        // Right headers and wrong bytes.
        (head("206 Partial", &format!("Content-Range: bytes {have}-{}/{size}\n", size - 1)), vec![7; size - have]),
    ];
    for (head, body) in cases {
        let (home, _) = home();
        std::fs::create_dir_all(part(home.path()).parent().unwrap()).unwrap();
        std::fs::write(part(home.path()), &bytes[..have]).unwrap();
        let told = head.clone();
        let server = answers(move |request, reply| match request.headers.contains_key("range") {
            true => Reply::raw(&told, &body, Then::Close),
            false => reply,
        });
        let directory = hub(&server.url, home.path()).model(&model(ID), UNWATCHED);
        let directory = directory.unwrap_or_else(|error| panic!("{head}: {error}"));
        assert!(std::fs::read(directory.join(WEIGHTS)).unwrap() == bytes, "{head}");
        let asked: Vec<Request> = server.requests().into_iter().filter(is_weights).collect();
        assert_eq!(asked[0].headers["range"], format!("bytes={have}-"));
    }
    // A part that nobody asked for.
    let (home, _) = home();
    let server = answers(|request, reply| match reply {
        Reply::Answer(200, headers, body) if is_weights(request) => Reply::Answer(206, headers, body),
        reply => reply,
    });
    let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("a part of it came"), "{error}");
}

#[test]
fn a_server_that_falls_silent_is_left_and_what_came_is_kept() {
    let bytes = weights();
    let patience =
        Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(1), stall: Duration::from_secs(1) };
    for silent in ["list", "question", "file", "body"] {
        let (home, _) = home();
        let (repo, body) = (Repo::small(), bytes.clone());
        let server = Server::start(move |request| {
            let stage = match request.path.starts_with("/api") {
                true => "list",
                false if request.method == "HEAD" => "question",
                false => "file",
            };
            match stage == silent {
                true => Reply::Silence(FOREVER),
                false if silent == "body" && is_weights(request) => Reply::raw(
                    &head("200 OK", &format!("Content-Length: {}\n", body.len())),
                    &body[..99],
                    Then::Hold(FOREVER),
                ),
                false => repo.reply(request),
            }
        });
        let hub = Hub { patience, ..hub(&server.url, home.path()) };
        let started = Instant::now();
        let error = hub.model(&model(ID), UNWATCHED).unwrap_err().to_string();
        assert!(error.contains("nothing came") && started.elapsed() < FOREVER / 4, "{silent}: {error}");
        if silent == "body" {
            assert!(std::fs::read(part(home.path())).unwrap() == bytes[..99]);
        }
    }
}

#[test]
fn an_interrupt_ends_a_download_within_a_second_and_keeps_what_came() {
    let bytes = weights();
    for stalls in [true, false] {
        let (home, _) = home();
        let body = bytes.clone();
        let server = answers(move |request, reply| match (is_weights(request), stalls) {
            (true, true) => Reply::raw(
                &head("200 OK", &format!("Content-Length: {}\n", body.len())),
                &body[..99],
                Then::Hold(FOREVER),
            ),
            (true, false) => Reply::Silence(FOREVER),
            _ => reply,
        });
        let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let hub = hub(&server.url, home.path());
        let (asked, ended) = std::thread::scope(|scope| {
            let downloads = Downloads { interrupt, ..Downloads::UNWATCHED };
            let download = scope.spawn(move || (hub.model(&model(ID), &downloads), Instant::now()));
            while !server.requests().iter().any(is_weights)
                || (stalls && !part(home.path()).metadata().is_ok_and(|part| part.len() == 99))
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            interrupt.store(true, Ordering::Relaxed);
            let asked = Instant::now();
            let (found, ended) = download.join().unwrap();
            assert!(matches!(found, Err(BenchError::Interrupted)), "{found:?}");
            (asked, ended)
        });
        assert!(ended.duration_since(asked) < Duration::from_secs(1), "{:?}", ended.duration_since(asked));
        if stalls {
            assert!(std::fs::read(part(home.path())).unwrap() == bytes[..99]);
        }
    }
}

fn msrnn(server: &Server, home: &Path, ids: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args(["perplexity", "--json", "--policy", "full", "--model", ID, "--ids", ids.to_str().unwrap()])
        .env("HF_HUB_CACHE", home.join("hub"))
        .env("HF_ENDPOINT", &server.url)
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("TRANSFORMERS_OFFLINE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_command_and_the_same_command_goes_on() {
    let (home, _) = home();
    let ids = crate::common::write_ids("llama-gqa", home.path());
    let bytes = weights();
    let body = bytes.clone();
    let stalling = answers(move |request, reply| match is_weights(request) {
        true => {
            Reply::raw(&head("200 OK", &format!("Content-Length: {}\n", body.len())), &body[..99], Then::Hold(FOREVER))
        }
        false => reply,
    });
    let child = msrnn(&stalling, home.path(), &ids);
    while !part(home.path()).metadata().is_ok_and(|part| part.len() == 99) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let asked = Instant::now();
    let done = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(done.status.code() == Some(130) && told.contains("what has come is kept"), "{told}");
    assert!(std::fs::read(part(home.path())).unwrap() == bytes[..99]);

    let repo = Repo::small();
    let server = Server::start(move |request| repo.reply(request));
    let done = msrnn(&server, home.path(), &ids).wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(server.requests().iter().any(|asked| is_weights(asked) && asked.headers["range"] == "bytes=99-"));
}

#[test]
fn two_that_fetch_the_same_at_once_do_it_once_and_rightly() {
    let (home, _) = home();
    let ids = crate::common::write_ids("llama-gqa", home.path());
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = fetched.clone();
    let server = answers(move |request, reply| {
        if is_weights(request) {
            count.fetch_add(1, Ordering::Relaxed);
            // Long enough for the others to come.
            std::thread::sleep(Duration::from_millis(500));
        }
        reply
    });
    let all: Vec<Child> = (0..4).map(|_| msrnn(&server, home.path(), &ids)).collect();
    for child in all {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
    let snapshot = home.path().join("hub/models--org--tiny/snapshots").join(COMMIT);
    assert!(std::fs::read(snapshot.join(WEIGHTS)).unwrap() == weights());
    assert!(!part(home.path()).exists());
}
