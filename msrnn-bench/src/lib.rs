//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`texts`]: files, directories and data sets of texts; [`contexts`]: texts and ids as contexts to score; [`stories`]: the generator of held-out text
//! - [`evaluate`]: scoring; [`trace`] and [`logits`] look on
//! - [`plan`], [`compare`]: policies × states; [`statistics`] and [`report`]: what came out
//! - [`render`]: results as report, drawings, data files and text
//! - [`experiment`]: experiments that write run directories, resume, and report
//! - [`speed`]: how fast a model runs, against what the machine allows
//! - [`train`]: the bundled model; [`bundled`]: the model itself
//! - [`device`]: where it runs; [`output`]: files that are whole or marked as not

pub mod bundled;
pub mod compare;
pub mod contexts;
pub mod device;
pub mod divergence;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod logits;
pub mod output;
pub mod plan;
pub mod render;
pub mod report;
pub mod speed;
pub mod statistics;
pub mod stories;
pub mod texts;
pub mod trace;
pub mod train;
