//! Retrieval: a fact stated at a depth of a text, asked for at its end.
pub mod haystack;
pub mod prompt;
pub mod task;
