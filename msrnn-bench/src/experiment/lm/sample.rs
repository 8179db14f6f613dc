//! What a unit leaves behind.

use serde::{Deserialize, Serialize};

use crate::evaluate::{ContextScore, Observed};
use crate::experiment::manifest::Source;
use crate::plan::{Kind, Plan};

/// One policy and number of states on one batch of contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the model in the setting that the sample is read for.
    #[serde(skip)]
    pub model: usize,
    /// Ids that every context begins with.
    pub prefix: Vec<u32>,
    /// The contexts.
    pub contexts: Vec<ContextId>,
    /// Seed of a policy that draws at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// −ln p of every predicted token, by context, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<Vec<f32>>>,
    /// What came out.
    #[serde(flatten)]
    pub run: RunSample,
}

/// Which context of which text, both from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContextId {
    /// Index of the text in the setting that the sample is read for.
    #[serde(skip)]
    pub text: usize,
    /// Index of the context in its text.
    pub context: usize,
    /// The text by what is in it: the beginning of its hash.
    #[serde(rename = "text")]
    pub hash: String,
}

/// The beginning of a text's hash.
pub(super) fn short_hash(text: &Source) -> String {
    text.digest().split_at(16).0.to_owned()
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
