//! `msrnn trace`

use std::path::PathBuf;

use msrnn_bench::error::BenchError;
use msrnn_bench::output::OutputFile;
use msrnn_bench::trace::TraceWriter;
use serde::Serialize;

use super::options::{Opened, ScoringOptions, Setting};
use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scoring: ScoringOptions,
    /// One line per omission: {"row":0,"step":t,"layer":l,"head":h or null,"position":p}
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report {
    policy: String,
    states: Option<usize>,
    lines: usize,
    predicted: usize,
    under_bound: usize,
    complete: bool,
    #[serde(flatten)]
    setting: Setting,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    // One context at a time keeps the lines in the order of the text.
    let opened = args.scoring.open(1)?;
    if args.scoring.dry_run {
        return opened.show_plan(args.scoring.run.json);
    }
    let Opened { spec, scoring, .. } = &opened;
    let mut trace = TraceWriter::new(OutputFile::create_new(&args.out)?);
    let evaluation = opened.evaluate(&mut trace)?;
    let (lines, complete) = (trace.lines(), evaluation.complete);
    let file = trace.into_file();
    let path = if complete { file.finish().map(|()| args.out.clone())? } else { file.abandon()? };
    if complete && lines == 0 {
        tracing::warn!("{spec} never omitted a row, so the trace is empty");
    }
    if complete && lines > 0 && evaluation.observed.is_of_full_state() {
        tracing::warn!("{spec} omitted rows after the last prediction only: its predictions are the full state's");
    }
    if args.scoring.run.json {
        print_json(&Report {
            policy: spec.name(),
            states: scoring.compression.states(),
            lines,
            predicted: evaluation.observed.predicted,
            under_bound: evaluation.observed.under_bound,
            complete,
            setting: args.scoring.setting(&opened)?,
        })?;
    } else {
        let (contexts, path) = (evaluation.contexts.len(), path.display());
        print(&format!("{lines} omissions of {spec} over {contexts} contexts in {path}\n"))?;
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}
