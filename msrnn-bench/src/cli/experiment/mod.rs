//! `msrnn experiment`: one file per experiment, and what they share.

pub(super) mod lm;
mod retention;
mod retrieval;
mod story;
mod understanding;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::CommandFactory;
use msrnn_bench::bundled;
use msrnn_bench::device::DeviceName;
use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::manifest::{Shard, Source};
use msrnn_bench::experiment::models::Models;
use msrnn_bench::experiment::run::{Asked, RunOptions, estimate, run as run_experiment};
use msrnn_bench::experiment::{Experiment, Results, Watch};
use msrnn_bench::open;
use msrnn_bench::progress::Progress;

use super::options::{PrecisionOptions, TextArgs, jobs};
use super::report::show;
use super::settings::as_options;
use super::{Cli, DOWNLOADS, INTERRUPT, Outcome, command_line, config_file, plan, print_json, remark, say};

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
    #[command(flatten)]
    pub(super) precision: PrecisionOptions,
    #[command(flatten)]
    pub(super) reading: TextArgs,
    /// The run directory: a new one, or one of which all that is finished is part of what is asked for, which is then not
    /// done again. If absent, the first such among out/EXPERIMENT, out/EXPERIMENT-2 and so on
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run directories whose finished units are taken over where they are asked for
    #[arg(long, value_name = "DIR")]
    reuse: Vec<PathBuf>,
    /// Keep units that were done by a version of msrnn whose results meant something else
    #[arg(long)]
    accept_version: bool,
    /// Units of work side by side; one per core for the bundled model, else 1
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// Do part I of N of the units; `msrnn report` puts the parts together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// On a model of one's own, sizes that are not given are such that it ends in minutes: take the paper's
    #[arg(long)]
    full: bool,
    /// Say what would be done, with tokens, bytes and the time that it takes, and end
    #[arg(long)]
    dry_run: bool,
    /// A TOML file with these options by name; those of the command line take precedence
    #[arg(long, value_name = "FILE.toml")]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[arg(skip)]
    progress: Shown,
}

impl ExperimentOptions {
    /// The models, not yet opened.
    pub(super) fn models(&self) -> Result<Models, BenchError> {
        self.progress.get();
        Ok(self.of(&self.model)?.reading(self.reading.options()))
    }

    /// Models, not yet opened.
    pub(super) fn of(&self, models: &[PathBuf]) -> Result<Models, BenchError> {
        let precision = self.precision.of(models.iter().map(PathBuf::as_path), self.device)?;
        Ok(Models::new(models, self.device, precision, DOWNLOADS))
    }

    /// Whether nothing but the bundled model runs.
    pub(super) fn is_bundled(&self) -> bool {
        self.model.iter().all(|model| open::is_bundled(model))
    }

    /// Whether sizes that are not given are small ones.
    pub(super) fn is_quick(&self) -> bool {
        !self.full && !self.is_bundled()
    }

    /// Says which sizes were chosen so that it ends soon.
    pub(super) fn say_that_it_is_quick(&self, sizes: &str) {
        remark(&format!("{sizes} that are not given are small ones, so that this ends soon; --full takes the paper's"));
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

/// How far an experiment is, shown from the moment at which somebody asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(OnceLock<Arc<Progress>>);

impl Shown {
    pub(super) fn get(&self) -> &Progress {
        self.0.get_or_init(|| Arc::new(Progress::new("msrnn")))
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
    let asked = Asked::new(experiment, inputs, models, data)?;
    let (jobs, on_host) = (options.jobs(), options.device.is_host());
    let progress = &options.progress;
    let watch = Watch {
        advance: &|tokens| progress.get().advance(tokens),
        tell: &|event| progress.get().tell(event),
        interrupt: &INTERRUPT,
    };
    if options.dry_run {
        let plan = asked.plan(options.shard);
        let seconds = estimate(experiment, inputs, &plan, jobs, &INTERRUPT);
        progress.get().end();
        return plan::show(&plan, "of states in a unit", seconds, options.json);
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None => asked.room_in(&PathBuf::from("out"))?,
    };
    let run_options = RunOptions {
        out: out.clone(),
        shard: options.shard,
        jobs,
        on_host,
        accept_version: options.accept_version,
        reuse: options.reuse.clone(),
        command: command_line(),
    };
    let outcome = run_experiment(experiment, inputs, asked, &run_options, watch);
    progress.get().end();
    let outcome = outcome?;
    if outcome.resumed > 0 {
        remark(&format!("{} of {} units were finished before", outcome.resumed, outcome.units));
    }
    match &outcome.results {
        Some(results) if options.json => show(results, Some(&out), true, E::SHOWN)?,
        Some(results) => show(&with_options(results), Some(&out), false, E::SHOWN)?,
        None if outcome.complete() => remark(&format!(
            "this part is finished; when all are, `msrnn report DIR... --out DIR` puts them together (this one is {})",
            out.display()
        )),
        None => remark(&format!(
            "{} of {} units are finished; the same command goes on with the rest",
            outcome.finished, outcome.units
        )),
    }
    if !outcome.failed.is_empty() {
        say(&format!(
            "{} of {} units failed, the first of them, {}, since {}; the same command tries them again",
            outcome.failed.len(),
            outcome.units,
            outcome.failed[0].unit,
            outcome.failed[0].reason
        ));
    }
    Ok(match (outcome.complete(), outcome.failed.is_empty()) {
        (false, _) => Outcome::Interrupted,
        (true, true) => Outcome::Done,
        (true, false) => Outcome::Failed,
    })
}

/// Results whose notes name options as what is said of the same on stderr does: they are shown by the subcommand that has
/// them, while those in files name settings.
fn with_options(results: &Results) -> Results {
    let notes = results.notes.iter().map(|note| as_options(note).into_owned()).collect();
    Results { notes, ..results.clone() }
}

fn schema(experiment: &str) -> Result<Outcome, BenchError> {
    let cli = Cli::command();
    let command = config_file::experiment(&cli, experiment).ok_or_else(|| {
        BenchError::Input(format!("no experiment is called {experiment:?}; see `msrnn help experiment`"))
    })?;
    print_json(&config_file::schema(command))?;
    Ok(Outcome::Done)
}
