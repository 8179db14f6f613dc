//! Pages that are walked: their commands run, and their code is that of the examples.

use std::path::{Path, PathBuf};

use crate::common::{msrnn, start_in};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What stands in the fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

/// Words of a command line; quotes keep them together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for sign in line.chars() {
        match sign {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            sign => words.last_mut().unwrap().push(sign),
        }
    }
    assert!(!quoted, "a quote is open in {line}");
    words
}

/// Runs what a page tells to run, one command after the other in one place; how many they were.
fn walk(page: &str, place: &Path) -> usize {
    let text = read(page);
    let lines: Vec<&str> = blocks(&text, "sh").into_iter().flat_map(str::lines).collect();
    let mut ran = 0;
    for line in lines {
        let words = words(line);
        match words[0].as_str() {
            "msrnn" => {
                let done = start_in(&words[1..], place).wait();
                assert_eq!(done.code, Some(0), "{line}\n{}", done.stderr);
                assert!(!done.stdout.is_empty(), "{line} said nothing");
                ran += 1;
            }
            // What the example's own binary does is shown by runs/own-command.
            "own-command" => assert!(read("runs/own-command").contains(&words[1]), "{line}"),
            other => panic!("{page} runs {other}, which no test does"),
        }
    }
    ran
}

#[test]
fn every_command_of_the_guide_runs() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("README.md"), directory.path().join("README.md")).unwrap();
    assert!(walk("docs/policy-guide.md", directory.path()) >= 10);
    assert!(directory.path().join("out/my-idea/report.html").is_file());
}

#[test]
fn every_command_of_the_tour_runs() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("README.md"), directory.path().join("README.md")).unwrap();
    assert!(walk("docs/tour.md", directory.path()) >= 14);
    assert!(directory.path().join("out/tour/report.html").is_file());
}

#[test]
fn the_names_of_the_tour_are_read() {
    let tour = read("docs/tour.md");
    let table = tour.split("what it is called here").last().unwrap();
    let named =
        ["streaming-llm", "window+4", "pooled(snapkv, floor=0.2)", "pyramid(snapkv)", "int8(full)", "int8(tova)@512"];
    for name in named.into_iter().chain(["knorm", "keydiff", "snapkv", "lagkv", "tova", "int4(full)", "kivi"]) {
        assert!(table.contains(&format!("`{name}`")), "{name}");
        name.parse::<msrnn_policies::PolicySpec>().unwrap();
    }
}

#[test]
fn the_message_of_the_guide_is_the_commands() {
    let done = msrnn(&["explain", "score(weigth * value_norm)"]);
    let guide = read("docs/policy-guide.md");
    let [shown] = blocks(&guide, "text")[..] else { panic!("one message is shown") };
    let [first, text, carets] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert!(done.stderr.starts_with(first.trim_end_matches("...")), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("\n{text}\n{carets}\n")), "{}", done.stderr);
}

#[test]
fn the_code_of_guide_and_readme_is_the_examples() {
    let examples: String =
        ["examples/own-command/src/main.rs", "examples/examples/new_policy.rs", "examples/examples/tensor_policy.rs"]
            .map(read)
            .concat();
    for (page, least) in [("docs/policy-guide.md", 3), ("README.md", 1)] {
        let text = read(page);
        let blocks = blocks(&text, "rust");
        assert!(blocks.len() >= least, "{page} has {} blocks of code", blocks.len());
        for block in blocks {
            assert!(examples.contains(block), "{page} shows what is in no example:\n{block}");
        }
    }
}
