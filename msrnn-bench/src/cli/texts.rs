//! Options of every command that takes texts.

use std::path::PathBuf;

use msrnn_bench::contexts::{Contexts, Cutting};
use msrnn_bench::error::BenchError;
use msrnn_bench::texts::{self, Found, Skipped, Wanted, separator};
use msrnn_models::Model;

use super::DOWNLOADS;

/// Which texts.
#[derive(Debug, clap::Args)]
pub(super) struct TextOptions {
    /// Texts, as often as needed: files (.txt, .jsonl, .ndjson, .json, .csv, .parquet, each also as .gz or .zst),
    /// directories of them, PG-19's directory, hf:org/dataset/path on the Hugging Face hub
    #[arg(long, value_name = "PATH")]
    pub(super) text: Vec<PathBuf>,
    /// Field of a JSON object, or column of a table, that holds the text
    #[arg(long, value_name = "NAME", default_value = texts::FIELD)]
    field: String,
    /// Put all rows and files together to one text, empty ones among them, with SEPARATOR between, such as "\\n\\n"
    #[arg(long, value_name = "SEPARATOR", value_parser = separator, allow_hyphen_values = true)]
    join: Option<String>,
    /// Only the first N texts; with --join the first N rows or files
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(n) => Ok(n),
    }
}

impl TextOptions {
    /// Whether a text was asked for.
    pub(super) fn is_given(&self) -> bool {
        !self.text.is_empty()
    }

    /// The texts. What was passed over is said on stderr.
    pub(super) fn read(&self) -> Result<Found, BenchError> {
        self.read_from(&self.text)
    }

    /// The texts of other paths.
    pub(super) fn read_from(&self, paths: &[PathBuf]) -> Result<Found, BenchError> {
        let Self { field, join, limit, .. } = self;
        let found = texts::read(&Wanted { paths, field, join: join.as_deref(), limit: *limit, downloads: DOWNLOADS })?;
        if !found.skipped.is_nothing() {
            tracing::warn!("passed over: {}", found.skipped);
        }
        Ok(found)
    }
}

/// A text or ids: what is scored.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").args(["text", "ids"]).required(true))]
pub(super) struct Source {
    #[command(flatten)]
    texts: TextOptions,
    /// JSON arrays of token ids, used as they are, as often as needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "join", "bos", "special_tokens"])]
    ids: Vec<PathBuf>,
    /// At most N contexts of each text, its first; all if absent
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    contexts: Option<usize>,
    /// Windows of --context tokens that advance by N, of which only the tokens are scored that no window before has,
    /// as Hugging Face's guide on perplexity does; BOS is then before a text, not before every window
    #[arg(long, value_name = "N")]
    pub(super) stride: Option<usize>,
}

impl Source {
    /// The contexts, and what was passed over.
    pub(super) fn contexts(&self, context: usize, model: &Model) -> Result<(Contexts, Skipped), BenchError> {
        let cutting = Cutting { context, contexts: self.contexts, stride: self.stride }.checked()?;
        if !self.ids.is_empty() {
            let ids = self.texts_limited(&self.ids);
            return Ok((Contexts::of_ids(ids, &cutting, model)?, Skipped::default()));
        }
        let found = self.texts.read()?;
        Ok((Contexts::of_texts(&found.texts, &cutting, model)?, found.skipped))
    }

    /// As many as --limit allows.
    fn texts_limited<'a>(&self, paths: &'a [PathBuf]) -> &'a [PathBuf] {
        &paths[..paths.len().min(self.texts.limit.unwrap_or(usize::MAX))]
    }
}
