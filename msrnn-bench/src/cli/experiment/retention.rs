//! `msrnn experiment retention`

use std::path::PathBuf;

use msrnn_bench::contexts::Contexts;
use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::arms::arms;
use msrnn_bench::experiment::manifest::Source;
use msrnn_bench::experiment::retention::{Inputs, Retention};
use msrnn_core::budget::Budget;
use msrnn_policies::PolicySpec;

use super::super::Outcome;
use super::{ExperimentOptions, conduct};

/// The paper's context, which is also where attention over all of it still costs little.
const CONTEXT: usize = 4096;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    options: ExperimentOptions,
    /// Texts; held-out stories of the bundled generator if absent
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Policies, with or without a bound of their own
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "window,window+4,h2o,tova,random")]
    policies: Vec<PolicySpec>,
    /// Numbers of states, for policies without a bound of their own; a percentage is one of a context
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64,256")]
    states: Vec<Budget>,
    /// Tokens of a context; 4096, or as many positions as the models have, if absent
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Contexts of each model, the first ones of the texts
    #[arg(long, value_name = "N", default_value_t = 8)]
    contexts: usize,
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
    let models = args.options.models();
    let indices = 0..models.names().len();
    let positions = indices.clone().map(|index| Ok(models.config(index)?.max_position_embeddings));
    let least = positions.collect::<Result<Vec<usize>, BenchError>>()?.into_iter().min().unwrap_or(0);
    let context = args.context.unwrap_or(least.min(CONTEXT));
    if context < 2 {
        return Err(BenchError::Input(format!("--context {context} leaves nothing to omit; give at least 2")));
    }
    if context > least {
        tracing::warn!("a context of {context} tokens is beyond the {least} positions of a model");
    }
    let policies: Vec<PolicySpec> = args.policies.iter().map(|spec| spec.clone().seeded(args.seed)).collect();
    let experiment = Retention {
        models: models.names().to_vec(),
        arms: arms(&policies, &args.states),
        contexts: args.contexts,
        context,
        first: args.first,
        cells: args.cells,
        attention: !args.no_attention,
        trace: !args.no_trace,
        seed: args.seed,
    };
    let experiment = experiment.checked()?;
    let contexts = |index| {
        let model = models.get(index)?;
        match args.text.is_empty() {
            true => Contexts::of_stories(args.seed, args.contexts, context, &model),
            false => Contexts::of_texts(&args.text, context, &model),
        }
    };
    let contexts = indices.map(contexts).collect::<Result<Vec<_>, BenchError>>()?;
    let source = |path: &PathBuf| Source::of_files(&path.display().to_string(), std::slice::from_ref(path));
    let data = args.text.iter().map(source).collect::<Result<Vec<_>, _>>()?;
    let inputs = Inputs { models, contexts };
    conduct(&experiment, &inputs, &inputs.models, &data, &args.options)
}
