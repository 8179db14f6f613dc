//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`texts`]: files, directories and data sets of texts; [`stories`]: the generator of held-out text
//! - [`contexts`]: texts and ids as contexts to score
//! - [`open`]: models by name; [`hub`]: models and data from the Hugging Face hub
//! - [`evaluate`]: scoring; [`trace`], [`trace_parquet`], [`logits`] and [`divergence`] look on
//! - [`plan`], [`compare`]: policies × states; [`statistics`] and [`report`]: what came out
//! - [`experiment`]: experiments that write run directories, resume, and report
//! - [`metrics`]: of answers; [`tagging`]: parts of speech of tokens
//! - [`render`]: results as report, drawings, data files and text
//! - [`speed`]: how fast a model runs, against what the machine allows
//! - [`throughput`]: the largest batch that fits, and how fast it is
//! - [`train`]: the bundled model; [`bundled`]: the model itself
//! - [`device`]: where it runs, [`precision`]: how it is held; [`devices`]: where it could run; [`output`]: files that are whole or marked as not

pub mod bundled;
pub mod compare;
pub mod contexts;
pub mod device;
pub mod devices;
pub mod divergence;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod hub;
pub mod logits;
pub mod metrics;
mod numbers;
pub mod open;
pub mod output;
pub mod plan;
pub mod precision;
pub mod render;
pub mod report;
pub mod speed;
pub mod statistics;
pub mod stories;
pub mod tagging;
pub mod texts;
pub mod throughput;
pub mod trace;
pub mod trace_parquet;
pub mod train;
