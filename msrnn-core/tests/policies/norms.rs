//! A policy that looks at everything.

use burn::tensor::Tensor;
use msrnn_core::policy::{Granularity, Memory, Policy, Sees, View};

/// Looks at everything and remembers two things, so that all that a policy can be shown is tried:
/// omits the row with the shortest value and key, weighted by recent attention and by age.
#[derive(Debug)]
pub(crate) struct Norms;

impl Policy for Norms {
    fn name(&self) -> String {
        "norms".into()
    }

    fn sees(&self) -> Sees {
        Sees::WEIGHTS.and(Sees::KEYS).and(Sees::VALUES)
    }

    fn granularity(&self) -> Granularity {
        Granularity::KvHead
    }

    fn memory(&self) -> usize {
        2
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let recent = memory.update(0, |recent| recent.mul_scalar(0.5) + view.weights());
        let steps = memory.update(1, |steps| steps.add_scalar(1.0));
        let dims = recent.dims();
        let length = |rows: Tensor<4>| rows.clone().mul(rows).sum_dim(3).reshape(dims);
        let lengths = length(view.keys()) + length(view.values());
        recent * lengths / steps
    }
}
