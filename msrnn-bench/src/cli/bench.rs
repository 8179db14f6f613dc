//! `msrnn bench`

use std::path::PathBuf;

use indicatif::ProgressBar;
use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Form;
use msrnn_bench::output::OutputFile;
use msrnn_bench::progress::{Progress, among_others};
use msrnn_bench::room;
use msrnn_bench::speed::machine::Machine;
use msrnn_bench::speed::measure::{Measurement, Settings, measure};
use msrnn_bench::speed::plan::{Grid, Row, Test};
use msrnn_bench::speed::shape::Shape;
use msrnn_bench::speed::soak::{Soak, soak};
use msrnn_bench::speed::startup::{Startup, start};
use msrnn_bench::speed::table;
use msrnn_bench::speed::workload::Conditions;
use msrnn_models::Model;
use msrnn_policies::PolicySpec;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::ModelOptions;
use super::policies::{PolicyList, all, named};
use super::{INTERRUPT, Outcome, command_line, print};

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

/// The result as text, and whether it is complete.
fn measured(args: &Args) -> Result<(String, bool), BenchError> {
    let threads = args.model.device.threads();
    let conditions = Conditions { batch: args.batch, threads, seed: args.seed, captures: !args.no_capture };
    let (model, setting) = open(args, conditions)?;
    match args.soak {
        Some(tokens) => {
            let result = soaked(args, &model, tokens, conditions)?;
            let text = match args.format {
                Format::Json => json(&setting, &result)?,
                _ => format!("{}\n{}", setting.describe(), table::soaks(&result.soaks)),
            };
            Ok((text, result.complete))
        }
        None => {
            let result = rows(args, &model, conditions)?;
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
        storage.check(&shape.config())?;
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

fn rows(args: &Args, model: &Model, conditions: Conditions) -> Result<Measurement, BenchError> {
    let tests = [
        Test::Prefill { tokens: args.prefill },
        Test::Score { tokens: args.score, form: args.form },
        Test::Decode { tokens: args.decode },
    ];
    let grid = Grid {
        tests: tests.into_iter().filter(|test| test.tokens() > 0).collect(),
        policies: all(&args.policies).map(|spec| spec.seeded(args.seed)).collect(),
        states: args.states.clone(),
        depths: args.depth.clone(),
    };
    let settings = Settings {
        conditions,
        repetitions: args.repetitions,
        warm_up: args.warm_up,
        baseline: args.baseline.clone(),
        on_host: args.model.device.is_host(),
    };
    let bar = among_others(ProgressBar::new_spinner());
    let prepared = |rows| bar.set_message(format!("{rows} rows are ready"));
    results_are_in_memory();
    let result = measure(model, &grid, &settings, &prepared, &INTERRUPT);
    bar.finish_and_clear();
    result
}

fn soaked(args: &Args, model: &Model, tokens: usize, conditions: Conditions) -> Result<Soaks, BenchError> {
    let policies = all(&args.policies).map(|spec| spec.seeded(args.seed)).collect();
    let (states, depths) = (args.states.clone(), Vec::new());
    let grid = Grid { tests: vec![Test::Score { tokens, form: Form::Layer }], policies, states, depths };
    let plan = grid.rows(&model.decoder)?;
    let bar = Progress::new("msrnn bench");
    bar.tokens(tokens * plan.len());
    let mut soaks = Vec::new();
    results_are_in_memory();
    for Row { policy, compression, .. } in &plan {
        let advance = |tokens| bar.advance(tokens);
        let soak = soak(model, policy, compression, tokens, conditions, &advance, &INTERRUPT)?;
        let complete = soak.complete;
        soaks.push(soak);
        if !complete {
            break;
        }
    }
    drop(bar);
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
