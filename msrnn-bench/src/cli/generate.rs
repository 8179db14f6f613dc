//! `msrnn generate`

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Observed;
use msrnn_bench::writing::conversation::{Conversation, Said, Turn};
use msrnn_bench::writing::remembered::Remembered;
use msrnn_bench::writing::saved::{self, Aside};
use msrnn_bench::writing::times::Speed;
use msrnn_bench::writing::{Ended, Told, Writing, Written};
use msrnn_core::budget::Budget;
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::captured::Capture;
use msrnn_models::chat::{ChatTemplate, Message};
use msrnn_models::recurrent::Recurrent;
use msrnn_models::sampling::{Sampler, Sampling};
use msrnn_models::session::Session;
use msrnn_models::stop::StopTexts;
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::{ModelOptions, PolicyOptions, RunOptions, Setting, TextArgs};
use super::prompts;
use super::streams::{print_text, remark};
use super::writing::{ChatArgs, DrawArgs, READ_AGAIN, StateArgs, input, now, show_state};
use super::{INTERRUPT, Outcome, print_json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A bound in percent is a share of prompt and new tokens together, or of --context where that is \
given and longer.\n\n\
--prompt is shown before what follows it; a prompt from a file, a conversation and what --state-in has read are not. Times \
of reading and writing are told on stderr.\n\n\
--prompts takes lines such as {\"id\": \"1\", \"prompt\": \"Once\", \"temperature\": 0.8, \"stop\": [\"\\n\\n\"]}: id, prompt or \
(with --chat) messages, max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop. What a line does \
not say is as on the command line. The same command goes on where it was interrupted."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) model: ModelOptions,
    /// What is continued
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// The same from a file, or - for standard input, to the last byte
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// Many prompts, a JSON object a line, continued side by side; see below
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with_all = ["prompt", "prompt_file", "samples", "logprobs",
        "show_state", "state_in", "state_out", "json"])]
    pub(super) prompts: Option<PathBuf>,
    /// Where results of --prompts go, a line as each is finished; ids that are there already are not done again
    #[arg(long, value_name = "FILE", requires = "prompts")]
    pub(super) out: Option<PathBuf>,
    /// Prompts side by side
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = super::options::jobs, requires = "prompts")]
    pub(super) batch: usize,
    #[command(flatten)]
    pub(super) chat: ChatArgs,
    #[command(flatten)]
    pub(super) reading: TextArgs,
    #[command(flatten)]
    pub(super) policy: PolicyOptions,
    #[command(flatten)]
    pub(super) run: RunOptions,
    #[command(flatten)]
    pub(super) draw: DrawArgs,
    /// So many continuations of one prompt, which is read once: the first with --seed, each other with the next seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::options::count)]
    samples: usize,
    /// With --json: the log-probability of every token that was drawn, and the N most likely ones in its place; those of
    /// the model, before penalty, temperature, top-k, top-p and min-p, as vLLM and OpenAI tell them
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    #[command(flatten)]
    state: StateArgs,
    /// Write control characters to a terminal as they are, instead of spelling them out
    #[arg(long)]
    raw: bool,
    /// Launch every step's kernels one by one, on a GPU that could be given all of them at once
    #[arg(long)]
    no_capture: bool,
}

impl Args {
    pub(super) fn capture(&self) -> Capture {
        Capture::when(!self.no_capture)
    }
}

#[derive(Serialize)]
struct Report {
    policy: String,
    states: Option<usize>,
    prompt_tokens: usize,
    #[serde(flatten)]
    first: Option<Sample>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    samples: Vec<Sample>,
    /// From the first token read to the last one drawn.
    seconds: f64,
    tokens_per_second: f64,
    prompt: Speed,
    decoding: Speed,
    complete: bool,
    #[serde(flatten)]
    setting: Setting,
}

#[derive(Serialize)]
struct Sample {
    tokens: usize,
    text: String,
    ids: Vec<u32>,
    stop: Ended,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Told>>,
    /// Where it is another than the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(flatten)]
    observed: Observed,
}

/// What is read before the first token is drawn.
enum Reading<'t> {
    Text { ids: Vec<u32>, shown: String },
    Turn { turn: Turn, conversation: Conversation<'t> },
}

