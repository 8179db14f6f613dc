//! A result has one writer: nothing is overwritten, nothing is lost, and readers change nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{self, Done, PATIENCE, Running, files, msrnn, split, start, succeeds, text_of};

/// Some twenty units of work.
const SMALL: &str =
    "experiment lm --stories 4 --context 160 --batch 1 --policies window,h2o,tova,random --states 8,32 --jobs 2";

/// The smallest training that there is.
const TRAINING: &str = "train --hidden-size 16 --intermediate-size 32 --layers 1 --heads 2 --kv-heads 1 --head-dim 8 \
                        --vocab-size 300 --tokenizer-stories 4 --context 280 --short-context 140 --short-steps 2 \
                        --batch 2 --warmup 2 --save-every 3";

fn arguments<'a>(command: &'a str, out: &'a Path, more: &'a str) -> Vec<&'a str> {
    [&split(command)[..], &["--out", text_of(out)], &split(more)].concat()
}

fn metrics(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("metrics.json")).unwrap()
}

fn lines(file: &Path) -> usize {
    std::fs::read(file).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count()
}

/// Waits until a running command has come that far.
fn until(running: &mut Running, so_far: impl Fn() -> bool) {
    let started = Instant::now();
    while !so_far() {
        assert!(running.ended().is_none(), "it ended too early");
        assert!(started.elapsed() < PATIENCE, "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All files of a directory with what is in them.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(directory).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[track_caller]
fn refuses(done: &Done, words: &[&str]) {
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(words.iter().all(|word| done.stderr.contains(word)), "{words:?}: {done:?}");
}

#[test]
fn reports_on_a_running_directory_lose_nothing_of_it() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (whole, part, running) = (at("whole"), at("part"), at("running"));
    succeeds(&arguments(SMALL, &whole, ""));
    succeeds(&arguments(SMALL, &part, "--shard 1/2"));

    let mut run = start(&arguments(SMALL, &running, ""));
    until(&mut run, || lines(&running.join("samples.jsonl")) > 1);
    let manifest = std::fs::read(running.join("manifest.toml")).unwrap();
    let (a, b) = (text_of(&part), text_of(&running));
    let mut seen = 0;
    while run.ended().is_none() {
        // Nothing of the one that runs is changed, whether it can be read as a whole or not.
        msrnn(&["report", b]);
        refuses(&msrnn(&["report", a, b, "--out", b]), &["choose another --out"]);
        refuses(&msrnn(&["report", a, "--out", b]), &["choose another --out"]);
        assert_eq!(std::fs::read(running.join("manifest.toml")).unwrap(), manifest);
        seen += 1;
    }
    assert!(seen > 0);
    let done = run.wait();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(metrics(&running), metrics(&whole));
    assert_eq!(lines(&running.join("samples.jsonl")), lines(&whole.join("samples.jsonl")));
    assert!(!running.join("writer.lock").exists());
}

#[test]
fn a_merge_that_fails_leaves_everything_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (first, second, whole, other) = (at("first"), at("second"), at("whole"), at("other"));
    succeeds(&arguments(SMALL, &first, "--shard 1/2"));
    succeeds(&arguments(SMALL, &second, "--shard 2/2"));
    succeeds(&arguments(&SMALL.replace("160", "96"), &other, ""));
    let before = content(place.path());
    let [a, b, c, o] = [&first, &second, &whole, &other].map(|path| text_of(path));
    for (arguments, words) in [
        (vec!["report", a], vec!["is not finished"]),
        (vec!["report", a, "--out", c], vec!["not finished"]),
        (vec!["report", a, a, "--out", c], vec!["not finished"]),
        (vec!["report", a, b], vec!["--out"]),
        (vec!["report", a, b, "--out", a], vec!["choose another --out"]),
        (vec!["report", a, b, "--out", b], vec!["choose another --out"]),
        (vec!["report", a, b, "--out", o], vec!["another run", "context: 96, not 160"]),
        (vec!["report", a, o, "--out", c], vec!["not parts of one experiment"]),
        (vec!["report", a, b, "--out", text_of(place.path())], vec!["not empty", "--out"]),
    ] {
        refuses(&msrnn(&arguments), &words);
        assert_eq!(content(place.path()), before, "{arguments:?}");
    }
    succeeds(&["report", a, b, "--out", c]);
    let merged = content(&whole);
    // Once more it says the same and writes the same.
    succeeds(&["report", b, a, "--out", c]);
    let again = content(&whole);
    assert_eq!(again[&whole.join("metrics.json")], merged[&whole.join("metrics.json")]);
    assert_eq!(again[&whole.join("samples.jsonl")], merged[&whole.join("samples.jsonl")]);
    assert_eq!(content(&first).len() + content(&second).len() + content(&other).len(), before.len());
}

#[test]
fn a_killed_merge_leaves_nothing_or_all() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (first, second, expected) = (at("first"), at("second"), at("expected"));
    succeeds(&arguments(SMALL, &first, "--shard 1/2"));
    succeeds(&arguments(SMALL, &second, "--shard 2/2"));
    let merge = |out: &'_ Path| ["report", text_of(&first), text_of(&second), "--out", text_of(out)].map(str::to_owned);
    let started = Instant::now();
    succeeds(&merge(&expected));
    let (took, all) = (started.elapsed(), content(&expected).len());
    let mut left_nothing = 0;
    for trial in 0..24u32 {
        let out = at("out");
        let running = start(&merge(&out));
        std::thread::sleep(took * trial / 20);
        assert!(Command::new("kill").args(["-s", "KILL", &running.id().to_string()]).status().is_ok());
        running.wait();
        match out.exists() {
            // The claim may have been left in it.
            true => assert!(content(&out).len() - all <= 1 && metrics(&out) == metrics(&expected)),
            false => left_nothing += 1,
        }
        succeeds(&merge(&out));
        assert_eq!(metrics(&out), metrics(&expected));
        assert!(!at("out.partial").exists());
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(left_nothing > 0, "none was killed before its end");
}

#[test]
fn of_two_runs_that_start_at_once_in_one_directory_one_is_done_and_the_other_refused() {
    let place = tempfile::tempdir().unwrap();
    let tiny = "experiment lm --stories 1 --context 48 --policies window --states 8 --seed ";
    let expected = ["1", "2"].map(|seed| {
        let out = place.path().join(seed);
        succeeds(&arguments(&format!("{tiny}{seed}"), &out, ""));
        metrics(&out)
    });
    assert_ne!(expected[0], expected[1]);
    for trial in 0..15 {
        let out = place.path().join(format!("both-{trial}"));
        let both = ["1", "2"].map(|seed| start(&arguments(&format!("{tiny}{seed}"), &out, "")));
        let both = both.map(Running::wait);
        let done: Vec<usize> = (0..2).filter(|&i| both[i].code == Some(0)).collect();
        assert_eq!(done.len(), 1, "{both:?}");
        refuses(&both[1 - done[0]], &["another --out"]);
        assert_eq!(metrics(&out), expected[done[0]]);
    }
}

#[test]
fn a_second_program_is_refused_while_the_first_writes_whatever_both_do() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let words = ["another msrnn", "another --out"];

    let run = at("run");
    let mut first = start(&arguments(SMALL, &run, ""));
    until(&mut first, || lines(&run.join("samples.jsonl")) > 0);
    refuses(&msrnn(&arguments(SMALL, &run, "")), &words);
    refuses(&msrnn(&arguments("compare --stories 1 --context 32 --policies tova --states 4", &run, "")), &words);
    refuses(&msrnn(&arguments(TRAINING, &run, "--steps 1")), &words);
    assert_eq!(first.wait().code, Some(0));

    let trained = at("trained");
    let mut first = start(&arguments(TRAINING, &trained, "--steps 100000"));
    until(&mut first, || trained.join("train.jsonl").exists());
    let before = std::fs::read(trained.join("train.json")).unwrap();
    refuses(&msrnn(&arguments(TRAINING, &trained, "--steps 6 --seed 1")), &words);
    refuses(&msrnn(&arguments(TRAINING, &trained, "--steps 100000")), &words);
    assert_eq!(std::fs::read(trained.join("train.json")).unwrap(), before);
    drop(first);

    let compared = at("compared");
    let compare = "compare --stories 8 --context 400 --policies tova,h2o --states 32";
    let mut first = start(&arguments(compare, &compared, ""));
    until(&mut first, || compared.join("writer.lock").exists());
    refuses(&msrnn(&arguments(compare, &compared, "--seed 1")), &words);
    assert_eq!(first.wait().code, Some(0));
}

