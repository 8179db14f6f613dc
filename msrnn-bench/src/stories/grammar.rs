//! Templates into text, with a ledger of which words are facts.
//!
//! A template is English with slots. `{A}` is a character in full, name and epithet; `{A.home}`
//! one attribute; `{town}` a fact of the whole story. `A`, `B` and `C` are the roles of a scene
//! and `F` is the best friend of `A`. The first time a fact is written is where it is stated.
//! Every later time is a recall.

use std::collections::BTreeMap;

use super::cast::{Character, World};
use super::dice::Dice;
use super::lexicon::DAYS;
use super::{Fact, Relation, Story};

/// Whom a fact is about: a seat in the cast, or the town.
type Holder = Option<usize>;

/// A story being written.
pub(super) struct Page<'w> {
    world: &'w World,
    text: String,
    facts: BTreeMap<(Holder, Relation), Fact>,
    /// Thirds of days since Monday morning; every `{when}` moves it on.
    clock: usize,
    /// The paragraph that last mentioned each character.
    seen: Vec<usize>,
    paragraphs: usize,
}

impl<'w> Page<'w> {
    pub(super) fn new(world: &'w World, first_day: usize) -> Self {
        Self {
            world,
            text: String::new(),
            facts: BTreeMap::new(),
            clock: 3 * first_day,
            seen: vec![0; world.cast.len()],
            paragraphs: 0,
        }
    }

    /// Words written so far.
    pub(super) fn words(&self) -> usize {
        self.text.split_whitespace().count()
    }

    /// Three different characters, the longest absent first, for the roles `A`, `B` and `C`.
    ///
    /// Each is drawn from the half that has been away longest, which keeps recurrences apart
    /// without making their order predictable. A cast of two leaves `C` unfilled.
    pub(super) fn roles(&self, dice: &mut Dice) -> Vec<usize> {
        let mut waiting: Vec<usize> = (0..self.world.cast.len()).collect();
        waiting.sort_by_key(|&who| self.seen[who]);
        let mut roles: Vec<usize> = Vec::new();
        while roles.len() < 3 && !waiting.is_empty() {
            let mut at = dice.below(waiting.len().div_ceil(2));
            // A scene that names the friend of A should not find that same person in role B.
            if let [a] = roles[..]
                && waiting.len() > 1
                && waiting[at] == self.world.cast[a].friend
            {
                at = (at + 1) % waiting.len();
            }
            roles.push(waiting.remove(at));
        }
        roles
    }

    /// Writes one paragraph.
    pub(super) fn paragraph(&mut self, template: &str, roles: &[usize]) {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.paragraphs += 1;
        let mut rest = template;
        while let Some((text, slot)) = rest.split_once('{') {
            let (slot, after) = slot.split_once('}').expect("a template closes its slots");
            self.text.push_str(text);
            self.fill(slot, roles);
            rest = after;
        }
        self.text.push_str(rest);
    }

    /// Writes one paragraph, and returns its text.
    pub(super) fn written(&mut self, template: &str, roles: &[usize]) -> String {
        let start = self.text.len();
        self.paragraph(template, roles);
        self.text[start..].trim_start_matches('\n').to_owned()
    }

    /// The finished story, its facts in the order they were stated.
    pub(super) fn finish(self) -> Story {
        let mut facts: Vec<Fact> = self.facts.into_values().collect();
        facts.sort_by_key(|fact| fact.stated_at.start);
        Story { text: self.text, facts }
    }

    fn fill(&mut self, slot: &str, roles: &[usize]) {
        let world = self.world;
        match slot {
            "when" => return self.when(),
            "town" => return self.tell(None, Relation::Town, world.town),
            "treasure" => return self.tell(None, Relation::Treasure, &world.treasure),
            "reward" => return self.tell(None, Relation::Reward, &world.reward),
            _ => {}
        }
        let (role, attribute) = slot.split_once('.').unwrap_or((slot, ""));
        let seat = match role {
            "A" => roles[0],
            "B" => roles[1],
            "C" => roles[2],
            "F" => world.cast[roles[0]].friend,
            _ => panic!("no role {role:?} in a template"),
        };
        let who = &world.cast[seat];
        self.seen[seat] = self.paragraphs;
        let pronoun = |she: &'static str, he: &'static str| if who.woman { she } else { he };
        match attribute {
            "" => {
                self.text.push_str(who.name);
                self.epithet(seat, who);
            }
            "owner" => {
                self.tell(Some(seat), Relation::OwnedBy, who.name);
                self.epithet(seat, who);
            }
            "friend" => {
                let friend = &world.cast[who.friend];
                self.seen[who.friend] = self.paragraphs;
                self.tell(Some(seat), Relation::Friend, friend.name);
                self.epithet(who.friend, friend);
            }
            // Introductions come before the friend's own, which is where the epithet belongs.
            "friendname" => self.tell(Some(seat), Relation::Friend, world.cast[who.friend].name),
            "object" => self.tell(Some(seat), Relation::Owns, &who.object),
            "price" => self.tell(Some(seat), Relation::Paid, &who.price),
            "home" => self.tell(Some(seat), Relation::LivesIn, &who.home),
            "age" => self.tell(Some(seat), Relation::Age, &who.age),
            "hoard" => self.tell(Some(seat), Relation::Hoards, &who.hoard),
            "pet" => self.tell(Some(seat), Relation::Pet, &who.pet),
            "motto" => self.tell(Some(seat), Relation::Motto, &who.motto),
            "name" => self.text.push_str(who.name),
            "he" => self.text.push_str(pronoun("she", "he")),
            "He" => self.text.push_str(pronoun("She", "He")),
            "him" => self.text.push_str(pronoun("her", "him")),
            "his" => self.text.push_str(pronoun("her", "his")),
            "His" => self.text.push_str(pronoun("Her", "His")),
            _ => panic!("no attribute {attribute:?} in a template"),
        }
    }

    fn epithet(&mut self, seat: usize, who: &Character) {
        self.text.push(' ');
        self.tell(Some(seat), Relation::Epithet, &who.epithet);
    }

    /// Writes a fact and enters where.
    fn tell(&mut self, holder: Holder, relation: Relation, answer: &str) {
        let start = self.text.len();
        self.text.push_str(answer);
        let span = start..self.text.len();
        if let Some(fact) = self.facts.get_mut(&(holder, relation)) {
            fact.asked_at.push(span);
            return;
        }
        let subject = match holder {
            Some(seat) if relation == Relation::OwnedBy => self.world.cast[seat].object.clone(),
            Some(seat) => self.world.cast[seat].name.to_string(),
            None => self.world.town.to_string(),
        };
        let fact = Fact { subject, relation, answer: answer.to_string(), stated_at: span, asked_at: Vec::new() };
        self.facts.insert((holder, relation), fact);
    }

    /// Morning, noon and evening in turn; mornings name the day, so that it too is remembered.
    fn when(&mut self) {
        let day = DAYS[self.clock / 3 % DAYS.len()];
        match self.clock % 3 {
            0 => self.text.push_str(&format!("On {day} morning")),
            1 => self.text.push_str(&format!("At noon on {day}")),
            _ => self.text.push_str(&format!("On {day} evening")),
        }
        self.clock += 1;
    }
}
