//! The codes of 32 values, eight at a time: bits of words, which every compiler puts into registers as they are, where of
//! loops over bytes some become a shuffle for every byte.

use super::CHUNK;

/// 32 codes, the first in the lowest byte of the first word.
#[derive(Clone, Copy)]
pub(crate) struct Codes(pub(crate) [u64; CHUNK / 8]);

/// A byte in all bytes of a word.
pub(super) const fn each(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

impl Codes {
    /// The first 32 bytes.
    #[inline(always)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        // So many and no others: copying as many as there are is a call.
        let bytes: [u8; CHUNK] = super::array(bytes);
        let mut words = [0; CHUNK / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// Four bits each of the first 16 bytes: the low ones of all, then the high ones.
    #[inline(always)]
    pub(super) fn nibbles(bytes: &[u8]) -> Self {
        let (first, last) = (super::array(bytes), super::array(&bytes[8..]));
        let (first, last) = (u64::from_le_bytes(first), u64::from_le_bytes(last));
        Self([first & each(15), last & each(15), first >> 4 & each(15), last >> 4 & each(15)])
    }

    /// So many bits of every code, from `first` on.
    #[inline(always)]
    pub(super) fn bits(self, first: usize, count: usize) -> Self {
        let mut words = self.0;
        for word in &mut words {
            *word = *word >> first & each((1 << count) - 1);
        }
        Self(words)
    }

    /// With bits above those of `self`, which has `at` of them.
    #[inline(always)]
    pub(super) fn with(self, above: Self, at: usize) -> Self {
        let mut words = self.0;
        for (word, above) in words.iter_mut().zip(above.0) {
            *word |= above << at;
        }
        Self(words)
    }

    /// With bits of every code turned around.
    #[inline(always)]
    pub(super) fn flipped(self, bits: u8) -> Self {
        let mut words = self.0;
        for word in &mut words {
            *word ^= each(bits);
        }
        Self(words)
    }

    #[inline(always)]
    pub(crate) fn bytes(self) -> [u8; CHUNK] {
        let mut bytes = [0; CHUNK];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }
}
