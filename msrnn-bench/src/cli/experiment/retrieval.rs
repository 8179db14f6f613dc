//! `msrnn experiment retrieval`

use std::path::PathBuf;

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::arms::{arms, asked_after};
use msrnn_bench::experiment::retrieval::haystack::Haystack;
use msrnn_bench::experiment::retrieval::task::Task;
use msrnn_bench::experiment::retrieval::{Inputs, Retrieval};
use msrnn_bench::texts::Text;
use msrnn_core::budget::Budget;
use msrnn_policies::PolicySpec;

use super::super::Outcome;
use super::super::policies::{PolicyList, all, named};
use super::super::texts::TextOptions;
use super::{ExperimentOptions, conduct};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    options: ExperimentOptions,
    /// What is hidden; facts for the bundled model, else passkey and needle
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    task: Vec<Task>,
    /// Policies, with or without a bound of their own; the full state is always among them
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = "window,window+4,h2o,tova,random")]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; a percentage is one of each text's --lengths
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64,128,256")]
    states: Vec<Budget>,
    /// Tokens of a text, answer included
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "512,768,1024")]
    lengths: Vec<usize>,
    /// Shares of the text before the fact
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,0.25,0.5,0.75,1")]
    depths: Vec<f64>,
    /// Questions per length and depth; 10 if absent
    #[arg(long, value_name = "N")]
    trials: Option<usize>,
    /// What needles are hidden in: the sentences of these; stories of the bundled generator if absent
    #[arg(long, value_name = "PATH", conflicts_with = "text")]
    haystack: Vec<PathBuf>,
    #[command(flatten, next_help_heading = "Text that needles are hidden in")]
    texts: TextOptions,
    /// Compress the text, then ask: all before the question is read as one block and cut once, by rules that have not seen
    /// the question, which comes after it and of which no row goes; as in the leaderboards of kvpress. Off by default:
    /// the state is bounded from the first token on, the question's included
    #[arg(long)]
    ask_after: bool,
    /// Seed of the questions, and of policies that draw at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let models = args.options.models()?;
    let texts = match (args.texts.is_given(), args.haystack.is_empty()) {
        (true, _) => args.texts.read()?.texts,
        (false, false) => args.texts.read_from(&args.haystack)?.texts,
        (false, true) => Vec::new(),
    };
    let haystack = match texts.is_empty() {
        false => Haystack::of_texts(&texts)?,
        true => Haystack::stories(args.seed),
    };
    let data: Vec<_> = texts.iter().map(Text::source).collect();
    let policies: Vec<PolicySpec> = all(&args.policies).map(|spec| spec.seeded(args.seed)).collect();
    let only_bundled = args.options.is_bundled();
    let quick = args.options.is_quick();
    if quick && args.trials.is_none() {
        args.options.say_that_it_is_quick("trials");
    }
    let tasks = match (args.task.is_empty(), only_bundled) {
        (false, _) => args.task.clone(),
        (true, true) => vec![Task::Facts],
        (true, false) => vec![Task::Passkey, Task::Needle],
    };
    let experiment = Retrieval {
        reading: args.options.reading.options(),
        models: models.names().to_vec(),
        arms: arms(&if args.ask_after { asked_after(&policies)? } else { policies }, &args.states),
        tasks,
        lengths: args.lengths.clone(),
        depths: args.depths.clone(),
        trials: args.trials.unwrap_or(if quick { 2 } else { 10 }),
        seed: args.seed,
        ask_after: args.ask_after,
    };
    let experiment = experiment.checked()?;
    let longest = experiment.lengths.last().copied().unwrap_or(0);
    for (index, name) in models.names().iter().enumerate() {
        let trained = models.config(index)?.max_position_embeddings;
        if longest > trained {
            tracing::warn!("a text of {longest} tokens is beyond the {trained} positions of {name}");
        }
    }
    let inputs = Inputs { models, haystack };
    if !args.options.dry_run {
        experiment.check_questions(&inputs)?;
    }
    conduct(&experiment, &inputs, &inputs.models, &data, &args.options)
}
