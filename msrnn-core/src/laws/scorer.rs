//! A policy's rule in tensor operations, as the laws ask it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::case::Case;
use crate::bound::Bound;
use crate::omission::protected;
use crate::policy::{Compression, Plan, Policy};
use crate::precision::{accumulation, read};
use crate::score::Initial;
use crate::state::StateShape;
use crate::tensors::{Memory, Rows, Sees, Tensors, View};

/// What bounds the layer of a trial under a policy.
pub(super) fn bound(policy: &Arc<dyn Policy>, case: &Case) -> Arc<Bound> {
    let compression = Compression::bounded(policy.clone(), case.states).expect("a trial has enough states");
    let (kv_heads, head_dim, dtype) = (case.kv_heads, case.head_dim, burn::tensor::DType::F32);
    let shape = StateShape { batch: 1, kv_heads, head_dim, layer: 0, layers: 1, dtype };
    Bound::of(&compression, &shape).expect("a policy under the laws bounds a layer")
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

impl Tensors for Scorer {
    fn sees(&self) -> Sees {
        let channels = self.0.channels();
        Sees {
            keys: channels.contains(&Initial::KeyNorm) || self.0.sees().keys,
            values: channels.contains(&Initial::ValueNorm) || self.0.sees().values,
            ..self.0.sees()
        }
    }

    fn memory(&self) -> usize {
        self.0.channels().len()
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let Some(program) = self.0.program() else {
            return self.0.tensors().expect("a rule is a program or tensor code").score(view, memory);
        };
        for (channel, initial) in self.0.channels().into_iter().enumerate() {
            let rows = match initial {
                Initial::Zero => continue,
                Initial::KeyNorm => view.keys(),
                Initial::ValueNorm => view.values(),
            };
            let rows = read(rows.clone(), accumulation(rows.dtype()).into());
            let norms = (rows.clone() * rows).sum_dim(3).sqrt();
            let [batch, kv_heads, slots, _] = norms.dims();
            let groups = view.positions.dims()[1];
            let norms = norms.reshape([batch, groups, kv_heads / groups, slots]).mean_dim(2);
            memory.update(channel, |_| norms.reshape([batch, groups, slots]));
        }
        program.in_tensors(view, memory)
    }

    fn rewrites(&self) -> bool {
        self.0.tensors().is_some_and(|tensors| tensors.rewrites())
    }

    fn rewrite(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        if let Some(tensors) = self.0.tensors() {
            tensors.rewrite(view, omitted, rows);
        }
    }
}
