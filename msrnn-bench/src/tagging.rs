//! Parts of speech of a text, and of the tokens that it was written with.
//!
//! Words are tagged by the crate `harper-brill` (Brill 1992: a dictionary of most frequent tags, then
//! learned corrections by context), which carries its English model and needs no file. It gives
//! Universal tags; `penn` turns them into Penn Treebank tags by the form of the word, which for
//! punctuation, numbers, `to` and the possessive is what defines those tags anyway. What Penn tells
//! apart beyond that is not told apart: all verbs but modals are `VB`, all adjectives `JJ`, all
//! adverbs `RB`, all pronouns `PRP`, adpositions and subordinating conjunctions both `IN`.

use std::ops::Range;

use harper_brill::{Tagger, UPOS, brill_tagger};
use msrnn_models::tokenizer::Tokenizer;

use crate::error::BenchError;

/// Tag of a line break.
pub(crate) const NEWLINE: &str = "newline";
/// Tag of white space without a line break that is a token of its own.
pub(crate) const SPACE: &str = "space";
/// Tag of a token without text, such as BOS.
pub(crate) const SPECIAL: &str = "special";

/// A word, mark or line break of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// Its tag.
    pub tag: &'static str,
}

/// The words and marks of a text with their tags, in order. White space is left out, but for runs
/// that hold a line break.
pub(crate) fn tag(text: &str) -> Vec<Tagged> {
    let mut tagged = Vec::new();
    let mut sentence: Vec<Range<usize>> = Vec::new();
    let end = |sentence: &mut Vec<Range<usize>>, tagged: &mut Vec<Tagged>| {
        let words: Vec<String> = sentence.iter().map(|range| text[range.clone()].to_owned()).collect();
        let tags = brill_tagger().tag_sentence(&words);
        for (range, found) in sentence.drain(..).zip(tags) {
            let opens = !text[..range.start].ends_with(|c: char| !c.is_whitespace() && !"([{".contains(c));
            let tag = penn(&text[range.clone()], found, opens);
            tagged.push(Tagged { range, tag });
        }
    };
    for range in words(text) {
        let word = &text[range.clone()];
        if word.trim().is_empty() {
            end(&mut sentence, &mut tagged);
            tagged.push(Tagged { range, tag: NEWLINE });
            continue;
        }
        sentence.push(range);
        if matches!(word, "." | "!" | "?") {
            end(&mut sentence, &mut tagged);
        }
    }
    end(&mut sentence, &mut tagged);
    tagged
}

/// The Penn Treebank tag of a word: by its form where that decides, else by its Universal tag.
///
/// `opens`: nothing but a space or bracket stands before it, so that a quotation mark opens.
fn penn(word: &str, found: Option<UPOS>, opens: bool) -> &'static str {
    /// Modal verbs, contracted ones included.
    const MODALS: &[&str] = &[
        "can", "could", "may", "might", "must", "shall", "should", "will", "would", "ought", "ca", "wo", "'ll", "’ll",
        "'d", "’d",
    ];
    let lower = word.to_lowercase();
    let plural = lower.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| lower.ends_with(ending));
    let capital = word.starts_with(char::is_uppercase);
    match lower.as_str() {
        "." | "!" | "?" => ".",
        "," => ",",
        ":" | ";" | "-" | "--" | "–" | "—" | "..." | "…" => ":",
        "(" | "[" | "{" => "(",
        ")" | "]" | "}" => ")",
        "$" | "£" | "€" => "$",
        "#" => "#",
        "“" | "‘" | "«" | "``" => "``",
        "”" | "»" | "''" => "''",
        "\"" | "'" | "’" => match opens {
            true => "``",
            false => "''",
        },
        "to" => "TO",
        "n't" | "n’t" => "RB",
        modal if MODALS.contains(&modal) => "MD",
        "'s" | "’s" => match found {
            Some(UPOS::AUX | UPOS::VERB) => "VB",
            _ => "POS",
        },
        _ if word.starts_with(|c: char| c.is_ascii_digit()) => "CD",
        _ if !word.contains(char::is_alphanumeric) => "SYM",
        _ => match found {
            Some(UPOS::ADJ) => "JJ",
            Some(UPOS::ADP | UPOS::SCONJ) => "IN",
            Some(UPOS::ADV) => "RB",
            Some(UPOS::AUX | UPOS::VERB) => "VB",
            Some(UPOS::CCONJ) => "CC",
            Some(UPOS::DET) => "DT",
            Some(UPOS::INTJ) => "UH",
            Some(UPOS::NUM) => "CD",
            Some(UPOS::PART) => "RP",
            Some(UPOS::PRON) => "PRP",
            Some(UPOS::PROPN) if plural => "NNPS",
            Some(UPOS::PROPN) => "NNP",
            Some(UPOS::NOUN) if plural => "NNS",
            Some(UPOS::NOUN) => "NN",
            // Words that the tagger does not know are names if written like names, else nouns.
            _ if capital && plural => "NNPS",
            _ if capital => "NNP",
            _ if plural => "NNS",
            _ => "NN",
        },
    }
}

