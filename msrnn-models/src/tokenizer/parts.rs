//! Where a text may be cut so that its parts have, one after the other, the ids of the whole.
//!
//! The library holds a hundred bytes and more for every byte of a text that it encodes: part by part that is a matter of
//! the part. A cut is made where it is known to change nothing, for tokenizers of which that is known; any other text is
//! one part. Known is a single space between two letters, `one| two`, because of
//!
//! 1. *added tokens*: none reaches over the cut or touches it, by its letters;
//! 2. *the normaliser*: of the kinds in [`normaliser`], which look at a place and its neighbours alone, but for what is
//!    put before a text. Where that is what the space becomes (Llama 2: `▁`), the space is left out and comes back as it;
//! 3. *the pre-tokenizer*: of the kinds in [`splits`], none of which looks back, or far ahead. Either it splits before
//!    every such space, and then the model sees the same words;
//! 4. *or the model is BPE and no token has such a letter before a space in it*: then no merge reaches over the cut,
//!    those on both sides go on as if alone, and so the result is that of both sides.
//!
//! Where 3 splits by one of the [`PATTERNS`], a single line break before a letter will do as well, `一。⏎|二`: all of them
//! end a match there, whether the text goes on or not. The law that parts give the ids of the whole is tested on every
//! tokenizer there is, cut as often as can be.

use std::collections::BTreeSet;

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::{NormalizedString, Normalizer, Tokenizer as Inner};

/// Bytes of a part, at least, unless the text ends: the library then takes a few megabytes at a time.
pub const PART: usize = 32 << 10;

/// A part of a text, as it is encoded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'t> {
    /// What is encoded.
    pub text: &'t str,
    /// Bytes of the text before it that belong to it and are not encoded: 1 for a space that the tokenizer puts there
    /// itself, else 0.
    pub left_out: usize,
}

/// Where texts of a tokenizer may be cut.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    /// Whether the space at a cut is left out.
    left_out: bool,
    /// Whether a line break is one too.
    lines: bool,
    /// Whether letters beyond ASCII count.
    wide: bool,
    /// Letters that must not be before a cut.
    not_before: BTreeSet<char>,
    /// Letters that must not be behind it.
    not_behind: BTreeSet<char>,
    /// The only letters that may be before it; none for all others.
    only_before: Option<BTreeSet<char>>,
}

impl Cuts {
    /// Those of a tokenizer; none where nothing is known.
    pub(super) fn of(inner: &Inner) -> Option<Self> {
        let normalizer = serde_json::to_value(inner.get_normalizer()).ok()?;
        let wide = normaliser(&normalizer)?;
        let normalised = |text: &str| {
            let mut text = NormalizedString::from(text);
            inner.get_normalizer().map_or(Ok(()), |normalizer| normalizer.normalize(&mut text)).ok()?;
            Some(text.get().to_owned())
        };
        let alone = normalised("b")?;
        let before = alone.strip_suffix('b')?;
        let two = normalised("a b")?;
        let space = two.strip_prefix(before)?.strip_prefix('a')?.strip_suffix('b')?;
        let begun = if before.is_empty() { normalised(" b")?.strip_suffix('b')? == space } else { before == space };
        let mut sign = match space {
            " " => ' ',
            "▁" => '▁',
            _ => return None,
        };
        let pre_tokenizer = serde_json::to_value(inner.get_pre_tokenizer()).ok()?;
        let Splits { words, lines } = splits(&pre_tokenizer, &mut sign)?;
        let mut cuts = Self {
            left_out: !before.is_empty(),
            lines: lines && before.is_empty(),
            wide,
            not_before: BTreeSet::new(),
            not_behind: BTreeSet::new(),
            only_before: None,
        };
        if !begun || (!words && !cuts.no_merge(inner.get_model(), sign)) {
            return None;
        }
        let added: Vec<String> = inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        for content in added.iter().cloned().chain(added.iter().filter_map(|content| normalised(content))) {
            cuts.keep_from(&content, sign)?;
        }
        Some(cuts)
    }

    /// Bars the letters next to which an added token could reach a cut; none if any letter is.
    fn keep_from(&mut self, added: &str, sign: char) -> Option<()> {
        let space = |letter: &char| *letter == sign || *letter == ' ';
        let letters: Vec<char> = added.chars().collect();
        if letters.iter().all(space) && !letters.is_empty() {
            return None;
        }
        self.not_behind.extend(letters.first());
        self.not_before.extend(letters.last());
        for pair in letters.windows(2) {
            if space(&pair[1]) {
                self.not_before.insert(pair[0]);
            }
            if space(&pair[0]) {
                self.not_behind.insert(pair[1]);
            }
        }
        self.lines &= !letters.contains(&'\n');
        Some(())
    }

