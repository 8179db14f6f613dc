//! What is scored: contexts of token ids, cut from texts or id lists.

use std::ops::Deref;
use std::path::PathBuf;

use msrnn_models::Model;
use msrnn_models::spans::Spans;
use msrnn_models::tokenizer::{PART, Tokenizer};
use serde::Serialize;

use crate::error::BenchError;
use crate::id_lists;
use crate::text_ids;
use crate::texts::Text;

/// Tokens that go through the layers at once in the layer form. A product of matrices first puts the weights
/// into an order of its own, which pays the better the more tokens there are; this many bound the memory of the
/// logits and the wait for an interrupt.
pub(crate) const BLOCK: usize = 512;

/// Ids that are scored from an empty state. Reads as the slice of its ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Context {
    /// The ids, prefix included.
    pub ids: Vec<u32>,
    /// How many of the first ids the context before has scored already: they are seen again, and not scored. 0 where
    /// contexts do not overlap.
    pub overlap: usize,
    /// UTF-8 bytes of the text that each id stands for, 0 for a prefix; empty where that is not known.
    pub bytes: Vec<u32>,
}

impl Context {
    /// The first id that is scored: no context before has, and there is one before it to predict it from.
    pub fn scored_from(&self) -> usize {
        self.overlap.max(1)
    }

    /// Ids that are scored.
    pub fn predicted(&self) -> usize {
        self.ids.len().saturating_sub(self.scored_from())
    }

    /// UTF-8 bytes of the text that the scored ids stand for; none where that is not known.
    pub fn predicted_bytes(&self) -> Option<u64> {
        let scored = self.bytes.get(self.scored_from()..)?;
        (self.bytes.len() == self.ids.len()).then(|| scored.iter().map(|&bytes| u64::from(bytes)).sum())
    }

    /// Keeps the first `length` ids.
    fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        self.bytes.truncate(length);
    }
}

impl Deref for Context {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.ids
    }
}

impl AsRef<[u32]> for Context {
    fn as_ref(&self) -> &[u32] {
        &self.ids
    }
}

/// Ids of which all but the first are scored.
impl From<Vec<u32>> for Context {
    fn from(ids: Vec<u32>) -> Self {
        Self { ids, ..Self::default() }
    }
}

/// How a text or id list is cut into contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// Tokens of a context, prefix included.
    pub context: usize,
    /// At most so many contexts of each text, its first; none for all.
    pub contexts: Option<usize>,
    /// Tokens from the beginning of a context to that of the next one, which then overlap, and of which only the
    /// first begins with the prefix; none for contexts one after the other, each begun with it.
    pub stride: Option<usize>,
}

impl Cutting {
    /// Contexts of `context` tokens, one after the other.
    pub fn new(context: usize) -> Self {
        Self { context, contexts: None, stride: None }
    }

    /// The cutting, if it makes sense.
    ///
    /// # Errors
    ///
    /// Says what would.
    pub fn checked(self) -> Result<Self, BenchError> {
        let Self { context, contexts, stride } = self;
        match stride {
            Some(stride) if stride == 0 || stride > context => Err(BenchError::Input(format!(
                "‘stride’ {stride} of contexts of {context} tokens would score some tokens twice or never; give 1 to \
                 {context}"
            ))),
            _ if contexts == Some(0) => {
                Err(BenchError::Input("0 contexts are nothing to score; give ‘contexts’ of at least 1".into()))
            }
            _ => Ok(self),
        }
    }

    /// How many ids of a text its contexts need at most, where their number is limited; a prefix of so many ids may be
    /// among them.
    fn ids(&self, prefix: usize) -> Option<usize> {
        let fresh = self.context.saturating_sub(prefix).max(1);
        let (first, next) = self.stride.map_or((fresh, fresh), |stride| (self.context, stride));
        let ids = |contexts: usize| first.saturating_add(next.saturating_mul(contexts.saturating_sub(1)));
        self.contexts.map(|contexts| ids(contexts).saturating_add(prefix))
    }