#[test]
fn a_file_that_is_being_written_has_no_second_writer() {
    let place = tempfile::tempdir().unwrap();
    let text = common::write(place.path(), "text.txt", "once there was a dog and a cat . ".repeat(400));
    let (trace, logits) = (place.path().join("trace.jsonl"), place.path().join("logits.npy"));
    let trace_of = |policy: &'static str| {
        let given = ["trace", "--text", text_of(&text), "--form", "step", "--policy", policy, "--out", text_of(&trace)];
        given.map(str::to_owned)
    };
    let logits_of = |policy: &'static str| {
        let given = ["perplexity", "--text", text_of(&text), "--form", "step", "--policy", policy];
        [&given[..], &["--logits", text_of(&logits)]].concat().iter().map(|x| (*x).to_owned()).collect::<Vec<_>>()
    };
    let expected = |arguments: &[String], file: &Path| {
        succeeds(arguments);
        let bytes = std::fs::read(file).unwrap();
        std::fs::remove_file(file).unwrap();
        bytes
    };
    for (first, second, file) in [
        (trace_of("tova@16").to_vec(), trace_of("window@16").to_vec(), &trace),
        (logits_of("tova@16"), logits_of("window@16"), &logits),
    ] {
        let whole = expected(&first, file);
        let partial = PathBuf::from(format!("{}.partial", file.display()));
        let mut running = start(&first);
        until(&mut running, || partial.exists());
        refuses(&msrnn(&second), &["another msrnn is writing", "choose another place"]);
        assert_eq!(running.wait().code, Some(0));
        assert!(std::fs::read(file).unwrap() == whole);
    }
}

