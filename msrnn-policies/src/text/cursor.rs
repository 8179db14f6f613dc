//! A place in a text that moves on, word by word.

use std::ops::Range;

use super::place::Place;
use crate::error::SpecError;

/// Parentheses in parentheses.
const DEEPEST: usize = 64;

/// A text and how far it was read. Between words any whitespace may stand.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

/// A piece of the text, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    pub(super) at: Range<usize>,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Moves to the next word.
    fn skip(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Where the next word begins.
    pub(super) fn next(&mut self) -> usize {
        self.skip();
        self.at
    }

    /// Where the last word ended.
    pub(super) fn now(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip();
        self.rest().is_empty()
    }

    /// Whether a sign comes next.
    pub(super) fn sees(&mut self, sign: &str) -> bool {
        self.skip();
        self.rest().starts_with(sign)
    }

    /// Moves past a sign if it comes next.
    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let sees = self.sees(sign);
        if sees {
            self.at += sign.len();
        }
        sees
    }

    /// Moves past the first of these that comes next.
    pub(super) fn eat_any(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        signs.iter().find(|sign| self.eat(sign)).copied()
    }

    /// Moves past a sign that has to come next.
    pub(super) fn expect(&mut self, sign: &str, expected: &str) -> Result<(), SpecError> {
        if self.eat(sign) { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// The longest piece from here whose characters are such, the first of another kind; not moved past.
    fn piece(&mut self, first: impl Fn(char) -> bool, other: impl Fn(char, &str) -> bool) -> Option<Word<'t>> {
        self.skip();
        let rest = self.rest();
        let mut signs = rest.char_indices();
        let (_, sign) = signs.next()?;
        if !first(sign) {
            return None;
        }
        let end =
            signs.find(|&(at, sign)| !other(sign, &rest[at + sign.len_utf8()..])).map_or(rest.len(), |(at, _)| at);
        Some(Word { text: &rest[..end], at: self.at..self.at + end })
    }

    fn eaten(&mut self, word: Option<Word<'t>>) -> Option<Word<'t>> {
        if let Some(word) = &word {
            self.at = word.at.end;
        }
        word
    }

    /// A name in an expression, if one comes next; not moved past.
    pub(super) fn sees_identifier(&mut self) -> Option<Word<'t>> {
        self.piece(|sign| sign.is_ascii_alphabetic() || sign == '_', |sign, _| is_of_word(sign))
    }

    /// A name in an expression: letters, digits and `_`.
    pub(super) fn identifier(&mut self) -> Option<Word<'t>> {
        let word = self.sees_identifier();
        self.eaten(word)
    }

    /// The name of a policy: as in an expression, and with hyphens inside.
    pub(super) fn name(&mut self) -> Option<Word<'t>> {
        let inside = |sign, rest: &str| is_of_word(sign) || sign == '-' && rest.starts_with(is_of_word);
        let word = self.piece(|sign| sign.is_ascii_alphabetic(), inside);
        self.eaten(word)
    }

    /// What stands up to a separator: the value of an argument, a parameter, or a budget inside parentheses.
    pub(super) fn value(&mut self) -> Option<Word<'t>> {
        let of_value = |sign: char| !sign.is_whitespace() && !"(),;=@:".contains(sign);
        let word = self.piece(of_value, |sign, _| of_value(sign));
        self.eaten(word)
    }

    /// A number, if one comes next: not negative, with or without a point and an exponent.
    pub(super) fn number(&mut self) -> Result<Option<f64>, SpecError> {
        let point = |sign: char| sign.is_ascii_digit() || sign == '.';
        let Some(Word { at, .. }) = self.piece(point, |sign, _| point(sign)) else { return Ok(None) };
        let start = at.start;
        self.at = at.end;
        let exponent = self.rest().strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if let Some(digits) = exponent.filter(|digits| digits.starts_with(|sign: char| sign.is_ascii_digit())) {
            let end = digits.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(digits.len());
            self.at = self.text.len() - digits.len() + end;
        }
        // What sticks to a number belongs to it.
        self.at += self.rest().find(|sign| !is_of_word(sign)).unwrap_or(self.rest().len());
        let text = &self.text[start..self.at];
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value)),
            Ok(_) => Err(self.wrong(start..self.at, format!("{text} is beyond every number; write inf, or less"))),
            Err(_) => {
                Err(self.wrong(start..self.at, format!("{text:?} is not a number; write for example 0.98, 4 or 1e-3")))
            }
        }
    }

    /// A whole number, if digits come next; none too where they are too many, without moving past them.
    pub(super) fn integer<T: std::str::FromStr>(&mut self) -> Option<(T, Range<usize>)> {
        let word = self.piece(|sign| sign.is_ascii_digit(), |sign, _| is_of_word(sign))?;
        let value = word.text.parse().ok()?;
        self.at = word.at.end;
        Some((value, word.at))
    }

    /// All that is left, moved past.
    pub(super) fn all(&mut self) -> Word<'t> {
        self.skip();
        let text = self.rest().trim_end();
        let word = Word { text, at: self.at..self.at + text.len() };
        self.at = self.text.len();
        word
    }

    /// The word that comes next, for a message.
    fn coming(&mut self) -> Word<'t> {
        self.skip();
        let word = self.piece(is_of_word, |sign, _| is_of_word(sign));
        word.unwrap_or_else(|| {
            let end = self.rest().chars().next().map_or(0, char::len_utf8);
            Word { text: &self.rest()[..end], at: self.at..self.at + end }
        })
    }

    pub(super) fn place(&self, at: Range<usize>) -> Place {
        Place::new(self.text, at)
    }

    /// That something else should come next.
    pub(super) fn expected(&mut self, expected: impl Into<String>) -> SpecError {
        let word = self.coming();
        let found = if word.text.is_empty() { "the end".into() } else { format!("{:?}", word.text) };
        SpecError::Expected { expected: expected.into(), found, place: self.place(word.at) }
    }

    /// That what stands there means nothing.
    pub(super) fn wrong(&self, at: Range<usize>, problem: impl Into<String>) -> SpecError {
        SpecError::Meaning { problem: problem.into(), place: self.place(at) }
    }

    /// An error that knows no place, at one.
    pub(super) fn at(&self, at: Range<usize>, error: SpecError) -> SpecError {
        match error.place() {
            Some(_) => error,
            None => self.wrong(at, error.to_string()),
        }
    }

    pub(super) fn too_deep(&self, most: usize) -> SpecError {
        SpecError::TooDeep { most, place: self.place(self.at..self.at + 1) }
    }

    /// Goes one level down: every nesting is counted.
    pub(super) fn down(&mut self) -> Result<(), SpecError> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.too_deep(DEEPEST)) } else { Ok(()) }
    }

    /// And up again.
    pub(super) fn up(&mut self) {
        self.depth -= 1;
    }
}

fn is_of_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_'
}
