//! The text of a continuation, as its ids are drawn.

use super::Tokenizer;
use super::stages::Stages;
use crate::error::ModelError;

/// Most bytes that [`TextStream::held`] decodes.
const MOST_HELD: usize = 1024;

/// The text of ids that come one by one, behind a prompt.
///
/// Everything that it gives, [`TextStream::finish`] included, put together is [`Tokenizer::continuation`]. Text
/// comes as soon as no later id can change it, and every id is decoded once.
#[derive(Clone, Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    how: How,
    /// What the prompt's end reads as without what follows, as far as it did not come again.
    seam: String,
}

#[derive(Clone, Debug)]
enum How {
    Live(Stages),
    /// All ids so far, for a decoder that needs them at once.
    AtTheEnd(Vec<u32>),
}

impl<'t> TextStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, stages: Option<Stages>, prompt: &[u32]) -> Result<Self, ModelError> {
        let how = stages.map_or(How::AtTheEnd(Vec::new()), How::Live);
        let mut stream = Self { tokenizer, how, seam: String::new() };
        for &id in prompt {
            stream.next(id)?;
        }
        stream.seam = stream.rest()?;
        Ok(stream)
    }

    /// The text that is sure once `id` has come; often that of `id`, sometimes of others before it, or nothing yet.
    /// An id that the tokenizer does not know, and a special token, have no text.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, ModelError> {
        let text = self.next(id)?;
        Ok(behind(&mut self.seam, text))
    }

    /// The text that would still come if no other id did. None where that is too much to look at with every token.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn held(&self) -> Result<Option<String>, ModelError> {
        match &self.how {
            How::Live(stages) if stages.held() <= MOST_HELD => self.end().map(Some),
            _ => Ok(None),
        }
    }

    /// The text that is left when no other id comes.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn finish(self) -> Result<String, ModelError> {
        self.end()
    }

    pub(super) fn end(&self) -> Result<String, ModelError> {
        Ok(behind(&mut self.seam.clone(), self.rest()?))
    }

    fn next(&mut self, id: u32) -> Result<String, ModelError> {
        match &mut self.how {
            How::Live(stages) => match self.tokenizer.token(id) {
                Some(token) => self.tokenizer.decoding(|| stages.push(token)),
                None => Ok(String::new()),
            },
            How::AtTheEnd(ids) => {
                ids.push(id);
                Ok(String::new())
            }
        }
    }

    fn rest(&self) -> Result<String, ModelError> {
        match &self.how {
            How::Live(stages) => self.tokenizer.decoding(|| stages.rest()),
            How::AtTheEnd(ids) => self.tokenizer.decode(ids),
        }
    }
}

/// What of `text` is new behind `seam`, of which the part that came again is taken off.
fn behind(seam: &mut String, text: String) -> String {
    if seam.is_empty() || text.is_empty() {
        return text;
    }
    let shared = shared(seam, &text);
    if shared == text.len() {
        seam.drain(..shared);
    } else {
        seam.clear();
    }
    text[shared..].to_owned()
}

/// Bytes of the longest beginning, in whole characters, that two texts share.
pub(super) fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}
