//! A decoder, token by token.
//!
//! A decoder of the crate `tokenizers` takes all tokens at once. What follows a token can change what it is
//! written as (a byte that is half of a character; a run of byte tokens, of which one that is no UTF-8 spoils
//! all), so that its text is held back until nothing can any more: for Llama's, Mistral's and Yi's decoders that
//! is to the end of a run of byte tokens or of a character, for others, of which one is not known here, to the
//! end. Every token is worked on once.

use std::sync::OnceLock;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::{Decoder, Error};

/// What decodes tokens as they come. Its twin is the decoder itself.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    words: Vec<Words>,
    join: Join,
    /// Leading characters that are still to be taken off, and which.
    strip: Vec<(char, usize)>,
    clean: Option<Clean>,
}

/// Tokens to tokens.
#[derive(Clone, Debug)]
enum Words {
    /// Each by itself.
    Each(DecoderWrapper),
    /// Each by itself, the first in another way.
    First(DecoderWrapper, bool),
    /// Runs of byte tokens.
    Bytes(Vec<u8>),
}

/// Tokens to text.
#[derive(Clone, Debug)]
enum Join {
    /// One behind the other.
    Plain,
    /// With spaces between; whether one has been there.
    Spaced(bool),
    /// As bytes under GPT-2's signs for them; those of a character that is not whole yet.
    Signs(Vec<u8>),
}

/// Spaces before punctuation are taken out, as transformers does.
#[derive(Clone, Debug, Default)]
struct Clean(String);

impl Stages {
    /// The stages of a decoder, and of transformers' cleaning; none where it has a part that needs all tokens at once.
    pub(super) fn new(decoder: Option<&DecoderWrapper>, clean: bool) -> Option<Self> {
        let mut parts = Vec::new();
        if let Some(decoder) = decoder {
            flatten(decoder, &mut parts);
        }
        let join = if decoder.is_none() { Join::Spaced(false) } else { Join::Plain };
        let clean = clean.then(Clean::default);
        let mut stages = Self { words: Vec::new(), join, strip: Vec::new(), clean };
        let mut joined = false;
        for part in parts {
            match part {
                DecoderWrapper::Fuse(_) => joined = true,
                DecoderWrapper::Strip(strip) if joined && strip.stop == 0 => {
                    stages.strip.push((strip.content, strip.start));
                }
                _ if joined => return None,
                DecoderWrapper::Replace(_) | DecoderWrapper::Strip(_) => stages.words.push(Words::Each(part.clone())),
                DecoderWrapper::Metaspace(_) | DecoderWrapper::WordPiece(_) => {
                    stages.words.push(Words::First(part.clone(), true));
                }
                DecoderWrapper::ByteFallback(_) => stages.words.push(Words::Bytes(Vec::new())),
                DecoderWrapper::ByteLevel(_) => {
                    stages.join = Join::Signs(Vec::new());
                    joined = true;
                }
                _ => return None,
            }
        }
        Some(stages)
    }

    /// The text that is sure once this token has come.
    pub(super) fn push(&mut self, token: String) -> Result<String, Error> {
        let tokens = self.words.iter_mut().try_fold(vec![token], |tokens, words| words.push(tokens))?;
        let text = self.join.push(&tokens);
        Ok(self.shape(text))
    }

    /// The text of what is held, if no other token comes.
    pub(super) fn rest(&self) -> Result<String, Error> {
        let mut all = self.clone();
        let mut tokens = Vec::new();
        for words in &mut all.words {
            tokens = words.push(tokens)?;
            tokens.extend(words.finish());
        }
        let mut text = all.join.push(&tokens);
        text.push_str(all.join.finish());
        let mut text = all.shape(text);
        if let Some(clean) = &mut all.clean {
            text.push_str(&cleaned(&clean.0));
        }
        Ok(text)
    }

    /// Bytes that are held, about.
    pub(super) fn held(&self) -> usize {
        let words = self.words.iter().map(|words| if let Words::Bytes(run) = words { run.len() } else { 0 });
        words.sum::<usize>() + self.clean.as_ref().map_or(0, |clean| clean.0.len())
    }

    /// What stands behind the joining.
    fn shape(&mut self, mut text: String) -> String {
        for (content, left) in &mut self.strip {
            let mut chars = text.chars();
            while *left > 0 {
                match chars.clone().next() {
                    None => break,
                    Some(c) if c == *content => {
                        chars.next();
                        *left -= 1;
                    }
                    Some(_) => *left = 0,
                }
            }
            text = chars.as_str().to_owned();
        }
        match &mut self.clean {
            None => text,
            Some(clean) => clean.push(&text),
        }
    }
}

