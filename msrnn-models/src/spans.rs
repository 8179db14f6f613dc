//! How many bytes of a text each of its tokens stands for.

use tokenizers::{PostProcessorWrapper, Tokenizer as Inner};

use crate::error::ModelError;
use crate::tokenizer::{Part, Tokenizer, contained};

/// Encodes texts and tells which part of a text a token stands for. Kept apart from encoding alone, which is faster.
#[derive(Clone, Debug)]
pub struct Spans<'t> {
    tokenizer: &'t Tokenizer,
    /// Without what comes after the splitting into tokens, which for some tokenizers cuts white space off the
    /// offsets (`trim_offsets`), and without special tokens changes nothing else.
    inner: Inner,
}

/// Tokens, and UTF-8 bytes of the text that each of them stands for: from the end of the token before to its own end, the
/// last one to the end of the text. They add up to the text. A character that several tokens make up counts where the
/// first of them is, unless the tokenizer tells its bytes apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spanned {
    /// As [`Tokenizer::encode`] has them.
    pub ids: Vec<u32>,
    /// Of each.
    pub bytes: Vec<u32>,
}

impl<'t> Spans<'t> {
    /// Of the tokens that a tokenizer makes.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        let mut inner = tokenizer.inner().clone();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        Self { tokenizer, inner }
    }

    /// The tokens of the first parts of a text, as many as are asked for: they end with the part in which token `most`
    /// is. All where there are no more, and then `Spanned` is that of the text.
    ///
    /// `at_least`: as for [`Tokenizer::parts`].
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn of(&self, text: &str, most: usize, at_least: usize) -> Result<Spanned, ModelError> {
        let mut all = Spanned::default();
        // Bytes behind the last token, which are the next one's.
        let mut behind = 0;
        for part in self.tokenizer.parts(text, at_least) {
            if all.ids.len() >= most {
                return Ok(all);
            }
            behind = self.add(part, behind, &mut all)?;
        }
        if let Some(last) = all.bytes.last_mut() {
            *last = last.saturating_add(number(behind));
        }
        Ok(all)
    }

    /// The tokens of a part, put behind those of the parts before it, which left so many bytes. What this one leaves.
    fn add(&self, part: Part<'_>, left: usize, all: &mut Spanned) -> Result<usize, ModelError> {
        let before = left + part.left_out;
        let encoding = contained("encoding a text", || self.inner.encode(part.text, false))?;
        let ids = encoding.get_ids();
        // The sign of the space that was left out; the library takes it for a part of the first letter.
        let space = part.left_out > 0 && ids.first().is_some_and(|&id| self.is_space(id));
        let mut from = 0;
        all.ids.extend_from_slice(ids);
        all.bytes.extend(encoding.get_offsets().iter().enumerate().map(|(index, &(_, end))| {
            let end = if space && index == 0 { 0 } else { end.min(part.text.len()) };
            let to = (before + end).max(from);
            let bytes = number(to - from);
            from = to;
            bytes
        }));
        Ok(before + part.text.len() - from)
    }

    /// Whether a token is a space and nothing else.
    fn is_space(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some_and(|token| token == "▁")
    }
}

fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer of bytes and the merge `o n`, with offsets cut as GPT-2's are.
    fn byte_level() -> Tokenizer {
        let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut letters: Vec<String> = bytes.into_iter().map(String::from).collect();
        letters.sort_unstable();
        letters.push("on".into());
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            letters.into_iter().enumerate().map(|(id, letter)| (letter, id.into())).collect();
        let byte_level = serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        });
        let file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
            "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": [["o", "n"]] }
        });
        Tokenizer::from_bytes(file.to_string().as_bytes(), None).unwrap()
    }

    fn bytes(text: &str) -> Vec<u32> {
        let tokenizer = byte_level();
        let Spanned { ids, bytes } = Spans::new(&tokenizer).of(text, usize::MAX, 1).unwrap();
        assert_eq!(ids, tokenizer.encode(text).unwrap());
        assert_eq!(bytes.len(), ids.len());
        bytes
    }

    #[test]
    fn a_token_stands_for_its_own_bytes_white_space_included() {
        assert_eq!(bytes("on a\n\n b"), [2, 1, 1, 1, 1, 1, 1]);
        assert_eq!(bytes("a  "), [1, 1, 1]);
        assert_eq!(bytes(""), [0; 0]);
    }

    #[test]
    fn a_character_of_several_tokens_counts_where_the_first_of_them_is() {
        assert_eq!(bytes("aüb"), [1, 2, 0, 1]);
        assert_eq!(bytes("€"), [3, 0, 0]);
    }

    #[test]
    fn bytes_add_up_to_the_text() {
        for text in ["Once upon a time,\tthere wäs…\r\n\r\n  a  dog 🐶. ", "\u{feff}", " ", "日本語"] {
            assert_eq!(bytes(text).iter().sum::<u32>() as usize, text.len(), "{text:?}");
        }
    }

    #[test]
    fn no_more_parts_are_encoded_than_hold_what_is_asked_for() {
        let tokenizer = byte_level();
        let spans = Spans::new(&tokenizer);
        let all = spans.of("on on on on on", usize::MAX, 1).unwrap();
        assert_eq!(all.ids.len(), 9);
        // A token of the first part, then two of each.
        for (most, tokens) in [(0, 0), (1, 1), (2, 3), (3, 3), (4, 5), (9, 9), (10, 9)] {
            let some = spans.of("on on on on on", most, 1).unwrap();
            assert_eq!((&some.ids[..], &some.bytes[..]), (&all.ids[..tokens], &all.bytes[..tokens]), "{most}");
        }
    }
}
