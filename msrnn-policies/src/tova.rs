//! TOVA, Token Omission Via Attention.
//!
//! Oren et al. 2024 (arXiv 2401.06104, section 3.3): the row to which the *current* query attends
//! least is omitted. Nothing is protected, nothing is accumulated.

use burn::tensor::Tensor;
use msrnn_core::device_score::{DeviceScore, ScoreRule};
use msrnn_core::policy::{Granularity, HostMemory, HostView, Memory, Policy, ScoreOnHost, Sees, View};
use serde::{Deserialize, Serialize};

use crate::registry::{Entry, number_after};

/// Omits the row with the lowest attention weight of the current query.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Tova;
///
/// assert_eq!(Tova::layer_wise().name(), "tova");
/// assert_eq!(Tova::head_wise().name(), "tova-head");
/// assert_eq!(Tova { first: 4, ..Tova::layer_wise() }.name(), "tova+4");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tova {
    /// Weights averaged over all query heads of the layer, or over each KV head's group.
    pub granularity: Granularity,
    /// How many of the first tokens are protected; the paper's TOVA protects none.
    pub first: usize,
}

impl Tova {
    /// One decision per layer, the paper's default.
    pub const fn layer_wise() -> Self {
        Self { granularity: Granularity::Layer, first: 0 }
    }

    /// One decision per KV head, the paper's ablation.
    pub const fn head_wise() -> Self {
        Self { granularity: Granularity::KvHead, first: 0 }
    }
}

impl Policy for Tova {
    fn name(&self) -> String {
        let base = match self.granularity {
            Granularity::Layer => "tova",
            Granularity::KvHead => "tova-head",
        };
        match self.first {
            0 => base.into(),
            first => format!("{base}+{first}"),
        }
    }

    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    fn granularity(&self) -> Granularity {
        self.granularity
    }

    fn min_states(&self) -> usize {
        self.first.saturating_add(1)
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        match self.first {
            0 => view.weights(),
            first => view.weights().mask_fill(view.first(first), f32::INFINITY),
        }
    }

    fn on_host(&self) -> Option<&dyn ScoreOnHost> {
        Some(self)
    }

    fn on_device(&self, _states: usize, _layer: usize) -> Option<DeviceScore> {
        Some(DeviceScore { rule: ScoreRule::Weight, first: self.first, newest: 0 })
    }
}

impl ScoreOnHost for Tova {
    fn score(&self, view: &HostView<'_>, _memory: &mut HostMemory, scores: &mut [f64]) {
        for ((score, &weight), &position) in scores.iter_mut().zip(view.weights).zip(view.positions) {
            *score = if position < self.first as i64 { f64::INFINITY } else { weight };
        }
    }
}

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        name: "tova",
        example: "tova",
        idea: "What the current token does not attend to is not worth carrying.",
        rule: "Average the current query's softmax weights over all query heads of the layer; omit the row with the lowest, the current token's included. One decision per layer.",
        cost: "O(heads · k) additions and a minimum over k",
        citation: "Oren et al. 2024, arXiv 2401.06104, section 3.3 and algorithm 1",
        differences: "On equal weights the oldest row goes (the authors' code leaves that to top-k), and weights are averaged in f32 or wider instead of the model's dtype.",
        parse: |text| (text == "tova").then(|| Ok(std::sync::Arc::new(Tova::layer_wise()) as _)),
    },
    Entry {
        name: "tova-head",
        example: "tova-head",
        idea: "TOVA with every KV head deciding for itself.",
        rule: "Average the current query's weights over the query heads of each KV head's group; every KV head omits its own lowest row.",
        cost: "O(heads · k) additions and a minimum over k per KV head",
        citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, appendix",
        differences: "Under grouped-query attention the group's mean decides; the paper's models had one query head per KV head. Ties as in tova.",
        parse: |text| (text == "tova-head").then(|| Ok(std::sync::Arc::new(Tova::head_wise()) as _)),
    },
    Entry {
        name: "tova+i",
        example: "tova+4",
        idea: "TOVA with the first i tokens protected.",
        rule: "As tova, but a row whose position is below i never goes. Needs k > i.",
        cost: "O(heads · k) additions and a minimum over k",
        citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, table 3",
        differences: "As tova.",
        parse: |text| {
            number_after(text, "tova+")
                .map(|first| first.map(|first| std::sync::Arc::new(Tova { first, ..Tova::layer_wise() }) as _))
        },
    },
];
