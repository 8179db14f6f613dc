//! Who a story is about: the facts, drawn before a word of it is written.
//!
//! Within one story no content word serves two facts. Whoever has read "the chipped" once
//! therefore knows what follows it, and copying the continuation of an earlier match, the first
//! thing attention learns to do across a distance, is enough to recall any fact.

use super::dice::{Deck, Dice};
use super::lexicon as lex;

/// One character and everything that is true of it.
#[derive(Debug)]
pub(super) struct Character {
    pub(super) name: &'static str,
    pub(super) woman: bool,
    /// What follows the name: "the baker from Harrow".
    pub(super) epithet: String,
    /// Follows "the": "chipped silver lantern".
    pub(super) object: String,
    /// What the object cost: "$47.50".
    pub(super) price: String,
    /// Follows "the": "mill beside Otter Bridge".
    pub(super) home: String,
    pub(super) age: String,
    /// "31 green beads".
    pub(super) hoard: String,
    /// "grumpy donkey".
    pub(super) pet: String,
    pub(super) motto: String,
    /// Index of the best friend.
    pub(super) friend: usize,
}

/// A town, what it has lost, and its people.
#[derive(Debug)]
pub(super) struct World {
    pub(super) town: &'static str,
    /// The thing all of the town is looking for.
    pub(super) treasure: String,
    /// What the finder gets: "$470".
    pub(super) reward: String,
    pub(super) cast: Vec<Character>,
}

/// The word lists as decks, so that a story uses each word for one fact.
struct Decks {
    women: Deck<&'static str>,
    men: Deck<&'static str>,
    qualities: Deck<&'static str>,
    materials: Deck<&'static str>,
    colours: Deck<&'static str>,
    objects: Deck<&'static str>,
    trades: Deck<&'static str>,
    garments: Deck<&'static str>,
    dwellings: Deck<&'static str>,
    landmarks: Deck<&'static str>,
    terrains: Deck<&'static str>,
    towns: Deck<&'static str>,
    mottos: Deck<&'static str>,
    stuff: Deck<&'static str>,
    keepsakes: Deck<&'static str>,
    tempers: Deck<&'static str>,
    animals: Deck<&'static str>,
    /// Two-digit numbers, all plural and none with a leading zero.
    numbers: Deck<usize>,
}

impl Decks {
    fn new() -> Self {
        let deck = |words: &[&'static str]| Deck::new(words.iter().copied());
        Self {
            women: deck(lex::WOMEN),
            men: deck(lex::MEN),
            qualities: deck(lex::QUALITIES),
            materials: deck(lex::MATERIALS),
            colours: deck(lex::COLOURS),
            objects: deck(lex::OBJECTS),
            trades: deck(lex::TRADES),
            garments: deck(lex::GARMENTS),
            dwellings: deck(lex::DWELLINGS),
            landmarks: deck(lex::LANDMARKS),
            terrains: deck(lex::TERRAINS),
            towns: deck(lex::TOWNS),
            mottos: deck(lex::MOTTOS),
            stuff: deck(lex::STUFF),
            keepsakes: deck(lex::KEEPSAKES),
            tempers: deck(lex::TEMPERS),
            animals: deck(lex::ANIMALS),
            numbers: Deck::new(11..100),
        }
    }

    fn object(&mut self, dice: &mut Dice) -> String {
        let quality = self.qualities.deal(dice);
        let material = self.materials.deal(dice);
        let object = self.objects.deal(dice);
        format!("{quality} {material} {object}")
    }

    fn epithet(&mut self, dice: &mut Dice) -> String {
        match dice.below(3) {
            0 => {
                let trade = self.trades.deal(dice);
                let town = self.towns.deal(dice);
                format!("the {trade} from {town}")
            }
            1 => {
                let trade = self.trades.deal(dice);
                let colour = self.colours.deal(dice);
                let garment = self.garments.deal(dice);
                format!("the {trade} with the {colour} {garment}")
            }
            _ => {
                let quality = self.qualities.deal(dice);
                let dwelling = self.dwellings.deal(dice);
                let town = self.towns.deal(dice);
                format!("of the {quality} {dwelling} in {town}")
            }
        }
    }

    fn home(&mut self, dice: &mut Dice) -> String {
        let dwelling = self.dwellings.deal(dice);
        let nearness = dice.pick(lex::NEARNESS);
        let landmark = self.landmarks.deal(dice);
        let terrain = self.terrains.deal(dice);
        format!("{dwelling} {nearness} {landmark} {terrain}")
    }

    fn motto(&mut self, dice: &mut Dice) -> String {
        let pattern = self.mottos.deal(dice);
        let mut motto = String::new();
        for (i, part) in pattern.split('_').enumerate() {
            if i > 0 {
                motto.push_str(self.stuff.deal(dice));
            }
            motto.push_str(part);
        }
        motto
    }

    fn hoard(&mut self, dice: &mut Dice) -> String {
        let number = self.numbers.deal(dice);
        let colour = self.colours.deal(dice);
        let keepsake = self.keepsakes.deal(dice);
        format!("{number} {colour} {keepsake}")
    }

    fn price(&mut self, dice: &mut Dice) -> String {
        let dollars = self.numbers.deal(dice);
        let quarters = 25 * (1 + dice.below(3));
        format!("${dollars}.{quarters}")
    }

    fn pet(&mut self, dice: &mut Dice) -> String {
        let temper = self.tempers.deal(dice);
        let animal = self.animals.deal(dice);
        format!("{temper} {animal}")
    }

    fn character(&mut self, dice: &mut Dice, friend: usize) -> Character {
        let woman = dice.below(2) == 0;
        let names = if woman { &mut self.women } else { &mut self.men };
        Character {
            name: names.deal(dice),
            woman,
            epithet: self.epithet(dice),
            object: self.object(dice),
            price: self.price(dice),
            home: self.home(dice),
            age: self.numbers.deal(dice).to_string(),
            hoard: self.hoard(dice),
            pet: self.pet(dice),
            motto: self.motto(dice),
            friend,
        }
    }
}

impl World {
    /// A town with `people` characters, at least two.
    pub(super) fn draw(dice: &mut Dice, people: usize) -> Self {
        let mut decks = Decks::new();
        let town = decks.towns.deal(dice);
        let treasure = decks.object(dice);
        let reward = format!("${}0", decks.numbers.deal(dice));
        // Everyone's best friend is `stride` seats further on: never oneself, and nobody is
        // the friend of two.
        let stride = 1 + dice.below(people - 1);
        let cast = (0..people).map(|seat| decks.character(dice, (seat + stride) % people)).collect();
        Self { town, treasure, reward, cast }
    }
}
