//! Questions about a fact of a story, with the fact stated once, at a chosen depth.
//!
//! The text is a story in the language that the bundled model was trained on: the opening, the
//! introductions of [`PEOPLE`] characters, and scenes in between. But the introduction of one of
//! them, the *target*, stands where it is asked for, no scene mentions the target, and the last
//! scene breaks off within a fact of the target, after its first content word. No other fact of the
//! story has that word, so it settles the rest, for who remembers. That is how the language recalls
//! facts. Mottos are not asked for: how one goes on shows which pattern it has, without memory.
//!
//! The rest of the same fact of everybody else stands in the text, too: guessing among them is right
//! once in [`PEOPLE`].

use super::Relation;
use super::cast::{Character, World};
use super::dice::{Deck, Dice};
use super::grammar::Page;
use super::{lexicon, needs, scenes};

/// Characters of a story with a question.
pub(crate) const PEOPLE: usize = 4;

/// The target's seat.
const TARGET: usize = 0;

/// Separates paragraphs.
const GAP: &str = "\n\n";

/// What can be asked, and the beginning of the scene that asks it, up to the fact.
const ASKED: &[(Relation, &str)] = &[
    (Relation::Owns, "\"Who owns the"),
    (Relation::LivesIn, "\"Where does {A} live?\" asked {B}. \"In the"),
    (Relation::Hoards, "\"What does {A} keep at home?\" asked {B}. \""),
    (Relation::Pet, "\"Where is the"),
    (Relation::Epithet, "{when}, {A.name}"),
];

/// A text that breaks off before an answer that stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Everything up to the answer, without a space at the end.
    pub text: String,
    /// Where in `text` the fact is stated: the paragraph, or the sentence, as bytes.
    pub stated_at: std::ops::Range<usize>,
    /// Where in `text` the asking begins, as bytes.
    pub asked_at: usize,
    /// What should follow: the rest of the fact, with the space that it begins with.
    pub answer: String,
    /// All answers to choose from, the right one first, written as `answer` is.
    pub candidates: Vec<String>,
}

/// The relations that can be asked about.
pub(crate) fn askable() -> impl Iterator<Item = Relation> {
    ASKED.iter().map(|&(relation, _)| relation)
}

/// The question numbered `index` of a seed, of as many paragraphs as fit into `length`.
///
/// `depth`: share of the text before the fact, 0 right after the opening, 1 right before the
/// question; the nearest place between two paragraphs is taken. `measure` gives the length of a
/// text in the same unit as `length`; an answer counts too. None when not even the introductions
/// fit, or the relation cannot be asked about.
pub(crate) fn question(
    seed: u64,
    index: u64,
    relation: Relation,
    length: usize,
    depth: f64,
    measure: &dyn Fn(&str) -> usize,
) -> Option<Question> {
    // Streams 0 to 3 belong to stories.
    const STREAM: u64 = 4;
    let &(_, asked) = ASKED.iter().find(|(asked, _)| *asked == relation)?;
    let dice = &mut Dice::new(STREAM, seed, index);
    let world = World::draw(dice, PEOPLE);
    let mut page = Page::new(&world, dice.below(lexicon::DAYS.len()));
    let mut write = |template: &str, roles: &[usize]| page.written(template, roles);

    let mut fact = write(dice.pick(scenes::INTRODUCTIONS), &[TARGET]);
    fact.push_str(GAP);
    let others: Vec<usize> = (0..PEOPLE).filter(|&seat| seat != TARGET).collect();
    let roles = [TARGET, others[dice.below(others.len())]];
    let asked = write(asked, &roles);
    let space = if asked.ends_with('"') { "" } else { " " };
    let parts = |seat: usize| parted(relation, world.cast[seat].fact(relation));
    let asked = format!("{asked}{space}{}", parts(TARGET)?.0);
    let seats = std::iter::once(TARGET).chain(others.iter().copied());
    let candidates = seats.map(|seat| Some(parts(seat)?.1.to_owned())).collect::<Option<Vec<String>>>()?;

    let mut used = measure(&format!("{fact}{asked}{}", candidates[0]));
    let mut filler: Vec<(String, usize)> = Vec::new();
    let mut add = |paragraph: String, must: bool| {
        let paragraph = paragraph + GAP;
        let size = measure(&paragraph);
        let fits = used + size <= length;
        if fits || must {
            used += size;
            filler.push((paragraph, size));
        }
        fits
    };
    let mut fits = add(write(dice.pick(scenes::OPENINGS), &[]), true);
    let mut seats = Deck::new(others.iter().copied());
    for _ in &others {
        let seat = seats.deal(dice);
        fits &= add(write(dice.pick(scenes::INTRODUCTIONS), &[seat]), true);
    }
    if !fits {
        return None;
    }
    let mut deck = Deck::new(scenes::SCENES.iter().copied().filter(|scene| is_filler(scene)));
    while add(write(deck.deal(dice), &[seats.deal(dice), seats.deal(dice), seats.deal(dice)]), false) {}

    let total: usize = filler.iter().map(|(_, size)| size).sum();
    let wanted = depth.clamp(0.0, 1.0) * total as f64;
    // The opening stays in front.
    let distance = |at: usize| (filler[..at].iter().map(|(_, size)| size).sum::<usize>() as f64 - wanted).abs();
    let at = (1..=filler.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b)))?;
    let join = |filler: &[(String, usize)]| filler.iter().map(|(text, _)| text.as_str()).collect::<String>();
    let before = join(&filler[..at]);
    let stated_at = before.len()..before.len() + fact.len() - GAP.len();
    let text = before + &fact + &join(&filler[at..]) + &asked;
    let asked_at = text.len() - asked.len();
    Some(Question { text, stated_at, asked_at, answer: candidates[0].clone(), candidates })
}

