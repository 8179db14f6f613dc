//! Texts as ids: what they begin with, and what is said about it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use msrnn_models::tokenizer::{Bos, PART, SpecialTokens, TextOptions, Tokenizer};

use crate::error::BenchError;
use crate::memory;

/// The first ids of a text that is scored, to be put behind [`Tokenizer::prefix`]: without the prefix where the text
/// spells it at its beginning, so that it is not there twice. No more of the text is encoded than `most` ids need. Warns
/// where the text spells special tokens, which whoever wrote it may not have meant. `name`: the text's, for the warning.
///
/// # Errors
///
/// When the tokenizer cannot encode the text.
pub(crate) fn scored(name: &str, text: &str, tokenizer: &Tokenizer, most: usize) -> Result<Vec<u32>, BenchError> {
    check_room(name, text, tokenizer)?;
    let wanted = most.saturating_add(tokenizer.prefix()?.len());
    let mut ids = Vec::new();
    for part in tokenizer.parts(text, PART) {
        if ids.len() >= wanted {
            break;
        }
        ids.extend(tokenizer.encode_whole(part.text)?);
    }
    warn_of_specials(name, &ids, tokenizer);
    let mut ids = tokenizer.without_prefix(&ids).to_vec();
    ids.truncate(most);
    Ok(ids)
}

/// Refuses a text of which so much has to be encoded at once that the library would not have the memory for it: one that
/// is long and has no place where it may be cut.
///
/// # Errors
///
/// Says how much it would take.
pub(crate) fn check_room(name: &str, text: &str, tokenizer: &Tokenizer) -> Result<(), BenchError> {
    // Where cuts are few, the whole text is looked through; that is little beside encoding it.
    let longest = tokenizer.parts(text, PART).map(|part| part.text.len()).max().unwrap_or(0);
    let what =
        format!("{name}: turning {longest} bytes in one piece into ids, since they have no place to cut them at,");
    let remedy = "give the text as smaller files or rows, cut where its ids may begin anew";
    memory::check(memory::product(&[longest, PER_BYTE]), &what, remedy)
}

/// Bytes of memory that the library takes for a byte of text, about.
const PER_BYTE: usize = 130;

/// Warns where the ids of a text are special tokens. `name`: the text's.
pub(crate) fn warn_of_specials(name: &str, ids: &[u32], tokenizer: &Tokenizer) {
    if let Some(warning) = spelled(name, tokenizer.specials(ids)) {
        warn_once(warning);
    }
}

/// What to say of a text that spells so many special tokens.
fn spelled(name: &str, n: usize) -> Option<String> {
    let tokens = if n == 1 { "special token" } else { "special tokens" };
    (n > 0).then(|| {
        format!(
            "{name} spells {n} {tokens} such as </s>, which became {tokens} as in Hugging Face transformers; \
             ‘special_tokens’ literal takes their letters"
        )
    })
}

/// A warning that was not given before.
fn warn_once(warning: String) {
    static GIVEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !given.contains(&warning) {
        tracing::warn!("{warning}");
        given.insert(warning);
    }
}

/// What contexts begin with, for people; behind "contexts, ".
pub(crate) fn begun(prefix: &[u32]) -> String {
    match prefix.is_empty() {
        true => "nothing put before them, so that the first token of each is not predicted".into(),
        false => format!("each begun with {prefix:?}"),
    }
}

/// How texts and prompts were read, for people.
pub(crate) fn note(reading: TextOptions) -> String {
    let begun = match reading.bos {
        Bos::Auto => "what the template of the tokenizer puts before a text",
        Bos::Always => "what the template of the tokenizer puts before a text, or else its BOS",
        Bos::Never => "nothing put before them",
    };
    let special = match reading.special_tokens {
        SpecialTokens::Auto => "are what the tokenizer's files say, which is special tokens as a rule",
        SpecialTokens::Parse => "are special tokens",
        SpecialTokens::Literal => "are letters",
    };
    format!("Texts and prompts begin with {begun} (bos: {}). Special tokens spelled in them {special}.", reading.bos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_special_tokens_are_counted_in_a_warning() {
        assert_eq!(spelled("a.txt", 0), None);
        let warning = spelled("a.txt", 3).unwrap();
        assert!(["a.txt", "3 special tokens", "‘special_tokens’ literal"].iter().all(|part| warning.contains(part)));
    }

    #[test]
    fn what_contexts_begin_with_is_said_either_way() {
        assert!(begun(&[]).contains("not predicted"));
        assert_eq!(begun(&[1]), "each begun with [1]");
    }
}
