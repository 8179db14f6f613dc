//! H2O, the heavy-hitter oracle.
//!
//! Zhang et al. 2023 (arXiv 2306.14048): half of the states are a recent window, the other half the
//! earlier tokens with the highest attention accumulated over all steps.

use msrnn_core::policy::{Decides, Layer, Plan, Policy};
use msrnn_core::score::{Score, remembered, weight};
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
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct H2o {
    /// Weights averaged over each KV head's group, or over all query heads of the layer.
    pub decides: Decides,
}

impl H2o {
    /// One decision per KV head, as published.
    pub const fn head_wise() -> Self {
        Self { decides: Decides::KvHead }
    }

    /// One decision per layer, the ablation of the TOVA paper.
    pub const fn layer_wise() -> Self {
        Self { decides: Decides::Layer }
    }
}

impl Policy for H2o {
    fn name(&self) -> String {
        match self.decides {
            Decides::KvHead => "h2o".into(),
            Decides::Layer => "h2o-layer".into(),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let accumulated = Score::of(remembered("m")).remember("m", remembered("m") + weight());
        let recent = layer.states - layer.states / 2;
        Plan { decides: self.decides, ..Plan::by_rule(layer, accumulated.into()).protecting(0, recent) }
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            idea: "A few tokens, the heavy hitters, receive most of the attention over time.",
            rule: "Per KV head, accumulate the weights (mean over the group's query heads) of every step, the current one included; the sum belongs to the row and goes with it. The k − ⌊k/2⌋ newest rows are safe; among the others the lowest sum goes.",
            cost: "O(heads · k) additions and a minimum over k per KV head",
            citation: "Zhang et al. 2023, arXiv 2306.14048; as compared in Oren et al. 2024, arXiv 2401.06104, section 3.2",
            differences: "A row that is omitted is gone. The published mask simulation hides one row for exactly one step and may let it return.",
            ..Entry::new("h2o", H2o::head_wise())
        },
        Entry {
            idea: "H2O with one decision for all heads of a layer.",
            rule: "As h2o, with the mean over all query heads of the layer.",
            cost: "O(heads · k) additions and a minimum over k",
            citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, table 3",
            differences: "As h2o. The paper's printed row for it equals Window+1 to the digit, so there is no number to reproduce.",
            ..Entry::new("h2o-layer", H2o::layer_wise())
        },
    ]
}
