//! Evaluation and training of multi-state RNNs: what the `msrnn` command does, as a library.
//!
//! - [`contexts`]: texts and ids as contexts to score; [`stories`]: the generator of held-out text
//! - [`evaluate`]: scoring; [`trace`] and [`logits`] look on
//! - [`compare`]: policies × states; [`statistics`] and [`report`]: what came out
//! - [`speed`]: how fast a model runs, against what the machine allows
//! - [`throughput`]: the largest batch that fits, and how fast it is
//! - [`train`]: the bundled model; [`bundled`]: the model itself
//! - [`device`]: where it runs, [`devices`]: where it could; [`output`]: files that are whole or marked as not

pub mod bundled;
pub mod compare;
pub mod contexts;
pub mod device;
pub mod devices;
pub mod error;
pub mod evaluate;
pub mod logits;
pub mod output;
pub mod report;
pub mod speed;
pub mod statistics;
pub mod stories;
pub mod throughput;
pub mod trace;
pub mod train;
