//! What goes may be merged into what stays, instead of being lost.
//!
//! Wan et al. 2024 (D2O, arXiv 2406.13035, section 3.3): each row o that goes has as partner the row that stays whose
//! key is most similar, of those that are equally similar to 1e-5 (in f64 to 1e-12) the oldest; u is the cosine of the two keys. From a [`Threshold`] on,
//! K ← (K + Σ a·Kₒ) / (1 + Σ b) over the rows merged into one, and V likewise with the same a and b, which follow from u
//! by [`Weight`]. All cosines are taken before any of them is merged. Positions, and what is carried with rows, stay
//! those of the partner.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor};

use crate::omission::lowest;
use crate::precision::{narrow, widen};
use crate::tensors::{Rows, View};

/// Cosines that differ by no more are equal, among each other and to a threshold. Tokens that are repeated have the same keys
/// where those are not rotated: then rounding would choose the partner, and another order of sums another one.
pub(crate) fn equal(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 1e-5 }
}

/// How rows that go are merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merging {
    /// Which of them; the others are lost.
    pub threshold: Threshold,
    /// With which weights.
    pub weight: Weight,
}

/// From which similarity on a row is merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// From this cosine of the keys on.
    Fixed(f64),
    /// From a number on that every batch row of a layer has for itself, and every head where heads have budgets of their
    /// own. At a cut let ū be the mean over the heads of the cosines of their i-th row that goes, by position, and m the
    /// mean of all. The number is m at the first cut. At later ones it first moves by this share of its distance to m.
    /// Then the i-th rows of all heads are merged if ū is not below it.
    Moving(f64),
}

impl Threshold {
    /// What stands for a threshold that no cut has set: no cosine is so high.
    pub(crate) const UNSET: f64 = 2.0;

    /// What such a number becomes by a mean. Without a product that is not exact it stays what it was where the
    /// mean is the same, so that what was merged then is merged now.
    #[cfg(feature = "flex")]
    pub(crate) fn moved(before: f64, mean: f64, share: f64) -> f64 {
        // All the way is exactly to the mean, too.
        if before == Self::UNSET || share == 1.0 { mean } else { before + (mean - before) * share }
    }
}

impl Display for Threshold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(cosine) => write!(f, "{cosine}"),
            Self::Moving(share) => write!(f, "ema{share}"),
        }
    }
}

impl FromStr for Threshold {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<f64>().ok();
        match text.strip_prefix("ema") {
            Some(share) => number(share)
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Self::Moving)
                .ok_or("behind ema give the share of each cut's mean from 0 to 1, such as ema0.5"),
            None => number(text)
                .filter(|cosine| (-1.0..=1.0).contains(cosine))
                .map(Self::Fixed)
                .ok_or("give a cosine from -1 to 1, such as 0.5, or a moving mean of them, such as ema0.5"),
        }
    }
}

/// What a row weighs that is merged into one of weight 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// u of a row that counts as one: (K + Σ u·Kₒ) / (1 + n), as in D2O's code.
    #[default]
    Mean,
    /// eᵘ beside e: (e·K + Σ eᵘ·Kₒ) / (e + Σ eᵘ), as in D2O's paper.
    Exp,
}

impl Weight {
    /// What it is multiplied with, and what it adds to the divisor, by its cosine.
    #[cfg(feature = "flex")]
    pub(crate) fn of(self, cosine: f64) -> [f64; 2] {
        match self {
            Self::Mean => [cosine, 1.0],
            Self::Exp => [(cosine - 1.0).exp(); 2],
        }
    }

    /// The same in tensors.
    fn in_tensors(self, cosines: Tensor<4>) -> [Tensor<4>; 2] {
        match self {
            Self::Mean => [cosines.clone(), cosines.ones_like()],
            Self::Exp => {
                let share = cosines.sub_scalar(1.0).exp();
                [share.clone(), share]
            }
        }
    }
}

impl Display for Weight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Exp => "exp",
        })
    }
}

impl FromStr for Weight {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mean" => Ok(Self::Mean),
            "exp" => Ok(Self::Exp),
            _ => Err("write mean or exp"),
        }
    }
}

