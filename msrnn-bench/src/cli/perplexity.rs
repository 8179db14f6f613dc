//! `msrnn perplexity`

use std::path::PathBuf;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::{Evaluation, Form, Observed};
use msrnn_bench::logits::LogitsWriter;
use msrnn_bench::output::OutputFile;
use msrnn_bench::statistics::perplexity_in_words;
use serde::Serialize;

use super::options::{Opened, ScoringOptions, Setting};
use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scoring: ScoringOptions,
    /// Contexts side by side
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Write the logits of every token, float32 [tokens, vocab]; scores one context at a time
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
}

/// The one JSON object.
#[derive(Serialize)]
struct Report<'a> {
    policy: String,
    states: Option<usize>,
    tokens: usize,
    nll: f64,
    /// Absent where nothing was predicted, or where it is beyond a 64-bit number: `nll` and `tokens` tell.
    perplexity: Option<f64>,
    tokens_per_second: f64,
    form: Form,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(flatten)]
    setting: Setting,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let opened = args.scoring.open(if args.logits.is_some() { 1 } else { args.batch })?;
    let Opened { model, context, contexts, spec, scoring } = &opened;
    let mut logits = match &args.logits {
        Some(path) => {
            let file = OutputFile::create(path)?;
            Some(LogitsWriter::new(file, contexts, model.decoder.config().vocab_size)?)
        }
        None => None,
    };
    let evaluation = opened.evaluate(&mut logits)?;
    if let Some(logits) = logits {
        let file = logits.into_file();
        if evaluation.complete {
            file.finish()?;
        } else {
            eprintln!("the logits so far are in {}", file.abandon()?.display());
        }
    }
    let states = scoring.compression.states();
    if evaluation.complete && states.is_some() && evaluation.observed.omitted == 0 {
        tracing::warn!("{spec} never omitted a row: its bound was never reached, this is the full state's result");
    }
    if evaluation.complete && evaluation.observed.omitted > 0 && evaluation.observed.is_of_full_state() {
        tracing::warn!(
            "{spec} made no prediction under its bound, all omissions came later ({} protocol): this is the full state's \
             result",
            args.scoring.run.protocol
        );
    }
    if evaluation.contexts.is_empty() {
        tracing::warn!("no context was finished, so there is no perplexity");
    }
    if args.scoring.run.json {
        print_json(&Report {
            policy: spec.name(),
            states,
            tokens: evaluation.tokens(),
            nll: evaluation.nll(),
            perplexity: evaluation.perplexity(),
            tokens_per_second: evaluation.tokens_per_second(),
            form: args.scoring.form,
            evaluation: &evaluation,
            setting: args.scoring.setting(&opened),
        })?;
    } else {
        let begun = match contexts.prefix.is_empty() {
            true => "with nothing put before them".to_owned(),
            false => format!("each begun with {:?}", contexts.prefix),
        };
        let Observed { omitted, max_rows, state_bytes, predicted, under_bound } = evaluation.observed;
        let under =
            states.map_or_else(String::new, |_| format!(", {under_bound} of {predicted} predictions after one"));
        print(&format!(
            "policy      {spec} ({})\n\
             contexts    {} of at most {context} tokens, {begun}\n\
             tokens      {} predicted, each with the same weight\n\
             perplexity  {} (nll {:.4} nats)\n\
             observed    {omitted} omissions{under}, at most {max_rows} rows, {state_bytes} state bytes\n\
             speed       {:.0} tokens/s, {:.2} s\n",
            states.map_or("every state kept".into(), |k| format!("{k} states")),
            evaluation.contexts.len(),
            evaluation.tokens(),
            perplexity_in_words(evaluation.nll() / evaluation.tokens() as f64, 4),
            evaluation.nll(),
            evaluation.tokens_per_second(),
            evaluation.seconds,
        ))?;
    }
    Ok(if evaluation.complete { Outcome::Done } else { Outcome::Interrupted })
}
