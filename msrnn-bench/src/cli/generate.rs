//! `msrnn generate`

use std::sync::atomic::Ordering;
use std::time::Instant;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Observed;
use msrnn_bench::room;
use msrnn_core::budget::Budget;
use msrnn_models::generate::{Stop, generate};
use msrnn_models::recurrent::{Recurrent, bytes_per_state};
use msrnn_models::sampling::{Sampler, Sampling};
use serde::Serialize;

use super::interrupt::results_are_in_memory;
use super::options::{ModelOptions, PolicyOptions, RunOptions, Setting, TextArgs};
use super::streams::print_text;
use super::{INTERRUPT, Outcome, print_json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A bound in percent is a share of prompt and new tokens together, or of --context where that is \
given and longer."
)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// What is continued
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    #[command(flatten)]
    reading: TextArgs,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    run: RunOptions,
    /// Tokens to draw, at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_new_tokens: usize,
    /// 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Only the N most likely tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Only the most likely tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Write control characters to a terminal as they are, instead of spelling them out
    #[arg(long)]
    raw: bool,
    /// Launch every step's kernels one by one, on a GPU that could be given all of them at once
    #[arg(long)]
    no_capture: bool,
}

#[derive(Serialize)]
struct Report {
    policy: String,
    states: Option<usize>,
    prompt_tokens: usize,
    tokens: usize,
    text: String,
    ids: Vec<u32>,
    stop: Stop,
    #[serde(flatten)]
    observed: Observed,
    seconds: f64,
    tokens_per_second: f64,
    complete: bool,
    #[serde(flatten)]
    setting: Setting,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let model = args.model.open()?.with_text(args.reading.options())?;
    let tokenizer = model.tokenizer()?;
    let prefix = tokenizer.prefix()?;
    let prompt = tokenizer.prompt(&args.prompt)?;

    let context = args.run.context(&model)?;
    let length = prompt.len().saturating_add(args.max_new_tokens);
    let spec = args.policy.spec(args.run.seed)?;
    let whole = match spec.budget() {
        // A share is one of what this run will hold, where no context is given.
        Some(Budget::Percent(_)) => args.run.context.unwrap_or(0).max(length),
        _ => context.max(length),
    };
    let compression = spec.compression(whole, |policy| bytes_per_state(&model.decoder, policy))?;
    let states = compression.states();
    args.run.check_length(&model, "a text (prompt and new tokens)", length, prompt.len(), states)?;
    room::check(&model.decoder, &compression, length, 1)?;
    let recurrent = Recurrent::new(&model.decoder, compression, args.run.positions).with_capture(!args.no_capture);
    let sampling =
        Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.run.seed };

    // What is refused is refused before anything is printed.
    Sampler::new(sampling)?;
    model.check_ids(&prompt)?;

    results_are_in_memory();
    let started = Instant::now();
    let mut text = String::new();
    let mut stream = tokenizer.stream_behind(&prompt)?;
    let mut failed = None;
    let show = |text: &str| if args.run.json { Ok(()) } else { print_text(text, args.raw) };
    show(&args.prompt)?;
    let generation =
        generate(&model, &recurrent, &prompt, args.run.protocol, sampling, args.max_new_tokens, |token| {
            let shown = stream.push(token).map_err(BenchError::from).and_then(|piece| {
                text.push_str(&piece);
                show(&piece)
            });
            failed = shown.err();
            failed.is_none() && !INTERRUPT.load(Ordering::Relaxed)
        })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let rest = stream.finish()?;
    text.push_str(&rest);
    show(&rest)?;
    let unknown = generation.tokens.iter().filter(|&&id| !tokenizer.knows(id)).count();
    if unknown > 0 {
        tracing::warn!("{unknown} of the ids that were drawn are not the tokenizer's and have no text");
    }
    let seconds = started.elapsed().as_secs_f64();
    let complete = generation.stop != Stop::Interrupted;
    let mut observed = Observed::of(&generation.states);
    observed.predict(&generation.states, 0, generation.predicting);
    if complete && states.is_some() && observed.is_of_full_state() {
        tracing::warn!("no token was drawn under the bound of {spec}: this is what the full state writes");
    }
    if generation.uniform {
        tracing::warn!(
            "all logits were equal, as of a model that was never trained: any token is as likely as another"
        );
    }
    if args.run.json {
        print_json(&Report {
            policy: spec.name(),
            states,
            prompt_tokens: prompt.len(),
            tokens: generation.tokens.len(),
            text,
            stop: generation.stop,
            observed,
            seconds,
            tokens_per_second: generation.tokens.len() as f64 / seconds,
            complete,
            ids: generation.tokens,
            setting: Setting::new(&args.model, &args.run, &model, context, (args.reading.options(), &prefix)),
        })?;
    } else {
        show("\n")?;
    }
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}
