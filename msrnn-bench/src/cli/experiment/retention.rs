//! `msrnn experiment retention`

use msrnn_bench::contexts::{Contexts, Cutting};
use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::arms::arms;
use msrnn_bench::experiment::retention::{Inputs, Retention};
use msrnn_bench::texts::Text;
use msrnn_core::budget::Budget;
use msrnn_policies::PolicySpec;

use super::super::Outcome;
use super::super::policies::{PolicyList, all, named};
use super::super::texts::TextOptions;
use super::{ExperimentOptions, conduct};

/// The paper's context, which is also where attention over all of it still costs little.
const CONTEXT: usize = 4096;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    options: ExperimentOptions,
    #[command(flatten)]
    texts: TextOptions,
    /// Policies, with or without a bound of their own
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = "window,window+4,h2o,tova,random")]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; a percentage is one of a context
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64,256")]
    states: Vec<Budget>,
    /// Tokens of a context; 4096, or as many positions as the models have, if absent
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Contexts of each model, the first ones of the texts; 8 if absent
    #[arg(long, value_name = "N")]
    contexts: Option<usize>,
    /// How many of the first tokens are followed by themselves
    #[arg(long, value_name = "N", default_value_t = 25)]
    first: usize,
    /// Cells of a map along an axis, at most 256
    #[arg(long, value_name = "N", default_value_t = 64)]
    cells: usize,
    /// Do not measure the attention that omissions cost, which takes another full attention
    #[arg(long)]
    no_attention: bool,
    /// Do not keep every omission for trace.parquet
    #[arg(long)]
    no_trace: bool,
    /// Seed of the stories, and of policies that draw at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let models = args.options.models()?;
    let indices = 0..models.names().len();
    let positions = indices.clone().map(|index| Ok(models.config(index)?.max_position_embeddings));
    let least = positions.collect::<Result<Vec<usize>, BenchError>>()?.into_iter().min().unwrap_or(0);
    let quick = args.options.is_quick();
    let context = args.context.unwrap_or(least.min(if quick { 1024 } else { CONTEXT }));
    let number = args.contexts.unwrap_or(if quick { 1 } else { 8 });
    if quick && (args.context.is_none() || args.contexts.is_none()) {
        args.options.say_that_it_is_quick("contexts and their length");
    }
    if context < 2 {
        return Err(BenchError::Input(format!("--context {context} leaves nothing to omit; give at least 2")));
    }
    if context > least {
        tracing::warn!("a context of {context} tokens is beyond the {least} positions of a model");
    }
    let policies: Vec<PolicySpec> = all(&args.policies).map(|spec| spec.seeded(args.seed)).collect();
    let experiment = Retention {
        reading: args.options.reading.options(),
        models: models.names().to_vec(),
        arms: arms(&policies, &args.states),
        contexts: number,
        context,
        first: args.first,
        cells: args.cells,
        attention: !args.no_attention,
        trace: !args.no_trace,
        seed: args.seed,
    };
    let experiment = experiment.checked()?;
    let texts = if args.texts.is_given() { args.texts.read()?.texts } else { Vec::new() };
    // No text need give more than are looked at.
    let cutting = Cutting { contexts: Some(number), ..Cutting::new(context) };
    let contexts = |index| {
        let model = models.get(index)?;
        match texts.is_empty() {
            true => Contexts::of_stories(args.seed, number, context, &model),
            false => Contexts::first_of_texts(&texts, &cutting, number, &model),
        }
    };
    let contexts = indices.map(contexts).collect::<Result<Vec<_>, BenchError>>()?;
    let data: Vec<_> = texts.iter().map(Text::source).collect();
    let inputs = Inputs { models, contexts };
    conduct(&experiment, &inputs, &inputs.models, &data, &args.options)
}
