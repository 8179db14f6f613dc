//! The text that something is hidden in.

use crate::error::BenchError;
use crate::experiment::manifest::hash;
use crate::stories::{Split, Stories};
use crate::texts::Text;

/// Stories that the built-in haystack is made of.
const STORIES: usize = 20;

/// Sentences, read round and round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Haystack {
    sentences: Vec<String>,
}

impl Haystack {
    /// Given sentences; at least one.
    pub(super) fn repeated(sentences: &[&str]) -> Self {
        Self { sentences: sentences.iter().map(|&sentence| sentence.to_owned()).collect() }
    }

    /// Held-out stories of the bundled generator.
    pub fn stories(seed: u64) -> Self {
        let texts = Stories::new(Split::Test, seed).take(STORIES).map(|story| story.text);
        Self { sentences: texts.flat_map(|text| sentences(&text)).collect() }
    }

    /// The sentences of some texts, one text after the other.
    ///
    /// # Errors
    ///
    /// When they have none.
    pub fn of_texts(texts: &[Text]) -> Result<Self, BenchError> {
        let sentences: Vec<String> = texts.iter().flat_map(|text| sentences(&text.text)).collect();
        match sentences.is_empty() {
            true => {
                let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
                Err(BenchError::Input(format!("{}: no sentence in it; give a text", names.join(", "))))
            }
            false => Ok(Self { sentences }),
        }
    }

    /// Hash of all of it.
    pub(super) fn digest(&self) -> String {
        hash(self.sentences.join("\n").as_bytes())
    }

    /// Number of sentences.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// The sentences from that one on, without end.
    pub(super) fn sentences_from(&self, first: usize) -> impl Iterator<Item = &str> {
        self.sentences.iter().cycle().skip(first).map(String::as_str)
    }
}

/// Sentences of a text: they end with `.`, `!` or `?`, with quotes or brackets after it, before a
/// space, or with an empty line. White space within is made single.
fn sentences(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut sentence = String::new();
        for word in paragraph.split_whitespace() {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(word);
            if word.trim_end_matches(['"', '\'', ')', ']', '”', '’']).ends_with(['.', '!', '?']) {
                all.push(std::mem::take(&mut sentence));
            }
        }
        if !sentence.is_empty() {
            all.push(sentence);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        let found = sentences("One is\nhere. \"Two!\" she said. Three\n\nFour? Yes");
        assert_eq!(found, ["One is here.", "\"Two!\"", "she said.", "Three", "Four?", "Yes"]);
        assert!(sentences(" \n\n ").is_empty());
    }

    #[test]
    fn a_haystack_does_not_end() {
        let haystack = Haystack::repeated(&["a.", "b."]);
        assert_eq!(haystack.sentences_from(1).take(4).collect::<Vec<_>>(), ["b.", "a.", "b.", "a."]);
    }
}
