//! `msrnn report`

use std::path::{Path, PathBuf};

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::Results;
use msrnn_bench::experiment::merge::{Reported, report};
use msrnn_bench::render;
use msrnn_bench::render::plots::{self, Format, Size};

use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directories: one, or several that overlap or are parts of one experiment
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Where the whole goes, a new directory, or one that holds the same; the directory itself if there is only one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long, conflicts_with = "tables")]
    json: bool,
    /// Print the tables alone
    #[arg(long)]
    tables: bool,
    /// Also write the plots for a paper, into this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    look: Look,
}

/// How plots for a paper look.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Plots for a paper")]
struct Look {
    /// As what they are written
    #[arg(long, value_enum, requires = "plots", default_value_t)]
    format: Format,
    /// Width and height in print, such as 85x60mm; 3.25x2.4in, a column of two, if absent
    #[arg(long, value_name = "WxH", requires = "plots")]
    size: Option<Size>,
    /// Size of the labels in points
    #[arg(long, value_name = "POINTS", requires = "plots", default_value_t = 8.0)]
    font_size: f64,
    /// Family of the letters
    #[arg(long, value_name = "NAME", requires = "plots", default_value = "sans-serif")]
    font: String,
    /// Write titles above the plots
    #[arg(long, requires = "plots")]
    titles: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let Reported { results, directory } = report(&args.directories, args.out.as_deref())?;
    if directory.is_none() {
        tracing::warn!("another msrnn is writing there and makes the report; these are the numbers so far");
    }
    if let Some(out) = &args.plots {
        let Look { format, size, font_size, font, titles } = &args.look;
        let style = plots::style(size.unwrap_or_default(), *font_size, font, *titles)?;
        let written = plots::write(&results, &style, *format, out)?;
        tracing::info!("plots for a paper, {} of them: {}", written.len(), out.display());
    }
    match args.tables {
        true => print(&render::text::tables(&results))?,
        false => show(&results, directory.as_deref(), args.json, "")?,
    }
    Ok(if results.missing.is_empty() { Outcome::Done } else { Outcome::Failed })
}

/// Shows results on the terminal, those tables alone that are called so, and says where the rest is.
pub(super) fn show(results: &Results, directory: Option<&Path>, json: bool, tables: &str) -> Result<(), BenchError> {
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
    if json {
        return print_json(results);
    }
    let page = directory.map_or_else(String::new, |out| format!("{}\n", out.join(render::PAGE).display()));
    print(&format!("{}\n{page}", render::text::brief(results, tables)))
}
