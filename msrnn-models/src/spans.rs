//! How many bytes of a text each of its tokens stands for.

use tokenizers::{PostProcessorWrapper, Tokenizer as Inner};

use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// Tells which part of a text a token stands for. Kept apart from encoding, which needs none of it.
#[derive(Clone, Debug)]
pub struct Spans {
    /// Without what comes after the splitting into tokens, which for some tokenizers cuts white space off the
    /// offsets (`trim_offsets`), and without special tokens changes nothing else.
    inner: Inner,
}

impl Spans {
    /// Of the tokens that a tokenizer makes.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let mut inner = tokenizer.inner().clone();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        Self { inner }
    }

    /// UTF-8 bytes of `text` that each of its tokens stands for: from the end of the token before to its own end, the
    /// last one to the end of the text. They add up to the whole text. A character that several tokens make up counts
    /// where the first of them is, unless the tokenizer tells its bytes apart.
    ///
    /// None where the tokenizer does not come to the tokens `ids`, so that nothing is known of them.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn bytes(&self, text: &str, ids: &[u32]) -> Result<Option<Vec<u32>>, ModelError> {
        let encoding = self.inner.encode(text, false).map_err(|e| ModelError::Tokenizer(e.to_string()))?;
        if encoding.get_ids() != ids {
            return Ok(None);
        }
        let mut from = 0;
        let last = ids.len().saturating_sub(1);
        let bytes = encoding.get_offsets().iter().enumerate().map(|(index, &(_, end))| {
            let to = if index == last { text.len() } else { end.clamp(from, text.len()) };
            let bytes = to - from;
            from = to;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        });
        Ok(Some(bytes.collect()))
    }
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
        let ids = tokenizer.encode(text).unwrap();
        let bytes = Spans::new(&tokenizer).bytes(text, &ids).unwrap().unwrap();
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
    fn of_other_tokens_nothing_is_known() {
        assert_eq!(Spans::new(&byte_level()).bytes("on", &[1, 2]).unwrap(), None);
    }
}
