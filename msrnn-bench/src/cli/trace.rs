//! `msrnn trace`

use std::path::PathBuf;

use indicatif::ProgressBar;
use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::{Block, Form, Observer, evaluate};
use msrnn_bench::output::OutputFile;
use msrnn_bench::trace::TraceWriter;
use msrnn_core::state::MultiState;
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
    /// One line per omission: {"row":0,"step":t,"layer":l,"head":h or null,"position":p}
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report {
    policy: String,
    states: Option<usize>,
    lines: usize,
    complete: bool,
    #[serde(flatten)]
    setting: Setting,
}

struct Watch {
    bar: ProgressBar,
    trace: TraceWriter,
}

impl Observer for Watch {
    fn start(&mut self, states: &mut [MultiState]) {
        self.trace.start(states);
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        self.trace.block(block)
    }

    fn advance(&mut self, tokens: usize) {
        self.bar.inc(tokens as u64);
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let model = args.model.open()?;
    let context = args.run.context(&model)?;
    let contexts = args.source.contexts(context, &model)?;
    // One context at a time keeps the lines in the order of the text.
    let scoring = args.policy.scoring(&model, context, &args.run, args.form, 1, args.model.device.threads())?;
    let trace = TraceWriter::new(OutputFile::create(&args.out)?);
    let mut watch = Watch { bar: progress(contexts.tokens()), trace };
    let evaluation = evaluate(&model, &contexts.contexts, &scoring, &mut watch, &INTERRUPT)?;
    watch.bar.finish_and_clear();
    let (lines, complete) = (watch.trace.lines(), evaluation.complete);
    let file = watch.trace.into_file();
    let path = if complete { file.finish().map(|()| args.out.clone())? } else { file.abandon()? };
    let spec = args.policy.spec(args.run.seed)?;
    if complete && lines == 0 {
        tracing::warn!("{spec} never omitted a row, so the trace is empty");
    }
    if args.run.json {
        print_json(&Report {
            policy: spec.name(),
            states: scoring.compression.states(),
            lines,
            complete,
            setting: Setting::new(&args.model, &args.run, &model, context, &contexts.prefix),
        })?;
    } else {
        let (contexts, path) = (contexts.contexts.len(), path.display());
        print(&format!("{lines} omissions of {spec} over {contexts} contexts in {path}\n"))?;
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}
