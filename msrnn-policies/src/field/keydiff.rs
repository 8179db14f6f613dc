//! KeyDiff: rows with ordinary keys go.
//!
//! Park et al. 2025 (arXiv 2504.15364, algorithm 1 and equation 6).

use burn::tensor::Tensor;
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Sees, Tensors, View};
use msrnn_core::precision::widen;
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits, per KV head, the row whose key is most similar to the mean of all keys held.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::KeyDiff;
///
/// assert_eq!(KeyDiff.name(), "keydiff");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDiff;

impl Policy for KeyDiff {
    fn name(&self) -> String {
        "keydiff".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head()
    }
}

/// Rows as unit vectors, those of empty slots zero: `[batch, kv_heads, rows, head_dim]`.
fn directions(view: &View) -> Tensor<4> {
    let keys = widen(view.keys());
    let [batch, kv_heads, rows, _] = keys.dims();
    let norms = (keys.clone() * keys.clone()).sum_dim(3).sqrt().clamp_min(1e-12);
    let empty = view.empty().reshape([batch, kv_heads, rows, 1]);
    let dims = keys.dims();
    (keys / norms).mask_fill(empty.expand(dims), 0.0)
}

impl Tensors for KeyDiff {
    fn sees(&self) -> Sees {
        Sees::KEYS
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let directions = directions(view);
        let [batch, kv_heads, rows, _] = directions.dims();
        // The direction of the mean is that of the sum.
        let anchor = directions.clone().sum_dim(2);
        let length = (anchor.clone() * anchor.clone()).sum_dim(3).sqrt().clamp_min(1e-12);
        let cosines = (directions * (anchor / length)).sum_dim(3);
        cosines.neg().reshape([batch, kv_heads, rows])
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "Keys that differ from the others stand for tokens that matter.",
        rule: "Per KV head, omit the row of the highest cosine similarity of its key to the mean of all keys held, each normalised.",
        cost: "O(k · head_dim) per KV head, token by token unless cut less often: every(128, keydiff)",
        citation: "Park et al. 2025, arXiv 2504.15364, algorithm 1 and equation 6",
        differences: "At every token unless composed otherwise; after-prompt(keydiff) is kvpress' KeyDiffPress. The paper cuts after blocks of the prompt.",
        ..Entry::new("keydiff", KeyDiff)
    }]
}
