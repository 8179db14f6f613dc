//! `msrnn perplexity`

use std::path::PathBuf;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::{Evaluation, Form, Observed};
use msrnn_bench::logits::LogitsWriter;
use msrnn_bench::output::OutputFile;
use msrnn_bench::statistics::perplexity_in_words;
use msrnn_bench::strided;
use msrnn_bench::text_ids;
use msrnn_bench::texts::Skipped;
use serde::Serialize;

use super::options::{Opened, ScoringOptions, Setting};
use super::{Outcome, print, print_json, say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scoring: ScoringOptions,
    /// Contexts side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::options::jobs)]
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
    /// Bits of the predicted tokens over the UTF-8 bytes of the text that they stand for.
    bits_per_byte: Option<f64>,
    /// Tokens from window to window.
    stride: Option<usize>,
    /// With a stride: as the loop of Hugging Face's guide weighs its windows.
    perplexity_guide: Option<f64>,
    skipped: &'a Skipped,
    tokens_per_second: f64,
    form: Form,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(flatten)]
    setting: Setting,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let opened = args.scoring.open(if args.logits.is_some() { 1 } else { args.batch })?;
    if args.scoring.dry_run {
        return opened.show_plan(args.scoring.run.json);
    }
    let Opened { model, context, contexts, skipped, spec, scoring, .. } = &opened;
    let mut logits = match &args.logits {
        Some(path) => {
            let file = OutputFile::create_new(path)?;
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
            say(&format!("the logits so far are in {}", file.abandon()?.display()));
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
    let stride = args.scoring.source.stride;
    let guide = stride.and_then(|_| strided::guide_perplexity(&contexts.contexts, &evaluation.contexts));
    if args.scoring.run.json {
        print_json(&Report {
            policy: spec.name(),
            states,
            tokens: evaluation.tokens(),
            nll: evaluation.nll(),
            perplexity: evaluation.perplexity(),
            bits_per_byte: evaluation.bits_per_byte(),
            stride,
            perplexity_guide: guide,
            skipped,
            tokens_per_second: evaluation.tokens_per_second(),
            form: args.scoring.form,
            evaluation: &evaluation,
            setting: args.scoring.setting(&opened)?,
        })?;
    } else {
        let begun = match stride {
            Some(_) if !contexts.prefix.is_empty() => format!("the first of a text begun with {:?}", contexts.prefix),
            _ => text_ids::begun(&contexts.prefix),
        };
        let windows = stride.map_or_else(String::new, |stride| {
            let guide = guide.map_or_else(String::new, |guide| {
                format!("; {guide:.4} as the loop of Hugging Face's guide weighs its windows")
            });
            format!("windows     advance by {stride} tokens, each from an empty state, only new tokens scored{guide}\n")
        });
        let bits = evaluation.bits_per_byte().map_or_else(String::new, |bits| format!(", {bits:.4} bits per byte"));
        let Observed { omitted, max_rows, state_bytes, predicted, under_bound } = evaluation.observed;
        let under =
            states.map_or_else(String::new, |_| format!(", {under_bound} of {predicted} predictions after one"));
        print(&format!(
            "policy      {spec} ({})\n\
             contexts    {} of at most {context} tokens, {begun}\n\
             tokens      {} predicted, each with the same weight\n\
             perplexity  {} (nll {:.4} nats){bits}\n\
             {windows}\
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
