//! `msrnn experiment lm`

use std::sync::Arc;

use msrnn_bench::error::BenchError;
use msrnn_bench::evaluate::Form;
use msrnn_bench::experiment::extrapolate::{Extrapolate, ExtrapolateInputs, ExtrapolateModel};
use msrnn_bench::experiment::lm::{Lm, LmInputs, LmModel};
use msrnn_bench::experiment::manifest::Source;
use msrnn_bench::experiment::models::Models;
use msrnn_bench::texts::{self, Found, Skipped, Text};
use msrnn_core::budget::Budget;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;
use msrnn_policies::PolicySpec;

use super::{ExperimentOptions, Outcome, conduct};
use crate::cli::options::{count, positions};
use crate::cli::policies::{PolicyList, all, every_policy, named};
use crate::cli::texts::TextOptions;

/// All policies of the paper.
const POLICIES: &str = "window,window+4,h2o,h2o-layer,tova,tova-head,tova+4,random";
/// A share of 1/64 of the context and its doubles: 16 to 256 of 1,024 tokens, 64 to 1,024 of 4,096.
const STATES: [f64; 5] = [1.5625, 3.125, 6.25, 12.5, 25.0];
/// The paper's 512 states of a context of 4,096.
const EXTRAPOLATION_STATES: f64 = 12.5;
/// What ends in minutes on a real model.
const QUICK_CONTEXT: usize = 1024;
const QUICK_CONTEXTS: usize = 2;
const QUICK_POLICIES: &str = "window+4,h2o,tova,random";
const QUICK_STATES: [f64; 2] = [12.5, 25.0];
const EXTRAPOLATION_POLICIES: &str = "window+4,tova";
/// As many as the paper's.
const EXTRAPOLATION_TOKENS: usize = 70_000;
/// What takes a minute or two on the bundled model.
const STORY_TOKENS: usize = 20_000;
/// Points of a curve.
const POINTS: usize = 300;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    experiment: ExperimentOptions,
    #[command(flatten)]
    texts: TextOptions,
    /// Held-out stories of the bundled generator, one context each, where there is no text; 16 if absent
    #[arg(long, value_name = "N", conflicts_with = "text", value_parser = count)]
    stories: Option<usize>,
    /// Policies, with or without a bound of their own; all if absent, window+4 and tova with --extrapolate
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true)]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; 1/64, 1/32, 1/16, 1/8 and 1/4 of the
    /// context if absent, 1/8 of the trained context with --extrapolate
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    states: Vec<Budget>,
    /// Tokens of a context; the model's maximum positions if absent
    #[arg(long, value_name = "N", conflicts_with = "extrapolate")]
    context: Option<usize>,
    /// At most N contexts of each text, its first; all if absent
    #[arg(long, value_name = "N", conflicts_with = "extrapolate")]
    contexts: Option<usize>,
    /// Seed of the stories, and the first seed of policies that draw at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seeds of policies that draw at random; other policies run once
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "extrapolate", value_parser = count)]
    seeds: usize,
    /// original: tokens seen; for texts far beyond the context gap-compressed, the paper's numbering, or in-state,
    /// rows counted within the state. All three with --extrapolate, if absent
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = positions)]
    positions: Vec<Positions>,
    /// strict: token by token from the first; prefill:N: the first N as one block, then one cut
    #[arg(long, default_value_t, conflicts_with = "extrapolate")]
    protocol: Protocol,
    /// step: token by token through all layers; layer: blocks of tokens layer by layer, the same result faster
    #[arg(long, value_enum, default_value_t, conflicts_with = "extrapolate")]
    form: Form,
    /// Contexts of equal length side by side; 16 for the bundled model, else 1
    #[arg(long, value_name = "N", conflicts_with = "extrapolate")]
    batch: Option<usize>,
    /// Also keep what every single token cost, in tokens.parquet
    #[arg(long, conflicts_with = "extrapolate")]
    per_token: bool,
    /// One text far beyond the trained context instead: perplexity over position
    #[arg(long)]
    extrapolate: bool,
    /// Tokens of that text; 70000 if absent, 20000 of a story
    #[arg(long, value_name = "N", requires = "extrapolate")]
    tokens: Option<usize>,
    /// Tokens of it that the full state goes through; 4 times the trained context if absent, 0 for none
    #[arg(long, value_name = "N", requires = "extrapolate")]
    full_tokens: Option<usize>,
}

pub(in crate::cli) fn run(args: &Args) -> Result<Outcome, BenchError> {
    if args.extrapolate { extrapolate(args) } else { lm(args) }
}

