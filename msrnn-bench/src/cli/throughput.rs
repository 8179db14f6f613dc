//! `msrnn throughput`

use std::sync::Arc;

use burn::tensor::Device;
use msrnn_bench::device::DeviceName;
use msrnn_bench::devices::DeviceMemory;
use msrnn_bench::error::BenchError;
use msrnn_bench::open;
use msrnn_bench::precision::Precision;
use msrnn_bench::progress::Progress;
use msrnn_bench::room;
use msrnn_bench::speed::random::{even_model, random_model};
use msrnn_bench::throughput::measure::{Measured, Run, measure};
use msrnn_bench::throughput::plan::{Plan, Sizes, plan};
use msrnn_bench::throughput::shape::ThroughputShape;
use msrnn_bench::throughput::trial::{Time, time};
use msrnn_bench::throughput::{published, table};
use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_core::policy::Policy;
use msrnn_models::Model;
use msrnn_models::checkpoint::Outline;
use msrnn_models::storage::Storage;
use msrnn_policies::PolicySpec;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::ModelOptions;
use super::policies::named;
use super::settings::as_options;
use super::{DOWNLOADS, INTERRUPT, Outcome, print, print_json};

/// The largest batch that fits is decoded for every number of states; beside it stand the figures that
/// Oren et al. 2024 (arXiv 2401.06104, table 1) publish for Llama-2-7B in f16 on one V100. Memory is
/// counted as weights, states with the policy's memory, and an estimate of logits and activations.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// A model with random weights instead: llama-2-7b, or
    /// LAYERSxHIDDENxHEADS[:KV_HEADS]xINTERMEDIATExVOCABULARY
    #[arg(long, value_name = "SHAPE", conflicts_with = "model")]
    shape: Option<ThroughputShape>,
    /// A policy without a bound
    #[arg(long, value_name = "POLICY", default_value = "tova", value_parser = named::<PolicySpec>(), hide_possible_values = true)]
    policy: PolicySpec,
    /// Numbers of states
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "256,512,1024,2048,4096")]
    states: Vec<usize>,
    /// Memory to fill, such as 32GiB; what is free on the device if absent
    #[arg(long, value_name = "BYTES")]
    memory: Option<Budget>,
    /// Compute memory and batch, judge by a second of each kind of work how long measuring takes, and end
    #[arg(long = "dry-run", alias = "dry")]
    dry: bool,
    /// Steps of a repetition, of states that are full
    #[arg(long, value_name = "N", default_value_t = 16)]
    steps: usize,
    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3)]
    repetitions: usize,
    /// Generate that many whole sequences from empty states instead, from a queue; the paper: 512
    #[arg(long, value_name = "N", conflicts_with_all = ["steps", "repetitions"])]
    sequences: Option<usize>,
    /// Tokens of each sequence
    #[arg(long, value_name = "N", default_value_t = 4096, requires = "sequences")]
    length: usize,
    /// Seed of weights and tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    model: String,
    parameters: usize,
    device: DeviceName,
    dtype: Precision,
    policy: String,
    memory_bytes: u64,
    run: Option<Run>,
    plans: &'a [Plan],
    measured: &'a [Measured],
    /// Of a dry run.
    #[serde(flatten)]
    time: Option<Time>,
    /// Where the model is the paper's.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<[published::Published; 5]>,
    complete: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let run = args.run()?;
    let device = args.model.device.open()?;
    let precision = args.precision()?;
    let storage = precision.on(&device, args.model.device)?;
    let outline = args.outline(storage)?;
    let config = &outline.config;
    let policy = args.policy()?;
    let memory = args.memory(&device)?;
    let sizes = Sizes::of(storage, &device);
    let plans: Vec<Plan> = args
        .states
        .iter()
        .map(|&states| {
            Compression::bounded(policy.clone(), states)?;
            plan(&outline, policy.as_ref(), states, sizes, memory)
        })
        .collect::<Result<_, BenchError>>()?;

    let mut measured = Vec::new();
    let mut complete = true;
    let mut told = None;
    if args.dry {
        told = Some(args.time(&outline, precision, &device, &policy, &plans)?);
    } else {
        plans.iter().try_for_each(|plan| plan.check_room(args.model.device, &device))?;
        let model: Model = match &args.shape {
            Some(_) => random_model(config, args.seed, storage, &device),
            None => args.model.open_in(precision)?,
        };
        results_are_in_memory();
        for plan in &plans {
            if let Run::Sequences { sequences, length } = run {
                for what in plan.never_reached(sequences, length) {
                    tracing::warn!("{what}");
                }
            }
            let compression = Compression::bounded(policy.clone(), plan.states)?;
            compression.check_no_foresight()?;
            match measure(&model, &compression, *plan, run, args.seed, &INTERRUPT)? {
                Some(row) => measured.push(row),
                None => {
                    complete = false;
                    break;
                }
            }
        }
    }
    let papers = ThroughputShape::is_papers(config);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        model: args.name(),
        parameters: config.parameters(),
        device: args.model.device,
        dtype: precision,
        policy: policy.name(),
        memory_bytes: memory,
        run: (!args.dry).then_some(run),
        plans: &plans,
        measured: &measured,
        time: told,
        published: papers.then_some(published::TABLE),
        complete,
    };
    match args.json {
        true => print_json(&report)?,
        false => print(&format!(
            "{}, {} parameters, {} on {}, {} in {:.2} GiB\n\n{}{}",
            report.model,
            report.parameters,
            report.dtype,
            report.device,
            report.policy,
            memory as f64 / (1u64 << 30) as f64,
            table::markdown(&plans, &measured, papers),
            report.time.as_ref().map_or_else(String::new, |time| format!("\n{}", as_options(&time.describe(run))))
        ))?,
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}

