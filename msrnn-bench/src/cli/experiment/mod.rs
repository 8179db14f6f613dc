//! `msrnn experiment`: one file per experiment, and what they share.

mod lm;
mod retention;
mod retrieval;
mod story;
mod understanding;

use std::path::PathBuf;

use clap::CommandFactory;
use msrnn_bench::bundled;
use msrnn_bench::device::DeviceName;
use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::manifest::{Shard, Source};
use msrnn_bench::experiment::models::Models;
use msrnn_bench::experiment::run::{Plan, RunOptions, identity, run as run_experiment};
use msrnn_bench::experiment::{Experiment, Watch};
use msrnn_bench::open;
use msrnn_bench::precision::Precision;

use super::options::{TextArgs, jobs, progress};
use super::report::show;
use super::{Cli, DOWNLOADS, INTERRUPT, Outcome, command_line, config_file, print, print_json, say};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Which {
    /// Language modelling: perplexity over states, against the full state, random omission and shorter contexts
    Lm(Box<lm::Args>),
    /// Which states live how long: maps, first tokens, kinds of tokens, attention lost
    Retention(retention::Args),
    /// A fact, passkey or needle stated at a depth of a text, asked for at its end
    Retrieval(retrieval::Args),
    /// Long stories, judged pairwise against those of the full state
    Story(story::Args),
    /// Answers to questions about long documents, by ROUGE or F1
    Understanding(understanding::Args),
    /// Print the JSON schema of an experiment's --config file
    Schema {
        /// The experiment
        experiment: String,
    },
}

/// Options that every experiment has.
#[derive(Debug, clap::Args)]
pub(super) struct ExperimentOptions {
    /// Models: Hugging Face model directories or GGUF files, org/name[@revision][/file.gguf] on its hub, or `bundled`
    #[arg(long, value_name = "DIR", value_delimiter = ',', default_value = bundled::NAME)]
    pub(super) model: Vec<PathBuf>,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(super) device: DeviceName,
    /// Precision of weights and states: f32, f16, bf16, f64 or int8 (weights only), or WEIGHTS/STATES such as f32/f16
    #[arg(long, default_value_t)]
    pub(super) dtype: Precision,
    #[command(flatten)]
    pub(super) reading: TextArgs,
    /// The run directory; out/EXPERIMENT if absent. A run that was ended goes on where it stopped
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Units of work side by side; one per core for the bundled model, else 1
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// Do part I of N of the units; `msrnn report` puts the parts together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Say what would be done, with tokens and bytes, and end
    #[arg(long)]
    dry_run: bool,
    /// A TOML file with these options by name; those of the command line take precedence
    #[arg(long, value_name = "FILE.toml")]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl ExperimentOptions {
    /// The models, not yet opened.
    pub(super) fn models(&self) -> Models {
        Models::new(&self.model, self.device, self.dtype, DOWNLOADS).reading(self.reading.options())
    }

    /// Whether nothing but the bundled model runs.
    pub(super) fn is_bundled(&self) -> bool {
        self.model.iter().all(|model| open::is_bundled(model))
    }

    /// Units side by side.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.unwrap_or(if self.is_bundled() { self.device.threads() } else { 1 }).max(1)
    }
}

pub(super) fn run(which: &Which) -> Result<Outcome, BenchError> {
    match which {
        Which::Lm(args) => lm::run(args),
        Which::Retention(args) => retention::run(args),
        Which::Retrieval(args) => retrieval::run(args),
        Which::Story(args) => story::run(args),
        Which::Understanding(args) => understanding::run(args),
        Which::Schema { experiment } => schema(experiment),
    }
}

/// Plans or runs an experiment in its run directory, and shows what it found.
fn conduct<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    models: &Models,
    data: &[Source],
    options: &ExperimentOptions,
) -> Result<Outcome, BenchError> {
    let plan = Plan::of(experiment, inputs, options.shard)?;
    if options.dry_run {
        return show_plan(&plan, options.json);
    }
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from("out").join(E::NAME));
    let identity = identity(experiment, inputs, models, data, options.shard)?;
    let (jobs, on_host) = (options.jobs(), options.device.is_host());
    let run_options = RunOptions { out: out.clone(), shard: options.shard, jobs, on_host, command: command_line() };
    let bar = progress(plan.tokens);
    let watch = Watch { advance: &|tokens| bar.inc(tokens as u64), interrupt: &INTERRUPT };
    let outcome = run_experiment(experiment, inputs, identity, &run_options, watch);
    bar.finish_and_clear();
    let outcome = outcome?;
    if outcome.resumed > 0 {
        say(&format!("{} of {} units were finished before", outcome.resumed, outcome.units));
    }
    match &outcome.results {
        Some(results) => show(results, Some(&out), options.json)?,
        None if outcome.complete() => say(&format!(
            "this part is finished; when all are, `msrnn report DIR... --out DIR` puts them together (this one is {})",
            out.display()
        )),
        None => say(&format!(
            "{} of {} units are finished; the same command goes on with the rest",
            outcome.finished, outcome.units
        )),
    }
    Ok(if outcome.complete() { Outcome::Done } else { Outcome::Interrupted })
}

fn show_plan(plan: &Plan, json: bool) -> Result<Outcome, BenchError> {
    const SHOWN: usize = 20;
    if json {
        print_json(plan)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!(
        "{} units, {} tokens, at most {} bytes of states in a unit\n",
        plan.units.len(),
        plan.tokens,
        plan.state_bytes
    );
    for unit in plan.units.iter().take(SHOWN) {
        text += &format!("  {}: {} tokens, {} bytes\n", unit.name, unit.tokens, unit.state_bytes);
    }
    if plan.units.len() > SHOWN {
        text += &format!("  and {} more\n", plan.units.len() - SHOWN);
    }
    print(&text)?;
    Ok(Outcome::Done)
}

fn schema(experiment: &str) -> Result<Outcome, BenchError> {
    let cli = Cli::command();
    let command = config_file::experiment(&cli, experiment).ok_or_else(|| {
        BenchError::Input(format!("no experiment is called {experiment:?}; see `msrnn help experiment`"))
    })?;
    print_json(&config_file::schema(command))?;
    Ok(Outcome::Done)
}
