//! The order of a crate's modules, read from its source.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Rust code without its comments, and without the tests at its end, which may use what they like.
pub(crate) fn code(text: &str) -> String {
    without_tests(text).lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Rust code without the tests at its end.
pub(crate) fn without_tests(text: &str) -> &str {
    let mut modules = text.match_indices("\n#[cfg(test)]\nmod ");
    let inline =
        modules.find(|(at, found)| text[at + found.len()..].lines().next().is_some_and(|line| line.ends_with('{')));
    inline.map_or(text, |(at, _)| &text[..at])
}

/// The string literals of Rust code, as they are written.
#[allow(dead_code)] // Not every test that includes this file looks at them.
pub(crate) fn literals(code: &str) -> Vec<&str> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(rest) = code.get(at..).filter(|rest| !rest.is_empty()) {
        let raw = rest.strip_prefix('r').map(|rest| rest.split(|c| c != '#').next().unwrap_or_default());
        let raw = raw.filter(|signs| rest[1 + signs.len()..].starts_with('"'));
        let in_a_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if ["'\"'", "'\\\"'", "b'\"'"].iter().any(|quote| rest.starts_with(quote)) {
            rest.find("\"'").map_or(rest.len(), |end| end + 2)
        } else if let (Some(signs), false) = (raw, in_a_name) {
            let start = 2 + signs.len();
            let length = rest[start..].find(&format!("\"{signs}")).expect("a raw string ends");
            found.push(&rest[start..][..length]);
            start + length + 1 + signs.len()
        } else if let Some(text) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let length = end.expect("a string ends");
            found.push(&text[..length]);
            length + 2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += length;
    }
    found
}

/// The names that follow `crate::` in a text, those in braces too.
pub(crate) fn used(code: &str) -> Vec<String> {
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

pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the crate's source is here").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Fails where a module of the crate in that folder knows one that stands behind it in `floors`, or has no place there.
/// A crate may call itself by its name, as a binary does that is part of it.
pub(crate) fn no_module_knows_one_above_it(crate_folder: &str, floors: &[&str], own_name: &str) {
    let source = Path::new(crate_folder).join("src");
    let floor: BTreeMap<&str, usize> = floors.iter().enumerate().map(|(floor, module)| (*module, floor)).collect();
    let (mut wrong, mut looked) = (Vec::new(), 0);
    for path in files(&source) {
        let inside = path.strip_prefix(&source).expect("below it").to_string_lossy().replace('\\', "/");
        let module = inside.split('/').next().expect("a name").trim_end_matches(".rs");
        if !inside.ends_with(".rs") || ["lib", "main"].contains(&module) {
            continue;
        }
        let own = *floor.get(module).unwrap_or_else(|| panic!("{inside}: the module {module} has no floor"));
        let text = code(&fs::read_to_string(&path).expect("text")).replace(&format!("{own_name}::"), "crate::");
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

#[test]
fn literals_are_found_and_comments_and_signs_are_not() {
    let text = r##"let a = "b\"c"; // "d"
        let e = ('"', '\"', r#"f "g""#, for_r"h", "i\\");"##;
    assert_eq!(literals(text), [r#"b\"c"#, r#"f "g""#, "h", r"i\\"]);
}