impl Args {
    fn name(&self) -> String {
        match &self.shape {
            Some(shape) => shape.to_string(),
            None => self.model.model.display().to_string(),
        }
    }

    fn run(&self) -> Result<Run, BenchError> {
        let run = match self.sequences {
            Some(sequences) => Run::Sequences { sequences, length: self.length },
            None => Run::Steady { steps: self.steps, repetitions: self.repetitions },
        };
        match run {
            Run::Steady { steps: 0, .. } | Run::Steady { repetitions: 0, .. } => {
                Err(BenchError::Input("nothing would be timed; give --steps and --repetitions of at least 1".into()))
            }
            Run::Sequences { sequences: 0, .. } | Run::Sequences { length: 0 | 1, .. } => Err(BenchError::Input(
                "nothing would be generated; give --sequences of at least 1 and a --length of at least 2".into(),
            )),
            run => Ok(run),
        }
    }

    fn precision(&self) -> Result<Precision, BenchError> {
        match self.shape {
            Some(_) => self.model.precision.of([], self.model.device)?.of_shape(),
            None => self.model.precision(),
        }
    }

    fn outline(&self, storage: Storage) -> Result<Outline, BenchError> {
        let Some(shape) = &self.shape else {
            return open::outline(open::directory(&self.model.model, &DOWNLOADS)?.as_deref(), storage);
        };
        let config = shape.config();
        room::check_sizes(&config)?;
        storage.check(&config)?;
        Ok(Outline { weight_bytes: storage.weight_bytes(&config), config })
    }

    /// How long measuring takes.
    fn time(
        &self,
        outline: &Outline,
        precision: Precision,
        device: &Device,
        policy: &Arc<dyn Policy>,
        plans: &[Plan],
    ) -> Result<Time, BenchError> {
        let room = plans.iter().try_for_each(|plan| plan.check_room(self.model.device, device));
        if let Err(why) = room {
            return Ok(Time::unknown(why.to_string()));
        }
        let progress = Progress::new("msrnn");
        let model = match &self.shape {
            Some(_) => even_model(&outline.config, precision.storage(), device),
            None => self.model.open_in(precision)?,
        };
        let time = time(&model, policy, plans, self.run()?, self.seed, &INTERRUPT);
        progress.end();
        time
    }

    fn policy(&self) -> Result<Arc<dyn Policy>, BenchError> {
        if let Some(budget) = self.policy.budget() {
            return Err(BenchError::Input(format!("the states are given by --states; leave @{budget} out")));
        }
        self.policy.policy().ok_or_else(|| {
            BenchError::Input(
                "full has no bound, so no batch is the largest; choose another policy, such as tova".into(),
            )
        })
    }

    fn memory(&self, device: &Device) -> Result<u64, BenchError> {
        match self.memory {
            Some(Budget::Bytes(bytes)) => Ok(bytes),
            Some(other) => Err(BenchError::Input(format!("--memory {other} is no number of bytes; write 32GiB"))),
            None => match DeviceMemory::of(self.model.device, device) {
                Some(memory) => Ok(memory.free),
                None => Err(BenchError::Input(format!(
                    "{} does not say how much memory is free; give --memory",
                    self.model.device
                ))),
            },
        }
    }
}
