//! How fast a model runs here, and how far that is from what the machine allows.
//!
//! - [`shape`]: a random model of a given shape; `plan`: which rows are measured
//! - `decode`: tokens through states, one by one or in blocks; `workload`: one row, ready to run
//! - `timing`: repetitions in turn, and their spread; `limits`: bandwidth and matrix products
//! - `cost`: bytes and operations of a token; `memory`: resident memory
//! - `machine` and `threads`: where, and on how many threads
//! - `measure`: all of it together; `startup`: the first token; `soak`: a long run; [`table`]: what comes out, as text

pub(crate) mod cost;
pub(crate) mod decode;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod random;
pub mod shape;
pub(crate) mod soak;
pub(crate) mod startup;
pub mod table;
pub(crate) mod threads;
pub(crate) mod timing;
pub(crate) mod workload;
