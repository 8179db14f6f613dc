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

/// String literals of all four crates outside the command and outside tests, with the files that they are in.
fn literals_of_libraries() -> Vec<(String, String)> {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources =
        ["msrnn-core", "msrnn-policies", "msrnn-models", "msrnn-bench"].map(|name| workspace.join(name).join("src"));
    let is_test = |path: &std::path::Path| path.file_stem().is_some_and(|name| name == "tests");
    let files = sources.iter().flat_map(|source| floors::files(source)).filter(|path| {
        path.extension().is_some_and(|ending| ending == "rs")
            && !path.starts_with(sources[3].join("cli"))
            && !is_test(path)
    });
    let literals = files.flat_map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(workspace).unwrap().display().to_string();
        let found =
            floors::literals(floors::without_tests(&text)).into_iter().map(|literal| (name.clone(), literal.into()));
        found.collect::<Vec<_>>()
    });
    literals.collect()
}

/// Words that begin with two dashes, but for those of other programs and of style sheets.
fn flags(literal: &str) -> Vec<&str> {
    // Options of cargo and of llama.cpp's tools, in commands that are there to be copied.
    let of_others = |command: &&str| ["cargo ", "llama-"].iter().any(|program| command.starts_with(program));
    let others: Vec<&str> = literal.split('`').skip(1).step_by(2).filter(of_others).collect();
    let dashes = literal.match_indices("--").filter(|(at, _)| {
        let (before, after) = (&literal[..*at], &literal[at + 2..]);
        let word = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '-');
        // `--name:value` and `var(--name)`.
        let is_style =
            before.ends_with("var(") || (word.starts_with(':') && !word.starts_with(": ")) || after.starts_with("c{");
        after.starts_with(|c: char| c.is_ascii_lowercase()) && !before.ends_with('-') && !is_style
    });
    let words = dashes.map(|(at, _)| literal[at..].split([' ', '`']).next().unwrap_or_default());
    words.filter(|word| !others.iter().any(|command| command.contains(word))).collect()
}

/// Who calls a library has no options: what it says names settings, which `cli/settings.rs` turns into options.
#[test]
fn no_text_outside_the_command_has_an_option() {
    let literals = literals_of_libraries();
    assert!(literals.len() > 3000, "only {} literals were found: the search is broken", literals.len());
    let wrong: Vec<String> = literals
        .iter()
        .flat_map(|(file, literal)| flags(literal).into_iter().map(move |flag| format!("{file}: {flag}")))
        .collect();
    assert!(wrong.is_empty(), "write settings as ‘max_new_tokens’, without dashes:\n{}", wrong.join("\n"));
    assert_eq!(flags("give --out, or `cargo x --features y` and --max-new"), ["--out,", "--max-new"]);
}

#[test]
fn every_setting_that_a_text_names_is_an_option_of_some_subcommand() {
    let script =
        std::process::Command::new(env!("CARGO_BIN_EXE_msrnn")).args(["completions", "bash"]).output().unwrap();
    let script = String::from_utf8(script.stdout).unwrap();
    let options: std::collections::BTreeSet<&str> =
        script.split([' ', '"', '\n', ')', '|']).filter_map(|word| word.strip_prefix("--")).collect();
    let literals = literals_of_libraries();
    let settings = literals.iter().flat_map(|(file, literal)| {
        let names = literal.split('‘').skip(1).filter_map(|rest| rest.split_once('’'));
        names.map(move |(name, _)| (file, name))
    });
    let settings: Vec<_> = settings.collect();
    let unknown: Vec<_> =
        settings.iter().filter(|(_, name)| !options.contains(name.replace('_', "-").as_str())).collect();
    assert!(
        settings.len() > 100 && unknown.is_empty(),
        "{} settings, of which no options are {unknown:?}",
        settings.len()
    );
}
