//! How well a generated answer agrees with what people answered.
//!
//! - [`rouge`]: overlap of words, word pairs and subsequences, with [`porter`] stems if wanted
//! - [`f1`]: overlap of words, and equality, as the QASPER and SQuAD evaluators count them
//!
//! All scores are between 0 and 1, for one answer and one reference.

pub mod f1;
pub mod porter;
pub mod rouge;