    /// Whether a model that sees a text as one word merges nothing over a cut, for some letters.
    fn no_merge(&mut self, model: &ModelWrapper, sign: char) -> bool {
        let ModelWrapper::BPE(bpe) = model else { return false };
        let none = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        let plain = none(&bpe.continuing_subword_prefix) && none(&bpe.end_of_word_suffix);
        if !plain || bpe.ignore_merges || bpe.dropout.is_some() {
            return false;
        }
        let mut single = BTreeSet::new();
        for token in bpe.get_vocab().keys() {
            let letters: Vec<char> = token.chars().collect();
            if let [letter] = letters[..] {
                single.insert(letter);
            }
            self.not_before.extend(letters.windows(2).filter(|pair| pair[1] == sign).map(|pair| pair[0]));
        }
        // Letters that are no tokens may be put together as unknown ones, and become bytes.
        let known = single.contains(&sign);
        self.only_before = Some(single);
        known
    }

    /// The parts of a text of `at_least` so many bytes each, but the last.
    pub(super) fn parts<'t>(cuts: Option<&Self>, text: &'t str, at_least: usize) -> impl Iterator<Item = Part<'t>> {
        let mut rest = (!text.is_empty()).then_some(Part { text, left_out: 0 });
        std::iter::from_fn(move || {
            let part = rest.take()?;
            let Some((end, left_out)) = cuts.and_then(|cuts| cuts.next(part.text, at_least)) else { return Some(part) };
            rest = Some(Part { text: &part.text[end + left_out..], left_out });
            Some(Part { text: &part.text[..end], ..part })
        })
    }

    /// The end of the first part of a text that is so long, and what is left out behind it.
    fn next(&self, text: &str, at_least: usize) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        (at_least.max(1)..bytes.len()).find_map(|at| match bytes[at] {
            b' ' if self.allows(text, at) => Some((at, usize::from(self.left_out))),
            b'\n' if self.lines && self.ends_line(text, at) => Some((at + 1, 0)),
            _ => None,
        })
    }

    /// Whether the space there is a cut.
    fn allows(&self, text: &str, at: usize) -> bool {
        let (Some(before), Some(behind)) = (text[..at].chars().next_back(), text[at + 1..].chars().next()) else {
            return false;
        };
        self.letter(before)
            && self.letter(behind)
            && !self.not_before.contains(&before)
            && !self.not_behind.contains(&behind)
            && self.only_before.as_ref().is_none_or(|only| only.contains(&before))
    }

    /// Whether the line break there ends a part.
    fn ends_line(&self, text: &str, at: usize) -> bool {
        let before = text[..at].chars().next_back();
        let behind = text[at + 1..].chars().next();
        before.is_some_and(|before| !before.is_whitespace())
            && behind.is_some_and(|behind| self.letter(behind) && !self.not_behind.contains(&behind))
    }

    fn letter(&self, sign: char) -> bool {
        sign.is_ascii_alphabetic() || (self.wide && is_letter(sign))
    }
}

/// Whether a sign is a letter beyond ASCII, of a script that has many: `\p{L}` in all versions of Unicode, and never put
/// together with what stands before it.
fn is_letter(sign: char) -> bool {
    let script = matches!(sign, '\u{c0}'..='\u{24f}' | '\u{386}'..='\u{3ff}' | '\u{400}'..='\u{481}' | '\u{48a}'..='\u{52f}'
        | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}' | '\u{904}'..='\u{939}' | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fef}' | '\u{ac00}'..='\u{d7a3}');
    script && sign.is_alphabetic()
}

/// Whether a normaliser is known to look at a place alone, and if so, whether letters beyond ASCII stay as they are.
fn normaliser(value: &Value) -> Option<bool> {
    match value["type"].as_str() {
        None if value.is_null() => Some(true),
        Some("NFC" | "NFD" | "NFKC" | "NFKD") => Some(false),
        Some("Prepend") => Some(true),
        Some("Replace") => match (&value["pattern"]["String"], &value["pattern"]["Regex"]) {
            (Value::String(space), _) if space == " " => Some(true),
            // Of the small SentencePiece models that strip spaces and put several together.
            (_, Value::String(regex)) if regex == r"\A +| +\z" || regex == " {2,}" => Some(true),
            _ => None,
        },
        Some("Sequence") => {
            value["normalizers"].as_array()?.iter().try_fold(true, |wide, one| Some(wide & normaliser(one)?))
        }
        _ => None,
    }
}

