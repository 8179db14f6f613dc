//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`texts`]: files, directories and data sets of texts; [`stories`]: the generator of held-out text
//! - [`contexts`]: texts and ids as contexts to score
//! - [`open`]: models by name; [`hub`]: models and data from the Hugging Face hub; [`bundled`]: the bundled model
//! - [`evaluate`]: scoring; [`trace`], [`logits`] and [`divergence`] look on; [`output`]: files that are whole or marked as not
//! - [`plan`]: policies × states; [`statistics`]: what came out
//! - [`experiment`]: experiments that write run directories, resume, and report
//! - [`results`] and [`figure`]: what an experiment found; [`render`]: the same as report, drawings, data files and text
//! - [`metrics`]: of answers; [`writing`]: texts that a model writes, and conversations
//! - [`speed`] and [`throughput`]: shapes of random models, and what their states take
//! - [`device`]: where a model runs, [`precision`]: how it is held; [`memory`]: how much is at hand
//! - [`train`]: what the bundled model was trained with
//! - [`main_with`]: the whole command, with policies of one's own
//!
//! What only the command needs is not public.

// The command line speaks of this crate by its name, as any other program that uses it.
extern crate self as msrnn_bench;

pub mod bundled;
mod claim;
// Comments on options are help texts, in which brackets and addresses stand for themselves.
#[allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]
mod cli;
pub mod contexts;
pub mod device;
mod devices;
pub mod divergence;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod figure;
#[cfg(feature = "hub")]
mod http;
pub mod hub;
mod id_lists;
mod input;
pub mod logits;
pub mod memory;
pub mod metrics;
mod numbers;
pub mod open;
pub mod output;
pub mod plan;
pub mod precision;
mod progress;
pub mod render;
pub mod results;
mod roads;
mod room;
mod source;
pub mod speed;
pub mod statistics;
pub mod stories;
mod strided;
mod tagging;
mod text_ids;
pub mod texts;
pub mod throughput;
pub mod trace;
mod trace_parquet;
pub mod train;
mod trial;
mod wording;
pub mod writing;

pub use cli::main_with;