impl Reading<'_> {
    fn ids(&self) -> &[u32] {
        match self {
            Self::Text { ids, .. } => ids,
            Self::Turn { turn, .. } => &turn.ids,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let model = args.chat.open(&args.model, &args.reading)?;
    let template = args.chat.template(&model)?;
    if args.prompts.is_some() {
        return prompts::run(args, &model, template.as_ref());
    }
    let sampling = args.draw.sampling(args.run.seed);
    // What is refused is refused before anything is read or printed.
    Sampler::new(sampling)?;
    StopTexts::new(&args.draw.stop)?;
    args.check(sampling)?;

    let context = args.run.context(&model)?;
    let prompt = match &args.prompt_file {
        Some(path) => input(path)?,
        None => args.prompt.clone(),
    };
    let spec = args.chat.protecting(args.policy.spec(args.run.seed)?, template.as_ref(), &model)?;
    // A share is one of what this run will hold, where no context is given, so that the prompt is looked at first.
    let whole = match spec.budget() {
        Some(Budget::Percent(_)) if args.state.state_in.is_some() => {
            return Err(BenchError::Input(
                "--state-in was saved under a number of states; give that behind the policy instead of a share".into(),
            ));
        }
        Some(Budget::Percent(_)) => {
            let empty = args.reading(&model, template.as_ref(), &[], None, prompt.clone())?;
            let length = empty.ids().len().saturating_add(args.draw.max_new_tokens);
            args.run.context.unwrap_or(0).max(length)
        }
        _ => context,
    };
    let compression = args.policy.compression(&spec, whole, &model)?;
    // A bounded state has all its rows from the beginning.
    msrnn_bench::room::check(&model.decoder, &compression, args.draw.max_new_tokens, args.samples.min(2))?;
    let recurrent =
        Recurrent::new(&model.decoder, compression.clone(), args.run.positions).with_capture(args.capture());
    args.state.check()?;
    let identity = args.state.identity(&args.model, &compression, args.run.positions)?;
    let (mut session, aside) = match (&args.state.state_in, &identity) {
        (Some(path), Some(identity)) => saved::load(path, identity, &model, &recurrent)?,
        _ => (Session::new(&model, &recurrent), Aside::default()),
    };
    let reading = args.reading(&model, template.as_ref(), &session.ids(), aside.said.clone(), prompt)?;
    args.check_room(&model, &compression, &session, reading.ids().len())?;
    session.check(reading.ids(), args.run.protocol, args.draw.max_new_tokens)?;

    let show = |text: &str| if args.run.json { Ok(()) } else { print_text(text, args.raw) };
    if let Reading::Text { shown, .. } = &reading {
        show(shown)?;
    }
    let started = Instant::now();
    let pass = |_| !INTERRUPT.load(Ordering::Relaxed);
    let read = reading.ids().len();
    let all = match &reading {
        Reading::Text { ids, .. } => ids.is_empty() || session.read(ids, args.run.protocol, pass)?,
        Reading::Turn { turn, .. } => {
            if turn.again && aside.said.is_some() {
                tracing::warn!("{READ_AGAIN}");
            }
            turn.read(&mut session, || Session::new(&model, &recurrent), args.run.protocol, pass)?
        }
    };
    if !all {
        return Ok(Outcome::Interrupted);
    }
    let prompt_speed = Speed::of(read, started.elapsed());
    results_are_in_memory();

    let mut samples = Vec::new();
    let mut last: Option<(Written, Sampler)> = None;
    let mut uniform = false;
    let began = Instant::now();
    for index in 0..args.samples {
        let seed = sampling.seed.wrapping_add(index as u64);
        let mut sampler = Sampler::new(Sampling { seed, ..sampling })?;
        if args.state.state_in.is_some() && aside.seed == seed {
            sampler = sampler.from(aside.drawn);
        }
        sampler.note(&session.ids());
        let writing =
            Writing { max_new_tokens: args.draw.max_new_tokens, stop: &args.draw.stop, logprobs: args.logprobs };
        let (mut fork, whole) = match index + 1 < args.samples {
            true => (Some(session.clone()), false),
            false => (None, true),
        };
        let on = fork.as_mut().unwrap_or(&mut session);
        let written = writing.write(on, model.tokenizer()?, &mut sampler, &INTERRUPT, show, || {})?;
        show("\n")?;
        let mut observed = Observed::of(on.states());
        observed.predict(on.states(), 0, written.predicting.clone());
        uniform |= written.uniform;
        samples.push(args.sample(&model, &written, seed, observed)?);
        let interrupted = written.ended == Ended::Interrupted;
        last = Some((written, sampler));
        if interrupted || whole {
            break;
        }
    }
    let Some((written, sampler)) = last else { return Ok(Outcome::Done) };
    let drawn: usize = samples.iter().map(|sample| sample.tokens).sum();
    let decoding = Speed::of(drawn, began.elapsed());
    let complete = written.ended != Ended::Interrupted;
    args.warn(&model, &samples, complete && compression.states().is_some(), &spec.to_string())?;
    if uniform {
        tracing::warn!(
            "all logits were equal, as of a model that was never trained: any token is as likely as another"
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    if !args.run.json {
        remark(&format!("read {prompt_speed}; wrote {decoding}"));
    }
    if let Some(to) = &args.state.show_state {
        let remembered = Remembered::of(session.states(), session.seen(), model.tokenizer()?)?;
        show_state(&remembered, to, args.run.json)?;
    }
    if let (Some(path), Some(identity)) = (&args.state.state_out, &identity) {
        let said = match reading {
            Reading::Turn { turn, mut conversation } => {
                conversation.answered(turn, &written);
                Some(conversation.said().clone())
            }
            Reading::Text { .. } => None,
        };
        let aside = Aside { seed: sampler.sampling().seed, drawn: sampler.at(), said };
        saved::save(path, identity, session, aside)?;
    }
    if args.run.json {
        let setting = args.setting(&model, context, &compression)?;
        let one = samples.len() == 1 && args.samples == 1;
        print_json(&Report {
            policy: spec.name(),
            states: compression.states(),
            prompt_tokens: read,
            first: if one { samples.pop() } else { None },
            samples,
            seconds,
            tokens_per_second: drawn as f64 / seconds,
            prompt: prompt_speed,
            decoding,
            complete,
            setting,
        })?;
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}

impl Args {
    /// What goes together, beyond what clap looks at.
    fn check(&self, sampling: Sampling) -> Result<(), BenchError> {
        let wrong = |text: &str| Err(BenchError::Input(text.to_owned()));
        if self.samples > 1 && sampling.temperature == 0.0 {
            return wrong("--samples at temperature 0 are all the same; give a --temperature above 0");
        }
        if self.samples > 1 && (self.state.state_out.is_some() || self.state.show_state.is_some()) {
            return wrong("--samples leave a state each; leave --state-out and --show-state out, or take one sample");
        }
        if self.chat.chat && self.prompt.is_empty() && self.prompt_file.is_none() {
            return wrong("--chat needs something that is said; give --prompt or --prompt-file");
        }
        Ok(())
    }

    /// What is to be read: a text, or what somebody says in a conversation.
    fn reading<'t>(
        &self,
        model: &'t Model,
        template: Option<&'t ChatTemplate>,
        known: &[u32],
        said: Option<Said>,
        prompt: String,
    ) -> Result<Reading<'t>, BenchError> {
        let tokenizer = model.tokenizer()?;
        let begun = !known.is_empty();
        let Some(template) = template else {
            // What was begun has its BOS.
            let ids = if begun { tokenizer.encode(&prompt)? } else { tokenizer.prompt(&prompt)? };
            let shown = if self.prompt_file.is_none() { prompt } else { String::new() };
            return Ok(Reading::Text { ids, shown });
        };
        if begun && said.is_none() {
            return Err(BenchError::Input(
                "--state-in has the state of a text and not of a conversation, which --chat goes on with; leave --chat \
                 out, or save a state with --chat"
                    .into(),
            ));
        }
        if begun && self.chat.system.is_some() {
            return Err(BenchError::Input(
                "the conversation of --state-in has begun, so that --system comes too late; leave it out".into(),
            ));
        }
        let mut said = said.unwrap_or_default();
        if let Some(system) = &self.chat.system {
            said.messages.push(Message::new("system", system));
        }
        let mut conversation = Conversation::new(template, tokenizer, said, now());
        let turn = conversation.say(Message::new("user", &prompt), known)?;
        Ok(Reading::Turn { turn, conversation })
    }

    /// Refuses what does not fit into memory, and warns of what the model was not trained for.
    fn check_room(
        &self,
        model: &Model,
        compression: &msrnn_core::compression::Compression,
        session: &Session<'_>,
        read: usize,
    ) -> Result<(), BenchError> {
        let prompt = session.seen().len().saturating_add(read);
        let length = prompt.saturating_add(self.draw.max_new_tokens);
        let block = if session.seen().is_empty() { prompt } else { 0 };
        self.run.check_length(model, "a text (prompt and new tokens)", length, block, compression)?;
        msrnn_bench::room::check(&model.decoder, compression, length, self.samples.min(2))
    }

    fn sample(&self, model: &Model, written: &Written, seed: u64, observed: Observed) -> Result<Sample, BenchError> {
        let tokenizer = model.tokenizer()?;
        let told = |of| written.logprobs.iter().map(|one| Told::of(one, of)).collect::<Result<Vec<_>, _>>();
        Ok(Sample {
            tokens: written.ids.len(),
            text: written.text.clone(),
            ids: written.ids.clone(),
            stop: written.ended,
            logprobs: self.logprobs.map(|_| told(tokenizer)).transpose()?,
            seed: (self.samples > 1).then_some(seed),
            observed,
        })
    }

    fn warn(&self, model: &Model, samples: &[Sample], bounded: bool, spec: &str) -> Result<(), BenchError> {
        let tokenizer = model.tokenizer()?;
        let ids = samples.iter().flat_map(|sample| &sample.ids);
        let unknown = ids.filter(|&&id| !tokenizer.knows(id)).count();
        if unknown > 0 {
            tracing::warn!("{unknown} of the ids that were drawn are not the tokenizer's and have no text");
        }
        if bounded && samples.iter().any(|sample| sample.observed.is_of_full_state()) {
            tracing::warn!("no token was drawn under the bound of {spec}: this is what the full state writes");
        }
        Ok(())
    }

    fn setting(&self, model: &Model, context: usize, compression: &Compression) -> Result<Setting, BenchError> {
        let prefix = if self.chat.chat { Vec::new() } else { model.tokenizer()?.prefix()? };
        Setting::new(&self.model, &self.run, model, context, compression, (self.reading.options(), &prefix))
    }
}
