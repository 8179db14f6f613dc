//! A place in a text.

use std::fmt;
use std::ops::Range;

/// Characters shown on each side of a place.
const AROUND: usize = 48;

/// Some characters of a text; displayed as the text's line and a line of carets below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    text: String,
    /// In characters.
    at: Range<usize>,
}

impl Place {
    /// A range of bytes; an empty one, or one at the end, is a single character.
    pub(crate) fn new(text: &str, bytes: Range<usize>) -> Self {
        let characters = |byte| text.char_indices().take_while(|(at, _)| *at < byte).count();
        let start = characters(bytes.start);
        Self { text: text.into(), at: start..characters(bytes.end).max(start + 1) }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which characters, counted from 0; one past the last where something is missing at the end.
    pub fn characters(&self) -> Range<usize> {
        self.at.clone()
    }

    /// In words, on one line.
    pub(crate) fn in_words(&self) -> String {
        let (first, last) = (self.at.start + 1, self.at.end);
        match first == last {
            true => format!("character {first} of {:?}", self.text),
            false => format!("characters {first} to {last} of {:?}", self.text),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs: Vec<char> = self.text.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
        let first = self.at.start.saturating_sub(AROUND);
        let last = self.at.end.saturating_add(AROUND).min(signs.len());
        let cut = |cut: bool| if cut { "…" } else { "" };
        let shown: String = signs[first.min(last)..last].iter().collect();
        write!(f, "\n  {}{shown}{}", cut(first > 0), cut(last < signs.len()))?;
        let before = self.at.start - first + usize::from(first > 0);
        write!(f, "\n  {}{}", " ".repeat(before), "^".repeat(self.at.len().min(2 * AROUND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_what_they_mean() {
        assert_eq!(Place::new("ä + b", 3..4).to_string(), "\n  ä + b\n    ^");
        assert_eq!(Place::new("a\nb", 2..3).to_string(), "\n  a b\n    ^");
        assert_eq!(Place::new("tova@", 5..5).to_string(), "\n  tova@\n       ^");
        let long = "a".repeat(200);
        let shown = Place::new(&long, 100..101).to_string();
        let [text, carets] = shown.trim_start_matches('\n').split('\n').collect::<Vec<_>>()[..] else {
            panic!("{shown}")
        };
        assert_eq!(text.chars().count(), 2 + 1 + 48 + 1 + 48 + 1);
        assert_eq!(carets.find('^'), Some(2 + 1 + 48));
    }
}
