//! Names, commits, hashes and texts of a hub that means harm.

use std::path::{Path, PathBuf};

use msrnn_bench::hub::Hub;
use serde_json::{Value, json};

use super::repo::{COMMIT, ID, Repo, UNWATCHED, etag, hub, model};
use crate::common::files;
use crate::server::{Reply, Request, Server, Then};

/// A file of the user's, beside the cache.
pub(crate) const CANARY: &[u8] = b"mine";

/// A home with the user's own file in it.
pub(crate) fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let canary = home.path().join("canary");
    std::fs::write(&canary, CANARY).unwrap();
    (home, canary)
}

/// That a model is refused, that nothing but the cache was written, and no content is in that. Returns the message.
#[track_caller]
pub(crate) fn refuses(hub: &Hub, home: &Path, name: &str) -> String {
    let error = hub.model(&model(name), UNWATCHED).unwrap_err().to_string();
    assert_untouched(home);
    let left = files(home).into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "blobs"));
    let left: Vec<PathBuf> = left.filter(|path| std::fs::metadata(path).unwrap().len() > 0).collect();
    assert!(left.is_empty(), "{error}: {left:?}");
    error
}

#[track_caller]
pub(crate) fn assert_untouched(home: &Path) {
    assert_eq!(std::fs::read(home.join("canary")).unwrap(), CANARY);
    let mut beside: Vec<_> = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.retain(|name| name != "hub");
    assert_eq!(beside, ["canary"], "beside the cache");
}

