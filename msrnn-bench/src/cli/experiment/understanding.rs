//! `msrnn experiment understanding`

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::arms::asked_after;
use msrnn_bench::experiment::understanding::{Inputs, Metric, Task, Understanding, question, stories};
use msrnn_bench::hub::locate_data;
use msrnn_core::budget::Budget;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;

use super::super::options::{count, positions};
use super::super::policies::{PolicyList, all, named};
use super::super::{DOWNLOADS, Outcome};
use super::{ExperimentOptions, conduct};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: ExperimentOptions,
    /// squality, qasper: as published or in the layout of SCROLLS; jsonl: {"prompt", "references"}; stories: about
    /// stories of the bundled generator
    #[arg(long, value_enum, default_value_t = Task::Stories)]
    task: Task,
    /// Files of questions, also as .gz or .zst; hf:org/dataset/path for one on the Hugging Face hub
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    data: Vec<String>,
    /// How answers are scored; rouge for squality, f1 for others if absent
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    /// Compare Porter stems in ROUGE
    #[arg(long)]
    stem: bool,
    /// Policies, with or without a bound of their own
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = "window+4,h2o,tova")]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; 32,64,128 for stories, else
    /// 6.25%,12.5%,25%,50% of the context
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    states: Vec<Budget>,
    /// Leave out the full state on documents cut to as many tokens
    #[arg(long)]
    no_baseline: bool,
    /// Tokens of prompt and answer; the model's maximum positions if absent
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Tokens of an answer, at most; 1024 for squality, 16 for stories, else 128
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// A text that ends an answer; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Only the first N questions
    #[arg(long, alias = "limit", value_name = "N")]
    questions: Option<usize>,
    /// Stories that are asked about, where the task is stories
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count)]
    stories: usize,
    /// strict: token by token from the first; prefill: the prompt, question included, as one block, then one cut
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// Compress the document, then ask: it is read as one block and cut once, by rules that have not seen the question,
    /// which comes after it and of which no row goes; as in the leaderboards of kvpress. Off by default: the question is
    /// part of the prompt
    #[arg(long, conflicts_with = "protocol")]
    ask_after: bool,
    /// Put every prompt into the model's chat template, as what a user says
    #[arg(long)]
    chat: bool,
    /// original or gap-compressed
    #[arg(long, default_value = "original", value_parser = positions)]
    positions: Positions,
    /// Seed of stories and of what policies draw at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let mut questions = Vec::new();
    let mut sources = Vec::new();
    match args.task {
        Task::Stories if !args.data.is_empty() => {
            return Err(BenchError::Input("--data needs the --task that it is of: squality, qasper or jsonl".into()));
        }
        Task::Stories => questions = stories::questions(args.seed, args.stories),
        task if args.data.is_empty() => {
            return Err(BenchError::Input(format!("--task {task} needs --data FILE with its questions")));
        }
        task => {
            for name in &args.data {
                let path = locate_data(name, &DOWNLOADS)?;
                let (found, source) = question::read(&path, name, task)?;
                questions.extend(found);
                sources.push(source);
            }
        }
    }
    let quick = args.options.is_quick();
    if quick && args.questions.is_none() {
        args.options.say_that_it_is_quick("numbers of questions");
    }
    questions.truncate(args.questions.unwrap_or(if quick { 8 } else { usize::MAX }));
    let states: &[&str] = match (args.states.is_empty(), args.task) {
        (false, _) => &[],
        (true, Task::Stories) => &["32", "64", "128"],
        (true, _) => &["6.25%", "12.5%", "25%", "50%"],
    };
    let states = states.iter().map(|states| states.parse()).collect::<Result<Vec<Budget>, _>>()?;
    let policies: Vec<_> = all(&args.policies).map(|spec| spec.seeded(args.seed)).collect();
    let setting = Understanding {
        reading: args.options.reading.options(),
        task: args.task,
        metric: args.metric.unwrap_or(args.task.metric()),
        stem: args.stem,
        policies: if args.ask_after { asked_after(&policies)? } else { policies },
        states: if args.states.is_empty() { states } else { args.states.clone() },
        baseline: !args.no_baseline,
        context: args.context,
        max_new_tokens: args.max_new_tokens.unwrap_or(args.task.max_new_tokens()),
        stop: args.stop.clone(),
        protocol: if args.ask_after { Protocol::Prefill(usize::MAX) } else { args.protocol },
        ask_after: args.ask_after,
        chat: args.chat,
        positions: args.positions,
        seed: args.seed,
    };
    let inputs = Inputs::new(args.options.models()?, questions)?;
    conduct(&setting, &inputs, inputs.models(), &sources, &args.options)
}
