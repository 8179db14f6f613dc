//! Policies for the tests of this crate.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use msrnn_core::policy::{Granularity, Memory, Policy, Rows, Sees, View};

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
        recent.cast(lengths.dtype()) * lengths / steps.cast(view.values().dtype())
    }
}

/// The general level: omits as TOVA does, head by head, but adds half of the omitted value to the
/// newest of the other rows first.
#[derive(Debug)]
pub(crate) struct Merging;

impl Policy for Merging {
    fn name(&self) -> String {
        "merging".into()
    }

    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    fn granularity(&self) -> Granularity {
        Granularity::KvHead
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        view.weights()
    }

    fn rewrites(&self) -> bool {
        true
    }

    fn rewrite(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        let [batch, kv_heads, _, head_dim] = rows.values.dims();
        let none = omitted.clone().zeros_like().sub_scalar(1);
        let others = view.positions().scatter(2, omitted.clone(), none, IndexingUpdateOp::Assign);
        let along = |slot: Tensor<3, Int>| slot.reshape([batch, kv_heads, 1, 1]).expand([batch, kv_heads, 1, head_dim]);
        let newest = along(others.argmax(2));
        let share = rows.values.clone().gather(2, along(omitted.clone())).mul_scalar(0.5);
        rows.values = rows.values.clone().scatter(2, newest, share, IndexingUpdateOp::Add);
    }
}
