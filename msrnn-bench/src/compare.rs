//! Policies × states on the same contexts, against the full state and the short-context baseline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use msrnn_core::budget::Budget;
use msrnn_core::policy::Compression;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;
use msrnn_policies::{PolicySpec, SpecError};
use serde::Serialize;

use crate::contexts::Contexts;
use crate::error::BenchError;
use crate::evaluate::{Advance, ContextScore, Evaluation, Form, Observed, Scoring, bits_per_byte};
use crate::experiment::Results;
use crate::experiment::lm::{ArmScores, ContextId, LmModel, ModelSummary, figures};
pub use crate::plan::Kind;
use crate::plan::Plan;
use crate::statistics::{BEYOND, Mean, paired_difference, perplexity};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Policies without budget; `full` may be among them and is added if not.
    pub policies: Vec<PolicySpec>,
    /// Budgets of every bounded policy, and lengths of the short contexts.
    pub states: Vec<Budget>,
    /// Tokens of a context, which a share of the context refers to.
    pub context: usize,
    /// How positions are numbered.
    pub positions: Positions,
    /// How the first tokens enter the state.
    pub protocol: Protocol,
    /// In which order layers and tokens are computed.
    pub form: Form,
    /// Contexts side by side.
    pub batch: usize,
    /// Runs side by side.
    pub jobs: usize,
}

impl Grid {
    /// A grid of strict scorings in the layer form, one run and one context after the other.
    pub fn new(policies: Vec<PolicySpec>, states: Vec<Budget>, context: usize) -> Self {
        Self {
            policies,
            states,
            context,
            positions: Positions::default(),
            protocol: Protocol::default(),
            form: Form::default(),
            batch: 1,
            jobs: 1,
        }
    }
}

/// One run of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Which kind of run it is.
    pub kind: Kind,
    /// `tova`, `full` or `baseline`.
    pub policy: String,
    /// k, or the baseline's context; none for the full state.
    pub states: Option<usize>,
    /// exp of the mean nll per token; none where it is beyond a 64-bit number.
    pub perplexity: Option<Mean>,
    /// Bits of the predicted tokens over the UTF-8 bytes of the text that they stand for; none where they are not
    /// known.
    pub bits_per_byte: Option<f64>,
    /// Nats per token above the full state, paired by context.
    pub above_full: Option<Mean>,
    /// Sum over all predicted tokens.
    pub nll: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// What the states were seen to hold.
    #[serde(flatten)]
    pub observed: Observed,
    /// Wall-clock time, shared with the runs beside it.
    pub seconds: f64,
    /// Predicted tokens per second.
    pub tokens_per_second: f64,
    /// Scores by context.
    pub contexts: Vec<ContextScore>,
}

/// All runs of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Full state, baselines by length, then policies by name and states, as asked for.
    pub runs: Vec<Run>,
    /// False when it was interrupted; the runs are those that were finished.
    pub complete: bool,
}

impl Grid {
    fn plan(&self, model: &Model) -> Result<Vec<Plan>, SpecError> {
        let bounded = self.policies.iter().map(|spec| Plan::of_policy(spec, &self.states, self.context, model));
        let bounded = bounded.collect::<Result<Vec<_>, _>>()?.concat();
        Ok([vec![Plan::full()], Plan::baselines(&bounded), bounded].concat())
    }

    /// Tokens that all runs together go through.
    ///
    /// # Errors
    ///
    /// When a policy cannot have that budget.
    pub fn tokens(&self, model: &Model, contexts: &Contexts) -> Result<usize, BenchError> {
        Ok(self.plan(model)?.iter().map(|plan| plan.contexts(contexts).tokens()).sum())
    }
}

