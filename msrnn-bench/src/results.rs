//! What an experiment found.

use serde::{Deserialize, Serialize};

use crate::evaluate::Observed;
use crate::figure::Figure;

/// What an experiment found: the content of `metrics.json`, and all that a report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The numbers, in a form of the experiment's own, for programs.
    pub metrics: serde_json::Value,
    /// What the states were seen to hold, per policy and bound.
    pub arms: Vec<Arm>,
    /// What a reader must know: definitions, what differs from the paper, what is missing.
    pub notes: Vec<String>,
    /// The numbers, for people.
    pub figures: Vec<Figure>,
    /// Units that have failed, and what that means for the others is in the notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
}

/// A policy with its bound on a model, and what its states were seen to hold over all samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// As in `--model`.
    pub model: String,
    /// `tova@64`, `full`.
    pub policy: String,
    /// k, none for an unbounded state.
    pub states: Option<usize>,
    /// What was seen.
    #[serde(flatten)]
    pub observed: Observed,
}

impl Results {
    /// Bounded arms in which nothing was omitted: their bound was never reached, and their numbers
    /// are those of the full state.
    pub fn never_bound(&self) -> Vec<&Arm> {
        self.arms.iter().filter(|arm| arm.states.is_some() && arm.observed.omitted == 0).collect()
    }

    /// Bounded arms that omitted rows, but made no prediction after an omission: their numbers too are those of the
    /// full state.
    pub fn before_bound(&self) -> Vec<&Arm> {
        let before = |arm: &&Arm| arm.observed.omitted > 0 && arm.observed.is_of_full_state();
        self.arms.iter().filter(|arm| arm.states.is_some()).filter(before).collect()
    }
}

/// A unit that results lack, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What it is, for people.
    pub unit: String,
    /// Why it is not there.
    pub reason: String,
}
