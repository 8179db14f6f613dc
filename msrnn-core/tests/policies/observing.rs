//! A policy that looks at the latest queries.

use burn::tensor::Tensor;
use msrnn_core::policy::{Cut, Layer, Memory, Plan, Policy, Sees, Tensors, View};

/// Every three tokens the rows go to which the latest five queries attend least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observing;

impl Policy for Observing {
    fn name(&self) -> String {
        "observing".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head().cut(Cut::Every(3))
    }
}

impl Tensors for Observing {
    fn sees(&self) -> Sees {
        Sees::queries(5)
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let weights = view.latest_weights();
        let [batch, kv_heads, _, _, rows] = weights.dims();
        weights.sum_dim(3).sum_dim(2).reshape([batch, kv_heads, rows])
    }
}
