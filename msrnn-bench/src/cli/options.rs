//! Options that commands share, and what they open.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use msrnn_bench::bundled;
use msrnn_bench::contexts::Contexts;
use msrnn_bench::device::DeviceName;
use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::{Advance, Block, Evaluation, Form, Observer, Scoring, evaluate};
use msrnn_bench::open;
use msrnn_bench::precision::{ActivationsName, Precision};
use msrnn_bench::progress::Progress;
use msrnn_bench::texts::Skipped;
use msrnn_bench::trial;
use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent, bytes_per_state, positions_of_layers, state_bytes};
use msrnn_models::tokenizer::{Bos, SpecialTokens, TextOptions};
use msrnn_policies::PolicySpec;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::policies::named;
use super::texts::Source;
use super::{DOWNLOADS, INTERRUPT, Outcome, plan, print, print_json};

/// Which model runs, where, and in which precision.
#[derive(Debug, clap::Args)]
pub(super) struct ModelOptions {
    /// A Hugging Face model directory or GGUF file, org/name[@revision][/file.gguf] on its hub, or `bundled`
    #[arg(long, value_name = "DIR", default_value = bundled::NAME)]
    pub(super) model: PathBuf,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(super) device: DeviceName,
    #[command(flatten)]
    pub(super) precision: PrecisionOptions,
}

/// In which precision models are held and computed.
#[derive(Debug, clap::Args)]
pub(super) struct PrecisionOptions {
    /// Precision of weights and states: f32, f16, bf16 or f64; for weights alone int8 and stored, as the files have them;
    /// WEIGHTS/STATES for one each, such as stored/f16. f32 if absent, of GGUF files on the CPU stored
    #[arg(long)]
    dtype: Option<Precision>,
    /// What weights are multiplied with: f32, as it is; faster and less exact, rounded activations: int8 beside weights in
    /// blocks (int8, stored), bf16 beside weights in bf16
    #[arg(long, value_name = "f32|int8|bf16")]
    activations: Option<ActivationsName>,
}

impl PrecisionOptions {
    /// The precision of those models.
    pub(super) fn of<'a>(
        &self,
        models: impl IntoIterator<Item = &'a Path>,
        device: DeviceName,
    ) -> Result<Precision, BenchError> {
        let precision = self.dtype.unwrap_or_else(|| Precision::usual(models, device));
        match self.activations {
            Some(ActivationsName(activations)) => precision.with(activations),
            None => Ok(precision),
        }
    }
}

/// How texts and prompts are read.
#[derive(Debug, clap::Args)]
pub(super) struct TextArgs {
    /// What texts and prompts begin with. auto: what the tokenizer puts before a text, which for some models is nothing;
    /// always: BOS where that is nothing; never: nothing
    #[arg(long, value_name = "auto|always|never", default_value_t)]
    bos: Bos,
    /// What special tokens spelled in a text, such as `</s>`, become. parse: the tokens; literal: their letters; auto:
    /// as the tokenizer's files say, which is the tokens as a rule
    #[arg(long, value_name = "auto|parse|literal", default_value_t)]
    special_tokens: SpecialTokens,
}

impl TextArgs {
    pub(super) fn options(&self) -> TextOptions {
        TextOptions { bos: self.bos, special_tokens: self.special_tokens }
    }
}

impl ModelOptions {
    pub(super) fn open(&self) -> Result<Model, BenchError> {
        self.open_in(self.precision()?)
    }

    pub(super) fn open_in(&self, precision: Precision) -> Result<Model, BenchError> {
        open::open(open::directory(&self.model, &DOWNLOADS)?.as_deref(), self.device, precision)
    }

    pub(super) fn precision(&self) -> Result<Precision, BenchError> {
        self.precision.of([self.model.as_path()], self.device)
    }
}

/// How a model runs.
#[derive(Debug, clap::Args)]
pub(super) struct RunOptions {
    /// Tokens of a context; the model's maximum positions if absent
    #[arg(long, value_name = "N")]
    pub(super) context: Option<usize>,
    /// strict: token by token from the first; prefill:N: the first N as one block, then one cut
    #[arg(long, default_value_t)]
    pub(super) protocol: Protocol,
    /// original: tokens seen; for texts far beyond the context gap-compressed, the paper's numbering, or in-state,
    /// rows counted within the state
    #[arg(long, default_value = "original", value_parser = positions)]
    pub(super) positions: Positions,
    /// Seed of everything that is drawn at random
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// How many of something the command makes up itself; a slip of the keyboard does not fill the memory.
pub(super) fn count(text: &str) -> Result<usize, String> {
    at_most(text, 1_000_000)
}

/// How many things are done side by side.
pub(super) fn jobs(text: &str) -> Result<usize, String> {
    at_most(text, 1024)
}

fn at_most(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    }
}