/// Words as the Treebank cuts them (contractions apart), single marks, and runs of white space with a
/// line break in them.
fn words(text: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let at = |i: usize| chars.get(i).map(|&(_, c)| c);
    let byte = |i: usize| chars.get(i).map_or(text.len(), |&(byte, _)| byte);
    let mut all = Vec::new();
    let mut i = 0;
    while let Some(c) = at(i) {
        let start = i;
        i += 1;
        if c.is_whitespace() {
            while at(i).is_some_and(char::is_whitespace) {
                i += 1;
            }
            if text[byte(start)..byte(i)].contains('\n') {
                all.push(byte(start)..byte(i));
            }
        } else if c.is_alphanumeric() {
            while let Some(c) = at(i) {
                let next = at(i + 1);
                let joins = match c {
                    '\'' | '’' | '-' => next.is_some_and(char::is_alphanumeric),
                    '.' | ',' => {
                        at(i - 1).is_some_and(|c| c.is_ascii_digit()) && next.is_some_and(|c| c.is_ascii_digit())
                    }
                    c => c.is_alphanumeric(),
                };
                if !joins {
                    break;
                }
                i += 1;
            }
            let word = byte(start)..byte(i);
            let cut = word.start + clitic(&text[word.clone()]);
            all.extend([word.start..cut, cut..word.end].into_iter().filter(|part| !part.is_empty()));
        } else {
            // Dots and dashes belong together.
            while matches!(c, '.' | '-') && at(i) == Some(c) {
                i += 1;
            }
            all.push(byte(start)..byte(i));
        }
    }
    all
}

/// Where the contracted ending of a word begins: `do|n't`, `Mira|'s`; its length if it has none.
fn clitic(word: &str) -> usize {
    let lower = word.to_lowercase();
    if lower.len() == word.len() {
        for mark in ["'", "’"] {
            for ending in ["n_t", "_s", "_re", "_ve", "_ll", "_d", "_m"] {
                let ending = ending.replace('_', mark);
                if lower.ends_with(&ending) && lower.len() > ending.len() {
                    return lower.len() - ending.len();
                }
            }
        }
    }
    word.len()
}

/// The tag of every token: that of the word or mark in which its first visible character stands, in
/// the text that the tokens spell.
///
/// # Errors
///
/// When the decoder fails.
pub(crate) fn tags_of_tokens(ids: &[u32], tokenizer: &Tokenizer) -> Result<Vec<&'static str>, BenchError> {
    let (text, ends) = tokenizer.decode_with_ends(ids)?;
    let tagged = tag(&text);
    let mut tags = Vec::with_capacity(ids.len());
    let mut start = 0;
    for (end, &id) in ends.into_iter().zip(ids) {
        let piece = &text[start..end];
        let visible = piece.find(|c: char| !c.is_whitespace());
        let tag = match visible {
            // A part of a character has no text yet, and that of the token that ends the character.
            None if piece.is_empty() && !tokenizer.decode(&[id])?.is_empty() => at(&tagged, start),
            None if piece.is_empty() => Some(SPECIAL),
            None if piece.contains('\n') => Some(NEWLINE),
            None => Some(SPACE),
            Some(offset) => at(&tagged, start + offset),
        };
        tags.push(tag.unwrap_or(SPECIAL));
        start = end;
    }
    Ok(tags)
}

