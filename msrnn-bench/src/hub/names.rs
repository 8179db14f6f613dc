//! Which names a server may give to what is put on this machine's disk.

/// Longest name that every file system takes, with room for an ending.
const LONGEST: usize = 200;
/// Longest path of a file in a repository.
const LONGEST_PATH: usize = 1024;

/// Whether a path stays inside the directory that it is put in, whatever system that is on.
pub(super) fn is_inside(path: &str) -> bool {
    path.len() <= LONGEST_PATH && path.split('/').all(is_plain)
}

/// Whether a text is the name of one file or directory on every system, and nothing else.
fn is_plain(name: &str) -> bool {
    let reserved = |stem: &str| {
        let stem = stem.trim_end().to_ascii_uppercase();
        let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
            || numbered.is_some_and(|rest| rest.chars().count() == 1 && "0123456789¹²³".contains(rest))
    };
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.chars().any(|sign| sign.is_control() || "\\:*?\"<>|".contains(sign))
        && !name.ends_with(['.', ' '])
        && !reserved(name.split('.').next().unwrap_or_default())
}

/// Whether a text is the name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    is_hash(text, 40)
}

/// Whether a text is a hash of so many hexadecimal digits, in lower case.
pub(super) fn is_hash(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a file's content that an `ETag` gives, as Hugging Face's own programs read it: without `W/` and
/// quotes. None where it could be anything but a name in the cache.
#[cfg(feature = "hub")]
pub(super) fn of_etag(header: &str) -> Option<String> {
    let name = header.strip_prefix("W/").unwrap_or(header).trim_matches('"');
    let is_name = name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.contains("..")
        && is_plain(name)
        // Files of the cache's own.
        && ![".incomplete", ".lock", ".tmp"].iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    is_name.then(|| name.to_owned())
}

/// A name or path as part of an address: all but letters, digits and `-_.~` as percent signs and digits, and a
/// slash as well where `slash` is false.
#[cfg(feature = "hub")]
pub(super) fn in_address(text: &str, slash: bool) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'/' if slash => all.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => all.push(byte.into()),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
        all
    })
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use super::*;

    /// Names that lead elsewhere, or mean something else, on one system or another.
    const HOSTILE: [&str; 32] = [
        "",
        ".",
        "..",
        "../x",
        "../../x",
        "/absolute",
        "//x",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "\\x",
        "..\\x",
        "C:\\x",
        "C:x",
        "x:stream",
        "a\0b",
        "a\nb",
        "a\rb",
        "a\u{1b}b",
        "a\u{7f}",
        "CON",
        "nul",
        "NUL.txt",
        "aux.json",
        "com1",
        "LPT9.bin",
        "x.",
        "x ",
        "a*b",
        "a?b",
        "a|b",
    ];

    #[test]
    fn no_hostile_name_is_inside_a_directory_or_a_content() {
        for name in HOSTILE {
            assert!(!is_inside(name), "{name:?}");
            assert_eq!(of_etag(name), None, "{name:?}");
            assert_eq!(of_etag(&format!("\"{name}\"")), None, "{name:?}");
        }
        assert!(!is_inside(&"x".repeat(LONGEST + 1)) && !is_inside(&"x/".repeat(LONGEST_PATH)));
        for name in ["x".repeat(LONGEST + 1), ".hidden".into(), "a.incomplete".into(), "a.LOCK".into(), "a..b".into()] {
            assert_eq!(of_etag(&name), None, "{name:?}");
        }
    }

    #[test]
    fn what_hubs_give_is_taken() {
        for name in
            ["config.json", "onnx/model.onnx", ".gitattributes", "a b/ü-漢.txt", "model-00001-of-00002.safetensors"]
        {
            assert!(is_inside(name), "{name}");
        }
        let sha = "a".repeat(64);
        for (header, name) in [
            (format!("\"{sha}\""), sha.as_str()),
            ("W/\"5d41402abc4b2a76b9719d911017c592-12\"".into(), "5d41402abc4b2a76b9719d911017c592-12"),
            ("3f2a".into(), "3f2a"),
        ] {
            assert_eq!(of_etag(&header).as_deref(), Some(name));
        }
        assert!(is_commit(&"0a".repeat(20)) && !is_commit(&"0A".repeat(20)) && !is_commit("../.."));
    }

    #[test]
    fn an_address_has_only_the_signs_that_belong_in_it() {
        assert_eq!(in_address("refs/pr/3", false), "refs%2Fpr%2F3");
        assert_eq!(in_address("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
    }
}
