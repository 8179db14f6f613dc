//! The modules of this crate are floors: each knows those below it, and none above. `ARCHITECTURE.md` says what they are.

#[path = "../../msrnn-core/tests/common/floors.rs"]
mod floors;

/// From the ground up.
const FLOORS: [&str; 43] = [
    // What all use.
    "error",
    "wording",
    "statistics",
    "memory",
    "output",
    "claim",
    // What comes in: servers, files, texts, models.
    "http",
    "hub",
    "input",
    "id_lists",
    "text_ids",
    "device",
    "precision",
    "devices",
    "source",
    "stories",
    "texts",
    "contexts",
    "bundled",
    "open",
    "room",
    "numbers",
    "roads",
    // What is measured on a text.
    "evaluate",
    "trace",
    "trace_parquet",
    "logits",
    "divergence",
    "strided",
    "plan",
    "metrics",
    "tagging",
    // What is found, and how it is shown.
    "figure",
    "results",
    "render",
    // Work that takes long.
    "trial",
    "writing",
    "experiment",
    "progress",
    "speed",
    "throughput",
    "train",
    // What is typed.
    "cli",
];

#[test]
fn no_module_knows_one_above_it() {
    floors::no_module_knows_one_above_it(env!("CARGO_MANIFEST_DIR"), &FLOORS, "msrnn_bench");
}

/// Options and their flags are the command's alone.
#[test]
fn no_module_but_the_command_knows_clap() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let knows = |path: &std::path::Path| {
        let text = floors::code(&std::fs::read_to_string(path).unwrap());
        text.contains("clap::") || text.contains("ValueEnum")
    };
    let (in_cli, elsewhere): (Vec<_>, Vec<_>) = floors::files(&source)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs") && knows(path))
        .partition(|path| path.starts_with(source.join("cli")));
    assert!(in_cli.len() > 10 && elsewhere.is_empty(), "{elsewhere:?}");
}
