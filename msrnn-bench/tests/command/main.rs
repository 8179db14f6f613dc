//! The `msrnn` command, run as people run it: one program for all its tests, which take longer to link than to run.
//!
//! ```sh
//! cargo test --release --workspace --test command -- experiment_lm::
//! ```

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "hub")]
#[path = "../common/server.rs"]
mod server;

mod bad_input;
mod bench;
mod bundled;
mod commands;
#[cfg(unix)]
mod control_characters;
mod damage;
mod experiment_lm;
mod experiment_retention;
mod experiment_retrieval;
#[cfg(feature = "hub")]
mod experiment_story;
mod experiment_understanding;
mod gguf;
#[cfg(feature = "hub")]
mod hub;
mod inputs;
#[cfg(unix)]
mod interrupt;
#[cfg(target_os = "linux")]
mod limits;
mod metrics;
mod numbers;
#[cfg(unix)]
mod one_writer;
mod outputs;
mod pages;

mod real_checkpoint;
mod report_in_a_browser;
#[cfg(unix)]
mod resume;
mod samples_fit;
#[cfg(unix)]
mod streams;
mod text;
mod threads;
mod throughput;
mod tidy;
mod writing;
