//! What a unit leaves behind.

use serde::{Deserialize, Serialize};

use crate::evaluate::{ContextScore, Observed};
use crate::plan::{Kind, Plan};

/// One policy, or the references, on one batch of contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the model.
    pub model: usize,
    /// Ids that every context begins with.
    pub prefix: Vec<u32>,
    /// The contexts.
    pub contexts: Vec<ContextId>,
    /// Seed of a policy that draws at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// One per number of states.
    pub runs: Vec<RunSample>,
}

/// Which context of which text, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContextId {
    /// Index of the text.
    pub text: usize,
    /// Index of the context in its text.
    pub context: usize,
}

/// One policy and number of states on one batch of contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSample {
    /// Which kind of run it is.
    pub kind: Kind,
    /// `tova`, `full` or `baseline`.
    pub policy: String,
    /// k, or the baseline's context; none for the full state.
    pub states: Option<usize>,
    /// One per context.
    pub scores: Vec<ContextScore>,
    /// Distance to what the full state predicts; only of policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergences>,
    /// What the states were seen to hold.
    pub observed: Observed,
}

/// Sums over the predicted tokens of each context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergences {
    /// Σ KL(full‖policy) in nats.
    pub kl: Vec<f64>,
    /// Tokens with the same most probable next token.
    pub agreed: Vec<usize>,
}

impl RunSample {
    /// What came out of a plan.
    pub fn new(plan: &Plan, scores: Vec<ContextScore>, observed: Observed, divergence: Option<Divergences>) -> Self {
        Self { kind: plan.kind, policy: plan.policy.clone(), states: plan.states, scores, divergence, observed }
    }
}
