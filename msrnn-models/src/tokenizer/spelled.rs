//! Special tokens as they are spelled, where a text is shown with them or looked through for them.

use super::Tokenizer;
use crate::error::ModelError;

impl Tokenizer {
    /// [`Tokenizer::decode_with_ends`] with special tokens as they are spelled.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn decode_with_specials(&self, ids: &[u32]) -> Result<(String, Vec<usize>), ModelError> {
        let (plain, ends) = self.decode_with_ends(ids)?;
        let (mut text, mut from) = (String::new(), 0);
        let mut all = Vec::with_capacity(ids.len());
        for (&id, end) in ids.iter().zip(ends) {
            text.push_str(&plain[from..end]);
            from = end;
            if let Some(special) = self.special(id) {
                text.push_str(&special);
            }
            all.push(text.len());
        }
        Ok((text, all))
    }

    /// The text of one id by itself, special tokens too.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn shown(&self, id: u32) -> Result<String, ModelError> {
        self.special(id).map_or_else(|| self.decode(&[id]), Ok)
    }

    /// Whether a text begins with a special token that is read as one, so that what comes before it changes no id.
    pub fn begins_with_special(&self, text: &str) -> bool {
        let added = self.inner.get_added_tokens_decoder();
        let spelled = added.values().filter(|token| token.special && text.starts_with(&token.content));
        // Of several the longest is read.
        let token = spelled.max_by_key(|token| token.content.len());
        let id = token.and_then(|token| self.inner.token_to_id(&token.content));
        id.is_some_and(|id| self.encode(text).is_ok_and(|ids| ids.first() == Some(&id)))
    }

    /// What a special token is spelled as.
    fn special(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id).filter(|token| self.inner.get_added_vocabulary().is_special_token(token))
    }
}
