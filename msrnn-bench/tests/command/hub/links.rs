//! Links that somebody put into the cache beforehand.
#![cfg(unix)]

use std::os::unix::fs::symlink;
use std::path::Path;

use super::repo::{COMMIT, ID, Repo, UNWATCHED, etag, hub, model};
use super::trust::{CANARY, home};
use crate::server::Server;

#[test]
fn nothing_is_written_through_a_link_in_the_cache() {
    let repo = Repo::small();
    let (_, bytes) = repo.files.iter().find(|(name, _)| name == "config.json").unwrap();
    let (etag, place) = (etag("config.json", bytes), "models--org--tiny");
    // Files that lead to the user's file, by a link and as a second name, and directories that lead beside the cache.
    let to_file = [
        format!("{place}/blobs/{etag}"),
        format!("{place}/blobs/{etag}.incomplete"),
        format!("{place}/snapshots/{COMMIT}/config.json"),
        format!("{place}/refs/main"),
        format!("{place}/.no_exist/{COMMIT}/tokenizer.json"),
        format!(".locks/{place}/{etag}.lock"),
    ];
    let to_directory = [
        place.to_owned(),
        format!("{place}/blobs"),
        format!("{place}/snapshots"),
        format!("{place}/snapshots/{COMMIT}"),
        format!("{place}/refs"),
        format!("{place}/.no_exist"),
        ".locks".to_owned(),
        format!(".locks/{place}"),
    ];
    let served = repo.clone();
    let server = Server::start(move |request| served.reply(request));
    let plant = |at: &str, make: &dyn Fn(&Path, &Path, &Path)| {
        let (home, canary) = home();
        let outside = home.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let link = home.path().join("hub").join(at);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        make(&link, &canary, &outside);
        let found = hub(&server.url, home.path()).model(&model(ID), UNWATCHED);
        assert_eq!(std::fs::read(&canary).unwrap(), CANARY, "{at}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{at}");
        if let Ok(directory) = &found {
            assert!(std::fs::read(directory.join("config.json")).unwrap() == *bytes, "{at}");
        }
        found
    };
    for at in &to_file {
        plant(at, &|link, canary, _| symlink(canary, link).unwrap()).unwrap_or_else(|e| panic!("{at}: {e}"));
        plant(at, &|link, _, outside| symlink(outside.join("new"), link).unwrap())
            .unwrap_or_else(|e| panic!("{at}: {e}"));
        plant(at, &|link, canary, _| std::fs::hard_link(canary, link).unwrap()).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    for at in &to_directory {
        let found = plant(at, &|link, _, outside| symlink(outside, link).unwrap());
        // What only saves time or a question is left out; all else is said.
        if let Err(error) = found {
            assert!(error.to_string().contains("is a link") && error.to_string().contains("HF_HUB_CACHE"), "{error}");
        } else {
            assert!(at.ends_with("refs") || at.ends_with(".no_exist"), "{at}");
        }
    }
}

#[test]
fn a_file_that_a_link_puts_into_the_cache_is_not_taken_for_one_of_the_hub() {
    let (home, canary) = home();
    let snapshot = home.path().join("hub/models--org--tiny/snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    for name in ["config.json", "model.safetensors"] {
        symlink(&canary, snapshot.join(name)).unwrap();
    }
    let offline = msrnn_bench::hub::Hub { offline: true, ..hub("https://nobody", home.path()) };
    let error = offline.model(&model(&format!("{ID}@{COMMIT}")), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("lacks config.json"), "{error}");
}

#[test]
fn the_root_of_the_cache_may_be_a_link() {
    let (home, _) = home();
    std::fs::create_dir(home.path().join("disk")).unwrap();
    symlink(home.path().join("disk"), home.path().join("hub")).unwrap();
    let repo = Repo::small();
    let server = Server::start(move |request| repo.reply(request));
    let hub = hub(&server.url, home.path());
    let directory = hub.model(&model(ID), UNWATCHED).unwrap();
    assert_eq!(hub.model(&model(&format!("{ID}@{COMMIT}")), UNWATCHED).unwrap(), directory);
}
