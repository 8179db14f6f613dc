//! Answers of a hub that were damaged: nothing is written but into the cache, and of the cache nothing leads out.

use std::path::Path;
use std::time::Duration;

use msrnn_bench::hub::{Hub, Patience};

use crate::dice::Dice;
use crate::repo::{ID, Repo, UNWATCHED, hub, model};
use crate::server::{Reply, Server};
use crate::{Verdict, World, below};

/// Which answers are damaged.
fn damage(reply: Reply, dice: &mut Dice) -> Reply {
    let Reply::Answer(mut status, mut headers, mut body) = reply else { return reply };
    for _ in 0..=dice.below(2) {
        match dice.below(8) {
            0 => status = *dice.of(&[200, 201, 204, 206, 301, 302, 304, 307, 308, 400, 401, 404, 416, 429, 500, 599]),
            1 if !headers.is_empty() => drop(headers.remove(dice.below(headers.len()))),
            2 | 3 if !headers.is_empty() => {
                let at = dice.below(headers.len());
                let mut value = headers[at].1.clone().into_bytes();
                dice.bytes(&mut value, b"../../x\"");
                // What would end the header is sent raw by the tests of the hub.
                headers[at].1 = String::from_utf8_lossy(&value).replace(['\r', '\n'], " ");
            }
            4 => {
                let name = *dice.of(&[
                    "Location",
                    "ETag",
                    "X-Linked-Etag",
                    "X-Linked-Size",
                    "X-Repo-Commit",
                    "Content-Range",
                    "Content-Encoding",
                    "Transfer-Encoding",
                    "Link",
                ]);
                headers.push((name, dice.text().replace(['\r', '\n'], " ")));
            }
            5 => {
                let sent = dice.below(body.len() + 1);
                return Reply::Half(status, headers, body, sent);
            }
            _ => {
                let text = String::from_utf8(body.clone()).ok().filter(|text| text.starts_with('{'));
                match text.filter(|text| serde_json::from_str::<serde_json::Value>(text).is_ok()) {
                    Some(text) => body = dice.json_text(&text, b"{\"rfilename\": \"../x\"}"),
                    None => dice.bytes(&mut body, b"other bytes"),
                }
            }
        }
    }
    Reply::Answer(status, headers, body)
}

pub(crate) fn answers(world: &World, dice: &mut Dice) -> Verdict {
    let repo =
        if dice.one_in(2) { Repo::small() } else { Repo::of(&crate::common::checkpoint("llama-sharded-bf16"), &[]) };
    let (seed, share) = (dice.below(usize::MAX) as u64, 1 + dice.below(6));
    let server = Server::start(move |request| {
        // The same answer to the same request, whatever came before it.
        let sum = request
            .path
            .bytes()
            .chain(request.method.bytes())
            .fold(seed, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let mut dice = Dice::new(sum);
        let reply = repo.reply(request);
        if dice.one_in(share) { damage(reply, &mut dice) } else { reply }
    });
    let little = Duration::from_millis(200);
    let home = world.scratch.join("home");
    std::fs::create_dir(&home).unwrap();
    let hub = Hub { patience: Patience { connect: little, answer: little, stall: little }, ..hub(&server.url, &home) };
    let found = hub.model(&model(ID), UNWATCHED).map_err(|e| e.to_string());
    assert_inside(&world.scratch, &home);
    let directory = found?;
    assert!(directory.starts_with(&home), "{}", directory.display());
    // A file is what the hub has under its name, which may be anything; no hash of it was wrong.
    for path in below(&directory) {
        assert!(path.metadata().is_ok(), "{} leads nowhere", path.display());
    }
    Ok(())
}

/// Nothing was written beside the cache, and no link leads out of it.
fn assert_inside(scratch: &Path, home: &Path) {
    let beside: Vec<_> = below(scratch).into_iter().filter(|path| !path.starts_with(home)).collect();
    assert!(beside.is_empty(), "{beside:?}");
    let beside: Vec<_> = below(home).into_iter().filter(|path| !path.starts_with(home.join("hub"))).collect();
    assert!(beside.is_empty(), "{beside:?}");
    let home = home.canonicalize().unwrap();
    for path in below(&home).into_iter().filter(|path| path.is_symlink()) {
        if let Ok(to) = path.canonicalize() {
            assert!(to.starts_with(&home), "{} leads to {}", path.display(), to.display());
        }
    }
}
