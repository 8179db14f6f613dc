//! `msrnn bench`

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Form;
use msrnn_bench::experiment::run::Plan;
use msrnn_bench::experiment::{Event, Watch};
use msrnn_bench::output::OutputFile;
use msrnn_bench::progress::Progress;
use msrnn_bench::room;
use msrnn_bench::speed::machine::Machine;
use msrnn_bench::speed::measure::{Measurement, Settings, estimate, measure, plan as plan_of};
use msrnn_bench::speed::plan::{Grid, Row, Test};
use msrnn_bench::speed::shape::Shape;
use msrnn_bench::speed::soak::{Soak, soak};
use msrnn_bench::speed::startup::{Startup, start};
use msrnn_bench::speed::table;
use msrnn_bench::speed::workload::Conditions;
use msrnn_bench::trial;
use msrnn_models::Model;
use msrnn_policies::PolicySpec;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::ModelOptions;
use super::policies::{PolicyList, all, named};
use super::{INTERRUPT, Outcome, command_line, plan, print};

/// Rows run in turn, so that a drift of the machine hits all alike; the limits of the machine are
/// measured beside them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// A random model instead: LAYERSxHIDDENxHEADS[:KV_HEADS]xINTERMEDIATExVOCABULARY, tied embeddings
    #[arg(long, value_name = "SHAPE", conflicts_with = "model")]
    shape: Option<Shape>,
    /// Policies, with or without a bound of their own
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = "full,tova")]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "256")]
    states: Vec<usize>,
    /// Tokens seen before decoding; if absent as many as there are states, for full each of --states
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    depth: Vec<usize>,
    /// Tokens of a prompt; 0 leaves prefill out
    #[arg(long, value_name = "N", default_value_t = 512)]
    prefill: usize,
    /// Tokens of a text that is scored; 0 leaves scoring out
    #[arg(long, value_name = "N", default_value_t = 1024)]
    score: usize,
    /// Tokens that are decoded one by one; 0 leaves decode out
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,
    /// How a text is scored: step: token by token through all layers; layer: blocks of tokens layer by layer
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Rows side by side
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Rounds before them that do not
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: usize,
    /// Set the time per token in relation to that of this policy
    #[arg(long, value_name = "POLICY", value_parser = named::<PolicySpec>(), hide_possible_values = true)]
    baseline: Option<PolicySpec>,
    /// Launch the kernels of every decoding step one by one; else, on devices that can, a step is captured once and
    /// replayed
    #[arg(long)]
    no_capture: bool,
    /// Score N tokens as one text instead, and watch memory and the cost of a step
    #[arg(long, value_name = "N", conflicts_with_all = ["depth", "prefill", "score", "decode", "form", "baseline", "batch"])]
    soak: Option<usize>,
    /// Seed of weights and tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Say what would be done, with tokens, bytes and the time that it takes, and end
    #[arg(long)]
    dry_run: bool,
    /// Write the result to a new file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people
    #[default]
    Markdown,
    /// One line per row
    Csv,
    /// Everything, as one object
    Json,
}

/// What is common to all rows.
#[derive(Serialize)]
struct Setting {
    version: &'static str,
    commit: &'static str,
    command: Vec<String>,
    /// Seconds since 1970.
    started: u64,
    model: String,
    parameters: usize,
    device: msrnn_bench::device::DeviceName,
    dtype: msrnn_bench::precision::Precision,
    threads: usize,
    batch: usize,
    seed: u64,
    #[serde(flatten)]
    machine: Machine,
    #[serde(flatten)]
    startup: Startup,
}

#[derive(Serialize)]
struct Report<'a, T> {
    #[serde(flatten)]
    setting: &'a Setting,
    #[serde(flatten)]
    result: T,
}

#[derive(Serialize)]
struct Soaks {
    soaks: Vec<Soak>,
    complete: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    if args.soak.is_some() && args.format == Format::Csv {
        return Err(BenchError::Input("a soak is not written as CSV; choose --format markdown or json".into()));
    }
    if args.dry_run {
        return planned(args);
    }
    // What cannot be written is refused before the work.
    let out = args.out.as_deref().map(OutputFile::create_new).transpose()?;
    let done = measured(args);
    let (text, complete) = match done {
        Ok(done) => done,
        Err(error) => {
            if let Some(out) = out {
                out.discard()?;
            }
            return Err(error);
        }
    };
    match (out, &args.out) {
        (Some(mut out), Some(path)) => {
            out.put(text.as_bytes())?;
            let path = if complete { out.finish().map(|()| path.clone())? } else { out.abandon()? };
            print(&format!("the result is in {}\n", path.display()))?;
        }
        _ => print(&text)?,
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}

/// Says what would be done.
fn planned(args: &Args) -> Result<Outcome, BenchError> {
    let progress = Progress::new("msrnn");
    let conditions = args.conditions();
    let (model, _) = open(args, conditions)?;
    let (plan, time) = match args.soak {
        Some(tokens) => {
            let rows = args.grid_of_soak(tokens).rows(&model.decoder)?;
            let Row { policy, compression, .. } = &rows[0];
            let plan = Plan::of(rows.iter().map(|row| row.unit(&model.decoder, 1, 1)).collect());
            let work = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
                drop(soak(&model, policy, compression, tokens, conditions, &|tokens| advance(tokens), enough));
            };
            let time = trial::estimate(plan.tokens, 1, &work, &INTERRUPT);
            (plan, time)
        }
        None => {
            let (grid, settings) = (args.grid(), args.settings());
            let plan = plan_of(&model, &grid, &settings)?;
            (plan, estimate(&model, &grid, &settings, &INTERRUPT)?)
        }
    };
    progress.end();
    plan::show(&plan, "of states in a unit", time, args.format == Format::Json)
}

