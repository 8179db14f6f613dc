//! A policy that looks at everything, once as a score and once in tensor code.

use burn::tensor::Tensor;
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Sees, Tensors, View};
use msrnn_core::score::{Score, key_norm, number, remembered, value_norm, weight};

/// Looks at everything and remembers two things, so that all that a policy can be shown is tried:
/// omits the row with the shortest value and key, weighted by recent attention and by age.
#[derive(Debug)]
pub(crate) struct Norms;

impl Policy for Norms {
    fn name(&self) -> String {
        "norms".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let lengths = key_norm() * key_norm() + value_norm() * value_norm();
        let score = Score::of(remembered("recent") * lengths / remembered("steps"))
            .remember("recent", number(0.5) * remembered("recent") + weight())
            .remember("steps", remembered("steps") + number(1.0));
        Plan::by_rule(layer, score.into()).per_head()
    }
}

/// The same in tensor code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormsOfTensors;

impl Policy for NormsOfTensors {
    fn name(&self) -> String {
        "norms-of-tensors".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head()
    }
}

impl Tensors for NormsOfTensors {
    fn sees(&self) -> Sees {
        Sees::WEIGHTS.and(Sees::KEYS).and(Sees::VALUES)
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
