//! SnapKV: what the end of the prompt attends to stays.
//!
//! Li et al. 2024 (arXiv 2404.14469).

use std::sync::Arc;

use burn::tensor::Tensor;
use msrnn_core::policy::{Cut, Layer, Memory, Plan, Policy, Sees, Tensors, View};

use super::pool::Pool;
use crate::registry::Entry;

/// Cuts once, after the prompt: per KV head the rows stay to which the newest queries attend most, and these
/// queries' own rows.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::{Pool, SnapKv};
///
/// assert_eq!(SnapKv::default().name(), "snapkv");
/// let published = SnapKv { window: 32, pool: Pool::max(7) };
/// assert_eq!(published.name(), "snapkv(window=32, pool=max7)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapKv {
    /// The newest that many queries decide, and their rows stay.
    pub window: usize,
    /// Over neighbours of the other rows.
    pub pool: Pool,
}

/// As kvpress has it.
impl Default for SnapKv {
    fn default() -> Self {
        Self { window: 64, pool: Pool::mean(5) }
    }
}

impl Policy for SnapKv {
    fn name(&self) -> String {
        match *self == Self::default() {
            true => "snapkv".into(),
            false => format!("snapkv(window={}, pool={})", self.window, self.pool),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head().protecting(0, self.window).cut(Cut::AfterPrompt)
    }
}

impl Tensors for SnapKv {
    fn sees(&self) -> Sees {
        Sees::queries(self.window)
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let weights = view.latest_weights();
        let [batch, kv_heads, group, queries, rows] = weights.dims();
        // Of how many queries it is the mean does not change the order of rows.
        let of_heads = weights.sum_dim(3).reshape([batch, kv_heads * group, rows]).div_scalar(queries as f64);
        let aside = view.newest(self.window).bool_or(view.empty());
        let aside = aside.reshape([batch, kv_heads, 1, rows]).expand([batch, kv_heads, group, rows]);
        let prefix = of_heads.mask_fill(aside.reshape([batch, kv_heads * group, rows]), self.pool.nothing());
        let order = view.chronological();
        let pooled = order.by_slot(self.pool.pool(order.sorted(prefix)));
        pooled.reshape([batch, kv_heads, group, rows]).mean_dim(2).reshape([batch, kv_heads, rows])
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "The end of a prompt already shows what its continuation will attend to.",
        rule: "Once after the prompt, per KV head: the weights of the last w queries on the rows before them, averaged, pooled over neighbours, averaged over the group; the k − w highest stay, and the w newest. window=64, pool=avg5.",
        cost: "w · prompt weights, once; nothing per token",
        citation: "Li et al. 2024, arXiv 2404.14469",
        differences: "Defaults and the mean over the group are kvpress'; the paper's code selects per query head, and its published settings are snapkv(window=32, pool=max7). every(128, snapkv) goes on cutting.",
        ..Entry::with_arguments("snapkv", "snapkv", |arguments| {
            let default = SnapKv::default();
            let window = arguments.get("window")?.unwrap_or(default.window);
            if window == 0 || window > 1 << 20 {
                return Err(arguments.refuse("window", "give 1 to 1048576 queries, such as window=32"));
            }
            Ok(Arc::new(SnapKv { window, pool: arguments.get("pool")?.unwrap_or(default.pool) }))
        })
    }]
}
