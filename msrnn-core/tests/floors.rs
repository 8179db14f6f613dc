//! The modules of this crate are floors: each knows those below it, and none above. `ARCHITECTURE.md` says what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From the ground up.
const FLOORS: [&str; 21] = [
    // Numbers.
    "error",
    "simd",
    "precision",
    // What is done to every token by itself.
    "kernels",
    // A policy, as data and in tensor code, and who goes by it.
    "budget",
    "placement",
    "packing",
    "layer",
    "tensors",
    "omission",
    "merging",
    "score",
    "policy",
    "needs",
    "compression",
    // The state.
    "state",
    "trouble",
    // The step.
    "attention",
    "rnn",
    "vanilla",
    // What must hold of all of it.
    "laws",
];

/// Rust code without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names that follow `crate::` in a text, those in braces too.
fn used(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let after = code
        .match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with("$"))
        .map(|(at, found)| &code[at + found.len()..]);
    after
        .flat_map(|rest| match rest.strip_prefix('{') {
            None => vec![name(rest)],
            Some(rest) => {
                let (mut depth, mut names, mut part) = (0_usize, Vec::new(), String::new());
                for c in rest.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        ',' if depth == 0 => names.push(name(std::mem::take(&mut part).trim())),
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 && c != ',' {
                        part.push(c);
                    }
                }
                names.push(name(part.trim()));
                names
            }
        })
        .collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the crate's source is here").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_module_knows_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floor: BTreeMap<&str, usize> = FLOORS.iter().enumerate().map(|(floor, module)| (*module, floor)).collect();
    let (mut wrong, mut looked) = (Vec::new(), 0);
    for path in files(&source) {
        let inside = path.strip_prefix(&source).expect("below it").to_string_lossy().replace('\\', "/");
        let module = inside.split('/').next().expect("a name").trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = *floor.get(module).unwrap_or_else(|| panic!("{inside}: the module {module} has no floor"));
        let text = code(&fs::read_to_string(&path).expect("text"));
        for name in used(&text) {
            // What the crate's root offers by itself: the error type, macros.
            let Some(&other) = floor.get(name.as_str()) else { continue };
            looked += 1;
            if other > own {
                wrong.push(format!("{inside} ({module}) knows {name}"));
            }
        }
    }
    assert!(looked > 100, "only {looked} names were found: the search is broken");
    assert!(wrong.is_empty(), "modules that know what is above them:\n{}", wrong.join("\n"));
}

#[test]
fn names_in_braces_and_alone_are_found_and_comments_are_not() {
    let text = "use crate::{a, b::{c, d}, e::f};\nlet x = crate::g::h(); // crate::i\n";
    assert_eq!(used(&code(text)), ["a", "b", "e", "g"]);
}
