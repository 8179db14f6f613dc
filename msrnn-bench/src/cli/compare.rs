//! `msrnn compare`

use std::path::PathBuf;
use std::time::Instant;

use msrnn_bench::compare::{Comparison, Grid, compare};
use msrnn_bench::contexts::{Contexts, Cutting};
use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Form;
use msrnn_bench::experiment::manifest::{self, Source};
use msrnn_bench::render;
use msrnn_bench::report;
use msrnn_bench::text_ids;
use msrnn_bench::texts::{Skipped, Text};
use msrnn_core::budget::Budget;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::{ModelOptions, RunOptions, Setting, TextArgs, count, jobs, progress};
use super::policies::{PolicyList, all, every_policy, named};
use super::texts::TextOptions;
use super::{INTERRUPT, Outcome, print, print_json};

/// All built-in policies.
pub(super) const POLICIES: &str = "window,window+4,h2o,h2o-layer,tova,tova-head,tova+4,random";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    texts: TextOptions,
    #[command(flatten)]
    reading: TextArgs,
    /// At most N contexts of each text, its first; all if absent
    #[arg(long, value_name = "N")]
    contexts: Option<usize>,
    /// Policies, with or without a bound of their own
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = every_policy(POLICIES))]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; a percentage is one of a context
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "16,32,64,128,256")]
    states: Vec<Budget>,
    #[command(flatten)]
    run: RunOptions,
    /// step: token by token through all layers; layer: blocks of tokens layer by layer, the same result faster
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Held-out stories of the bundled generator, one context each, where there is no text
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "text", value_parser = count)]
    stories: usize,
    /// Contexts side by side; 16 for the bundled model, else 1
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Runs side by side; one per core for the bundled model, else 1
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// Where compare.json, compare.csv, compare.svg and report.html go
    #[arg(long, value_name = "DIR", default_value = "out/compare")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    setting: Setting,
    form: Form,
    text: String,
    skipped: Skipped,
    contexts: usize,
    tokens: usize,
    seconds: f64,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// How a comparison was made.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    setting: &'a Setting,
    form: Form,
    text: &'a str,
    /// SHA-256 of the texts that were scored.
    data: &'a [Source],
    skipped: &'a Skipped,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let started = Instant::now();
    let model = args.model.open()?.with_text(args.reading.options())?;
    let context = args.run.context(&model)?;
    // The full state goes through every context too.
    args.run.check_context(&model, None)?;
    let cutting = Cutting { contexts: args.contexts, ..Cutting::new(context) }.checked()?;
    let mut data = Vec::new();
    let (text, contexts, skipped) = match args.texts.is_given() {
        false => {
            let text = format!("{} held-out stories of the bundled generator, seed {}", args.stories, args.run.seed);
            (text, Contexts::of_stories(args.run.seed, args.stories, context, &model)?, Skipped::default())
        }
        true => {
            let found = args.texts.read()?;
            data.extend(found.texts.iter().map(Text::source));
            let names: Vec<String> = args.texts.text.iter().map(|path| path.display().to_string()).collect();
            (names.join(", "), Contexts::of_texts(&found.texts, &cutting, &model)?, found.skipped)
        }
    };
    let threads = args.model.device.threads();
    let (batch, jobs) = if args.model.is_bundled() { (16, threads) } else { (1, 1) };
    let jobs = args.jobs.unwrap_or(jobs);
    let grid = Grid {
        policies: all(&args.policies).map(|spec| spec.seeded(args.run.seed)).collect(),
        states: args.states.clone(),
        context,
        positions: args.run.positions,
        protocol: args.run.protocol,
        form: args.form,
        batch: args.batch.unwrap_or(batch),
        jobs,
    };
    let bar = progress(grid.tokens(&model, &contexts)?);
    // Before the work, not after it.
    let _claim = report::claim(&args.out)?;
    results_are_in_memory();
    let comparison = compare(&model, &contexts, &grid, &|tokens| bar.inc(tokens as u64), &INTERRUPT)?;
    bar.finish_and_clear();

    let title = format!("Perplexity over states, {}, contexts of {context} tokens", args.model.model.display());
    let report = Report {
        setting: Setting::new(&args.model, &args.run, &model, context, (args.reading.options(), &contexts.prefix)),
        form: args.form,
        text,
        skipped,
        contexts: contexts.contexts.len(),
        tokens: contexts.predicted(),
        seconds: started.elapsed().as_secs_f64(),
        comparison: &comparison,
    };
    report::write(&comparison, &report, &title, &args.out)?;
    let made =
        Made { setting: &report.setting, form: args.form, text: &report.text, data: &data, skipped: &report.skipped };
    // What was interrupted takes the place of no whole report.
    if comparison.complete {
        render::write(
            &render::Report {
                title: &title,
                summary: &format!("{}: {} contexts, {} predicted tokens", report.text, report.contexts, report.tokens),
                results: &comparison.results(&args.model.model.display().to_string(), context)?,
                manifest: &manifest::table(&made)?,
                speed: &[render::comparison::speed(&comparison)],
            },
            &args.out,
        )?;
    }
    for run in comparison.never_bound() {
        tracing::warn!("{}@{} never omitted a row: its bound was never reached", run.policy, run.states.unwrap_or(0));
    }
    for run in comparison.before_bound() {
        tracing::warn!(
            "{}@{} made no prediction under its bound, all omissions came later: this is the full state's result",
            run.policy,
            run.states.unwrap_or(0)
        );
    }
    if args.run.json {
        print_json(&report)?;
    } else {
        print(&format!(
            "perplexity ± standard error over contexts\n\
             {}: {} contexts of at most {context} tokens, {}, {} predicted tokens, {} protocol\n\n\
             {}\n\
             {:.0} s; results and plot in {}{}\n",
            report.text,
            report.contexts,
            text_ids::begun(&contexts.prefix),
            report.tokens,
            args.run.protocol,
            report::table(&comparison),
            report.seconds,
            args.out.display(),
            if comparison.complete { ", to look at: report.html" } else { "" }
        ))?;
    }
    Ok(if comparison.complete { Outcome::Done } else { Outcome::Interrupted })
}