/// A server of the small checkpoint whose list is changed.
pub(crate) fn lists(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Server {
    let repo = Repo::small();
    Server::start(move |request| match request.path.starts_with("/api") {
        true => {
            let mut listing = repo.listing();
            change(&mut listing);
            Reply::Answer(200, vec![], listing.to_string().into_bytes())
        }
        false => repo.reply(request),
    })
}

/// A server of the small checkpoint whose answers about files are changed.
pub(crate) fn answers(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let repo = Repo::small();
    Server::start(move |request| match request.path.starts_with("/api") {
        true => repo.reply(request),
        false => change(request, repo.reply(request)),
    })
}

/// The list without hashes, so that the name of a content is all there is.
fn without_hashes(listing: &mut Value) {
    for file in listing["siblings"].as_array_mut().unwrap() {
        file.as_object_mut().unwrap().retain(|key, _| key != "blobId" && key != "lfs");
    }
}

#[test]
fn no_name_of_a_content_leads_out_of_the_cache() {
    let (home, canary) = home();
    let outside = home.path().join("planted");
    let mut names: Vec<String> = [
        "",
        ".",
        "..",
        "../x",
        "../../x",
        "../../../x",
        "../../../../canary",
        "a/../../../../canary",
        "blobs/x",
        "/",
        "//",
        "..\\..\\x",
        "C:\\x",
        "C:x",
        "x:y",
        "\\\\host\\share",
        "CON",
        "nul",
        "AUX.txt",
        "COM1",
        "LPT9.x",
        "x.",
        ".x",
        "a..b",
        "x.incomplete",
        "x.lock",
        "x y",
        "x\ty",
        "%2e%2e%2fx",
        "~",
        "$HOME",
        "x*",
        "x?",
        "x|y",
        "<x>",
        "\u{1b}[2J",
        "x\u{1}",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(canary.display().to_string());
    names.push(outside.display().to_string());
    names.push("x".repeat(201));
    names.push("x".repeat(5000));
    for header in ["ETag", "X-Linked-Etag"] {
        for name in &names {
            for quoted in [format!("\"{name}\""), format!("W/\"{name}\""), name.clone()] {
                let repo = Repo::small();
                let server = Server::start(move |request| {
                    if request.path.starts_with("/api") {
                        let mut listing = repo.listing();
                        without_hashes(&mut listing);
                        return Reply::Answer(200, vec![], listing.to_string().into_bytes());
                    }
                    let body = &repo.asked(request).unwrap().1;
                    let head = format!(
                        "HTTP/1.1 200 OK\nConnection: close\n{header}: {quoted}\nX-Repo-Commit: {COMMIT}\nContent-Length: {}\n",
                        body.len()
                    );
                    Reply::raw(&head, if request.method == "HEAD" { b"" } else { body }, Then::Close)
                });
                let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
                assert!(error.chars().all(|sign| !sign.is_control()), "{error:?}");
            }
        }
    }
}

#[test]
fn bytes_that_belong_in_no_header_end_the_answer_and_nothing_else() {
    let (home, _) = home();
    for name in [&b"a\0b"[..], b"a\rb", b"a\nb", b"a\n b", b"\xff\xfe", b"a\x7fb"] {
        let repo = Repo::small();
        let server = Server::start(move |request| match request.path.starts_with("/api") {
            true => repo.reply(request),
            false => {
                let head =
                    [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\nETag: \"", name, b"\"\r\n\r\n"]
                        .concat();
                Reply::Raw(head, Then::Close)
            }
        });
        refuses(&hub(&server.url, home.path()), home.path(), ID);
    }
}

#[test]
fn no_commit_leads_out_of_the_cache_or_to_another_snapshot() {
    let (home, canary) = home();
    let other = "f".repeat(40);
    let commits = [
        "../..",
        "..",
        "",
        "main",
        "/",
        &COMMIT[..39],
        &"G".repeat(40),
        "a/b",
        "..\\..",
        "\0",
        canary.to_str().unwrap(),
    ];
    for commit in commits {
        let told = commit.to_owned();
        let server = lists(move |listing| listing["sha"] = json!(told));
        let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
        assert!(error.contains("is no commit"), "{error}");
    }
    for commit in ["../..", "..", "main", other.as_str(), "/x"] {
        let told = commit.to_owned();
        let server = answers(move |_, reply| match reply {
            Reply::Answer(status, mut headers, body) => {
                headers.retain(|(name, _)| *name != "X-Repo-Commit");
                headers.push(("X-Repo-Commit", told.clone()));
                Reply::Answer(status, headers, body)
            }
            reply => reply,
        });
        let error = refuses(&hub(&server.url, home.path()), home.path(), ID);
        assert!(error.contains("of commit"), "{error}");
    }
    // Asked for one commit, and told of another.
    let server = lists(move |listing| listing["sha"] = json!("e".repeat(40)));
    let error = refuses(&hub(&server.url, home.path()), home.path(), &format!("{ID}@{COMMIT}"));
    assert!(error.contains("speaks of commit"), "{error}");
}

#[test]
fn no_file_is_put_anywhere_but_in_its_snapshot() {
    let (home, canary) = home();
    let long = "x".repeat(300);
    let names = [
        "../x",
        "../../../../canary",
        "a/../../../../canary",
        "/x",
        canary.to_str().unwrap(),
        "..\\x",
        "C:\\x",
        "C:x",
        "a//b",
        "a/./b",
        "CON",
        "nul.safetensors",
        "x.",
        "x ",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        &long,
    ];
    for name in names {
        // The index asks for it, and the list has it.
        let index = json!({ "weight_map": { "w": name } }).to_string();
        let bare = Repo::small();
        let others = bare.files.into_iter().filter(|(known, _)| !known.ends_with(".safetensors")).collect();
        let repo = Repo { files: others, kind: bare.kind };
        let repo = repo.with("model.safetensors.index.json", index.as_bytes()).with(name, b"evil");
        let served = repo.clone();
        let server =
            Server::start(move |request| match request.path.starts_with("/api") || served.asked(request).is_some() {
                true => served.reply(request),
                false => super::repo::serve(request, "evil", b"evil"),
            });
        let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
        assert!(error.contains("has no file"), "{name:?}: {error}");
        assert!(error.chars().all(|sign| !sign.is_control()), "{error:?}");
        assert_untouched(home.path());
        let evil = files(home.path()).into_iter().find(|path| std::fs::read(path).is_ok_and(|bytes| bytes == b"evil"));
        assert_eq!(evil, None, "{name:?}");
        std::fs::remove_dir_all(home.path().join("hub")).unwrap();
    }
}

#[test]
fn bytes_that_are_not_those_of_their_hash_are_not_kept() {
    for name in ["config.json", "model.safetensors"] {
        // The list has the hash; the name of the content has it; both have.
        for (listed, named) in [(true, false), (false, true), (true, true)] {
            let (home, _) = home();
            let repo = Repo::small();
            let server = Server::start(move |request| {
                if request.path.starts_with("/api") {
                    let mut listing = repo.listing();
                    if !listed {
                        without_hashes(&mut listing);
                    }
                    return Reply::Answer(200, vec![], listing.to_string().into_bytes());
                }
                match repo.reply(request) {
                    Reply::Answer(status, mut headers, mut body) if request.path.ends_with(name) => {
                        body[7] ^= 1;
                        if !named {
                            headers.retain(|(name, _)| *name != "ETag");
                            headers.push(("ETag", "\"a-name-of-its-own\"".into()));
                        }
                        Reply::Answer(status, headers, body)
                    }
                    reply => reply,
                }
            });
            let error = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("hash"), "{error}");
            assert!(!home.path().join("hub/models--org--tiny/snapshots").join(COMMIT).join(name).exists());
        }
    }
    // The name of the content contradicts the list.
    let (home, _) = home();
    let server = answers(|_, reply| match reply {
        Reply::Answer(status, _, body) => {
            Reply::Answer(status, vec![("ETag", format!("\"{}\"", "d".repeat(40)))], body)
        }
        reply => reply,
    });
    assert!(refuses(&hub(&server.url, home.path()), home.path(), ID).contains("hash is listed as"));
}

#[test]
fn what_was_there_before_and_is_wrong_is_fetched_again() {
    let (home, _) = home();
    let repo = Repo::small();
    let (name, bytes) = repo.files.iter().find(|(name, _)| name == "model.safetensors").unwrap().clone();
    let blobs = home.path().join("hub/models--org--tiny/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    for left in [vec![0; 100], vec![0; bytes.len()], vec![0; bytes.len() + 1], bytes[..100].to_vec(), bytes.clone()] {
        std::fs::write(blobs.join(format!("{}.incomplete", etag(&name, &bytes))), &left).unwrap();
        let served = repo.clone();
        let server = Server::start(move |request| served.reply(request));
        let directory = hub(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap();
        assert!(std::fs::read(directory.join(&name)).unwrap() == bytes, "{} bytes", left.len());
        // A content that is cut off is not taken for one either.
        std::fs::write(blobs.join(etag(&name, &bytes)), &bytes[..9]).unwrap();
        assert!(hub(&server.url, home.path()).model(&model(ID), UNWATCHED).is_ok());
        assert!(std::fs::read(directory.join(&name)).unwrap() == bytes);
        std::fs::remove_file(blobs.join(etag(&name, &bytes))).unwrap();
    }
}

#[test]
fn neither_secrets_nor_commands_to_a_terminal_are_printed() {
    let (home, _) = home();
    let token = "hf_s3cret";
    let evil = format!("\u{1b}]0;x\u{7}\u{202e}{token}");
    let told = evil.clone();
    let page = |request: &Request| match request.path.starts_with("/api") {
        true => Reply::Answer(200, vec![("Content-Type", "text/html".into())], b"<html>login</html>".to_vec()),
        false => Reply::Answer(404, vec![], vec![]),
    };
    let servers = [
        (lists(move |listing| listing["siblings"] = json!([{ "rfilename": told }])), "has no file"),
        (Server::start(page), "web page (HTML)"),
        (Server::start(|_| Reply::Answer(200, vec![], b"\n <!DOCTYPE html><p>".to_vec())), "web page (HTML)"),
        (
            Server::start(move |_| {
                Reply::Answer(200, vec![], json!({ "sha": evil, "siblings": [] }).to_string().into())
            }),
            "no commit",
        ),
        (Server::start(|_| Reply::Answer(500, vec![("X-Error-Code", "\u{202e}".into())], vec![])), "try again later"),
    ];
    for (server, expected) in servers {
        let endpoint = server.url.replace("http://", "http://me:p4ssword@");
        for token in [None, Some(token.to_owned())] {
            let hub = Hub { token, ..hub(&endpoint, home.path()) };
            let error = refuses(&hub, home.path(), ID);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("p4ssword"), "{error}");
            assert!(hub.token.is_none() || !error.contains("s3cret"), "{error}");
            assert!(error.chars().all(|sign| !sign.is_control() && sign != '\u{202e}'), "{error:?}");
        }
    }
}
