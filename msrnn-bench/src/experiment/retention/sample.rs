//! What one context under one policy leaves behind: counts and sums, no text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::grid::Grid;
use super::history::{Group, History, Share};
use crate::evaluate::Observed;
use crate::trace_parquet::Row;

/// One context under one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// k, none when nothing bounds it.
    pub states: Option<usize>,
    /// What the states held.
    #[serde(flatten)]
    pub observed: Observed,
    /// Tokens of the context.
    pub tokens: usize,
    /// Deciding groups of a layer.
    pub groups: usize,
    /// By layer, by span (whose last step is looked at), by span of positions up to it: rows held
    /// after that step, in all groups together.
    pub held: Vec<Vec<Vec<u32>>>,
    /// By position among the first, by span: groups of all layers that hold it after the span's last step.
    pub first_held: Vec<Vec<u32>>,
    /// By position among the first: steps kept, in all groups of all layers together.
    pub first_kept: Vec<u64>,
    /// By kind of token: rows in all groups of all layers, and the steps that they were kept.
    pub kinds: BTreeMap<String, Kept>,
    /// By layer: rows held after steps with an omission, and how many of them were recent.
    pub recent: Vec<Share>,
    /// By layer, where it was asked for.
    pub losses: Option<Vec<Loss>>,
    /// By group, where it was asked for.
    pub trace: Option<Vec<Trace>>,
}

/// Rows, and the steps that they were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Rows.
    pub rows: u64,
    /// Steps, of all together.
    pub steps: u64,
}

impl Kept {
    /// Both of both.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.steps += other.steps;
    }

    /// Mean steps kept; none without rows.
    pub fn mean(self) -> Option<f64> {
        (self.rows > 0).then(|| self.steps as f64 / self.rows as f64)
    }
}

/// Attention that a layer lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Omissions of all groups.
    pub omissions: u64,
    /// Σ over omissions of the weight of the row that went.
    pub omitted: f64,
    /// By span: Σ over its steps and the groups of the share of attention on rows no longer held.
    pub missing: Vec<f64>,
}

/// All omissions of one group. There is one at every step from `first` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// From 0.
    pub layer: usize,
    /// KV head, none when the layer decides as a whole.
    pub head: Option<usize>,
    /// Step of the first omission.
    pub first: usize,
    /// Positions that went.
    pub positions: Vec<u32>,
    /// The weight that each had, to five significant digits; empty where it was not asked for.
    pub mass: Vec<f64>,
}

impl Trace {
    /// The omissions as rows of a table.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.positions.iter().enumerate().map(|(i, &position)| Row {
            step: self.first + i,
            layer: self.layer,
            head: self.head,
            position: position as usize,
            mass: self.mass.get(i).copied(),
        })
    }
}

/// What is to be kept of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Where the history is looked at.
    pub(super) grid: Grid,
    /// How many of the first tokens are followed by themselves.
    pub(super) first: usize,
    /// The kind of every token.
    pub(super) kinds: &'a [&'static str],
    /// Whether every omission is kept.
    pub(super) trace: bool,
}

impl Sample {
    pub(super) fn new(history: &History, states: Option<usize>, wanted: Wanted<'_>) -> Self {
        let tokens = wanted.kinds.len();
        let layers = history.groups.last().map_or(0, |group| group.layer + 1);
        let of_layer = |layer| history.groups.iter().filter(move |group| group.layer == layer);
        let first = wanted.first.min(tokens);
        let recent = |layer| {
            let mut share = Share::default();
            of_layer(layer).for_each(|group| share.add(states.map_or_else(Share::default, |k| group.recent(k))));
            share
        };
        let losses =
            history.losses.as_ref().map(|_| (0..layers).map(|layer| loss(history, layer, wanted.grid)).collect());
        Self {
            states,
            observed: history.observed,
            tokens,
            groups: of_layer(0).count(),
            held: (0..layers).map(|layer| held(&of_layer(layer).collect::<Vec<_>>(), wanted.grid, tokens)).collect(),
            first_held: (0..first).map(|position| first_held(&history.groups, position, wanted.grid)).collect(),
            first_kept: (0..first)
                .map(|position| history.groups.iter().map(|group| group.steps_kept(position) as u64).sum())
                .collect(),
            kinds: kinds(&history.groups, wanted.kinds),
            recent: (0..layers).map(recent).collect(),
            losses,
            trace: wanted.trace.then(|| traces(history)),
        }
    }
}

fn held(groups: &[&Group], grid: Grid, tokens: usize) -> Vec<Vec<u32>> {
    let spans = grid.spans(tokens);
    let mut held: Vec<Vec<u32>> = (0..spans).map(|at| vec![0; at + 1]).collect();
    for group in groups {
        for position in 0..tokens {
            for (at, held) in held.iter_mut().enumerate().skip(grid.of(position)) {
                // Gone is gone for good.
                if !group.held_after(position, grid.step(at, tokens)) {
                    break;
                }
                held[grid.of(position)] += 1;
            }
        }
    }
    held
}

