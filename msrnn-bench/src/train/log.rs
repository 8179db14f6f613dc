//! The log of a training run, `train.jsonl`.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::output::open_lines;

/// One line of the training log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// Optimiser steps done.
    pub step: usize,
    /// Mean loss of the steps since the last line, in nats per token.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Validation perplexity with the full context, where it was measured.
    pub valid: Option<f64>,
    /// Validation perplexity of the same text on contexts of 64.
    pub valid_short: Option<f64>,
    /// Seconds since this process started.
    pub seconds: f64,
}

/// The open file.
pub(super) struct Log {
    path: PathBuf,
    file: std::fs::File,
}

impl Log {
    /// Opens the log and drops the lines after `step`, which the resumed run will write again.
    pub(super) fn resume(directory: &Path, step: usize) -> Result<Self, BenchError> {
        let path = directory.join("train.jsonl");
        let before = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| BenchError::Read { path: path.clone(), source })?,
        };
        let kept: String = before
            .lines()
            .filter(|line| serde_json::from_str::<LogLine>(line).is_ok_and(|line| line.step <= step))
            .map(|line| format!("{line}\n"))
            .collect();
        msrnn_models::checkpoint::write_whole(&path, kept.as_bytes())?;
        let (file, _) = open_lines(&path)?;
        Ok(Self { path, file })
    }

    pub(super) fn write(&mut self, line: &LogLine) -> Result<(), BenchError> {
        let text = serde_json::to_string(line).expect("a log line is JSON");
        writeln!(self.file, "{text}").map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}
