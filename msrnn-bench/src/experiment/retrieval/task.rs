//! What is hidden, in what, and how it is asked for.

use serde::{Deserialize, Serialize};

use super::haystack::Haystack;
use crate::stories::dice::Dice;
use crate::stories::questions::{Question, askable, question};

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A fact of one character in a story of the bundled generator: object, home, hoard, pet or epithet
    Facts,
    /// A number of five digits in repeated sentences (Mohtashami & Jaggi 2023, arXiv 2305.16300)
    Passkey,
    /// A number of five digits that belongs to a town, in prose
    Needle,
}

/// Candidates of a number: the right one and as many others, drawn at random.
const NUMBERS: usize = 8;

/// The sentences that hide a passkey.
const PASSKEY_FILLER: &[&str] =
    &["The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."];

/// Towns that a needle may be about.
const PLACES: &[&str] = &["Paris", "London", "Rome", "Cairo", "Lima", "Oslo", "Delhi", "Boston"];

impl Task {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Passkey => "passkey",
            Self::Needle => "needle",
        }
    }

    /// Candidates to choose from; who guesses is right once in as many.
    pub fn candidates(self) -> usize {
        match self {
            Self::Facts => crate::stories::questions::PEOPLE,
            Self::Passkey | Self::Needle => NUMBERS,
        }
    }

    /// The question numbered `index` of a seed, at most `length` long, answer included. None when
    /// that is too short.
    ///
    /// The same index asks the same at every depth. `measure` gives the length of a text.
    pub fn question(
        self,
        seed: u64,
        index: u64,
        length: usize,
        depth: f64,
        haystack: &Haystack,
        measure: &dyn Fn(&str) -> usize,
    ) -> Option<Question> {
        // Streams 0 to 4 belong to stories.
        match self {
            Self::Facts => {
                let relations: Vec<_> = askable().collect();
                let relation = relations[index as usize % relations.len()];
                question(seed, index, relation, length, depth, measure)
            }
            Self::Passkey => {
                let mut dice = Dice::new(5, seed, index);
                let numbers = numbers(&mut dice);
                let key = &numbers[0];
                let filler = Haystack::repeated(PASSKEY_FILLER);
                let frame = Frame {
                    opening: "There is important information hidden in a lot of irrelevant text. Find it and \
                              remember it.\n\n"
                        .into(),
                    fact: format!("The pass key is {key}. Remember it. {key} is the pass key."),
                    asked: "\n\nWhat is the pass key? The pass key is".into(),
                };
                frame.fill(&numbers, length, depth, filler.sentences_from(0), measure)
            }
            Self::Needle => {
                let mut dice = Dice::new(6, seed, index);
                let numbers = numbers(&mut dice);
                let place = dice.pick(PLACES);
                let frame = Frame {
                    opening: String::new(),
                    fact: format!("The special magic number for {place} is {}.", numbers[0]),
                    asked: format!(
                        "\n\nWhat is the special magic number for {place}? The special magic number for {place} is"
                    ),
                };
                let from = dice.below(haystack.len());
                frame.fill(&numbers, length, depth, haystack.sentences_from(from), measure)
            }
        }
    }
}

/// Different numbers of five digits.
fn numbers(dice: &mut Dice) -> Vec<String> {
    let mut numbers: Vec<String> = Vec::new();
    while numbers.len() < NUMBERS {
        let number = (10_000 + dice.below(90_000)).to_string();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// What stands around the filler.
struct Frame {
    opening: String,
    fact: String,
    asked: String,
}

impl Frame {
    /// As many sentences as fit, with the fact after the share `depth` of them.
    fn fill<'h>(
        &self,
        numbers: &[String],
        length: usize,
        depth: f64,
        sentences: impl Iterator<Item = &'h str>,
        measure: &dyn Fn(&str) -> usize,
    ) -> Option<Question> {
        let candidates: Vec<String> = numbers.iter().map(|number| format!(" {number}")).collect();
        let bare = format!("{}{} {}{}", self.opening, self.fact, self.asked, candidates[0]);
        let room = length.checked_sub(measure(&bare))?;
        // Sentences are measured by themselves, which is a token or so more than within a text.
        let mut sizes = Vec::new();
        let mut filler = Vec::new();
        let mut used = 0;
        for sentence in sentences {
            let size = measure(&format!(" {sentence}")).max(1);
            if used + size > room {
                break;
            }
            used += size;
            sizes.push(size);
            filler.push(sentence);
        }
        let wanted = depth.clamp(0.0, 1.0) * used as f64;
        let before = |at: usize| sizes[..at].iter().sum::<usize>() as f64;
        let at =
            (0..=filler.len()).min_by(|&a, &b| (before(a) - wanted).abs().total_cmp(&(before(b) - wanted).abs()))?;
        let (head, tail) = filler.split_at(at);
        let mut text = self.opening.clone();
        head.iter().for_each(|sentence| text.extend([sentence, " "]));
        let start = text.len();
        text.push_str(&self.fact);
        let stated_at = start..text.len();
        tail.iter().for_each(|sentence| text.extend([" ", sentence]));
        let asked_at = text.len();
        text.push_str(&self.asked);
        Some(Question { text, stated_at, asked_at, answer: candidates[0].clone(), candidates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn numbers_stand_where_they_are_asked_for_and_fill_the_length() {
        let haystack = Haystack::stories(3);
        for task in [Task::Passkey, Task::Needle] {
            for depth in [0.0, 0.25, 0.5, 1.0] {
                for index in 0..10 {
                    let question = task.question(1, index, 400, depth, &haystack, &words).unwrap();
                    let Question { text, stated_at, answer, candidates, asked_at } = question;
                    assert!(text[asked_at..].starts_with("\n\nWhat is"));
                    let length = words(&text) + 1;
                    assert!(length <= 400 && length > 340, "{length}");
                    let mentions = if task == Task::Passkey { 2 } else { 1 };
                    assert_eq!(text.matches(answer.trim()).count(), mentions);
                    assert!(text[stated_at.clone()].contains(answer.trim()));
                    assert_eq!(candidates.len(), task.candidates());
                    assert!(candidates[1..].iter().all(|other| !text.contains(other.trim())));
                    let found = words(&text[..stated_at.start]) as f64 / length as f64;
                    assert!((found - depth).abs() < 0.12, "{found} for {depth}");
                    let shallow = task.question(1, index, 400, 0.1, &haystack, &words).unwrap();
                    assert_eq!((&shallow.answer, &shallow.candidates), (&answer, &candidates));
                }
            }
            assert!(task.question(1, 0, 10, 0.5, &haystack, &words).is_none());
        }
    }

    #[test]
    fn facts_ask_one_thing_after_the_other() {
        let ask = |index| Task::Facts.question(1, index, 450, 0.5, &Haystack::stories(0), &words).unwrap().text;
        assert!(ask(0).rsplit("\n\n").next().unwrap().starts_with("\"Who owns the "));
        assert!(ask(1).rsplit("\n\n").next().unwrap().starts_with("\"Where does "));
        assert!(ask(askable().count() as u64).rsplit("\n\n").next().unwrap().starts_with("\"Who owns the "));
    }
}
