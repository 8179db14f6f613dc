//! Oracle: the rows that the rest of the text attends to least go. No policy can know that: it is the ceiling that rules are
//! measured against, as `random` is the floor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};
use msrnn_core::policy::{Cut, Decides, Foresight, Layer, Memory, Plan, Policy, Sees, Tensors, View};
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits the row that gets the least attention of all later queries of the text, as the full state gives it.
///
/// A first pass over the text, with every row held, writes down what every query attends to; see [`Policy::foresight`]. What a
/// row omitted under a bound would have got in that bounded run itself may differ, so this is a good guess at the ceiling
/// and not a bound that is proven.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Oracle;
///
/// assert_eq!(Oracle::layer_wise().name(), "oracle");
/// assert!(Oracle::layer_wise().foresight().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oracle {
    /// One decision for the layer, by the mean over its heads, or one for each KV head.
    pub decides: Decides,
}

impl Oracle {
    /// One decision for the layer.
    pub const fn layer_wise() -> Self {
        Self { decides: Decides::Layer }
    }

    /// One for each KV head.
    pub const fn head_wise() -> Self {
        Self { decides: Decides::KvHead }
    }

    fn informed(self, record: Arc<Record>) -> Informed {
        Informed { of: self, record }
    }
}

impl Policy for Oracle {
    fn name(&self) -> String {
        match self.decides {
            Decides::Layer => "oracle".into(),
            Decides::KvHead => "oracle-head".into(),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.informed(Arc::default()).plan(layer)
    }

    fn foresight(&self) -> Option<Foresight> {
        let record = Arc::new(Record::default());
        let first = Arc::new(Recorder { decides: self.decides, record: Arc::clone(&record) });
        Some(Foresight { first, then: Arc::new(self.informed(record)) })
    }
}

/// What later queries attend to, by layer.
#[derive(Debug, Default)]
struct Record(Mutex<BTreeMap<usize, Later>>);

/// Numbers by token t and row j ≤ t, `[batch, groups, t + 1]` of each: while the first pass goes on the weights that query t
/// gives, and then the sums of those that queries after t give.
#[derive(Debug, Default)]
struct Later {
    rows: Vec<Vec<f32>>,
    is_summed: bool,
}

impl Later {
    /// From what each query gives to what all after it give, once.
    fn sum(&mut self) {
        if std::mem::replace(&mut self.is_summed, true) {
            return;
        }
        let tokens = self.rows.len();
        let Some(groups) = self.rows.last().map(|last| last.len() / tokens) else { return };
        let mut sums = vec![0.0_f64; groups * tokens];
        for (t, row) in self.rows.iter_mut().enumerate().rev() {
            for (of_group, sums) in row.chunks_exact_mut(t + 1).zip(sums.chunks_exact_mut(tokens)) {
                for (given, sum) in of_group.iter_mut().zip(sums) {
                    let after = *sum as f32;
                    *sum += f64::from(std::mem::replace(given, after));
                }
            }
        }
    }

    /// What queries after `now` give to a row.
    fn of(&self, group: usize, position: i64, now: i64) -> f32 {
        match (usize::try_from(position), usize::try_from(now)) {
            (Ok(position), Ok(now)) => self.rows[now][group * (now + 1) + position],
            // An empty slot.
            _ => 0.0,
        }
    }
}

/// The first pass: nothing goes, and what every query attends to is written down.
#[derive(Clone, Debug)]
struct Recorder {
    decides: Decides,
    record: Arc<Record>,
}

impl Policy for Recorder {
    fn name(&self) -> String {
        "full".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { decides: self.decides, ..Plan::by_tensors(layer, self.clone()) }.cut(Cut::AfterPrompt)
    }
}

impl Tensors for Recorder {
    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    /// What remembers is shown every token.
    fn memory(&self) -> usize {
        1
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let weights = view.weights();
        let data = weights.to_data().convert::<f32>();
        let mut record = self.record.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = record.entry(view.layer()).or_default();
        later.rows.push(data.try_into_vec().expect("weights are numbers"));
        weights
    }
}

/// The oracle, told of one text.
#[derive(Clone, Debug)]
struct Informed {
    of: Oracle,
    record: Arc<Record>,
}

impl Policy for Informed {
    fn name(&self) -> String {
        self.of.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { decides: self.of.decides, ..Plan::by_tensors(layer, self.clone()) }
    }
}

impl Tensors for Informed {
    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let integers = |x: Tensor<3, burn::tensor::Int>| -> Vec<i64> {
            x.into_data().convert::<i64>().try_into_vec().expect("positions are integers")
        };
        let dims @ [_, _, rows] = view.positions().dims();
        let (positions, now) = (integers(view.positions()), integers(view.now()));
        let mut record = self.record.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = record.get_mut(&view.layer()).expect("a first pass has told what later queries attend to");
        later.sum();
        let groups = positions.chunks_exact(rows).zip(&now).enumerate();
        let scores: Vec<f32> = groups
            .flat_map(|(group, (positions, &now))| positions.iter().map(move |&position| (group, position, now)))
            .map(|(group, position, now)| later.of(group, position, now))
            .collect();
        Tensor::from_data(TensorData::new(scores, dims), &view.positions().device())
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    let cost = "A first pass over the text, token by token, and 4 · n² bytes per layer and decision for n tokens; then token by token";
    let citation = "A ceiling, not a published method";
    let differences =
        "The attention is the full state's: in the bounded run itself later queries attend to what is held there.";
    vec![
        Entry {
            idea: "Meant as the ceiling, which is not proven: it is told what the rest of the text attends to, which no policy can know.",
            rule: "Omit the row with the lowest sum of weights over all later queries of the text, as the full state gives them, averaged over all heads; one decision per layer. Scoring a text only: compare, experiment lm.",
            cost,
            citation,
            differences,
            ..Entry::new("oracle", Oracle::layer_wise())
        },
        Entry {
            idea: "The same, head by head.",
            rule: "As oracle, averaged over the query heads of each KV head; one decision per KV head.",
            cost,
            citation,
            differences,
            ..Entry::new("oracle-head", Oracle::head_wise())
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_later_queries_give_is_the_sum_over_them_alone() {
        let mut later = Later {
            rows: vec![vec![1.0, 1.0], vec![0.25, 0.75, 0.5, 0.5], vec![0.5, 0.25, 0.25, 0.0, 0.0, 1.0]],
            is_summed: false,
        };
        later.sum();
        later.sum();
        // Of two decisions: what queries 1 and 2 give to row 0, query 2 to rows 0 and 1, and none to any.
        assert_eq!(later.rows, [vec![0.75, 0.5], vec![0.5, 0.25, 0.0, 0.0], vec![0.0; 6]]);
        assert_eq!(
            [later.of(0, 0, 0), later.of(1, 0, 0), later.of(0, 1, 1), later.of(1, -1, 1)],
            [0.75, 0.5, 0.25, 0.0]
        );
    }
}
