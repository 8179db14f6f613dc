//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`texts`]: files, directories and data sets of texts; [`stories`]: the generator of held-out text
//! - [`contexts`]: texts and ids as contexts to score, [`strided`]: as Hugging Face's guide does; [`input`]: what a file
//!   holds; [`text_ids`]: what a text is as ids
//! - [`open`]: models by name; [`hub`]: models and data from the Hugging Face hub
//! - [`evaluate`]: scoring; [`trace`], [`trace_parquet`], [`logits`] and [`divergence`] look on
//! - [`plan`]: policies × states; [`statistics`]: what came out
//! - [`claim`]: a directory with one writer; [`progress`]: how far a command is; [`trial`]: how long it will take
//! - [`experiment`]: experiments that write run directories, resume, and report
//! - [`metrics`]: of answers; [`tagging`]: parts of speech of tokens
//! - [`render`]: results as report, drawings, data files and text
//! - [`speed`]: how fast a model runs, against what the machine allows
//! - [`throughput`]: the largest batch that fits, and how fast it is
//! - [`main_with`]: the whole command, with policies of one's own
//! - [`train`]: the bundled model; [`bundled`]: the model itself
//! - [`device`]: where it runs, [`precision`]: how it is held; [`devices`]: where it could run; [`output`]: files that are whole or marked as not

// The command line speaks of this crate by its name, as any other program that uses it.
extern crate self as msrnn_bench;

pub mod bundled;
pub mod claim;
// Comments on options are help texts, in which brackets and addresses stand for themselves.
#[allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]
mod cli;
pub mod contexts;
pub mod device;
pub mod devices;
pub mod divergence;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod figure;
#[cfg(feature = "hub")]
mod http;
pub mod hub;
pub mod id_lists;
pub mod input;
pub mod logits;
pub mod memory;
pub mod metrics;
mod numbers;
pub mod open;
pub mod output;
pub mod plan;
pub mod precision;
pub mod progress;
pub mod render;
pub mod results;
pub mod roads;
pub mod room;
pub mod source;
pub mod speed;
pub mod statistics;
pub mod stories;
pub mod strided;
pub mod tagging;
pub mod text_ids;
pub mod texts;
pub mod throughput;
pub mod trace;
pub mod trace_parquet;
pub mod train;
pub mod trial;
mod wording;
pub mod writing;

pub use cli::main_with;
