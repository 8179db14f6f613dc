//! Training sequences: BOS and the first tokens of one story each.

use msrnn_models::tokenizer::Tokenizer;

use super::tokenizer::BOS;
use crate::error::BenchError;
use crate::stories::{Split, Stories};

/// An endless source of sequences of exactly `context` ids. Sequence `i` depends on the split, the
/// seed and `i` alone, so that a resumed run sees what an uninterrupted one would have seen.
#[derive(Debug)]
pub(super) struct Sequences<'a> {
    stories: Stories,
    tokenizer: &'a Tokenizer,
    context: usize,
}

impl<'a> Sequences<'a> {
    /// The sequences of one split, from the `first` on.
    pub(super) fn new(split: Split, seed: u64, first: usize, context: usize, tokenizer: &'a Tokenizer) -> Self {
        // A token is at most 0.77 words on average; with 0.9 the shortest story still fills the context.
        let stories = Stories::new(split, seed).with_words(context * 9 / 10).starting_at(first as u64);
        Self { stories, tokenizer, context }
    }
}

impl Iterator for Sequences<'_> {
    type Item = Result<Vec<u32>, BenchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let story = self.stories.next()?;
        Some(self.tokenizer.encode(&story.text).map_err(BenchError::from).and_then(|ids| {
            if ids.len() + 1 < self.context {
                return Err(BenchError::Train(format!(
                    "a story of {} tokens cannot fill a context of {}; use a longer ‘context’",
                    ids.len(),
                    self.context
                )));
            }
            let mut sequence = vec![BOS.1];
            sequence.extend(&ids[..self.context - 1]);
            Ok(sequence)
        }))
    }
}