    /// The contexts of a text's ids, of which `bytes` may say what they stand for.
    pub fn cut(&self, ids: &[u32], bytes: Option<&[u32]>, prefix: &[u32]) -> Vec<Context> {
        let bytes = bytes.filter(|bytes| bytes.len() == ids.len());
        let most = self.contexts.unwrap_or(usize::MAX);
        let context = |prefix: &[u32], range: std::ops::Range<usize>, overlap| Context {
            ids: prefix.iter().chain(&ids[range.clone()]).copied().collect(),
            bytes: bytes
                .map_or_else(Vec::new, |bytes| prefix.iter().map(|_| 0).chain(bytes[range].iter().copied()).collect()),
            overlap,
        };
        let scored = |context: &Context| context.predicted() > 0;
        let Some(stride) = self.stride else {
            let fresh = self.context.saturating_sub(prefix.len()).max(1);
            let starts = (0..ids.len()).step_by(fresh);
            let cut = starts.map(|start| context(prefix, start..ids.len().min(start.saturating_add(fresh)), 0));
            return cut.filter(scored).take(most).collect();
        };
        // Encoded once, cut then: positions in the ids with the prefix before them.
        let (n, length) = (prefix.len(), prefix.len() + ids.len());
        let mut windows = Vec::new();
        let mut end_before = 0;
        for begin in (0..length).step_by(stride.max(1)) {
            let end = length.min(begin.saturating_add(self.context));
            let own = &prefix[begin.min(n)..end.min(n)];
            windows.push(context(own, begin.max(n) - n..end.max(n) - n, end_before - begin.min(end_before)));
            end_before = end;
            if end == length || windows.len() == most {
                break;
            }
        }
        windows.retain(scored);
        windows
    }
}

/// A text or id list cut into contexts. Every context starts from an empty state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contexts {
    /// Ids that every context begins with, such as BOS, or the first of a text where they overlap; empty for id lists.
    pub prefix: Vec<u32>,
    /// The contexts, prefix included, in the order of the texts. All have at least two ids.
    pub contexts: Vec<Context>,
}

impl Contexts {
    /// Ids cut into contexts of at most `context` tokens, the prefix counted; the last short one
    /// is kept, unless it has nothing to predict.
    pub fn cut(ids: &[u32], context: usize, prefix: &[u32]) -> Self {
        Self { prefix: prefix.to_vec(), contexts: Cutting::new(context).cut(ids, None, prefix) }
    }

    /// The same texts on shorter contexts: every context is cut on its own, so that (given a
    /// prefix) the same tokens are predicted. Of contexts that do not overlap.
    pub fn shorter(&self, context: usize) -> Self {
        let contexts = self.contexts.iter().flat_map(|whole| self.parts(whole, context)).collect();
        Self { prefix: self.prefix.clone(), contexts }
    }

    /// One of the contexts cut into shorter ones.
    pub fn parts(&self, whole: &Context, context: usize) -> Vec<Context> {
        let n = self.prefix.len();
        Cutting::new(context).cut(&whole.ids[n..], whole.bytes.get(n..), &self.prefix)
    }

    /// Texts, each cut by itself.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer, or nothing is left to predict.
    pub fn of_texts(texts: &[Text], cutting: &Cutting, model: &Model) -> Result<Self, BenchError> {
        Self::first_of_texts(texts, cutting, usize::MAX, model)
    }

    /// The first `most` contexts of some texts. Texts after them are not encoded.
    ///
    /// # Errors
    ///
    /// As [`Self::of_texts`].
    pub fn first_of_texts(texts: &[Text], cutting: &Cutting, most: usize, model: &Model) -> Result<Self, BenchError> {
        let encoder = Encoder::new(model.tokenizer()?)?;
        let mut contexts = Vec::new();
        for text in texts {
            let left = most - contexts.len();
            let cutting = Cutting { contexts: Some(cutting.contexts.unwrap_or(left).min(left)), ..*cutting };
            contexts.extend(encoder.contexts(text, &cutting)?);
            if contexts.len() >= most {
                break;
            }
        }
        Self { prefix: encoder.prefix, contexts }.checked(model)
    }

    /// Held-out stories of the bundled generator, one context each.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer.
    pub fn of_stories(seed: u64, stories: usize, context: usize, model: &Model) -> Result<Self, BenchError> {
        // Longer than any tokenizer's context of that many tokens; the rest is dropped.
        let texts = crate::texts::stories(seed, stories, context)?;
        let mut all = Self::of_texts(&texts, &Cutting::new(usize::MAX), model)?;
        all.contexts.iter_mut().for_each(|whole| whole.truncate(context));
        Ok(all)
    }

