//! What becomes of the command when streams are closed or full, and when names are no Unicode.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::common;

fn msrnn() -> Command {
    Command::new(env!("CARGO_BIN_EXE_msrnn"))
}

/// Runs a command line of the shell in which `$MSRNN` is the command.
fn shell(line: &str, directory: &std::path::Path) -> std::process::Output {
    let mut sh = Command::new("sh");
    sh.args(["-c", line]).env("MSRNN", env!("CARGO_BIN_EXE_msrnn")).current_dir(directory);
    sh.stdin(Stdio::null()).output().unwrap()
}

const TEXT: &str = "The cat sat on the mat. Once upon a time there was a fox who had a red hat.";

/// A directory with a text, and a command that warns: a bound that is never reached.
fn warns() -> (tempfile::TempDir, &'static str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("text.txt"), TEXT).unwrap();
    (directory, "\"$MSRNN\" perplexity --policy tova@500 --context 512 --text text.txt")
}

#[test]
fn a_stderr_that_is_closed_or_full_loses_remarks_and_no_result() {
    let (directory, command) = warns();
    let whole = shell(command, directory.path());
    assert!(whole.status.success() && !whole.stderr.is_empty(), "the command should warn");
    let results = |output: &[u8]| {
        let text = String::from_utf8_lossy(output).into_owned();
        text.lines().filter(|line| !line.starts_with("speed")).collect::<Vec<_>>().join("\n")
    };
    for redirection in ["2>&-", "2>/dev/full"] {
        let output = shell(&format!("{command} {redirection}"), directory.path());
        assert_eq!(output.status.code(), Some(0), "{redirection}");
        assert_eq!(results(&output.stdout), results(&whole.stdout), "{redirection}");
        // An error that nobody can read is one all the same.
        let output =
            shell(&format!("\"$MSRNN\" perplexity --policy full --text absent.txt {redirection}"), directory.path());
        assert_eq!(output.status.code(), Some(1), "{redirection}");
    }
}

#[test]
fn a_stdout_that_is_full_is_an_error_and_one_that_is_closed_is_none() {
    let (directory, command) = warns();
    let output = shell(&format!("{command} >/dev/full"), directory.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
    // The files of a comparison are there although nobody reads its table.
    let compare = "\"$MSRNN\" compare --policies window --states 8 --stories 1 --context 32 --out out; echo $? >code";
    shell(&format!("({compare}) | true"), directory.path());
    assert_eq!(std::fs::read_to_string(directory.path().join("code")).unwrap().trim(), "0");
    assert!(directory.path().join("out/metrics.json").exists());
}

#[test]
fn a_generation_ends_when_nobody_reads_it_any_more() {
    let mut child = msrnn()
        .args(["generate", "--policy", "window@16", "--prompt", "The cat", "--positions", "in-state"])
        // More than the patience of whoever runs the tests.
        .args(["--max-new-tokens", "1000000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 32]).unwrap();
    drop(out);
    assert!(child.wait().unwrap().success());
}

#[test]
fn names_that_are_no_unicode_are_names_like_others() {
    let directory = tempfile::tempdir().unwrap();
    let name = |stem: &[u8]| directory.path().join(OsStr::from_bytes(&[stem, b"-\xff"].concat()));
    std::fs::write(name(b"text"), TEXT).unwrap();
    let run = |arguments: &[&OsStr]| {
        let output = msrnn().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let out = name(b"run");
    let words =
        ["experiment", "lm", "--policies", "window", "--states", "8", "--stories", "1", "--context", "32", "--out"];
    let mut arguments: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    arguments.push(out.as_os_str());
    run(&arguments);
    assert!(out.join("metrics.json").exists());
    // A model too, whatever opens it.
    let model = name(b"model");
    common::copy(&common::checkpoint("llama-tied"), &model);
    let (one, run_of_it) = (name(b"one"), name(b"of-it"));
    for (words, out) in [
        (
            &["experiment", "lm", "--policies", "window", "--states", "4", "--stories", "1", "--context", "16"][..],
            &run_of_it,
        ),
        (&["compare", "--policies", "window", "--states", "4", "--stories", "1", "--context", "16"], &one),
    ] {
        let mut arguments: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        arguments.extend([OsStr::new("--model"), model.as_os_str(), OsStr::new("--out"), out.as_os_str()]);
        run(&arguments);
    }
    let text = name(b"text");
    let mut arguments: Vec<&OsStr> = ["perplexity", "--policy", "full", "--text"].iter().map(OsStr::new).collect();
    arguments.push(text.as_os_str());
    run(&arguments);
}

#[test]
fn a_device_is_refused_as_a_text_and_a_pipe_is_read() {
    let directory = tempfile::tempdir().unwrap();
    for device in ["/dev/zero", "/dev/full"] {
        let output = msrnn().args(["perplexity", "--policy", "full", "--text", device]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains("is a device"), "{error}");
    }
    std::fs::write(directory.path().join("text.txt"), TEXT).unwrap();
    let mut command = msrnn();
    command.args(["perplexity", "--policy", "full", "--text", "/dev/stdin"]);
    let output = command.stdin(File::open(directory.path().join("text.txt")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = shell("cat text.txt | \"$MSRNN\" perplexity --policy full --text /dev/stdin", directory.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn numbers_beyond_reason_are_refused_with_what_is_possible() {
    for (option, value) in
        [("--jobs", "1000000000"), ("--jobs", "0"), ("--stories", "1000000000000"), ("--stories", "0")]
    {
        let output = msrnn().args(["compare", option, value]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains("from 1 to"), "{option} {value}: {error}");
    }
}
