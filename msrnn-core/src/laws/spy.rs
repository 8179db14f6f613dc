//! A policy that decides as another does, and writes down what it was shown and how it scored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use burn::tensor::{DType, Int, Tensor};

use super::scorer::Scorer;
use crate::omission::protected;
use crate::policy::{Layer, Plan, Policy, Rule};
use crate::state::StateShape;
use crate::state::bound::Bound;
use crate::tensors::{Memory, Rows, Sees, Tensors, View};

/// What a policy was shown of one decision, and its scores.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Position of the current token.
    pub(super) now: i64,
    /// Position and score of every row that is not empty; −∞ for a row that no later query sees.
    pub(super) rows: Vec<(i64, f64)>,
    /// What was remembered of every row before the call, by position; empty without memory.
    pub(super) before: Remembered,
    /// The same after the call.
    pub(super) after: Remembered,
}

/// A value per channel, by position.
pub(super) type Remembered = BTreeMap<i64, Vec<f64>>;

impl Look {
    /// Rows in the order in which they would go.
    pub(super) fn ascending(&self) -> Vec<(i64, f64)> {
        let mut rows = self.rows.clone();
        // Zeros of either sign are equal scores.
        rows.sort_by(|a, b| (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then(a.0.cmp(&b.0)));
        rows
    }

    /// Whether rounding may decide which `goes` rows go: the highest score of those that go and the lowest of
    /// those that stay differ, but by less than two ways to compute them may.
    ///
    /// A softmax weight is off by about as much, relatively, as its logit is absolutely: some
    /// head_dim + 4 roundings of terms of size 10 here, 1e-5 in f32 and 1e-14 in f64, and where the
    /// logits themselves are rounded to 16 bits, half a unit of a logit of size 8: 4e-3 in f16 and
    /// 3e-2 in bf16, twice when two ways differ. The bounds
    /// leave a factor for what a policy makes of the weights. Equal scores are no matter of
    /// rounding, nor is a row that no later query sees: it goes whatever the scores are.
    pub(super) fn is_close(&self, goes: usize, dtype: DType) -> bool {
        if goes == 0 || goes >= self.rows.len() {
            return false;
        }
        let bound = match dtype {
            DType::F64 => 1e-9,
            DType::F16 => 0.05,
            DType::BF16 => 0.4,
            _ => 1e-4,
        };
        let rows = self.ascending();
        let (lowest, second) = (rows[goes - 1].1, rows[goes].1);
        // A protected row is infinitely far from one that is not.
        let gap = second - lowest;
        gap > 0.0 && gap.is_finite() && gap <= bound * lowest.abs().max(second.abs())
    }
}

/// Which rows a cut should make go, given what the groups of a batch row were shown: positions by group, ascending.
pub(super) fn gone(looks: &[Look], bound: &Bound) -> Vec<Vec<i64>> {
    let order: Vec<Vec<(i64, f64)>> = looks.iter().map(Look::ascending).collect();
    let mut gone: Vec<Vec<i64>> = match bound.safe() {
        None => {
            let lowest = |rows: &Vec<(i64, f64)>| rows[..rows.len() - bound.states].iter().map(|row| row.0).collect();
            order.iter().map(lowest).collect()
        }
        Some(safe) => {
            let (rows, goes) = competing(&order, bound, safe);
            let of_group = |group| rows[..goes].iter().filter(move |row| row.2 == group).map(|row| row.1).collect();
            (0..looks.len()).map(of_group).collect()
        }
    };
    gone.iter_mut().for_each(|positions| positions.sort_unstable());
    gone
}

/// Rows of heads that compete, but the safe ones of each, in the order in which they go (score, position, group); and
/// how many do.
fn competing(order: &[Vec<(i64, f64)>], bound: &Bound, safe: usize) -> (Vec<(f64, i64, usize)>, usize) {
    let total: usize = order.iter().map(Vec::len).sum();
    let others = order.iter().enumerate().flat_map(|(group, rows)| {
        rows[..rows.len().saturating_sub(safe)].iter().map(move |&(position, score)| (score + 0.0, position, group))
    });
    let mut others: Vec<_> = others.collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let goes = (total - (bound.states * order.len()).min(total)).min(others.len());
    (others, goes)
}

/// Whether rounding may decide which rows a cut to k makes go; see [`Look::is_close`].
pub(super) fn is_close(looks: &[Look], bound: &Bound, dtype: DType) -> bool {
    let Some(safe) = bound.safe() else {
        return looks.iter().any(|look| look.is_close(look.rows.len().saturating_sub(bound.states), dtype));
    };
    let order: Vec<Vec<(i64, f64)>> = looks.iter().map(Look::ascending).collect();
    let (others, goes) = competing(&order, bound, safe);
    let rows = others.iter().enumerate().map(|(index, row)| (index as i64, row.0)).collect();
    let all = Look { now: 0, rows, before: Remembered::new(), after: Remembered::new() };
    all.is_close(goes, dtype) || looks.iter().any(|look| look.is_close(look.rows.len().saturating_sub(safe), dtype))
}

/// What the calls of a rule left, each by batch row and group.
pub(super) type Calls = Arc<Mutex<Vec<Vec<Vec<Look>>>>>;

/// Changes scores.
pub(super) type Change = fn(Tensor<3>, &View) -> Tensor<3>;

/// Decides as another policy does, or by its scores changed, in tensor operations, and writes down every call.
#[derive(Debug)]
pub(super) struct Spy {
    inner: Arc<dyn Policy>,
    change: Option<Change>,
    calls: Calls,
}

impl Spy {
    pub(super) fn new(inner: &Arc<dyn Policy>, change: Option<Change>) -> (Arc<Self>, Calls) {
        let calls = Calls::default();
        (Arc::new(Self { inner: inner.clone(), change, calls: calls.clone() }), calls)
    }
}

/// The calls since the last time.
pub(super) fn take(calls: &Calls) -> Vec<Vec<Vec<Look>>> {
    std::mem::take(&mut calls.lock().expect("no other test has this spy"))
}

impl Policy for Spy {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let Layer { index, layers, kv_heads, .. } = *layer;
        let dtype = DType::F32;
        let shape = StateShape { batch: 1, kv_heads, head_dim: 1, layer: index, layers, dtype };
        let plan = self.inner.plan(layer);
        let Some(bound) = Bound::of(&self.name(), &plan, &shape) else { return plan };
        let watch = Watch { scorer: Scorer(bound), change: self.change, calls: self.calls.clone() };
        Plan { rule: Rule::Tensors(Arc::new(watch)), ..plan }
    }
}