    /// JSON arrays of ids, each cut by itself and used as it is: nothing is put before it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is no such array, or has an id that the model does not know.
    pub fn of_ids(paths: &[PathBuf], cutting: &Cutting, model: &Model) -> Result<Self, BenchError> {
        let mut contexts = Vec::new();
        for path in paths {
            let ids = id_lists::read(path)?;
            // Before the cut, so that an index is one of the file.
            model.check_ids(&ids).map_err(|e| BenchError::Input(format!("{}: {e}", path.display())))?;
            contexts.extend(cutting.cut(&ids, None, &[]));
        }
        Self { prefix: Vec::new(), contexts }.checked(model)
    }

    fn checked(self, model: &Model) -> Result<Self, BenchError> {
        if self.contexts.is_empty() {
            return Err(BenchError::Input(
                "there is no token to predict; give a longer text or a longer ‘context’".into(),
            ));
        }
        self.contexts.iter().try_for_each(|ids| model.check_ids(ids))?;
        Ok(self)
    }

    /// All tokens, predicted or not.
    pub fn tokens(&self) -> usize {
        self.contexts.iter().map(|context| context.len()).sum()
    }

    /// Tokens that are predicted: all but the first of each context, or what its overlap leaves.
    pub fn predicted(&self) -> usize {
        self.contexts.iter().map(Context::predicted).sum()
    }
}

/// Turns texts into contexts.
#[derive(Debug)]
pub(crate) struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    spans: Spans<'t>,
    /// What the tokenizer puts before a text.
    pub prefix: Vec<u32>,
}

impl<'t> Encoder<'t> {
    /// By a model's tokenizer.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails on the empty text.
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Result<Self, BenchError> {
        Ok(Self { tokenizer, spans: Spans::new(tokenizer), prefix: tokenizer.prefix()? })
    }