pub(super) fn positions(text: &str) -> Result<Positions, String> {
    match text {
        "original" => Ok(Positions::Original),
        "gap-compressed" => Ok(Positions::GapCompressed),
        "in-state" => Ok(Positions::InState),
        _ => Err("expected original, gap-compressed or in-state".into()),
    }
}

impl RunOptions {
    /// Tokens of a context.
    pub(super) fn context(&self, model: &Model) -> Result<usize, BenchError> {
        match self.context {
            None => Ok(model.decoder.config().max_position_embeddings),
            Some(context) if context < 2 => {
                Err(BenchError::Input(format!("--context {context} leaves nothing to predict; give at least 2")))
            }
            Some(context) => Ok(context),
        }
    }

    /// Refuses a context that there are no positions for under a bound, and warns of one that the model was
    /// not trained for.
    pub(super) fn check_context(&self, model: &Model, compression: &Compression) -> Result<(), BenchError> {
        self.context.map_or(Ok(()), |context| self.check_length(model, "a context", context, context, compression))
    }

    /// As [`Self::check_context`] for `what` of so many tokens, the first `prompt` of which are there before the
    /// others.
    pub(super) fn check_length(
        &self,
        model: &Model,
        what: &str,
        tokens: usize,
        prompt: usize,
        compression: &Compression,
    ) -> Result<(), BenchError> {
        let recurrent = Recurrent::new(&model.decoder, compression.clone(), self.positions);
        let length = recurrent.length(tokens, self.protocol.block(prompt));
        length.check()?;
        if let Some(said) = length.beyond(what, model.decoder.config().max_position_embeddings) {
            tracing::warn!("{said}");
        }
        Ok(())
    }
}

/// One policy and its bound.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyOptions {
    /// full, or a policy such as tova@512, window+4@25% or h2o@64MiB (see `msrnn policies`), one made of others such as
    /// every(128, tova)@512, or a rule of your own such as "score(weight * value_norm)@512"
    #[arg(long, value_name = "POLICY", value_parser = named::<PolicySpec>(), hide_possible_values = true)]
    pub(super) policy: PolicySpec,
    /// The number of states, where the policy does not name it: 512, 25% (of a context) or 64MiB
    #[arg(long, value_name = "K")]
    pub(super) states: Option<Budget>,
}

impl PolicyOptions {
    pub(super) fn spec(&self, seed: u64) -> Result<PolicySpec, BenchError> {
        let spec = match (self.policy.budget(), self.states) {
            (Some(budget), Some(_)) => {
                return Err(BenchError::Input(format!(
                    "the states are given twice, as @{budget} and as --states; leave one out"
                )));
            }
            (None, Some(_)) if self.policy.keeps_all() => {
                return Err(BenchError::Input(format!(
                    "{} keeps every state; leave --states out, or choose another policy",
                    self.policy.name()
                )));
            }
            (None, Some(states)) => self.policy.with_budget(states),
            (_, None) => self.policy.clone(),
        };
        Ok(spec.seeded(seed))
    }
}

/// A text or ids, scored by a model under a policy.
#[derive(Debug, clap::Args)]
pub(super) struct ScoringOptions {
    #[command(flatten)]
    pub(super) model: ModelOptions,
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) text: TextArgs,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    pub(super) run: RunOptions,
    /// step: token by token through all layers; layer: blocks of tokens layer by layer, faster, with
    /// the same result, but where two scores differ by rounding alone
    #[arg(long, value_enum, default_value_t)]
    pub(super) form: Form,
    /// Say what would be done, with tokens, bytes and the time that it takes, and end
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What [`ScoringOptions`] ask for, opened and checked.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) context: usize,
    pub(super) contexts: Contexts,
    pub(super) skipped: Skipped,
    pub(super) spec: PolicySpec,
    pub(super) scoring: Scoring,
    progress: Progress,
}