/// Whether a scene can be told of three people, and mentions nobody else.
fn is_filler(scene: &str) -> bool {
    needs(scene) < PEOPLE && !scene.contains("{F.") && !scene.contains("{A.friend")
}

/// A fact parted after its first content word: the cue that a question gives, and the answer.
fn parted(relation: Relation, fact: &str) -> Option<(&str, &str)> {
    let content = |word: &str| match relation {
        Relation::Epithet => !matches!(word, "the" | "of"),
        _ => true,
    };
    let mut end = 0;
    for word in fact.split(' ') {
        if content(word) {
            return Some(fact.split_at(end + word.len()));
        }
        end += word.len() + 1;
    }
    None
}

impl Character {
    /// The words of a fact that can be asked about.
    fn fact(&self, relation: Relation) -> &str {
        match relation {
            Relation::LivesIn => &self.home,
            Relation::Hoards => &self.hoard,
            Relation::Pet => &self.pet,
            Relation::Epithet => &self.epithet,
            _ => &self.object,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of a text.
    const LENGTH: usize = 900;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    /// Questions of all relations at several depths.
    fn sample() -> Vec<(f64, Relation, Question)> {
        let mut all = Vec::new();
        for (i, relation) in askable().enumerate() {
            for depth in [0.0, 0.3, 0.5, 0.9, 1.0] {
                for index in 0..3 {
                    let question = question(7, index + 10 * i as u64, relation, LENGTH, depth, &words).unwrap();
                    all.push((depth, relation, question));
                }
            }
        }
        all
    }

    #[test]
    fn questions_begin_scenes_that_the_model_knows() {
        for (relation, asked) in ASKED {
            let known = scenes::SCENES.iter().any(|scene| {
                scene.starts_with(asked) || scene.replace("{A}", "{A.name} {A.epithet}").starts_with(asked)
            });
            assert!(known, "{relation:?}");
        }
    }

    #[test]
    fn the_fact_is_stated_once_and_the_answer_is_among_the_candidates() {
        for (_, relation, question) in &sample() {
            let Question { text, stated_at, asked_at, answer, candidates } = question;
            assert!(stated_at.end <= *asked_at && text[..*asked_at].ends_with(GAP), "{text}");
            let paragraph = &text[stated_at.clone()];
            assert!(paragraph.contains(answer.trim()), "{relation:?}: {answer} is not in {paragraph}");
            let cue = text.split([' ', '"']).next_back().unwrap();
            let fact = format!("{cue}{answer}");
            assert_eq!(text.matches(&fact).count(), 1, "{relation:?}: {fact} in {text}");
            assert!(paragraph.contains(&fact), "{relation:?}: {fact} is not in {paragraph}");
            // With the cue goes no other answer.
            assert!(candidates[1..].iter().all(|other| !text.contains(&format!("{cue}{other}"))));
            assert_eq!((candidates.len(), &candidates[0]), (PEOPLE, answer));
            assert!(!text.ends_with(' ') && !answer.is_empty());
            let distinct: std::collections::BTreeSet<_> = candidates.iter().collect();
            assert_eq!(distinct.len(), PEOPLE, "{candidates:?}");
        }
    }

    #[test]
    fn texts_fill_their_length_and_facts_stand_at_their_depth() {
        let longest = scenes::SCENES.iter().map(|scene| words(scene)).max().unwrap() * 3;
        for (depth, _, question) in sample() {
            let length = words(&question.text) + words(&question.answer);
            assert!(length <= LENGTH && length + longest > LENGTH, "{length}");
            let rest = length - words(&question.text[question.stated_at.clone()]);
            let found = words(&question.text[..question.stated_at.start]) as f64 / rest as f64;
            // Half a long paragraph, and the question after the fact.
            assert!((found - depth).abs() < 0.1, "{found} for {depth}");
        }
    }

    #[test]
    fn a_depth_changes_nothing_but_the_place() {
        let at = |depth| question(1, 2, Relation::LivesIn, LENGTH, depth, &words).unwrap();
        let paragraphs = |question: &Question| {
            let mut all: Vec<String> = question.text.split(GAP).map(str::to_owned).collect();
            all.sort();
            all
        };
        assert_ne!(at(0.0).text, at(1.0).text);
        assert_eq!(paragraphs(&at(0.0)), paragraphs(&at(1.0)));
        assert_eq!(at(0.0).candidates, at(1.0).candidates);
    }

    #[test]
    fn facts_are_parted_after_their_first_content_word() {
        for (relation, fact, cue, rest) in [
            (Relation::Owns, "chipped silver lantern", "chipped", " silver lantern"),
            (Relation::LivesIn, "mill beside Otter Bridge", "mill", " beside Otter Bridge"),
            (Relation::Epithet, "the baker from Harrow", "the baker", " from Harrow"),
            (Relation::Epithet, "of the rusty loft in Kelso", "of the rusty", " loft in Kelso"),
        ] {
            assert_eq!(parted(relation, fact), Some((cue, rest)));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(question(1, 2, Relation::LivesIn, 100, 0.5, &words).is_none());
        assert!(question(1, 2, Relation::Town, 1000, 0.5, &words).is_none());
    }
}