fn first_held(groups: &[Group], position: usize, grid: Grid) -> Vec<u32> {
    let tokens = groups.first().map_or(0, Group::tokens);
    let at = |span| groups.iter().filter(|group| group.held_after(position, grid.step(span, tokens))).count() as u32;
    (0..grid.spans(tokens)).map(at).collect()
}

fn kinds(groups: &[Group], kinds: &[&'static str]) -> BTreeMap<String, Kept> {
    let mut all: BTreeMap<String, Kept> = BTreeMap::new();
    for (position, &kind) in kinds.iter().enumerate() {
        let steps = groups.iter().map(|group| group.steps_kept(position) as u64).sum();
        all.entry(kind.to_owned()).or_default().add(Kept { rows: groups.len() as u64, steps });
    }
    all
}

fn loss(history: &History, layer: usize, grid: Grid) -> Loss {
    let mut loss = Loss::default();
    let losses = history.losses.iter().flatten().zip(&history.groups).filter(|(_, group)| group.layer == layer);
    for (of_group, group) in losses {
        loss.omissions += of_group.omitted.len() as u64;
        loss.omitted += of_group.omitted.iter().sum::<f64>();
        loss.missing.resize(grid.spans(group.tokens()), 0.0);
        for (step, missing) in of_group.missing.iter().enumerate() {
            loss.missing[grid.of(step)] += missing;
        }
    }
    loss
}

fn traces(history: &History) -> Vec<Trace> {
    let trace = |(i, group): (usize, &Group)| {
        let omissions = group.omissions();
        let mass = history.losses.as_ref().map_or_else(Vec::new, |losses| losses[i].omitted.clone());
        Trace {
            layer: group.layer,
            head: group.head,
            first: omissions.first().map_or(0, |&(step, _)| step),
            positions: omissions.iter().map(|&(_, position)| position as u32).collect(),
            mass: mass.into_iter().map(rounded).collect(),
        }
    };
    history.groups.iter().enumerate().map(trace).collect()
}

/// To five significant digits, which keeps the lines short.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().expect("a number as it was written")
}

#[cfg(test)]
mod tests {
    use super::super::attention::Losses;
    use super::*;

    /// k = 2, six tokens, two groups in one layer.
    fn example() -> History {
        let group = |head, omitted_at: [Option<usize>; 6]| Group {
            layer: 0,
            head: Some(head),
            omitted_at: omitted_at.to_vec(),
        };
        History {
            groups: vec![
                group(0, [Some(2), Some(3), Some(4), Some(5), None, None]),
                group(1, [None, Some(2), Some(3), Some(4), Some(5), None]),
            ],
            losses: Some(vec![
                Losses { omitted: vec![0.1, 0.2, 0.3, 0.4], missing: vec![0.0, 0.0, 0.0, 0.5, 0.5, 0.5] },
                Losses { omitted: vec![0.0; 4], missing: vec![0.0; 6] },
            ]),
            observed: Observed { omitted: 8, max_rows: 2, state_bytes: 1, ..Observed::default() },
        }
    }

    #[test]
    fn counts_are_those_of_a_trace_worked_by_hand() {
        let kinds = ["special", "NN", "NN", ".", "NN", "."];
        let wanted = Wanted { grid: Grid::new(6, 3), first: 2, kinds: &kinds, trace: true };
        let sample = Sample::new(&example(), Some(2), wanted);
        assert_eq!((sample.groups, sample.tokens), (2, 6));
        // After steps 1, 3 and 5: {0,1} twice; {2,3} and {0,3}; {4,5} and {0,5}.
        assert_eq!(sample.held, [[vec![4], vec![1, 3], vec![1, 0, 3]]]);
        assert_eq!(sample.first_held, [[2, 1, 1], [2, 0, 0]]);
        assert_eq!(sample.first_kept, [3 + 6, 3 + 2]);
        let kept = |rows, steps| Kept { rows, steps };
        assert_eq!(sample.kinds["special"], kept(2, 9));
        assert_eq!(sample.kinds["NN"], kept(6, (3 + 2) + (3 + 2) + (2 + 2)));
        assert_eq!(sample.kinds["."], kept(4, (3 + 2) + (1 + 1)));
        // Of the second group position 0 is old after every step from 2 on.
        assert_eq!(sample.recent, [Share { part: 8 + 4, of: 16 }]);
        let loss = &sample.losses.as_ref().unwrap()[0];
        assert_eq!((loss.omissions, loss.missing.clone()), (8, vec![0.0, 0.5, 1.0]));
        assert!((loss.omitted - 1.0).abs() < 1e-12);
        let trace = sample.trace.as_ref().unwrap();
        assert_eq!(
            (trace[0].first, &trace[0].positions, &trace[0].mass),
            (2, &vec![0, 1, 2, 3], &vec![0.1, 0.2, 0.3, 0.4])
        );
        assert_eq!(trace[1].head, Some(1));
    }

    #[test]
    fn numbers_are_rounded_to_five_digits() {
        assert_eq!((rounded(0.000_123_456_7), rounded(0.0), rounded(0.5)), (0.000_123_46, 0.0, 0.5));
    }
}