/// The rule of a [`Spy`].
#[derive(Debug)]
struct Watch {
    scorer: Scorer,
    change: Option<Change>,
    calls: Calls,
}

impl Tensors for Watch {
    fn sees(&self) -> Sees {
        self.scorer.sees()
    }

    fn memory(&self) -> usize {
        self.scorer.memory()
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let before = remembered(view, memory);
        let scores = self.scorer.score(view, memory);
        let scores = match self.change {
            Some(change) => change(scores, view),
            None => scores,
        };
        let shown = protected(scores.clone(), view, [self.scorer.plan().first, self.scorer.plan().newest]);
        let mut call = looks(view, &shown);
        if self.memory() > 0 {
            let looks = call.iter_mut().flatten().zip(before.into_iter().zip(remembered(view, memory)));
            looks.for_each(|(look, (before, after))| (look.before, look.after) = (before, after));
        }
        self.calls.lock().expect("no other test has this spy").push(call);
        scores
    }

    fn rewrites(&self) -> bool {
        self.scorer.rewrites()
    }

    fn rewrite(&self, view: &View, omitted: &Tensor<3, Int>, rows: &mut Rows) {
        self.scorer.rewrite(view, omitted, rows);
    }
}

/// A view and its scores on the host, by batch row and group.
pub(super) fn looks(view: &View, scores: &Tensor<3>) -> Vec<Vec<Look>> {
    let groups = view.positions.dims()[1];
    assert_eq!(scores.dims(), view.positions.dims(), "a policy gives one score for every position");
    let now = view.now.to_data().convert::<i64>();
    let now: &[i64] = now.as_slice().expect("positions are integers");
    let look = |(mut rows, &now): (Vec<(i64, f64)>, &i64)| {
        // The query of now + 1 sees its own row and the window − 1 before it.
        let oldest_seen = now + 2 - view.window.unwrap_or(now + 2);
        rows.iter_mut().filter(|row| row.0 < oldest_seen && !row.1.is_nan()).for_each(|row| row.1 = f64::NEG_INFINITY);
        Look { now, rows, before: Remembered::new(), after: Remembered::new() }
    };
    let looks: Vec<Look> = by_group(view, scores).into_iter().zip(now).map(look).collect();
    looks.chunks(groups).map(<[_]>::to_vec).collect()
}

/// What a policy remembers of the rows that are not empty, by batch row and group.
fn remembered(view: &View, memory: &Memory) -> Vec<Remembered> {
    let [batch, groups, _] = view.positions.dims();
    let mut remembered = vec![Remembered::new(); batch * groups];
    for channel in &memory.channels {
        for (remembered, rows) in remembered.iter_mut().zip(by_group(view, channel)) {
            rows.into_iter().for_each(|(position, value)| remembered.entry(position).or_default().push(value));
        }
    }
    remembered
}

/// Position and value of every row that is not empty, by batch row and group in one.
fn by_group(view: &View, values: &Tensor<3>) -> Vec<Vec<(i64, f64)>> {
    let rows = view.positions.dims()[2];
    let positions = view.positions.to_data().convert::<i64>();
    let values = values.to_data().convert::<f64>();
    let positions = positions.as_slice::<i64>().expect("positions are integers").chunks(rows);
    let values = values.as_slice::<f64>().expect("scores are numbers").chunks(rows);
    let of_group = |(positions, values): (&[i64], &[f64])| {
        let rows = positions.iter().copied().zip(values.iter().copied());
        rows.filter(|&(position, _)| position >= 0).collect()
    };
    positions.zip(values).map(of_group).collect()
}