/// What a pre-tokenizer does at a cut.
#[derive(Clone, Copy)]
struct Splits {
    /// It splits before a space between letters.
    words: bool,
    /// It ends a match at a line break before a letter, and puts nothing before a text.
    lines: bool,
}

/// Patterns by which texts are split, of which all are known: no match has a letter and a space behind it, a letter is
/// in a match of letters, a single line break before a letter ends one, and none looks back.
///
/// In order: Llama 3, GPT-4; Qwen 2; GPT-4o and Mistral's Tekken, with contractions and without.
const PATTERNS: [&str; 4] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// What a pre-tokenizer does at a cut, if it is known that both sides are split as they would be alone. `sign`: what
/// the space there has become, and then becomes.
fn splits(value: &Value, sign: &mut char) -> Option<Splits> {
    let does = |words| Some(Splits { words, lines: false });
    let is = |key: &str| value[key] == Value::Bool(true);
    match value["type"].as_str() {
        None if value.is_null() => does(false),
        // GPT-2's pattern is known as the others are; it is in the library.
        Some("ByteLevel") if is("use_regex") && *sign == ' ' => {
            Some(Splits { words: true, lines: !is("add_prefix_space") })
        }
        Some("Digits") => does(false),
        Some("Whitespace" | "WhitespaceSplit" | "BertPreTokenizer") if *sign == ' ' => does(true),
        Some("Metaspace") if value["replacement"].as_str() == Some("▁") => {
            *sign = '▁';
            does(is("split"))
        }
        Some("Split") => {
            let (pattern, behavior) = (&value["pattern"], value["behavior"].as_str()?);
            if let Some(text) = pattern["String"].as_str() {
                let elsewhere = !text.is_empty() && !text.chars().any(|c| c == *sign || c.is_alphabetic());
                return if elsewhere { does(false) } else { None };
            }
            let known = PATTERNS.contains(&pattern["Regex"].as_str()?);
            let matches = behavior == "Isolated" || (behavior == "Removed" && is("invert"));
            (known && matches && *sign == ' ').then_some(Splits { words: true, lines: true })
        }
        Some("Sequence") => {
            let mut all = Splits { words: false, lines: false };
            for one in value["pretokenizers"].as_array()? {
                match all.words {
                    false => all = splits(one, sign)?,
                    // What comes to words already sees nothing beyond them.
                    true => match one["type"].as_str()? {
                        "Digits" | "Punctuation" | "Split" | "Whitespace" | "WhitespaceSplit" => {}
                        "ByteLevel" if one["add_prefix_space"] == Value::Bool(true) => all.lines = false,
                        "ByteLevel" => {}
                        _ => return None,
                    },
                }
            }
            Some(all)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts() -> Cuts {
        let none = BTreeSet::new;
        Cuts { left_out: false, lines: true, wide: true, not_before: none(), not_behind: none(), only_before: None }
    }

    fn parts(cuts: Option<&Cuts>, text: &str, at_least: usize) -> Vec<(String, usize)> {
        Cuts::parts(cuts, text, at_least).map(|part| (part.text.to_owned(), part.left_out)).collect()
    }

    #[test]
    fn a_text_is_cut_at_single_spaces_and_line_breaks_between_letters_only() {
        let shown: Vec<String> =
            parts(Some(&cuts()), "a b  c 1 d. e\nf\n\ng é。\n二 \nh", 1).into_iter().map(|(text, _)| text).collect();
        assert_eq!(shown, ["a", " b  c 1 d. e\n", "f\n\ng", " é。\n", "二 \nh"]);
        assert_eq!(parts(None, "a b c", 1), [("a b c".into(), 0)]);
        assert!(parts(Some(&cuts()), "", 1).is_empty());
    }

    #[test]
    fn a_space_that_comes_back_is_left_out_and_parts_are_as_long_as_they_shall_be() {
        let cuts = Cuts { left_out: true, lines: false, ..cuts() };
        let all = "aa bb cc dd";
        assert_eq!(parts(Some(&cuts), all, 4), [("aa bb".into(), 0), ("cc dd".into(), 1)]);
        for at_least in 0..12 {
            let length: usize = parts(Some(&cuts), all, at_least).iter().map(|(text, out)| text.len() + out).sum();
            assert_eq!(length, all.len());
        }
    }

    #[test]
    fn added_tokens_keep_cuts_away_from_their_letters() {
        let mut cuts = Cuts { lines: false, ..cuts() };
        cuts.keep_from("x yz", ' ').unwrap();
        assert_eq!(parts(Some(&cuts), "ax b y z x c", 1), [("ax b y".into(), 0), (" z x c".into(), 0)]);
        assert!(cuts.keep_from(" ", ' ').is_none());
    }
}
