//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`contexts`]: texts and ids as contexts to score; [`stories`]: the generator of held-out text
//! - [`evaluate`]: scoring; [`trace`] and [`logits`] look on; [`trace_parquet`]: omissions as a table
//! - [`tagging`]: parts of speech of tokens
//! - [`compare`]: policies × states; [`statistics`] and [`report`]: what came out
//! - [`experiment`]: experiments that write run directories, resume, and report
//! - [`train`]: the bundled model; [`bundled`]: the model itself
//! - [`device`]: where it runs; [`output`]: files that are whole or marked as not

pub mod bundled;
pub mod compare;
pub mod contexts;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod logits;
pub mod output;
pub mod report;
pub mod statistics;
pub mod stories;
pub mod tagging;
pub mod trace;
pub mod trace_parquet;
pub mod train;
