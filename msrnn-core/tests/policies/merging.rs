//! A policy of the general level.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Rows, Sees, Tensors, View};

/// The general level: omits as TOVA does, head by head, but moves the value of the newest of
/// the other rows halfway to the omitted one first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging;

impl Policy for Merging {
    fn name(&self) -> String {
        "merging".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head()
    }
}

impl Tensors for Merging {
    fn sees(&self) -> Sees {
        Sees::WEIGHTS
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
        let value = |slot: Tensor<4, Int>| rows.values.clone().gather(2, slot);
        let half = (value(along(omitted.clone())) - value(newest.clone())).mul_scalar(0.5);
        rows.values = rows.values.clone().scatter(2, newest, half, IndexingUpdateOp::Add);
    }
}
