//! `msrnn experiment story`

use std::path::PathBuf;
use std::time::Duration;

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::journal::SAMPLES;
use msrnn_bench::experiment::manifest::Source;
use msrnn_bench::experiment::story::{BUNDLED_PROMPT, Inputs, Judge, JudgeSetting, Limits, PROMPT, Story};
use msrnn_core::budget::Budget;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;

use super::super::Outcome;
use super::super::options::{count, positions};
use super::super::policies::{PolicyList, all, named};
use super::{ExperimentOptions, conduct};

/// Stories of a run that was made before bring their setting with them.
const WRITING: [&str; 14] = [
    "model",
    "prompt",
    "policies",
    "states",
    "seeds",
    "seed",
    "temperature",
    "top_p",
    "context",
    "max_new_tokens",
    "protocol",
    "positions",
    "bos",
    "special_tokens",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: ExperimentOptions,
    /// What is continued; the paper's prompt if absent, for the bundled model the beginning of its stories
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Policies, with or without a bound of their own
    #[arg(long, alias = "policy", value_name = "LIST", value_parser = named::<PolicyList>(), hide_possible_values = true, default_value = "tova")]
    policies: Vec<PolicyList>,
    /// Numbers of states, for policies without a bound of their own; 32,64,128 for the bundled model, else
    /// 6.25%,12.5%,25% of the context
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    states: Vec<Budget>,
    /// Stories of every policy; 4 for the bundled model, else 100 as in the paper
    #[arg(long, value_name = "N", value_parser = count)]
    seeds: Option<usize>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// 0 takes the most likely token, which makes all seeds the same story
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Only the most likely tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Tokens of prompt and story; the model's maximum positions if absent
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Tokens of a story, at most; 400 for the bundled model, else what is left of the context
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// strict: token by token from the first; prefill: the prompt as one block, then one cut
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// original or gap-compressed
    #[arg(long, default_value = "original", value_parser = positions)]
    positions: Positions,
    /// Judge the stories of a finished run instead of writing new ones
    #[arg(long, value_name = "DIR", requires = "judge", conflicts_with_all = WRITING)]
    stories: Option<PathBuf>,
    /// OpenAI-compatible endpoint of the judge, such as https://api.openai.com/v1; its key is read from
    /// MSRNN_JUDGE_KEY or OPENAI_API_KEY
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge: Option<String>,
    /// The judge's model name there
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// Requests to the judge in this run, at most, those counted that fail. At any time no more are under way
    /// than --jobs
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests)]
    max_requests: usize,
    /// Seconds to wait for an answer of the judge to begin, and for every pause within it
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().patience.as_secs())]
    judge_timeout: u64,
}

impl Args {
    fn judge(&self) -> Result<Option<(JudgeSetting, Judge)>, BenchError> {
        let (Some(url), Some(model)) = (&self.judge, &self.judge_model) else { return Ok(None) };
        let variable = |name: &str| std::env::var(name).ok().filter(|key| !key.trim().is_empty());
        let key = variable("MSRNN_JUDGE_KEY").or_else(|| variable("OPENAI_API_KEY"));
        let limits = Limits {
            requests: self.max_requests,
            patience: Duration::from_secs(self.judge_timeout.max(1)),
            ..Limits::default()
        };
        let setting = JudgeSetting { url: url.clone(), model: model.clone() };
        let judge = Judge::new(setting.clone(), key.map(|key| key.trim().to_owned()), limits)?;
        Ok(Some((setting, judge)))
    }

    fn setting(&self, judge: Option<JudgeSetting>) -> Result<Story, BenchError> {
        let bundled = self.options.is_bundled();
        let quick = self.options.is_quick();
        let (prompt, states, seeds, new) = match (bundled, quick) {
            (true, _) => (BUNDLED_PROMPT, "32,64,128", 4, Some(400)),
            (false, true) => (PROMPT, "32,64,128", 2, Some(256)),
            (false, false) => (PROMPT, "6.25%,12.5%,25%", 100, None),
        };
        if quick && (self.seeds.is_none() || self.max_new_tokens.is_none()) {
            self.options.say_that_it_is_quick("seeds, tokens and states");
        }
        let states = states.split(',').map(str::parse).collect::<Result<Vec<Budget>, _>>()?;
        Ok(Story {
            reading: self.options.reading.options(),
            prompt: self.prompt.clone().unwrap_or_else(|| prompt.into()),
            policies: all(&self.policies).map(|spec| spec.seeded(self.seed)).collect(),
            states: if self.states.is_empty() { states } else { self.states.clone() },
            seeds: self.seeds.unwrap_or(seeds),
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            context: self.context,
            max_new_tokens: self.max_new_tokens.or(new),
            protocol: self.protocol,
            positions: self.positions,
            judge,
        })
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let (judge_setting, judge) = args.judge()?.unzip();
    match (&args.stories, judge) {
        (Some(directory), Some(judge)) => {
            let models = args.options.of(&[])?;
            let (setting, inputs) = Inputs::of_run(directory, models, judge)?;
            let setting = Story { judge: judge_setting, ..setting };
            let source = Source::of_files(&directory.display().to_string(), &[directory.join(SAMPLES)])?;
            conduct(&setting, &inputs, inputs.models(), &[source], &args.options)
        }
        (_, judge) => {
            let setting = args.setting(judge_setting)?;
            let inputs = Inputs::of_models(args.options.models()?, judge);
            conduct(&setting, &inputs, inputs.models(), &[], &args.options)
        }
    }
}
