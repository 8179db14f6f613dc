//! What is scored: contexts of token ids, cut from texts or id lists.

use std::path::Path;

use msrnn_models::Model;
use serde::Serialize;

use crate::error::BenchError;
use crate::stories::{Split, Stories};
use crate::text_ids;

/// A text or id list cut into contexts. Every context starts from an empty state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contexts {
    /// Ids that every context begins with, such as BOS; empty for id lists.
    pub prefix: Vec<u32>,
    /// The contexts, prefix included, in the order of the texts. All have at least two ids.
    pub contexts: Vec<Vec<u32>>,
}

impl Contexts {
    /// Ids cut into contexts of at most `context` tokens, the prefix counted; the last short one
    /// is kept, unless it has nothing to predict.
    pub fn cut(ids: &[u32], context: usize, prefix: &[u32]) -> Self {
        let fresh = context.saturating_sub(prefix.len()).max(1);
        let contexts = ids
            .chunks(fresh)
            .map(|chunk| prefix.iter().chain(chunk).copied().collect::<Vec<u32>>())
            .filter(|ids| ids.len() > 1)
            .collect();
        Self { prefix: prefix.to_vec(), contexts }
    }

    /// The same texts on shorter contexts: every context is cut on its own, so that (given a
    /// prefix) the same tokens are predicted.
    pub fn shorter(&self, context: usize) -> Self {
        let n = self.prefix.len();
        let contexts =
            self.contexts.iter().flat_map(|ids| Self::cut(&ids[n..], context, &self.prefix).contexts).collect();
        Self { prefix: self.prefix.clone(), contexts }
    }

    /// The texts of some files, each cut by itself.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is empty or is not UTF-8, or the model has no tokenizer.
    pub fn of_texts(paths: &[impl AsRef<Path>], context: usize, model: &Model) -> Result<Self, BenchError> {
        let text = |path: &Path| Ok((path.display().to_string(), read_text(path)?));
        let texts = paths.iter().map(|path| text(path.as_ref())).collect::<Result<Vec<_>, BenchError>>()?;
        Self::of_strings(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), context, model)
    }

    /// Held-out stories of the bundled generator, one context each.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer.
    pub fn of_stories(seed: u64, stories: usize, context: usize, model: &Model) -> Result<Self, BenchError> {
        // Longer than any tokenizer's context of that many tokens; the rest is dropped.
        let texts: Vec<String> =
            Stories::new(Split::Test, seed).with_words(context).take(stories).map(|story| story.text).collect();
        let mut all = Self::of_strings(texts.iter().map(|text| ("a story", text.as_str())), usize::MAX, model)?;
        all.contexts.iter_mut().for_each(|ids| ids.truncate(context));
        Ok(all)
    }

    /// `texts`: names and contents.
    fn of_strings<'t>(
        texts: impl Iterator<Item = (&'t str, &'t str)>,
        context: usize,
        model: &Model,
    ) -> Result<Self, BenchError> {
        let tokenizer = model.tokenizer()?;
        let prefix = tokenizer.prefix()?;
        let mut contexts = Vec::new();
        for (name, text) in texts {
            contexts.extend(Self::cut(&text_ids::scored(name, text, tokenizer)?, context, &prefix).contexts);
        }
        Self { prefix, contexts }.checked(model)
    }

    /// A JSON array of ids, used as it is: nothing is put before it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no such array, or has an id that the model does not know.
    pub fn of_ids(path: &Path, context: usize, model: &Model) -> Result<Self, BenchError> {
        let text = read_text(path)?;
        let ids: Vec<u32> = serde_json::from_str(&text).map_err(|e| {
            BenchError::Input(format!("{}: {e}; expected a JSON array of token ids such as [1, 42, 7]", path.display()))
        })?;
        Self::cut(&ids, context, &[]).checked(model)
    }

    fn checked(self, model: &Model) -> Result<Self, BenchError> {
        if self.contexts.is_empty() {
            return Err(BenchError::Input(
                "there is no token to predict; give a longer text or a longer --context".into(),
            ));
        }
        self.contexts.iter().try_for_each(|ids| model.check_ids(ids))?;
        Ok(self)
    }

    /// All tokens, predicted or not.
    pub fn tokens(&self) -> usize {
        self.contexts.iter().map(Vec::len).sum()
    }

    /// Tokens that are predicted: all but the first of each context.
    pub fn predicted(&self) -> usize {
        self.tokens() - self.contexts.len()
    }
}

/// The text of a file.
///
/// # Errors
///
/// When it cannot be read, is empty, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, BenchError> {
    let bytes = std::fs::read(path).map_err(|source| BenchError::Read { path: path.into(), source })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        BenchError::Input(format!(
            "{}: not UTF-8 at byte {at}; convert it first, for example with iconv",
            path.display()
        ))
    })?;
    match text.is_empty() {
        true => Err(BenchError::Input(format!("{}: the file is empty; give a text", path.display()))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_count_their_prefix_and_keep_the_short_rest() {
        let ids: Vec<u32> = (10..20).collect();
        let cut = Contexts::cut(&ids, 4, &[1]);
        assert_eq!(cut.contexts, [vec![1, 10, 11, 12], vec![1, 13, 14, 15], vec![1, 16, 17, 18], vec![1, 19]]);
        assert_eq!((cut.tokens(), cut.predicted()), (14, 10));
        assert_eq!(Contexts::cut(&ids, 3, &[]).contexts.len(), 3, "a lone last id predicts nothing");
    }

    #[test]
    fn shorter_contexts_predict_the_same_tokens() {
        let ids: Vec<u32> = (10..31).collect();
        let long = Contexts::cut(&ids, 12, &[1]);
        let short = long.shorter(4);
        assert_eq!(short.predicted(), long.predicted());
        assert!(short.contexts.iter().all(|ids| ids.len() <= 4 && ids[0] == 1));
    }
}
