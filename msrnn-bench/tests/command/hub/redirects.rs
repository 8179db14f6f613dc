//! Where a hub sends, and what goes along.

use std::time::Instant;

use msrnn_bench::hub::{Hub, Patience};

use super::repo::{COMMIT, ID, Repo, UNWATCHED, etag, hub, model, serve};
use super::trust::{home, refuses};
use crate::server::{Reply, Request, Server};

fn to(location: &str) -> Reply {
    Reply::Answer(302, vec![("Location", location.to_owned())], vec![])
}

fn with_token(url: &str, home: &std::path::Path) -> Hub {
    Hub { token: Some("hf_token".into()), ..hub(url, home) }
}

fn authorized(server: &Server) -> usize {
    server.requests().iter().filter(|request| request.headers.contains_key("authorization")).count()
}

/// What another host serves contents with: whatever is asked for.
fn cdn() -> Server {
    let repo = Repo::small();
    Server::start(move |request| {
        let name = request.path.split('?').next().unwrap().trim_start_matches("/cdn/").to_owned();
        let bytes = &repo.files.iter().find(|(known, _)| *known == name).unwrap().1;
        serve(request, &name, bytes)
    })
}

/// A hub that sends to a content delivery network, as the real one does with large files.
fn sends_to(cdn: &str) -> Server {
    let (repo, cdn) = (Repo::small(), cdn.to_owned());
    Server::start(move |request| match repo.asked(request) {
        Some((name, bytes)) => {
            let headers = vec![
                ("Location", format!("{cdn}/cdn/{name}?Signature=hush")),
                ("X-Linked-Etag", format!("\"{}\"", etag(name, bytes))),
                ("X-Linked-Size", bytes.len().to_string()),
                ("X-Repo-Commit", COMMIT.into()),
            ];
            Reply::Answer(302, headers, b"Found. Redirecting".to_vec())
        }
        None => repo.reply(request),
    })
}

#[test]
fn a_token_goes_to_the_endpoint_and_to_no_other_origin() {
    let (home, _) = home();
    // Another port is another origin.
    let cdn = cdn();
    let server = sends_to(&cdn.url);
    with_token(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap();
    assert_eq!(authorized(&server), server.requests().len());
    assert!(!cdn.requests().is_empty());
    assert_eq!(authorized(&cdn), 0, "{:?}", cdn.requests());
    assert!(cdn.requests().iter().all(|request| request.method == "GET" && request.path.contains("Signature=hush")));
}

#[test]
fn a_token_does_not_come_back_with_who_was_sent_away() {
    let (home, _) = home();
    let repo = Repo::small();
    // The other host sends to a path of its choice at the endpoint.
    let away = std::sync::Arc::new(std::sync::OnceLock::<[String; 2]>::new());
    let urls = away.clone();
    let other = Server::start(move |request| to(&format!("{}/chosen{}", urls.get().unwrap()[0], request.path)));
    let urls = away.clone();
    let server = Server::start(move |request| match (request.path.strip_prefix("/chosen"), repo.asked(request)) {
        (Some(path), _) => repo.reply(&Request { path: path.to_owned(), ..request.clone() }),
        (None, Some(_)) if request.method == "GET" => to(&format!("{}{}", urls.get().unwrap()[1], request.path)),
        (None, _) => repo.reply(request),
    });
    away.set([server.url.clone(), other.url.clone()]).unwrap();
    with_token(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap();
    assert_eq!(authorized(&other), 0);
    let chosen: Vec<Request> =
        server.requests().into_iter().filter(|asked| asked.path.starts_with("/chosen")).collect();
    assert!(
        !chosen.is_empty() && chosen.iter().all(|asked| !asked.headers.contains_key("authorization")),
        "{chosen:?}"
    );
}

#[test]
fn a_password_in_the_address_is_sent_to_the_endpoint_and_a_token_in_its_place() {
    let (home, _) = home();
    let cdn = cdn();
    let server = sends_to(&cdn.url);
    let endpoint = server.url.replace("http://", "http://Aladdin:open%20sesame@");
    hub(&endpoint, home.path()).model(&model(ID), UNWATCHED).unwrap();
    assert!(
        server.requests().iter().all(|asked| asked.headers["authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    );
    assert_eq!(authorized(&cdn), 0);
    with_token(&endpoint, home.path()).model(&model(&format!("{ID}@v1")), UNWATCHED).unwrap();
    assert_eq!(server.requests().last().unwrap().headers["authorization"], "Bearer hf_token");
}

#[test]
fn redirects_that_lead_nowhere_are_left() {
    let (home, _) = home();
    let looping: [fn(&Request) -> Reply; 8] = [
        |request| to(&request.path),
        |request| to(&format!("{}x", request.path)),
        |request| to(&format!("?{}", request.path.len())),
        |_| Reply::Answer(302, vec![], vec![]),
        |_| to(""),
        |_| to("file:///etc/passwd"),
        |_| to("http://me:secret@127.0.0.1/"),
        |_| to("http://h\u{f6}st/"),
    ];
    for (at, reply) in looping.into_iter().enumerate() {
        // The list; the question about a file; the file.
        for stage in 0..3 {
            let repo = Repo::small();
            let server = Server::start(move |request| {
                let now = match (request.path.contains("/resolve/"), request.method.as_str()) {
                    (false, _) => 0,
                    (true, "HEAD") => 1,
                    _ => 2,
                };
                if now == stage { reply(request) } else { repo.reply(request) }
            });
            let started = Instant::now();
            let error = refuses(&with_token(&server.url, home.path()), home.path(), ID);
            assert!(error.contains("sends on"), "{at}: {error}");
            assert!(!error.contains("secret"), "{error}");
            assert!(server.requests().len() <= 13, "{}", server.requests().len());
            assert!(started.elapsed() < Patience::default().answer, "{:?}", started.elapsed());
        }
    }
}

#[test]
fn redirects_within_the_endpoint_are_followed() {
    let (home, _) = home();
    // As the hub does with small files.
    let repo = Repo::small();
    let server = Server::start(move |request| match request.path.strip_prefix("/moved") {
        Some(path) => repo.reply(&Request { path: path.to_owned(), ..request.clone() }),
        None => Reply::Answer(307, vec![("Location", format!("/moved{}", request.path))], vec![]),
    });
    with_token(&server.url, home.path()).model(&model(ID), UNWATCHED).unwrap();
    assert_eq!(authorized(&server), server.requests().len());
}
