//! A run that was killed, or found no more space, goes on and ends as one that was not; so do its parts.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{self, PATIENCE, msrnn, split, start, succeeds, text_of};

/// Some twenty units of work.
const SMALL: &str = "experiment lm --stories 4 --context 160 --batch 1 --policies window,h2o,tova,random --states 8,32 \
                     --jobs 2 --json";

fn arguments<'a>(out: &'a Path, more: &'a str) -> Vec<&'a str> {
    [&split(SMALL)[..], &["--out", text_of(out)], &split(more)].concat()
}

fn metrics(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("metrics.json")).unwrap()
}

fn finished(run: &Path) -> usize {
    let samples = std::fs::read(run.join("samples.jsonl")).unwrap_or_default();
    samples.iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn a_killed_run_ends_with_the_bytes_of_one_that_was_not() {
    let place = tempfile::tempdir().unwrap();
    let (whole, killed) = (place.path().join("whole"), place.path().join("killed"));
    succeeds(&arguments(&whole, ""));

    let mut running = start(&arguments(&killed, ""));
    let started = Instant::now();
    while finished(&killed) < 2 {
        assert!(running.ended().is_none(), "it ended before it could be killed");
        assert!(started.elapsed() < PATIENCE, "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-s", "KILL", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(running.wait().code, None);
    assert!(finished(&killed) < finished(&whole), "it was killed too late to tell anything");
    assert!(killed.join("manifest.toml").exists() && !killed.join("metrics.json").exists());

    let done = succeeds(&arguments(&killed, ""));
    assert!(done.stderr.contains("were finished before"), "{done:?}");
    assert_eq!(metrics(&killed), metrics(&whole));
}

#[test]
fn a_run_without_space_keeps_what_it_has_and_goes_on_when_there_is_some() {
    let place = tempfile::tempdir().unwrap();
    let (whole, full) = (place.path().join("whole"), place.path().join("full"));
    succeeds(&arguments(&whole, ""));
    // Files of at most so many bytes, less than the samples need; blocks of a shell are 512 or 1,024.
    let needed = std::fs::metadata(whole.join("samples.jsonl")).unwrap().len();
    let length = |name: &str| std::fs::metadata(whole.join(name)).unwrap().len();
    let before = length("manifest.toml").max(length("plan.jsonl"));
    let blocks = (needed / 2 / 1024).max(before.div_ceil(512));
    assert!(blocks * 1024 < needed, "the samples are too small to tell anything");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_msrnn")])
        .args(arguments(&full, ""))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("samples.jsonl") && error.contains("free some space"), "{error}");
    let before = finished(&full);
    assert!(before > 0 && before < finished(&whole));

    succeeds(&arguments(&full, ""));
    assert_eq!(metrics(&full), metrics(&whole));
}

#[test]
fn another_setting_is_refused_and_named_and_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("run");
    succeeds(&arguments(&out, ""));
    let before = metrics(&out);
    let other = SMALL.replace("--context 160", "--context 96");
    let done = msrnn(&[&split(&other)[..], &["--out", text_of(&out)]].concat());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("context: 160, not 96") && done.stderr.contains("--out"), "{done:?}");
    assert!(done.stderr.contains("finished units are not asked for"), "{done:?}");
    assert_eq!(metrics(&out), before);
}

#[test]
fn parts_put_together_are_the_whole() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    succeeds(&arguments(&at("whole"), ""));
    for (part, name) in [("1/2", "first"), ("2/2", "second")] {
        let done = succeeds(&arguments(&at(name), &format!("--shard {part}")));
        assert!(done.stderr.contains("msrnn report"), "{done:?}");
        assert!(!at(name).join("metrics.json").exists());
    }
    let (first, second, both) = (at("first"), at("second"), at("both"));
    succeeds(&["report", text_of(&second), text_of(&first), "--out", text_of(&both), "--json"]);
    assert_eq!(metrics(&both), metrics(&at("whole")));
    assert!(both.join("report.html").exists());

    let missing = msrnn(&["report", text_of(&first), "--out", text_of(&at("half"))]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.stderr.contains("is not finished") && missing.stderr.contains("parts that are missing"),
        "{missing:?}"
    );
}

#[test]
fn a_file_says_what_the_command_line_could_and_a_plan_does_nothing() {
    let place = tempfile::tempdir().unwrap();
    let file = common::write(
        place.path(),
        "grid.toml",
        "stories = 2\ncontext = 64\npolicies = [\"tova\", \"window\"]\nstates = [8, \"25%\"]\n",
    );
    let out = place.path().join("run");
    let more = ["--config", text_of(&file), "--out", text_of(&out), "--dry-run", "--json"];
    let plan = succeeds(&[&["experiment", "lm"][..], &more].concat()).json();
    let names = plan["units"].to_string();
    assert!(names.contains("tova") && names.contains("window") && !names.contains("h2o"), "{names}");
    assert!(plan["tokens"].as_u64().unwrap() > 0 && plan["state_bytes"].as_u64().unwrap() > 0);
    assert!(plan["seconds"].as_f64().unwrap() > 0.0, "{plan}");
    assert!(!out.exists(), "a plan leaves nothing behind");

    let only = succeeds(&[&["experiment", "lm", "--policies", "h2o"][..], &more].concat()).json();
    assert!(!only["units"].to_string().contains("tova"), "the command line takes precedence");

    let wrong = common::write(place.path(), "wrong.toml", "polices = [\"tova\"]\n");
    let done = msrnn(&["experiment", "lm", "--config", text_of(&wrong), "--out", text_of(&out)]);
    assert!(done.code == Some(1) && done.stderr.contains("polices") && done.stderr.contains("policies"), "{done:?}");
}