#[test]
fn two_trainings_that_start_at_once_do_not_mix() {
    let place = tempfile::tempdir().unwrap();
    let weights = |out: &Path| std::fs::read(out.join("model.safetensors")).unwrap();
    let expected = ["1", "2"].map(|seed| {
        let out = place.path().join(seed);
        succeeds(&arguments(TRAINING, &out, &format!("--steps 3 --seed {seed}")));
        weights(&out)
    });
    for trial in 0..8 {
        let out = place.path().join(format!("both-{trial}"));
        let both = ["1", "2"].map(|seed| start(&arguments(TRAINING, &out, &format!("--steps 3 --seed {seed}"))));
        let both = both.map(Running::wait);
        let done: Vec<usize> = (0..2).filter(|&i| both[i].code == Some(0)).collect();
        assert_eq!(done.len(), 1, "{both:?}");
        refuses(&both[1 - done[0]], &["choose another --out"]);
        assert!(weights(&out) == expected[done[0]]);
    }
}

#[test]
fn no_link_in_a_result_directory_is_written_through() {
    let place = tempfile::tempdir().unwrap();
    let tiny = "experiment lm --stories 1 --context 48 --policies window --states 8";
    let precious = common::write(place.path(), "precious", "precious");
    let gallery = place.path().join("gallery");
    std::fs::create_dir(&gallery).unwrap();
    let mut number = 0;
    for (command, links) in [
        (
            tiny,
            &[
                "manifest.toml",
                "manifest.toml.partial",
                "plan.jsonl",
                "plan.jsonl.partial",
                "failures.jsonl",
                "samples.jsonl",
                "times.jsonl",
                "metrics.json",
                "metrics.json.partial",
                "report.html",
                "report.html.partial",
                "writer.lock",
            ][..],
        ),
        (TRAINING, &["train.json", "train.jsonl", "train.jsonl.partial", "tokenizer.json.partial", "writer.lock"]),
    ] {
        let more = if command == TRAINING { "--steps 3" } else { "" };
        for (name, target) in links.iter().map(|name| (*name, &precious)).chain([("figures", &gallery)]) {
            number += 1;
            let out = place.path().join(number.to_string());
            std::fs::create_dir(&out).unwrap();
            symlink(target, out.join(name)).unwrap();
            let done = msrnn(&arguments(command, &out, more));
            let refused = !(command == TRAINING && name == "figures");
            assert_eq!(done.code, Some(i32::from(refused)), "{name}: {done:?}");
            assert_eq!(std::fs::read(&precious).unwrap(), b"precious", "{name}");
            assert_eq!(std::fs::read_dir(&gallery).unwrap().count(), 0, "{name}");
        }
    }
    // In a run that goes on, and in a report.
    for name in ["samples.jsonl", "times.jsonl", "metrics.json", "report.html.partial", "figures"] {
        let out = place.path().join(format!("again-{name}"));
        succeeds(&arguments(tiny, &out, ""));
        let (file, elsewhere) = (out.join(name), place.path().join(format!("moved-{name}")));
        if file.exists() {
            std::fs::rename(&file, &elsewhere).unwrap();
        } else {
            std::fs::write(&elsewhere, "precious").unwrap();
        }
        symlink(&elsewhere, &file).unwrap();
        let before = if elsewhere.is_dir() { content(&elsewhere) } else { content_of(&elsewhere) };
        refuses(&msrnn(&arguments(tiny, &out, "")), &["link"]);
        let report = msrnn(&["report", text_of(&out)]);
        let reads_only = ["samples.jsonl", "times.jsonl"].contains(&name);
        assert_eq!(report.code, Some(i32::from(!reads_only)), "{name}: {report:?}");
        let after = if elsewhere.is_dir() { content(&elsewhere) } else { content_of(&elsewhere) };
        assert_eq!(after, before, "{name}");
    }
}