    /// The contexts of a text, of which no more is encoded than they need.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode it.
    pub(crate) fn contexts(&self, text: &Text, cutting: &Cutting) -> Result<Vec<Context>, BenchError> {
        text_ids::check_room(&text.name, &text.text, self.tokenizer)?;
        let most = cutting.ids(self.prefix.len());
        let tokens = self.spans.of(&text.text, most.unwrap_or(usize::MAX), PART)?;
        text_ids::warn_of_specials(&text.name, &tokens.ids, self.tokenizer);
        // What the text spells of the prefix itself is not put before it once more.
        let fresh = self.tokenizer.without_prefix(&tokens.ids);
        let bytes = &tokens.bytes[tokens.ids.len() - fresh.len()..];
        Ok(cutting.cut(fresh, Some(bytes), &self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(contexts: &[Context]) -> Vec<&[u32]> {
        contexts.iter().map(|context| &**context).collect()
    }

    fn strided(ids: &[u32], context: usize, stride: usize, prefix: &[u32]) -> Vec<Context> {
        Cutting { stride: Some(stride), ..Cutting::new(context) }.cut(ids, None, prefix)
    }

    #[test]
    fn contexts_count_their_prefix_and_keep_the_short_rest() {
        let all: Vec<u32> = (10..20).collect();
        let cut = Contexts::cut(&all, 4, &[1]);
        assert_eq!(ids(&cut.contexts), [&[1, 10, 11, 12][..], &[1, 13, 14, 15], &[1, 16, 17, 18], &[1, 19]]);
        assert_eq!((cut.tokens(), cut.predicted()), (14, 10));
        assert_eq!(Contexts::cut(&all, 3, &[]).contexts.len(), 3, "a lone last id predicts nothing");
        let few = Cutting { contexts: Some(2), ..Cutting::new(4) }.cut(&all, None, &[1]);
        assert_eq!(few, cut.contexts[..2]);
    }

    #[test]
    fn shorter_contexts_predict_the_same_tokens_and_bytes() {
        let all: Vec<u32> = (10..31).collect();
        let bytes: Vec<u32> = (0..21).map(|i| i % 4).collect();
        let long = Contexts { prefix: vec![1], contexts: Cutting::new(12).cut(&all, Some(&bytes), &[1]) };
        let short = long.shorter(4);
        assert_eq!(short.predicted(), long.predicted());
        assert!(short.contexts.iter().all(|ids| ids.len() <= 4 && ids[0] == 1));
        let sum = |contexts: &Contexts| contexts.contexts.iter().map(|c| c.predicted_bytes().unwrap()).sum::<u64>();
        assert_eq!((sum(&long), sum(&short)), (30, 30));
    }

    #[test]
    fn windows_advance_by_the_stride_and_only_the_first_has_the_prefix() {
        let all: Vec<u32> = (10..17).collect();
        let windows = strided(&all, 4, 3, &[1]);
        assert_eq!(ids(&windows), [&[1, 10, 11, 12][..], &[12, 13, 14, 15], &[15, 16]]);
        assert_eq!(windows.iter().map(|w| (w.overlap, w.predicted())).collect::<Vec<_>>(), [(0, 3), (1, 3), (1, 1)]);
        // Without an overlap nothing predicts the first token of a window.
        let windows = strided(&all, 4, 4, &[1]);
        assert_eq!(ids(&windows), [&[1, 10, 11, 12][..], &[13, 14, 15, 16]]);
        assert_eq!(windows.iter().map(Context::predicted).sum::<usize>(), 6);
    }

    #[test]
    fn bytes_are_those_of_the_scored_tokens_only() {
        let context = Context { ids: vec![1, 7, 8, 9], overlap: 0, bytes: vec![0, 2, 3, 4] };
        assert_eq!(context.predicted_bytes(), Some(9));
        assert_eq!(Context { overlap: 3, ..context.clone() }.predicted_bytes(), Some(4));
        // Without a prefix the first token is not predicted, and its bytes do not count.
        assert_eq!(Context { ids: vec![7, 8], overlap: 0, bytes: vec![2, 3] }.predicted_bytes(), Some(3));
        assert_eq!(Context::from(vec![1, 7]).predicted_bytes(), None);
    }

    proptest! {
        /// The ids that a limited number of contexts needs are enough for them.
        #[test]
        fn the_first_contexts_follow_from_the_first_ids_alone(
            n in 0usize..60, context in 1usize..12, contexts in 1usize..8, stride in prop::option::of(1usize..12),
            prefix in 0usize..3
        ) {
            let all: Vec<u32> = (0..n as u32).collect();
            let cutting = Cutting { context, contexts: Some(contexts), stride: stride.map(|stride| stride.min(context)) };
            let (prefix, needed) = (vec![99; prefix], cutting.ids(prefix).unwrap());
            let first = &all[..n.min(needed - prefix.len())];
            prop_assert_eq!(cutting.cut(first, None, &prefix), cutting.cut(&all, None, &prefix));
        }

        /// Strided windows score every id but the first once, each after all that its window has before it.
        #[test]
        fn windows_with_an_overlap_score_every_id_but_the_first_once(
            n in 2usize..200, context in 2usize..40, stride in 1usize..40, prefixed in any::<bool>()
        ) {
            prop_assume!(stride < context);
            let all: Vec<u32> = (0..n as u32).collect();
            let (prefix, rest) = if prefixed { all.split_at(1) } else { all.split_at(0) };
            let windows = strided(rest, context, stride, prefix);
            let scored: Vec<u32> = windows.iter().flat_map(|w| w[w.scored_from()..].to_vec()).collect();
            prop_assert_eq!(scored, &all[1..]);
            for (index, window) in windows.iter().enumerate() {
                prop_assert_eq!(window[0] as usize, index * stride);
                prop_assert!(window.len() <= context && window.windows(2).all(|pair| pair[1] == pair[0] + 1));
            }
        }
    }

    #[test]
    fn a_stride_that_skips_or_repeats_is_refused_with_those_that_do_not() {
        let with = |stride| Cutting { stride: Some(stride), ..Cutting::new(8) }.checked();
        for stride in [0, 9] {
            assert!(with(stride).unwrap_err().to_string().contains("give 1 to 8"));
        }
        assert!(with(8).is_ok() && with(1).is_ok());
        let error = Cutting { contexts: Some(0), ..Cutting::new(8) }.checked().unwrap_err().to_string();
        assert!(error.contains("at least 1"), "{error}");
    }
}