/// The tag of the word in which that byte stands, or of the next one.
fn at(tagged: &[Tagged], byte: usize) -> Option<&'static str> {
    let next = tagged.partition_point(|word| word.range.end <= byte);
    tagged.get(next).map(|word| word.tag)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::stories::story;

    fn tagged(text: &str) -> Vec<(&str, &'static str)> {
        tag(text).into_iter().map(|word| (&text[word.range], word.tag)).collect()
    }

    #[test]
    fn words_are_cut_as_the_treebank_does() {
        let cut = |text: &'static str| words(text).into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(
            cut("Mira's dog didn't cost $47.50, no."),
            ["Mira", "'s", "dog", "did", "n't", "cost", "$", "47.50", ",", "no", "."]
        );
        assert_eq!(
            cut("\"Go!\" (well-known) wait... 'tis"),
            ["\"", "Go", "!", "\"", "(", "well-known", ")", "wait", "...", "'", "tis"]
        );
        assert_eq!(cut("a \n\n b\tc"), ["a", " \n\n ", "b", "c"]);
        assert_eq!(cut("’s "), ["’", "s"]);
    }

    #[test]
    fn forms_decide_where_the_treebank_lets_them() {
        let found = tagged("\"Where is the dog?\" asked Mira. She went to the market (in Dover) with $5.\n\nBen's hat");
        let of = |word: &str| found.iter().filter(|(w, _)| *w == word).map(|(_, tag)| *tag).collect::<Vec<_>>();
        assert_eq!(of("\""), ["``", "''"]);
        assert_eq!(of("the"), ["DT", "DT"]);
        assert_eq!((of("to"), of("5"), of("$")), (vec!["TO"], vec!["CD"], vec!["$"]));
        assert_eq!((of("("), of(")"), of("in")), (vec!["("], vec![")"], vec!["IN"]));
        assert_eq!((of("?"), of("."), of("\n\n")), (vec!["."], vec![".", "."], vec![NEWLINE]));
        assert_eq!((of("Mira"), of("Ben"), of("'s")), (vec!["NNP"], vec!["NNP"], vec!["POS"]));
        assert_eq!(penn("He's", Some(UPOS::AUX), true), "VB");
        assert_eq!(penn("Joneses", Some(UPOS::PROPN), true), "NNPS");
        assert_eq!(penn("glass", Some(UPOS::NOUN), true), "NN");
    }

    #[test]
    fn tags_cover_a_text_without_overlap() {
        for seed in 0..3 {
            let text = story(seed, 400).text + "\n\u{201c}Ünïcode — ’tis “fine”…\u{201d} 3.5% x²";
            let mut end = 0;
            for Tagged { range, .. } in tag(&text) {
                assert!(range.start >= end && range.end > range.start);
                assert!(text[end..range.start].trim().is_empty(), "{:?} is not tagged", &text[end..range.start]);
                end = range.end;
            }
            assert!(text[end..].trim().is_empty());
        }
    }

    #[test]
    fn tokens_take_the_tag_of_their_word() {
        let model = crate::bundled::load(DType::F32, &Device::flex()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let text = "The town of Thirsk had lost it.\n\nIt cost $47.50, no — yes.";
        let ids: Vec<u32> = tokenizer.prefix().unwrap().into_iter().chain(tokenizer.encode(text).unwrap()).collect();
        let tags = tags_of_tokens(&ids, tokenizer).unwrap();
        assert_eq!(tags.len(), ids.len());
        assert_eq!(tags[0], SPECIAL);
        let with = |wanted: &str| {
            let ids: Vec<u32> = ids.iter().zip(&tags).filter(|(_, tag)| **tag == wanted).map(|(&id, _)| id).collect();
            tokenizer.decode(&ids).unwrap()
        };
        assert_eq!(with("NNP").trim(), "Thirsk");
        assert_eq!((with("CD").trim(), with("$").trim()), ("47.50", "$"));
        assert_eq!(with(NEWLINE), "\n\n");
        // The dash is several byte tokens of one character.
        assert_eq!(with(":").trim(), "—");
        assert_eq!(with("."), "..");
    }
}