/// Makes all runs of a grid. `advance` is called with the tokens that were gone through.
///
/// # Errors
///
/// When a policy cannot have its budget, or a run fails.
pub fn compare(
    model: &Model,
    contexts: &Contexts,
    grid: &Grid,
    advance: &(dyn Fn(usize) + Sync),
    interrupt: &AtomicBool,
) -> Result<Comparison, BenchError> {
    let plans = grid.plan(model)?;
    let scoring = Scoring {
        compression: Compression::Unbounded,
        positions: grid.positions,
        protocol: grid.protocol,
        form: grid.form,
        batch: grid.batch,
    };
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Evaluation, BenchError>>>> = Mutex::new(plans.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..grid.jobs.clamp(1, plans.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { break };
                    if interrupt.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut observer = Advance(advance);
                    let result = plan.evaluate(model, contexts, grid.context, &scoring, &mut observer, interrupt);
                    results.lock().expect("no run panicked")[index] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().expect("no run panicked");
    let mut finished = Vec::new();
    let mut complete = true;
    for (plan, result) in plans.iter().zip(results) {
        match result.transpose()? {
            Some(evaluation) if evaluation.complete => finished.push((plan, evaluation)),
            _ => complete = false,
        }
    }
    let full = finished.iter().find(|(plan, _)| plan.kind == Kind::Full).map(|(_, full)| full.contexts.clone());
    let runs = finished.iter().map(|(plan, evaluation)| run(plan, evaluation, full.as_deref())).collect();
    Ok(Comparison { runs, complete })
}

/// What came out of a plan.
fn run(plan: &Plan, evaluation: &Evaluation, full: Option<&[ContextScore]>) -> Run {
    Run {
        kind: plan.kind,
        policy: plan.policy.clone(),
        states: plan.states,
        perplexity: perplexity(&evaluation.contexts),
        bits_per_byte: bits_per_byte(&evaluation.contexts),
        above_full: full.and_then(|full| paired_difference(&evaluation.contexts, full)),
        nll: evaluation.nll(),
        tokens: evaluation.tokens(),
        observed: evaluation.observed,
        seconds: evaluation.seconds,
        tokens_per_second: evaluation.tokens_per_second(),
        contexts: evaluation.contexts.clone(),
    }
}

impl Comparison {
    /// The distinct numbers of states, ascending.
    pub fn states(&self) -> Vec<usize> {
        let mut states: Vec<usize> = self.runs.iter().filter_map(|run| run.states).collect();
        states.sort_unstable();
        states.dedup();
        states
    }

    /// The names of baseline and policies with a number of states, in the order of the runs.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for run in self.runs.iter().filter(|run| run.states.is_some()) {
            if !names.contains(&run.policy.as_str()) {
                names.push(&run.policy);
            }
        }
        names
    }

    /// The full state's run.
    pub fn full(&self) -> Option<&Run> {
        self.runs.iter().find(|run| run.kind == Kind::Full)
    }

    /// Runs in which nothing goes and rows are held otherwise than they were computed.
    pub fn held(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.kind == Kind::Policy && run.states.is_none())
    }

    /// The run of a name and number of states.
    pub fn run(&self, name: &str, states: usize) -> Option<&Run> {
        self.runs.iter().find(|run| run.policy == name && run.states == Some(states))
    }

    /// Bounded runs in which nothing was omitted: their bound was never reached.
    pub fn never_bound(&self) -> Vec<&Run> {
        let never = |run: &&Run| run.states.is_some() && run.observed.omitted == 0;
        self.runs.iter().filter(|run| run.kind == Kind::Policy).filter(never).collect()
    }

    /// Bounded runs that omitted rows, but made no prediction after an omission.
    pub fn before_bound(&self) -> Vec<&Run> {
        let before = |run: &&Run| run.observed.omitted > 0 && run.observed.is_of_full_state();
        self.runs.iter().filter(|run| run.kind == Kind::Policy).filter(before).collect()
    }

    /// The same as the results of an experiment, for a report. `model` as in `--model`, `context` in
    /// tokens.
    ///
    /// # Errors
    ///
    /// Never in practice: numbers become JSON.
    pub fn results(&self, model: &str, context: usize) -> Result<Results, BenchError> {
        let arm = |run: &Run| ArmScores {
            kind: run.kind,
            policy: run.policy.clone(),
            states: run.states,
            seeds: 1,
            contexts: (0..run.contexts.len()).map(|context| ContextId { text: 0, context }).collect(),
            scores: run.contexts.clone(),
            kl: None,
            agreed: None,
            observed: run.observed,
        };
        let model = LmModel { name: model.into(), context, llama_2_7b: false };
        let interrupted = "The comparison was interrupted: this is what was finished until then.";
        let mut notes: Vec<String> = if self.complete { Vec::new() } else { vec![interrupted.into()] };
        notes.push(
            "± is one standard error over contexts. baseline: the same model on contexts of that many tokens, without \
             compression."
                .into(),
        );
        if self.runs.iter().any(|run| run.perplexity.is_none()) {
            notes.push(BEYOND.into());
        }
        let summary = ModelSummary::new(&model, &[], self.runs.iter().map(arm).collect());
        Ok(Results {
            metrics: serde_json::to_value(&self.runs)
                .map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?,
            arms: summary.arms(),
            notes,
            figures: figures(&[summary]),
        })
    }
}
