//! What goes may be merged into what stays, instead of being lost.
//!
//! Wan et al. 2024 (D2O, arXiv 2406.13035, section 3.3) with a fixed threshold, in the form of its code: each row o that goes
//! has as partner the row that stays whose key is most similar, of equally similar ones the oldest; u is the cosine of the
//! two keys. From a threshold on, K ← (K + Σ u·Kₒ) / (1 + n) over the n rows merged into one, and V likewise with the same
//! u. All cosines are taken before any of them is merged. Positions, and what is carried with rows, stay those of the partner.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::omission::lowest;
use crate::precision::{narrow, widen};
use crate::tensors::{Rows, View};

/// How rows that go are merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merging {
    /// From this cosine similarity of the keys on; otherwise a row is lost.
    pub threshold: f64,
}

impl Merging {
    /// Merges rows that go in tensor operations, which define it. `omitted`: `[batch, groups, n]` slots, −1 where fewer go.
    pub(crate) fn in_tensors(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        let [batch, kv_heads, slots, head_dim] = rows.keys.dims();
        let n = omitted.dims()[2];
        let shown = view.positions().dims()[2];
        let of_heads = |x: Tensor<3, Int>, m: usize| {
            let groups = x.dims()[1];
            let x = x.reshape([batch, groups, 1, m]).expand([batch, groups, kv_heads / groups, m]);
            x.reshape([batch, kv_heads, m])
        };
        let omitted = of_heads(omitted.clone(), n);
        let positions = of_heads(view.positions(), shown);
        let along = |slot: Tensor<3, Int>| slot.reshape([batch, kv_heads, n, 1]).expand([batch, kv_heads, n, head_dim]);
        let goes = omitted.clone().greater_equal_elem(0);
        let from = along(omitted.clone().clamp_min(0));

        // Cosines of those that go with all that are shown: [batch, kv_heads, n, shown].
        let keys = widen(rows.keys.clone().narrow(2, 0, shown));
        let unit = keys.clone() / (keys.clone() * keys).sum_dim(3).sqrt().clamp_min(1e-12);
        let cosines = unit.clone().gather(2, from.clone()).matmul(unit.swap_dims(2, 3));
        let dims = [batch, kv_heads, n, shown];
        let gone = Tensor::<3>::zeros([batch, kv_heads, shown], &omitted.device());
        let gone = gone.scatter(2, omitted.clone().clamp_min(0), goes.clone().float(), IndexingUpdateOp::Add);
        let stays = positions.clone().greater_equal_elem(0).bool_and(gone.equal_elem(0.0));
        let stays = stays.reshape([batch, kv_heads, 1, shown]).expand(dims);
        let scores = cosines.clone().neg().mask_fill(stays.bool_not(), f32::INFINITY);
        let places = positions.reshape([batch, kv_heads, 1, shown]).expand(dims);
        let flat = [batch, kv_heads * n, shown];
        let partner = lowest(scores.reshape(flat), places.reshape(flat)).reshape([batch, kv_heads, n]);
        let similarity = cosines.gather(3, partner.clone().reshape([batch, kv_heads, n, 1]));
        let merges =
            similarity.clone().greater_equal_elem(self.threshold).bool_and(goes.reshape([batch, kv_heads, n, 1]));
        let similarity = similarity.zeros_like().mask_where(merges.clone(), similarity);

        let wide = similarity.dtype();
        let count = merges.float().cast(burn::tensor::FloatDType::from(wide));
        let to = along(partner);
        let counts = Tensor::<4>::zeros([batch, kv_heads, slots, head_dim], (&omitted.device(), wide));
        let counts = counts.scatter(2, to.clone(), count.expand([batch, kv_heads, n, head_dim]), IndexingUpdateOp::Add);
        let merged = |own: Tensor<4>| {
            let dtype = own.dtype();
            let own = widen(own);
            let part = own.clone().gather(2, from.clone()) * similarity.clone();
            let sum = own.scatter(2, to.clone(), part, IndexingUpdateOp::Add);
            narrow(sum / counts.clone().add_scalar(1.0), dtype)
        };
        rows.keys = merged(rows.keys.clone());
        rows.values = merged(rows.values.clone());
    }
}
