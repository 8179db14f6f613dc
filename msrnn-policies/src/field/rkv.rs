//! R-KV: rows stay that matter and are not said twice.
//!
//! Cai et al. 2025 (arXiv 2505.24133), as its code has it.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use msrnn_core::policy::{Cut, Layer, Memory, Plan, Policy, Sees, Tensors, View};
use msrnn_core::precision::widen;

use super::pool::Pool;
use crate::registry::Entry;

/// Cuts every `buffer` tokens: importance by the latest queries against redundancy of keys.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Rkv;
///
/// assert_eq!(Rkv::default().name(), "rkv");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rkv {
    /// n, tokens between cuts.
    pub buffer: usize,
    /// α, the latest queries, whose rows stay.
    pub window: usize,
    /// λ, the share of importance.
    pub lambda: f64,
    /// Neighbours over which importance is pooled, itself in the middle; odd.
    pub kernel: usize,
}

/// Two keys are similar above this cosine.
const SIMILAR: f64 = 0.5;

impl Default for Rkv {
    fn default() -> Self {
        Self { buffer: 128, window: 8, lambda: 0.07, kernel: 7 }
    }
}

impl Policy for Rkv {
    fn name(&self) -> String {
        let Self { buffer, window, lambda, kernel } = *self;
        match kernel == Self::default().kernel {
            _ if *self == Self::default() => "rkv".into(),
            true => format!("rkv(buffer={buffer}, window={window}, lambda={lambda})"),
            false => format!("rkv(buffer={buffer}, window={window}, lambda={lambda}, kernel={kernel})"),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head().protecting(0, self.window).cut(Cut::Every(self.buffer))
    }
}

impl Tensors for Rkv {
    fn sees(&self) -> Sees {
        Sees::KEYS.and(Sees::queries(self.window))
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let importance = self.importance(view);
        importance.mul_scalar(self.lambda) - redundancy(view).mul_scalar(1.0 - self.lambda)
    }
}

impl Rkv {
    /// What the latest queries make of the rows before them, pooled. `[batch, kv_heads, rows]`
    fn importance(&self, view: &View) -> Tensor<3> {
        let logits = view.latest_logits();
        let [batch, kv_heads, _, queries, rows] = logits.dims();
        let highest = logits.max_dim(2).reshape([batch, kv_heads, queries, rows]);
        let aside = view.newest(self.window).bool_or(view.empty()).reshape([batch, kv_heads, 1, rows]);
        let dims = highest.dims();
        // A query from before the text is none.
        let absent = highest.clone().max_dim(3).lower_elem(-3e38);
        let logits = highest.mask_fill(aside.clone().expand(dims), f32::NEG_INFINITY);
        // One whose own window has passed the prefix says nothing of it.
        let nothing = logits.clone().max_dim(3).lower_elem(-3e38);
        let weights = softmax(logits, 3).mask_fill(nothing.expand(dims), 0.0);
        let there =
            absent.bool_not().float().cast(burn::tensor::FloatDType::from(weights.dtype())).sum_dim(2).clamp_min(1.0);
        let mean = (weights.sum_dim(2) / there).reshape([batch, kv_heads, rows]);
        let pool = Pool::max(self.kernel);
        let prefix = mean.mask_fill(aside.reshape([batch, kv_heads, rows]), pool.nothing());
        let order = view.chronological();
        let pooled = order.by_slot(pool.pool(order.sorted(prefix)));
        // Where no row is near there is nothing to pool.
        let none = pooled.clone().lower_elem(-3e38);
        pooled.mask_fill(none, 0.0)
    }
}

/// How much a row says again what others say: softmax of the mean cosine similarity of its key to all others',
/// `[batch, kv_heads, rows]`. Of the rows similar to row i the newest is exempt, and where there is none the oldest
/// row held.
fn redundancy(view: &View) -> Tensor<3> {
    let keys = widen(view.keys());
    let [batch, kv_heads, rows, _] = keys.dims();
    let empty = view.empty();
    let dims = [batch, kv_heads, rows, rows];
    let norms = (keys.clone() * keys.clone()).sum_dim(3).sqrt().add_scalar(1e-8);
    let directions = keys / norms;
    let cosines = directions.clone().matmul(directions.swap_dims(2, 3));
    let hidden = empty.clone().reshape([batch, kv_heads, rows, 1]).expand(dims);
    let hidden = hidden.bool_or(empty.clone().reshape([batch, kv_heads, 1, rows]).expand(dims));
    let index = Tensor::<1, Int>::arange(0..rows as i64, &cosines.device());
    let own = index.clone().reshape([1, 1, rows, 1]).expand(dims).equal(index.reshape([1, 1, 1, rows]).expand(dims));
    let cosines = cosines.mask_fill(hidden.bool_or(own), 0.0);

    let positions = view.positions();
    let of_columns = positions.clone().reshape([batch, kv_heads, 1, rows]).expand(dims);
    let oldest = positions.mask_fill(empty.clone(), i32::MAX).min_dim(2).reshape([batch, kv_heads, 1, 1]);
    let similar = cosines.clone().greater_elem(SIMILAR);
    let newest = of_columns.clone().mask_fill(similar.bool_not(), -1).max_dim(3);
    let none = newest.clone().lower_elem(0);
    let exempt = newest.mask_where(none, oldest.expand([batch, kv_heads, rows, 1]));
    let cosines = cosines.mask_fill(of_columns.equal(exempt.expand(dims)), 0.0);

    let held = empty.clone().bool_not().float().cast(burn::tensor::FloatDType::from(cosines.dtype())).sum_dim(2);
    let mean = cosines.sum_dim(2).reshape([batch, kv_heads, rows]) / held;
    softmax(mean.mask_fill(empty, f32::NEG_INFINITY), 2)
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "Long reasoning repeats itself: what is important and not redundant stays.",
        rule: "Every n = 128 tokens, per KV head: λ · (softmax over the rows before the last α = 8 queries of their highest logit in the group, averaged over them, maximum of 7 neighbours) − (1 − λ) · (softmax of the mean cosine of a row's key to the others); the highest stay, and the α newest. λ = 0.07.",
        cost: "k² · head_dim per KV head, every n tokens",
        citation: "Cai et al. 2025, arXiv 2505.24133",
        differences: "Rows are in the order of their positions; the authors' code leaves them in the order of scores after the first cut. Cuts at k + n rows held, there at every 128th token.",
        ..Entry::with_arguments("rkv", "rkv", |arguments| {
            let default = Rkv::default();
            let between = |name: &str, value: Option<usize>, default: usize| match value {
                Some(value) if value == 0 || value > 1 << 20 => Err(arguments.refuse(name, "give 1 to 1048576")),
                value => Ok(value.unwrap_or(default)),
            };
            let buffer = between("buffer", arguments.get("buffer")?, default.buffer)?;
            let window = between("window", arguments.get("window")?, default.window)?;
            let lambda: f64 = arguments.get("lambda")?.unwrap_or(default.lambda);
            if !(0.0..=1.0).contains(&lambda) {
                return Err(arguments.refuse("lambda", "give a share from 0 to 1, such as lambda=0.1"));
            }
            let kernel = arguments.get("kernel")?.unwrap_or(default.kernel);
            if kernel % 2 == 0 || kernel > Pool::WIDEST {
                return Err(
                    arguments.refuse("kernel", format!("give an odd number up to {}, such as kernel=7", Pool::WIDEST))
                );
            }
            Ok(Arc::new(Rkv { buffer, window, lambda, kernel }))
        })
    }]
}
