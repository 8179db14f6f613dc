//! A policy's rule in tensor operations, as the laws ask it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::case::Case;
use crate::compression::Compression;
use crate::omission::protected;
use crate::policy::{Plan, Policy};
use crate::score::InTensors;
use crate::state::StateShape;
use crate::state::bound::Bound;
use crate::tensors::{Memory, Rows, Sees, Tensors, View};

/// What bounds the layer of a trial under a policy.
pub(super) fn bound(policy: &Arc<dyn Policy>, case: &Case) -> Arc<Bound> {
    let compression = Compression::bounded(policy.clone(), case.states).expect("a trial has enough states");
    let (kv_heads, head_dim, dtype) = (case.kv_heads, case.head_dim, burn::tensor::DType::F32);
    let shape = StateShape { batch: 1, kv_heads, head_dim, layer: 0, layers: 1, dtype };
    let (name, plan) = Bound::plan(&compression, &shape).expect("a policy has a plan");
    Bound::of(&name, &plan, &shape).expect("a policy under the laws bounds a layer")
}

/// The rule of a bound. A score that is data is computed in tensor operations, and norms of keys and values,
/// which states carry, from the rows themselves.
#[derive(Debug)]
pub(super) struct Scorer(pub(super) Arc<Bound>);

impl Scorer {
    /// The plan, with this as its rule.
    pub(super) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Whether computing its scores rounds, so that two ways to do so may differ.
    pub(super) fn rounds(&self) -> bool {
        self.0.program().is_none_or(|program| program.ops.len() > 1 || program.sees_attention())
    }

    /// The scores, with what is protected at +∞.
    pub(super) fn protected_score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let scores = self.score(view, memory);
        protected(scores, view, [self.plan().first, self.plan().newest])
    }
}

impl Scorer {
    /// Asks the rule, whatever it is written in.
    fn asked<R>(&self, f: impl FnOnce(&dyn Tensors) -> R) -> R {
        match (self.0.program(), self.0.tensors()) {
            (Some(program), _) => f(&InTensors(program.clone())),
            (None, Some(tensors)) => f(tensors),
            (None, None) => unreachable!("a rule is a program or tensor code"),
        }
    }
}

impl Tensors for Scorer {
    fn sees(&self) -> Sees {
        self.asked(|rule| rule.sees())
    }

    fn memory(&self) -> usize {
        self.asked(|rule| rule.memory())
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        self.asked(|rule| rule.score(view, memory))
    }

    fn rewrites(&self) -> bool {
        self.asked(|rule| rule.rewrites())
    }

    fn rewrite(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        self.asked(|rule| rule.rewrite(view, omitted, rows));
    }
}