fn flatten<'d>(decoder: &'d DecoderWrapper, parts: &mut Vec<&'d DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(all) => all.get_decoders().iter().for_each(|part| flatten(part, parts)),
        part => parts.push(part),
    }
}

impl Words {
    fn push(&mut self, tokens: Vec<String>) -> Result<Vec<String>, Error> {
        match self {
            Self::Each(decoder) => decoder.decode_chain(tokens),
            Self::First(decoder, first) => {
                let mut all = Vec::with_capacity(tokens.len());
                for token in tokens {
                    // Behind another one, which is not looked at.
                    let before = if std::mem::take(first) { vec![] } else { vec![String::new()] };
                    let n = before.len();
                    all.extend(decoder.decode_chain([before, vec![token]].concat())?.into_iter().skip(n));
                }
                Ok(all)
            }
            Self::Bytes(_) => {
                let mut all = Vec::with_capacity(tokens.len());
                for token in tokens {
                    if let (Some(byte), Self::Bytes(run)) = (byte(&token), &mut *self) {
                        run.push(byte);
                    } else {
                        all.extend(self.finish());
                        all.push(token);
                    }
                }
                Ok(all)
            }
        }
    }

    /// What is held. A run that is not UTF-8 as a whole is one replacement character per byte.
    fn finish(&mut self) -> Vec<String> {
        let Self::Bytes(run) = self else { return Vec::new() };
        match String::from_utf8(std::mem::take(run)) {
            Ok(text) if text.is_empty() => Vec::new(),
            Ok(text) => vec![text],
            Err(error) => vec![REPLACEMENT.into(); error.as_bytes().len()],
        }
    }
}

const REPLACEMENT: &str = "\u{fffd}";

/// The byte of `<0x0A>`.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

impl Join {
    fn push(&mut self, tokens: &[String]) -> String {
        match self {
            Self::Plain => tokens.concat(),
            Self::Spaced(seen) => {
                let mut text = String::new();
                for token in tokens {
                    if std::mem::replace(seen, true) {
                        text.push(' ');
                    }
                    text.push_str(token);
                }
                text
            }
            Self::Signs(bytes) => {
                for token in tokens {
                    let of_signs: Option<Vec<u8>> = token.chars().map(of_sign).collect();
                    bytes.extend(of_signs.unwrap_or_else(|| token.as_bytes().to_vec()));
                }
                whole_characters(bytes)
            }
        }
    }

    fn finish(&mut self) -> &'static str {
        match self {
            Self::Signs(bytes) if !bytes.is_empty() => REPLACEMENT,
            _ => "",
        }
    }
}

/// The text of some bytes, but for those at the end that begin a character, which stay.
fn whole_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(bytes) {
            Ok(rest) => {
                text.push_str(rest);
                bytes.clear();
                return text;
            }
            Err(error) => {
                let valid = error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[..valid]));
                bytes.drain(..valid);
                let Some(wrong) = error.error_len() else { return text };
                text.push_str(REPLACEMENT);
                bytes.drain(..wrong);
            }
        }
    }
}

/// The byte that GPT-2 writes as this sign: printable ones as themselves, the others from U+0100 on, in order.
fn of_sign(sign: char) -> Option<u8> {
    static HIDDEN: OnceLock<Vec<u8>> = OnceLock::new();
    let shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden = HIDDEN.get_or_init(|| (0..=255).filter(|&byte| !shown(byte)).collect());
    match u32::from(sign) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|&byte| shown(byte)),
        code => hidden.get(code as usize - 0x100).copied(),
    }
}

/// The sign that GPT-2 writes for a byte; [`of_sign`] is its inverse.
pub(crate) fn sign(byte: u8) -> char {
    static SIGNS: OnceLock<Vec<char>> = OnceLock::new();
    let signs = SIGNS.get_or_init(|| {
        let mut signs = vec!['\0'; 256];
        for sign in (0..0x200).filter_map(char::from_u32) {
            if let Some(byte) = of_sign(sign) {
                signs[usize::from(byte)] = sign;
            }
        }
        signs
    });
    signs[usize::from(byte)]
}

/// What transformers' `clean_up_tokenization` replaces, in its order.
const CLEANED: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// A text without spaces before punctuation and contractions.
pub(super) fn cleaned(text: &str) -> String {
    CLEANED.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

impl Clean {
    /// Up to the last character that is in none of the patterns: none reaches across it.
    fn push(&mut self, text: &str) -> String {
        let safe = text.rfind(|c: char| !CLEANED.iter().any(|(from, _)| from.contains(c)));
        let Some(at) = safe else {
            self.0.push_str(text);
            return String::new();
        };
        let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
        self.0.push_str(&text[..end]);
        let sure = cleaned(&self.0);
        self.0 = text[end..].to_owned();
        sure
    }
}
