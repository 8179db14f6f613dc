//! `msrnn perplexity`

use std::path::PathBuf;

use indicatif::ProgressBar;
use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::{Block, Evaluation, Form, Observed, Observer, evaluate};
use msrnn_bench::logits::LogitsWriter;
use msrnn_bench::output::OutputFile;
use serde::Serialize;

use super::options::{ModelOptions, PolicyOptions, RunOptions, Setting, Source, progress};
use super::{INTERRUPT, Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    run: RunOptions,
    /// step: token by token through all layers; layer: blocks of tokens layer by layer, the same result faster
    #[arg(long, value_enum, default_value_t)]
    form: Form,
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
    perplexity: f64,
    tokens_per_second: f64,
    form: Form,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(flatten)]
    setting: Setting,
}

struct Watch {
    bar: ProgressBar,
    logits: Option<LogitsWriter>,
}

impl Observer for Watch {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        self.logits.as_mut().map_or(Ok(()), |logits| logits.block(block))
    }

    fn advance(&mut self, tokens: usize) {
        self.bar.inc(tokens as u64);
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let model = args.model.open()?;
    let context = args.run.context(&model)?;
    let contexts = args.source.contexts(context, &model)?;
    let batch = if args.logits.is_some() { 1 } else { args.batch };
    let scoring = args.policy.scoring(&model, context, &args.run, args.form, batch, args.model.device.threads())?;
    let logits = match &args.logits {
        Some(path) => {
            let file = OutputFile::create(path)?;
            Some(LogitsWriter::new(file, &contexts, model.decoder.config().vocab_size)?)
        }
        None => None,
    };
    let mut watch = Watch { bar: progress(contexts.tokens()), logits };
    let evaluation = evaluate(&model, &contexts.contexts, &scoring, &mut watch, &INTERRUPT)?;
    watch.bar.finish_and_clear();
    if let Some(logits) = watch.logits {
        let file = logits.into_file();
        if evaluation.complete {
            file.finish()?;
        } else {
            eprintln!("the logits so far are in {}", file.abandon()?.display());
        }
    }
    let spec = args.policy.spec(args.run.seed)?;
    let states = scoring.compression.states();
    if evaluation.complete && states.is_some() && evaluation.observed.omitted == 0 {
        tracing::warn!("{spec} never omitted a row: its bound was never reached, this is the full state's result");
    }
    if evaluation.contexts.is_empty() {
        tracing::warn!("no context was finished, so there is no perplexity");
    }
    if args.run.json {
        print_json(&Report {
            policy: spec.name(),
            states,
            tokens: evaluation.tokens(),
            nll: evaluation.nll(),
            perplexity: evaluation.perplexity(),
            tokens_per_second: evaluation.tokens_per_second(),
            form: args.form,
            evaluation: &evaluation,
            setting: Setting::new(&args.model, &args.run, &model, context, &contexts.prefix),
        })?;
    } else {
        let begun = match contexts.prefix.is_empty() {
            true => "with nothing put before them".to_owned(),
            false => format!("each begun with {:?}", contexts.prefix),
        };
        let Observed { omitted, max_rows, state_bytes } = evaluation.observed;
        print(&format!(
            "policy      {spec} ({})\n\
             contexts    {} of at most {context} tokens, {begun}\n\
             tokens      {} predicted, each with the same weight\n\
             perplexity  {:.4} (nll {:.4} nats)\n\
             observed    {omitted} omissions, at most {max_rows} rows, {state_bytes} state bytes\n\
             speed       {:.0} tokens/s, {:.2} s\n",
            states.map_or("every state kept".into(), |k| format!("{k} states")),
            evaluation.contexts.len(),
            evaluation.tokens(),
            evaluation.perplexity(),
            evaluation.nll(),
            evaluation.tokens_per_second(),
            evaluation.seconds,
        ))?;
    }
    Ok(if evaluation.complete { Outcome::Done } else { Outcome::Interrupted })
}
