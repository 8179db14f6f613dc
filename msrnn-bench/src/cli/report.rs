//! `msrnn report`

use std::path::{Path, PathBuf};

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::Results;
use msrnn_bench::experiment::merge::Runs;
use msrnn_bench::render;

use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directories: one, or the parts of one experiment
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Where the whole goes; the directory itself if there is only one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long, conflicts_with = "tables")]
    json: bool,
    /// Print the tables alone
    #[arg(long)]
    tables: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let out = match (&args.out, &args.directories[..]) {
        (Some(out), _) => out.clone(),
        (None, [directory]) => directory.clone(),
        (None, _) => return Err(BenchError::Input("say where the whole goes, with --out DIR".into())),
    };
    let results = Runs::read(&args.directories)?.write(&out)?;
    match args.tables {
        true => {
            render::run::report(&out, &results)?;
            print(&render::text::tables(&results))?;
        }
        false => show(&results, &out, args.json)?,
    }
    Ok(Outcome::Done)
}

/// Shows results on the terminal, and says where the rest is.
pub(super) fn show(results: &Results, out: &Path, json: bool) -> Result<(), BenchError> {
    for arm in results.never_bound() {
        tracing::warn!(
            "{} never omitted a row: its bound was never reached, these are the full state's numbers",
            arm.policy
        );
    }
    for arm in results.before_bound() {
        tracing::warn!(
            "{} made no prediction under its bound, all omissions came later: these are the full state's numbers",
            arm.policy
        );
    }
    render::run::report(out, results)?;
    if json {
        return print_json(results);
    }
    print(&format!("{}\n{}\n", render::text::results(results), out.join("report.html").display()))
}
