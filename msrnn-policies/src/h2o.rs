//! H2O, the heavy-hitter oracle.
//!
//! Zhang et al. 2023 (arXiv 2306.14048): half of the states are a recent window, the other half the
//! earlier tokens with the highest attention accumulated over all steps.

use burn::tensor::Tensor;
use msrnn_core::device_score::{DeviceScore, ScoreRule};
use msrnn_core::policy::{Granularity, HostMemory, HostView, Memory, Policy, ScoreOnHost, Sees, View};
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits, among the rows outside the recent half, the one with the lowest accumulated attention.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::H2o;
///
/// assert_eq!(H2o::head_wise().name(), "h2o");
/// assert_eq!(H2o::layer_wise().name(), "h2o-layer");
/// assert_eq!(H2o::head_wise().memory(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct H2o {
    /// Weights averaged over each KV head's group, or over all query heads of the layer.
    pub granularity: Granularity,
}

impl H2o {
    /// One decision per KV head, as published.
    pub const fn head_wise() -> Self {
        Self { granularity: Granularity::KvHead }
    }

    /// One decision per layer, the ablation of the TOVA paper.
    pub const fn layer_wise() -> Self {
        Self { granularity: Granularity::Layer }
    }
}

/// The channel that holds a row's accumulated attention.
const ACCUMULATED: usize = 0;

impl Policy for H2o {
    fn name(&self) -> String {
        match self.granularity {
            Granularity::KvHead => "h2o".into(),
            Granularity::Layer => "h2o-layer".into(),
        }
    }

    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    fn granularity(&self) -> Granularity {
        self.granularity
    }

    fn memory(&self) -> usize {
        1
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let accumulated = memory.update(ACCUMULATED, |sum| sum + view.weights());
        accumulated.mask_fill(view.newest(recent(view.states())), f32::INFINITY)
    }

    fn on_host(&self) -> Option<&dyn ScoreOnHost> {
        Some(self)
    }

    fn on_device(&self, states: usize, _layer: usize) -> Option<DeviceScore> {
        Some(DeviceScore { rule: ScoreRule::AccumulatedWeight, first: 0, newest: recent(states) })
    }
}

/// How many of k states are the recent window.
fn recent(states: usize) -> usize {
    states - states / 2
}

impl ScoreOnHost for H2o {
    fn score(&self, view: &HostView<'_>, memory: &mut HostMemory, scores: &mut [f64]) {
        let oldest_recent = view.now - recent(view.states) as i64 + 1;
        let sums = &mut memory.channels[ACCUMULATED];
        for (((score, sum), &weight), &position) in scores.iter_mut().zip(sums).zip(view.weights).zip(view.positions) {
            *sum += weight;
            *score = if position >= oldest_recent { f64::INFINITY } else { *sum };
        }
    }
}

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        name: "h2o",
        example: "h2o",
        idea: "A few tokens, the heavy hitters, receive most of the attention over time.",
        rule: "Per KV head, accumulate the weights (mean over the group's query heads) of every step, the current one included; the sum belongs to the row and goes with it. The k − ⌊k/2⌋ newest rows are safe; among the others the lowest sum goes.",
        cost: "O(heads · k) additions and a minimum over k per KV head",
        citation: "Zhang et al. 2023, arXiv 2306.14048; as compared in Oren et al. 2024, arXiv 2401.06104, section 3.2",
        differences: "A row that is omitted is gone. The published mask simulation hides one row for exactly one step and may let it return.",
        parse: |text| (text == "h2o").then(|| Ok(std::sync::Arc::new(H2o::head_wise()) as _)),
    },
    Entry {
        name: "h2o-layer",
        example: "h2o-layer",
        idea: "H2O with one decision for all heads of a layer.",
        rule: "As h2o, with the mean over all query heads of the layer.",
        cost: "O(heads · k) additions and a minimum over k",
        citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, table 3",
        differences: "As h2o. The paper's printed row for it equals Window+1 to the digit, so there is no number to reproduce.",
        parse: |text| (text == "h2o-layer").then(|| Ok(std::sync::Arc::new(H2o::layer_wise()) as _)),
    },
];
