//! Porter's stemmer with NLTK's extensions, which is what `rouge-score` stems with.
//!
//! M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980. The extensions (a pool of
//! irregular forms, words of two letters left alone, `-ies` and `-ied` after one letter, `-y` only
//! after a consonant, `-bli`, `-alli`, `-fulli`, `-logi`) are those of NLTK's default mode; no Rust
//! crate has them.

/// Forms that the rules would get wrong.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// `-suffix` and what takes its place.
type Rule = (&'static str, &'static str);

const STEP_2: [Rule; 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [Rule; 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a word of lower-case ASCII letters and digits.
///
/// ```
/// use msrnn_bench::metrics::porter::stem;
///
/// assert_eq!(stem("relational"), "relat");
/// assert_eq!(stem("dies"), "die");
/// ```
pub fn stem(word: &str) -> String {
    if let Some(&(_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return stem.into();
    }
    if word.len() <= 2 {
        return word.into();
    }
    let word = step_1c(step_1b(step_1a(word.into())));
    step_5b(step_5a(step_4(replace(step_2(word), &STEP_3))))
}

fn step_1a(word: String) -> String {
    if word.ends_with("ies") && word.len() == 4 {
        return cut(&word, 1).into();
    }
    match ["sses", "ies", "ss", "s"].iter().find(|suffix| word.ends_with(**suffix)) {
        Some(&"sses" | &"ies") => cut(&word, 2).into(),
        Some(&"s") => cut(&word, 1).into(),
        _ => word,
    }
}

fn step_1b(word: String) -> String {
    if word.ends_with("ied") {
        return cut(&word, if word.len() == 4 { 1 } else { 2 }).into();
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { cut(&word, 1).into() } else { word };
    }
    let stems = ["ed", "ing"].iter().filter_map(|suffix| word.strip_suffix(suffix));
    let Some(stem) = stems.into_iter().find(|stem| consonants(stem).contains(&false)) else { return word };
    if ["at", "bl", "iz"].iter().any(|suffix| stem.ends_with(suffix)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        return if stem.ends_with(['l', 's', 'z']) { stem.into() } else { cut(stem, 1).into() };
    }
    if measure(stem) == 1 && ends_cvc(stem) { format!("{stem}e") } else { stem.into() }
}

fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(word: String) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(format!("{stem}al"));
    }
    if word.ends_with("logi") {
        // The l counts as part of the stem.
        return if measure(cut(&word, 3)) > 0 { cut(&word, 1).into() } else { word };
    }
    replace(word, &STEP_2)
}

fn step_4(word: String) -> String {
    let Some(suffix) = STEP_4.iter().find(|suffix| word.ends_with(**suffix)) else { return word };
    let stem = cut(&word, suffix.len());
    match measure(stem) > 1 && (*suffix != "ion" || stem.ends_with(['s', 't'])) {
        true => stem.into(),
        false => word,
    }
}

fn step_5a(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_cvc(stem)) => stem.into(),
        _ => word,
    }
}

fn step_5b(word: String) -> String {
    match word.ends_with("ll") && measure(cut(&word, 1)) > 1 {
        true => cut(&word, 1).into(),
        false => word,
    }
}

/// Applies the first rule whose suffix fits, if its stem has a vowel before a consonant; no other.
fn replace(word: String, rules: &[Rule]) -> String {
    let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) else { return word };
    let stem = cut(&word, suffix.len());
    if measure(stem) > 0 { format!("{stem}{replacement}") } else { word }
}

/// The word without its last `n` bytes.
fn cut(word: &str, n: usize) -> &str {
    &word[..word.len() - n]
}

/// Per letter, whether it is a consonant: no vowel, and no y after a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for byte in word.bytes() {
        flags.push(match byte {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !flags.last().copied().unwrap_or(false),
            _ => true,
        });
    }
    flags
}

/// How often a vowel is followed by a consonant: m of the paper.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| pair == &[false, true]).count()
}

fn ends_in_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    let n = bytes.len();
    n >= 2 && bytes[n - 1] == bytes[n - 2] && consonants(word)[n - 1]
}

/// Consonant, vowel, consonant other than w, x, y at the end; or a vowel and a consonant alone.
fn ends_cvc(word: &str) -> bool {
    match consonants(word)[..] {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}