impl Merging {
    /// Merges rows that go in tensor operations, which define it. `omitted`: `[batch, groups, n]` slots, −1 where fewer go.
    /// `threshold`: the numbers of a moving one, `[batch, units, 1]`.
    pub(crate) fn in_tensors(
        &self,
        view: &View,
        omitted: &Tensor<3, Int>,
        rows: &mut Rows,
        threshold: Option<&mut Tensor<3>>,
    ) {
        let [batch, kv_heads, slots, head_dim] = rows.keys.dims();
        let n = omitted.dims()[2];
        if n == 0 {
            return;
        }
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
        let equal = equal(scores.dtype());
        let best = scores.clone().min_dim(3).expand(dims);
        let scores = scores.clone().mask_where(scores.lower_equal(best.clone().add_scalar(equal)), best);
        let places = positions.reshape([batch, kv_heads, 1, shown]).expand(dims);
        let flat = [batch, kv_heads * n, shown];
        let partner = lowest(scores.reshape(flat), places.reshape(flat)).reshape([batch, kv_heads, n]);
        let similarity = cosines.gather(3, partner.clone().reshape([batch, kv_heads, n, 1]));
        let wide = similarity.dtype();
        let goes = goes.reshape([batch, kv_heads, n, 1]);
        let merges = match (self.threshold, threshold) {
            (Threshold::Moving(share), Some(threshold)) => {
                let shown = similarity.clone().mask_fill(goes.clone().bool_not(), 0.0);
                let count = goes.clone().float().cast(FloatDType::from(wide));
                moves(share, [shown, count], threshold)
            }
            (Threshold::Moving(_), None) => unreachable!("a state has the numbers of its thresholds"),
            (Threshold::Fixed(cosine), _) => similarity.clone().greater_equal_elem(cosine - equal),
        };
        let lost = merges.bool_and(goes).bool_not();
        let [share, count] = self.weight.in_tensors(similarity).map(|x| x.mask_fill(lost.clone(), 0.0));

        let to = along(partner);
        let counts = Tensor::<4>::zeros([batch, kv_heads, slots, head_dim], (&omitted.device(), wide));
        let counts = counts.scatter(2, to.clone(), count.expand([batch, kv_heads, n, head_dim]), IndexingUpdateOp::Add);
        let merged = |own: Tensor<4>| {
            let dtype = own.dtype();
            let own = widen(own);
            let part = own.clone().gather(2, from.clone()) * share.clone();
            let sum = own.scatter(2, to.clone(), part, IndexingUpdateOp::Add);
            narrow(sum / counts.clone().add_scalar(1.0), dtype)
        };
        rows.keys = merged(rows.keys.clone());
        rows.values = merged(rows.values.clone());
    }
}

/// Moves thresholds, `[batch, units, 1]`, and says which rows are merged by them, `[batch, kv_heads, n, 1]`: of the
/// same shape the cosines of the rows that go, 0 elsewhere, and 1 where one goes.
fn moves(share: f64, shown: [Tensor<4>; 2], threshold: &mut Tensor<3>) -> Tensor<4, Bool> {
    let [batch, kv_heads, n, _] = shown[0].dims();
    let units = threshold.dims()[1];
    let of_units = |x: Tensor<4>| x.reshape([batch, units, kv_heads / units, n]).sum_dim(2).reshape([batch, units, n]);
    let [sum, count] = shown.map(of_units);
    let each = sum / count.clone().clamp_min(1.0);
    // In all heads that share a threshold equally many rows go.
    let any = count.greater_elem(0.0);
    let rows = any.clone().float().cast(FloatDType::from(each.dtype())).sum_dim(2);
    let mean = each.clone().sum_dim(2) / rows.clone().clamp_min(1.0);
    let before = threshold.clone();
    let moved = match share {
        1.0 => mean.clone(),
        _ => before.clone() + (mean.clone() - before.clone()).mul_scalar(share),
    };
    let moved = moved.mask_where(before.clone().greater_equal_elem(Threshold::UNSET), mean);
    *threshold = moved.mask_where(rows.equal_elem(0.0), before);
    let least = threshold.clone().sub_scalar(equal(each.dtype()));
    let merges = each.greater_equal(least.expand([batch, units, n]));
    let merges = merges.reshape([batch, units, 1, n]).expand([batch, units, kv_heads / units, n]);
    merges.reshape([batch, kv_heads, n, 1])
}
