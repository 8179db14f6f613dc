//! LagKV: rows go that do not stand out against those that follow them.
//!
//! Liang et al. 2025 (arXiv 2504.04704), in the form of kvpress.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use msrnn_core::policy::{Cut, Layer, Memory, Plan, Policy, Sees, Tensors, View};
use msrnn_core::precision::widen;

use crate::registry::Entry;

/// Cuts every `lag` tokens, or when composed otherwise: rows are ranked inside partitions of `lag` rows by how far
/// their keys and values spread over the channels, in units of the range of the next partition.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::LagKv;
///
/// assert_eq!(LagKv::default().name(), "lagkv");
/// assert_eq!(LagKv { first: 4, lag: 32 }.name(), "lagkv(first=4, lag=32)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagKv {
    /// Rows of the first that many tokens never go.
    pub first: usize,
    /// Rows of a partition.
    pub lag: usize,
}

impl Default for LagKv {
    fn default() -> Self {
        Self { first: 4, lag: 128 }
    }
}

impl Policy for LagKv {
    fn name(&self) -> String {
        match *self == Self::default() {
            true => "lagkv".into(),
            false => format!("lagkv(first={}, lag={})", self.first, self.lag),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head().protecting(self.first, 0).cut(Cut::Every(self.lag))
    }
}

impl Tensors for LagKv {
    fn sees(&self) -> Sees {
        Sees::KEYS.and(Sees::VALUES)
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let [batch, groups, rows] = view.positions().dims();
        let first = |n: usize| view.positions().lower_elem(n as i64).int().sum_dim(2).narrow(1, 0, 1);
        let counts = Tensor::cat(vec![first(0), first(self.first)], 2).into_data().convert::<i64>();
        let counts: &[i64] = counts.as_slice().expect("counts are integers");
        let order = view.chronological();
        let (keys, values) = (widen(view.keys()), widen(view.values()));
        let of_row = |row: usize| {
            let (empty, sinks) = (counts[2 * row] as usize, (counts[2 * row + 1] - counts[2 * row]) as usize);
            let sorted = |x: &Tensor<4>| {
                let d = x.dims()[3];
                let x = x.clone().narrow(0, row, 1).swap_dims(2, 3).reshape([groups, d, rows]);
                order
                    .row(row)
                    .sorted(x.unsqueeze::<4>().reshape([1, groups * d, rows]))
                    .reshape([groups, d, rows])
                    .narrow(2, empty, rows - empty)
            };
            let scores = self.ranks(sorted(&keys), sorted(&values), sinks);
            // Whatever an empty slot scores does not matter.
            let front = Tensor::zeros([1, groups, empty], (&scores.device(), scores.dtype()));
            match empty {
                0 => scores,
                _ => Tensor::cat(vec![front, scores], 2),
            }
        };
        let sorted = Tensor::cat((0..batch).map(of_row).collect(), 0);
        order.by_slot(sorted)
    }
}

impl LagKv {
    /// Scores of all rows held of one batch row, in order: `[1, groups, rows]`. keys, values: `[groups, head_dim, rows]`
    fn ranks(&self, keys: Tensor<3>, values: Tensor<3>, sinks: usize) -> Tensor<3> {
        let [groups, _, rows] = keys.dims();
        let (device, dtype, lag) = (keys.device(), keys.dtype(), self.lag);
        let behind = rows - sinks;
        if behind < 2 * lag {
            // Too few to compare: the newest stay.
            let order =
                Tensor::<1, Int>::arange(0..rows as i64, &device).float().cast(burn::tensor::FloatDType::from(dtype));
            return order.reshape([1, 1, rows]).expand([1, groups, rows]);
        }
        let scored = behind / lag - 1;
        let weights = (self.spread(keys, sinks, scored) + self.spread(values, sinks, scored)).div_scalar(2.0);
        // The rank is the number of rows of the partition that are worth less, or as much and are older.
        let dims = [groups, scored, lag, lag];
        let of_row = weights.clone().reshape([groups, scored, lag, 1]).expand(dims);
        let other = weights.reshape([groups, scored, 1, lag]).expand(dims);
        let index = Tensor::<1, Int>::arange(0..lag as i64, &device);
        let older =
            index.clone().reshape([1, 1, 1, lag]).expand(dims).lower(index.reshape([1, 1, lag, 1]).expand(dims));
        let less = other.clone().lower(of_row.clone()).bool_or(other.equal(of_row).bool_and(older));
        let ranks = less.float().sum_dim(3).reshape([1, groups, scored * lag]).div_scalar(lag as f64);
        let ranks = ranks.cast(burn::tensor::FloatDType::from(dtype));
        let one = |n: usize| Tensor::ones([1, groups, n], (&device, dtype));
        let parts = match sinks {
            0 => vec![ranks, one(rows - scored * lag)],
            _ => vec![one(sinks), ranks, one(rows - sinks - scored * lag)],
        };
        Tensor::cat(parts, 2)
    }

    /// How far the rows of the partitions spread: `[groups, partitions, lag]`, a softmax over each partition.
    fn spread(&self, x: Tensor<3>, sinks: usize, scored: usize) -> Tensor<3> {
        let ([groups, d, _], lag) = (x.dims(), self.lag);
        let partitions = x.narrow(2, sinks, (scored + 1) * lag).reshape([groups, d, scored + 1, lag]);
        let next = partitions.clone().narrow(2, 1, scored);
        let (low, high) = (next.clone().min_dim(3), next.max_dim(3));
        let range = high - low.clone();
        let constant = range.clone().equal_elem(0.0);
        let dims = [groups, d, scored, lag];
        let x = (partitions.narrow(2, 0, scored) - low) / range.mask_fill(constant.clone(), 1.0);
        let x = x.mask_fill(constant.expand(dims), 0.0);
        let mean = x.clone().mean_dim(1);
        let off = x - mean;
        let deviation = (off.clone() * off).sum_dim(1).div_scalar((d.max(2) - 1) as f64).sqrt();
        burn::tensor::activation::softmax(deviation.reshape([groups, scored, lag]), 2)
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "A row matters if it stands out against the rows that follow it; no attention weights are needed.",
        rule: "Behind the first S = 4 rows, partitions of L = 128 rows; in each, rows are ranked by the standard deviation over channels of keys and values, scaled by the next partition's range; the last partition and what follows it stays before all others. Cut every L tokens.",
        cost: "O(k · head_dim) per KV head, every L tokens",
        citation: "Liang et al. 2025, arXiv 2504.04704; ranks as in kvpress",
        differences: "after-prompt(lagkv) is kvpress' LagKVPress. The authors' code keeps a share of each partition, so that its state grows with the text.",
        ..Entry::with_arguments("lagkv", "lagkv", |arguments| {
            let default = LagKv::default();
            let lag = arguments.get("lag")?.unwrap_or(default.lag);
            if lag == 0 || lag > 1 << 16 {
                return Err(arguments.refuse("lag", "give 1 to 65536 rows, such as lag=128"));
            }
            Ok(Arc::new(LagKv { first: arguments.get("first")?.unwrap_or(default.first), lag }))
        })
    }]
}