fn lm(args: &Args) -> Result<Outcome, BenchError> {
    let options = &args.experiment;
    let models = Arc::new(options.models()?);
    let mut settings = LmModel::all(&models, args.context)?;
    let quick = options.is_quick();
    if quick && args.context.is_none() {
        settings.iter_mut().for_each(|model| model.context = model.context.min(QUICK_CONTEXT));
    }
    let longest = settings.iter().map(|model| model.context).max().unwrap_or(0);
    let (Found { texts, skipped }, contexts) = match args.texts.is_given() {
        // Longer than any tokenizer's context of that many tokens; the rest is dropped.
        false => {
            (stories(args, args.stories.unwrap_or(if quick { 2 } else { 16 }), longest)?, args.contexts.or(Some(1)))
        }
        true => (args.texts.read()?, args.contexts.or(quick.then_some(QUICK_CONTEXTS))),
    };
    if quick && (args.context.is_none() || args.contexts.is_none() || args.policies.is_empty()) {
        options.say_that_it_is_quick("contexts, their length, policies and states");
    }
    let positions = match args.positions[..] {
        [] => Positions::default(),
        [positions] => positions,
        _ => return Err(BenchError::Input("give one kind of --positions, or --extrapolate for several".into())),
    };
    let small = options.is_bundled();
    let experiment = Lm {
        reading: options.reading.options(),
        texts: texts.iter().map(|text| text.name.clone()).collect(),
        skipped,
        policies: policies(args, if quick { QUICK_POLICIES } else { every_policy(POLICIES) })?,
        states: states(args, if quick { &QUICK_STATES[..] } else { &STATES[..] }),
        contexts,
        seeds: (0..args.seeds as u64).map(|n| args.seed.wrapping_add(n)).collect(),
        positions,
        protocol: args.protocol,
        form: args.form,
        batch: args.batch.unwrap_or(if small { 16 } else { 1 }),
        per_token: args.per_token,
        models: settings,
    };
    let data: Vec<Source> = texts.iter().map(Text::source).collect();
    let inputs = LmInputs::new(models.clone(), texts, options.jobs());
    conduct(&experiment, &inputs, &models, &data, options)
}

fn extrapolate(args: &Args) -> Result<Outcome, BenchError> {
    let options = &args.experiment;
    let models: Arc<Models> = Arc::new(options.models()?);
    let settings = ExtrapolateModel::all(&models)?;
    let longest = settings.iter().map(|model| model.trained).max().unwrap_or(0);
    let tokens = args.tokens.unwrap_or(if args.texts.is_given() { EXTRAPOLATION_TOKENS } else { STORY_TOKENS });
    let Found { texts: mut all, .. } = match args.texts.is_given() {
        // No word is shorter than a token.
        false => stories(args, 1, tokens)?,
        true => args.texts.read()?,
    };
    let text = match (all.pop(), all.len()) {
        (Some(text), 0) => text,
        (_, more) => {
            return Err(BenchError::Input(format!(
                "--extrapolate takes one text, not {}; give one, or put them together with --join",
                more + 1
            )));
        }
    };
    let every = [Positions::Original, Positions::GapCompressed, Positions::InState];
    let experiment = Extrapolate {
        reading: options.reading.options(),
        text: text.name.clone(),
        tokens,
        full_tokens: args.full_tokens.unwrap_or(4 * longest),
        policies: policies(args, EXTRAPOLATION_POLICIES)?.into_iter().map(|spec| spec.seeded(args.seed)).collect(),
        states: states(args, &[EXTRAPOLATION_STATES]),
        positions: if args.positions.is_empty() { every.to_vec() } else { args.positions.clone() },
        points: POINTS,
        models: settings,
    };
    let data = [text.source()];
    let inputs = ExtrapolateInputs { models: models.clone(), text };
    conduct(&experiment, &inputs, &models, &data, options)
}

fn stories(args: &Args, stories: usize, words: usize) -> Result<Found, BenchError> {
    Ok(Found { texts: texts::stories(args.seed, stories, words)?, skipped: Skipped::default() })
}

fn policies(args: &Args, default: &str) -> Result<Vec<PolicySpec>, BenchError> {
    match args.policies.is_empty() {
        true => Ok(all(&[default.parse()?]).collect()),
        false => Ok(all(&args.policies).collect()),
    }
}

fn states(args: &Args, default: &[f64]) -> Vec<Budget> {
    match args.states.is_empty() {
        true => default.iter().map(|&share| Budget::Percent(share)).collect(),
        false => args.states.clone(),
    }
}