/// The result as text, and whether it is complete.
fn measured(args: &Args) -> Result<(String, bool), BenchError> {
    let progress = Progress::new("msrnn");
    let conditions = args.conditions();
    let (model, setting) = open(args, conditions)?;
    match args.soak {
        Some(tokens) => {
            let result = soaked(args, &model, tokens, &progress)?;
            let text = match args.format {
                Format::Json => json(&setting, &result)?,
                _ => format!("{}\n{}", setting.describe(), table::soaks(&result.soaks)),
            };
            Ok((text, result.complete))
        }
        None => {
            let result = rows(args, &model, &progress)?;
            let text = match args.format {
                Format::Json => json(&setting, &result)?,
                Format::Csv => String::from_utf8_lossy(&table::csv(&result)?).into_owned(),
                Format::Markdown => {
                    format!("{}{}\n{}", setting.describe(), table::summary(&result), table::markdown(&result))
                }
            };
            Ok((text, result.complete))
        }
    }
}

/// Opens the model and feeds it a first token.
fn open(args: &Args, conditions: Conditions) -> Result<(Model, Setting), BenchError> {
    let random = |shape: Shape| {
        let device = args.model.device.open()?;
        let storage = args.model.precision()?.of_shape()?.on(&device, args.model.device)?;
        room::check_weights(&shape.config(), 1)?;
        storage.check_on(&shape.config(), &device)?;
        Ok(shape.model(args.seed, storage, &device))
    };
    let (model, startup) = start(|| args.shape.map_or_else(|| args.model.open(), random), conditions)?;
    let named = || args.model.model.display().to_string();
    let setting = Setting {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("MSRNN_COMMIT"),
        command: command_line(),
        started: std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()),
        model: args.shape.map_or_else(named, |shape| format!("random {shape}")),
        parameters: model.decoder.config().parameters(),
        device: args.model.device,
        dtype: args.model.precision()?,
        threads: conditions.threads,
        batch: conditions.batch,
        seed: conditions.seed,
        machine: Machine::here(),
        startup,
    };
    Ok((model, setting))
}

impl Args {
    fn conditions(&self) -> Conditions {
        let threads = self.model.device.threads();
        Conditions { batch: self.batch, threads, seed: self.seed, captures: !self.no_capture }
    }

    fn policies(&self) -> Vec<PolicySpec> {
        all(&self.policies).map(|spec| spec.seeded(self.seed)).collect()
    }

    fn grid(&self) -> Grid {
        let tests = [
            Test::Prefill { tokens: self.prefill },
            Test::Score { tokens: self.score, form: self.form },
            Test::Decode { tokens: self.decode },
        ];
        Grid {
            tests: tests.into_iter().filter(|test| test.tokens() > 0).collect(),
            policies: self.policies(),
            states: self.states.clone(),
            depths: self.depth.clone(),
        }
    }

    fn grid_of_soak(&self, tokens: usize) -> Grid {
        let tests = vec![Test::Score { tokens, form: Form::Layer }];
        Grid { tests, policies: self.policies(), states: self.states.clone(), depths: Vec::new() }
    }

    fn settings(&self) -> Settings {
        Settings {
            conditions: self.conditions(),
            repetitions: self.repetitions,
            warm_up: self.warm_up,
            baseline: self.baseline.clone(),
            on_host: self.model.device.is_host(),
        }
    }
}

fn rows(args: &Args, model: &Model, progress: &Progress) -> Result<Measurement, BenchError> {
    results_are_in_memory();
    let (advance, tell) = (|tokens| progress.advance(tokens), |event: Event<'_>| progress.tell(event));
    let watch = Watch { advance: &advance, tell: &tell, interrupt: &INTERRUPT };
    let result = measure(model, &args.grid(), &args.settings(), watch);
    progress.end();
    result
}

fn soaked(args: &Args, model: &Model, tokens: usize, progress: &Progress) -> Result<Soaks, BenchError> {
    let conditions = args.conditions();
    let plan = args.grid_of_soak(tokens).rows(&model.decoder)?;
    progress.tokens(tokens.saturating_mul(plan.len()));
    let mut soaks = Vec::new();
    results_are_in_memory();
    for Row { policy, compression, .. } in &plan {
        let advance = |tokens| progress.advance(tokens);
        let soak = soak(model, policy, compression, tokens, conditions, &advance, &INTERRUPT)?;
        let complete = soak.complete;
        soaks.push(soak);
        if !complete {
            break;
        }
    }
    progress.end();
    let complete = soaks.len() == plan.len() && soaks.iter().all(|soak| soak.complete);
    Ok(Soaks { soaks, complete })
}

impl Setting {
    fn describe(&self) -> String {
        let Self { version, model, parameters, device, dtype, threads, batch, seed, machine, .. } = self;
        format!(
            "msrnn {version}, {model} ({:.1} M parameters), {device}, {dtype}, {threads} threads, batch {batch}, seed {seed}\n\
             machine: {machine}\n\
             loaded in {:.3} s, logits of a first token after {:.3} s\n",
            *parameters as f64 / 1e6,
            self.startup.load_seconds,
            self.startup.first_token_seconds,
        )
    }
}

fn json(setting: &Setting, result: &impl Serialize) -> Result<String, BenchError> {
    let report = Report { setting, result };
    let text = serde_json::to_string_pretty(&report);
    text.map(|text| text + "\n").map_err(|e| BenchError::Input(format!("no JSON: {e}")))
}
