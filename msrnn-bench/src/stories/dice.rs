//! Randomness: a keyed ChaCha stream and the few draws that stories make from it.
//!
//! Draws are spelled out here, not taken from `rand`'s distributions, because `rand` lets its
//! sampling algorithms change between releases and a corpus has to stay the same text for good.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A source of draws that depends on its key alone.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one story. Distinct triples give distinct ChaCha keys.
    pub(crate) fn new(stream: u64, seed: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (slot, part) in key.chunks_exact_mut(8).zip([stream, seed, index]) {
            slot.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `n`, by multiplication; the bias is under `n` in four billion.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0 && u32::try_from(n).is_ok());
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// One of `items`.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// A list dealt without replacement, shuffled anew whenever it runs out.
pub(crate) struct Deck<T> {
    cards: Vec<T>,
    left: usize,
}

impl<T: Clone> Deck<T> {
    /// A full deck; `cards` must not be empty.
    pub(crate) fn new(cards: impl IntoIterator<Item = T>) -> Self {
        let cards: Vec<T> = cards.into_iter().collect();
        let left = cards.len();
        Self { cards, left }
    }

    /// The next card.
    pub(crate) fn deal(&mut self, dice: &mut Dice) -> T {
        if self.left == 0 {
            self.left = self.cards.len();
        }
        let drawn = dice.below(self.left);
        self.left -= 1;
        self.cards.swap(drawn, self.left);
        self.cards[self.left].clone()
    }
}