fn content_of(file: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    BTreeMap::from([(file.to_owned(), std::fs::read(file).unwrap())])
}

#[test]
fn a_directory_that_holds_something_else_is_not_taken() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let tiny = "experiment lm --stories 1 --context 48 --policies window --states 8";
    let (run, strange) = (at("run"), at("strange"));
    succeeds(&arguments(tiny, &run, ""));
    std::fs::create_dir(&strange).unwrap();
    common::write(&strange, "metrics.json", "{}");
    let before = content(place.path());
    let retrieval = "experiment retrieval --policies tova --states 16 --lengths 400 --depths 0 --trials 1";
    refuses(&msrnn(&arguments(retrieval, &run, "")), &["experiment lm", "Choose another --out"]);
    refuses(
        &msrnn(&arguments("compare --stories 1 --context 40 --policies tova --states 4", &run, "")),
        &["not asked for", "--out"],
    );
    refuses(&msrnn(&arguments(tiny, &strange, "")), &["no manifest.toml", "choose another --out"]);
    assert_eq!(content(place.path()), before);
}

/// A pipe or device is no file: it would be replaced by one.
#[test]
fn an_output_that_is_no_plain_file_is_refused_and_stays() {
    let place = tempfile::tempdir().unwrap();
    let text = common::write(place.path(), "text.txt", "once there was a dog");
    let pipe = place.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let link = place.path().join("link");
    symlink(&text, &link).unwrap();
    for out in [&pipe, &link] {
        let given = ["perplexity", "--policy", "full", "--text", text_of(&text), "--logits", text_of(out)];
        refuses(&msrnn(&given), &["cannot write", "does not write through"]);
        assert!(!out.symlink_metadata().unwrap().is_file());
    }
}
