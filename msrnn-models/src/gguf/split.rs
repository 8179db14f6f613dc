//! The names of the files that a model is split into, `NAME-00002-of-00005.gguf`.

/// How the name of a GGUF file ends.
pub const EXTENSION: &str = "gguf";

/// The names of all files that the one of this name belongs to, in their order: itself, where it is no part.
pub fn parts(name: &str) -> Vec<String> {
    match part(name) {
        Some((stem, _, count)) => {
            (1..=count).map(|index| format!("{stem}-{index:05}-of-{count:05}.{EXTENSION}")).collect()
        }
        None => vec![name.to_owned()],
    }
}

/// What a name says: what all parts begin with, which part, of how many.
pub(super) fn part(name: &str) -> Option<(&str, usize, usize)> {
    let stem = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<usize>().ok().filter(|_| plain)
    };
    let (index, count) = (number(index)?, number(count)?);
    (1..=count).contains(&index).then_some((stem, index, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_any_of_them_and_other_names_stand_alone() {
        let all = ["a/m-Q4-00001-of-00002.gguf", "a/m-Q4-00002-of-00002.gguf"];
        assert_eq!(parts(all[0]), all);
        assert_eq!(parts(all[1]), all);
        for alone in [
            "m.gguf",
            "m-00001-of-00002.safetensors",
            "m-1-of-2.gguf",
            "m-00003-of-00002.gguf",
            "00001-of-00002.gguf",
            "m-00000-of-00002.gguf",
            "m-+0001-of-00002.gguf",
        ] {
            assert_eq!(parts(alone), [alone]);
        }
    }
}
