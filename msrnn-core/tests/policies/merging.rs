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
        let along = |slot: Tensor<3, Int>| slot.reshape([batch, kv_heads, 1, 1]).expand([batch, kv_heads, 1, head_dim]);
        let positions = view.positions();
        let dims = positions.dims();
        // One after the other; none of those that go is the newest that stays.
        let slots =
            Tensor::<1, Int>::arange(0..dims[2] as i64, &positions.device()).reshape([1, 1, dims[2]]).expand(dims);
        let each: Vec<_> = (0..omitted.dims()[2]).map(|i| omitted.clone().narrow(2, i, 1)).collect();
        let others = each
            .iter()
            .fold(positions, |others, slot| others.mask_fill(slots.clone().equal(slot.clone().expand(dims)), -1));
        let newest = along(others.argmax(2));
        for slot in each {
            let goes = along(slot.clone()).greater_equal_elem(0);
            let value = |slot: Tensor<4, Int>| rows.values.clone().gather(2, slot);
            let half = (value(along(slot.clamp_min(0))) - value(newest.clone())).mul_scalar(0.5);
            let half = half.zeros_like().mask_where(goes, half);
            rows.values = rows.values.clone().scatter(2, newest.clone(), half, IndexingUpdateOp::Add);
        }
    }
}
