//! A seeded source of stories in which what was said early is needed late.
//!
//! A small model trained on ordinary prose hardly uses a long context: most of what it can predict
//! it predicts from the last sentence. A cache policy that forgets would then cost it nothing, and
//! comparing policies would measure nothing. These stories put the information where a policy can
//! lose it. They are plain English prose, paragraphs with dialogue, numbers and proper nouns, and
//! they are made of two things.
//!
//! * **Facts.** A town has lost a treasure. Each of its people has a name and an epithet, a thing
//!   and its price, a home, an age, a hoard, a pet, a best friend and a motto, all drawn uniformly
//!   from closed lists ([`Relation`] says which). The first quarter or so of a story states them.
//!   From then on they recur word for word, in full and in rotation, so that the last mention of
//!   a fact usually lies well over a hundred words back. Whoever remembers can copy it; for
//!   whoever does not it is a fresh draw from the lists.
//! * **Scenes.** A few dozen templates tell who met whom and who asked what. Their wording is
//!   fixed, so after training they cost a reader little, with context or without.
//!
//! Almost all the surprise in a story is therefore in its facts, and perplexity measures memory.
//! Once the introductions are over, half of all words are words of facts told before
//! ([`Story::recall_share`]), half of them farther back than a hundred and fifty words. And
//! because no content word of a story serves two of its facts, the first word of a fact settles
//! the rest of it: copying what followed the same word before is enough, and small models do
//! learn that.
//!
//! A story depends on its key alone: the generator is ChaCha, and nothing iterates over a hash
//! map or asks the platform anything. Each [`Fact`] says where it is stated and where it is
//! recalled, so an evaluation can look at exactly the tokens that need memory.

mod cast;
pub(crate) mod dice;
mod grammar;
mod lexicon;
pub(crate) mod questions;
mod scenes;
#[cfg(test)]
mod tests;

use std::ops::Range;

use cast::World;
use dice::{Deck, Dice};
use grammar::Page;

/// How long the stories of [`Stories`] are unless told otherwise, in words.
pub const DEFAULT_WORDS: usize = 900;

/// The shortest story there is, in words; [`story`] takes less to mean this.
pub const MIN_WORDS: usize = 200;

/// One story and what a reader has to remember of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The prose: ASCII, paragraphs separated by an empty line.
    pub text: String,
    /// Every fact of the story, in the order they are stated.
    pub facts: Vec<Fact>,
}

impl Story {
    /// The share of the words from byte `from` on that recall a fact stated before.
    pub fn recall_share(&self, from: usize) -> f64 {
        let words = |span: &str| span.split_whitespace().count() as f64;
        let recalled: f64 = self
            .facts
            .iter()
            .flat_map(|fact| &fact.asked_at)
            .filter(|span| span.start >= from)
            .map(|span| words(&self.text[span.clone()]))
            .sum();
        recalled / words(&self.text[from..]).max(1.0)
    }
}

/// A fact stated once and recalled later. Ranges are byte offsets into [`Story::text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Whom or what it is about: a character's name, an object, or the town.
    pub subject: String,
    /// What is said about the subject.
    pub relation: Relation,
    /// The words that say it, the same at every mention.
    pub answer: String,
    /// Where the answer is first written.
    pub stated_at: Range<usize>,
    /// Where the answer is written again.
    pub asked_at: Vec<Range<usize>>,
}

/// What a [`Fact`] says about its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The town has this name.
    Town,
    /// The town has lost this thing.
    Treasure,
    /// The town will pay this much to whoever finds it.
    Reward,
    /// The character's name is followed by this: "the baker from Harrow".
    Epithet,
    /// The object belongs to the character of this name.
    OwnedBy,
    /// The character owns this thing: "chipped silver lantern".
    Owns,
    /// The character paid this much for it: "$47.50".
    Paid,
    /// The character lives here: "mill beside Otter Bridge".
    LivesIn,
    /// The character is this many years old.
    Age,
    /// The character keeps this many of these: "31 green beads".
    Hoards,
    /// The character has this animal: "grumpy donkey".
    Pet,
    /// The character's best friend has this name.
    Friend,
    /// The character always says this: "First salt, then thunder, never sorrow".
    Motto,
}

/// The story numbered `seed`, of roughly `words` words.
pub fn story(seed: u64, words: usize) -> Story {
    compose(&mut Dice::new(0, seed, 0), words)
}

/// Which part of a corpus a story belongs to. No story belongs to two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// For choosing among trained models.
    Valid,
    /// For reporting.
    Test,
}

/// The endless stories of one split.
#[derive(Debug, Clone)]
pub struct Stories {
    split: Split,
    seed: u64,
    words: usize,
    next: u64,
}

impl Stories {
    /// Stories of [`DEFAULT_WORDS`] words. Equal arguments give equal stories.
    pub fn new(split: Split, seed: u64) -> Self {
        Self { split, seed, words: DEFAULT_WORDS, next: 0 }
    }

    /// The same source, with stories of roughly `words` words.
    pub fn with_words(self, words: usize) -> Self {
        Self { words, ..self }
    }

    /// The same source from the story numbered `first` on.
    pub fn starting_at(self, first: u64) -> Self {
        Self { next: first, ..self }
    }
}

impl Iterator for Stories {
    type Item = Story;

    fn next(&mut self) -> Option<Story> {
        // Stream 0 belongs to `story`. The split is part of the key: an index in one split and
        // the same index in another share no randomness.
        let stream = match self.split {
            Split::Train => 1,
            Split::Valid => 2,
            Split::Test => 3,
        };
        let mut dice = Dice::new(stream, self.seed, self.next);
        self.next += 1;
        Some(compose(&mut dice, self.words))
    }
}

/// Writes a story: an opening, the introductions, scenes up to length, an ending.
fn compose(dice: &mut Dice, words: usize) -> Story {
    /// What an ending takes, plus half a scene: the last scene may overshoot by the other half.
    const REST: usize = 70;

    let words = words.max(MIN_WORDS);
    let people = cast_size(dice, words);
    let world = World::draw(dice, people);
    let mut page = Page::new(&world, dice.below(lexicon::DAYS.len()));

    let opening = dice.pick(scenes::OPENINGS);
    page.paragraph(opening, &[]);
    for seat in 0..people {
        let introduction = dice.pick(scenes::INTRODUCTIONS);
        page.paragraph(introduction, &[seat]);
    }
    let playable = scenes::SCENES.iter().copied();
    let mut deck = Deck::new(playable.filter(|scene| needs(scene) <= people));
    while page.words() + REST < words {
        let scene = deck.deal(dice);
        let roles = page.roles(dice);
        page.paragraph(scene, &roles);
    }
    let ending = dice.pick(scenes::ENDINGS);
    let roles = page.roles(dice);
    page.paragraph(ending, &roles);
    page.finish()
}

/// How many characters a story has: four to seven where their introductions leave room.
fn cast_size(dice: &mut Dice, words: usize) -> usize {
    // An introduction is some fifty words; together they should take little over a quarter.
    let most = (words / 180).clamp(2, 7);
    let least = most.min(4);
    least + dice.below(most - least + 1)
}

/// How many characters a scene needs, counting the friend of A.
fn needs(scene: &str) -> usize {
    ["{A", "{B", "{C", "{A.friend"].iter().filter(|role| scene.contains(*role)).count()
}