impl ScoringOptions {
    pub(super) fn open(&self, batch: usize) -> Result<Opened, BenchError> {
        let progress = Progress::new("msrnn");
        let model = self.model.open()?.with_text(self.text.options())?;
        let context = self.run.context(&model)?;
        let (contexts, skipped) = self.source.contexts(context, &model)?;
        let spec = self.policy.spec(self.run.seed)?;
        let compression = spec.compression(context, |policy| bytes_per_state(&model.decoder, policy))?;
        self.run.check_context(&model, &compression)?;
        let scoring = Scoring {
            positions: self.run.positions,
            protocol: self.run.protocol,
            form: self.form,
            batch,
            ..Scoring::new(compression)
        };
        Ok(Opened { model, context, contexts, skipped, spec, scoring, progress })
    }

    pub(super) fn setting(&self, opened: &Opened) -> Result<Setting, BenchError> {
        let reading = (self.text.options(), &*opened.contexts.prefix);
        Setting::new(&self.model, &self.run, &opened.model, opened.context, &opened.scoring.compression, reading)
    }
}

/// What a dry run says.
#[derive(Serialize)]
struct Planned {
    contexts: usize,
    tokens: usize,
    state_bytes: usize,
    /// How long it takes, judged by a second of work.
    seconds: Option<f64>,
}

impl Opened {
    /// Says what would be done.
    pub(super) fn show_plan(&self, json: bool) -> Result<Outcome, BenchError> {
        let longest = self.contexts.contexts.iter().map(|context| context.len()).max().unwrap_or(0);
        let (tokens, contexts) = (self.contexts.tokens(), &self.contexts.contexts);
        let work = |advance: &(dyn Fn(usize) + Sync), interrupt: &AtomicBool| {
            drop(evaluate(&self.model, contexts, &self.scoring, &mut Advance(advance), interrupt));
        };
        let time = trial::estimate(tokens, 1, &work, &INTERRUPT);
        self.progress.end();
        let batch = self.scoring.batch.min(contexts.len());
        let state_bytes = state_bytes(&self.model.decoder, &self.scoring.compression, longest) * batch;
        match json {
            true => {
                let seconds = time.map(|time| time.as_secs_f64());
                print_json(&Planned { contexts: contexts.len(), tokens, state_bytes, seconds })?;
            }
            false => {
                let things = format!("{} contexts", contexts.len());
                print(&plan::summary(&things, tokens, state_bytes, "of states", time))?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Scores the contexts under the eyes of an observer, with a progress bar.
    pub(super) fn evaluate(&self, observer: &mut dyn Observer) -> Result<Evaluation, BenchError> {
        self.progress.tokens(self.contexts.tokens());
        let mut watch = WithProgress { progress: &self.progress, observer };
        results_are_in_memory();
        let evaluation = evaluate(&self.model, &self.contexts.contexts, &self.scoring, &mut watch, &INTERRUPT);
        self.progress.end();
        evaluation
    }
}

/// An observer, and a bar that shows how far it is.
struct WithProgress<'o> {
    progress: &'o Progress,
    observer: &'o mut dyn Observer,
}

impl Observer for WithProgress<'_> {
    fn start(&mut self, states: &mut [MultiState]) {
        self.observer.start(states);
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        self.observer.block(block)
    }

    fn advance(&mut self, tokens: usize) {
        self.progress.advance(tokens);
        self.observer.advance(tokens);
    }
}

/// What a result says about the run that made it.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    version: &'static str,
    model: String,
    parameters: usize,
    device: DeviceName,
    dtype: Precision,
    context: usize,
    #[serde(flatten)]
    reading: TextOptions,
    prefix: Vec<u32>,
    protocol: Protocol,
    /// How rows are numbered; none where layers differ in it.
    positions: Option<Positions>,
    seed: u64,
}

impl Setting {
    /// `reading`: how texts were read, and the ids that were put before them for it.
    pub(super) fn new(
        options: &ModelOptions,
        run: &RunOptions,
        model: &Model,
        context: usize,
        compression: &Compression,
        (reading, prefix): (TextOptions, &[u32]),
    ) -> Result<Self, BenchError> {
        let of_layers = positions_of_layers(model.decoder.config(), compression, run.positions);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            model: options.model.display().to_string(),
            parameters: model.decoder.config().parameters(),
            device: options.device,
            dtype: options.precision()?,
            context,
            reading,
            prefix: prefix.to_vec(),
            protocol: run.protocol,
            positions: of_layers.first().copied().filter(|first| of_layers.iter().all(|other| other == first)),
            seed: run.seed,
        })
    }
}
