//! TOVA, Token Omission Via Attention.
//!
//! Oren et al. 2024 (arXiv 2401.06104, section 3.3): the row to which the *current* query attends
//! least is omitted. Nothing is protected, nothing is accumulated.

use std::sync::Arc;

use msrnn_core::policy::{Decides, Layer, Plan, Policy};
use msrnn_core::score::weight;
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

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
    pub decides: Decides,
    /// How many of the first tokens are protected; the paper's TOVA protects none.
    pub first: usize,
}

impl Tova {
    /// One decision per layer, the paper's default.
    pub const fn layer_wise() -> Self {
        Self { decides: Decides::Layer, first: 0 }
    }

    /// One decision per KV head, the paper's ablation.
    pub const fn head_wise() -> Self {
        Self { decides: Decides::KvHead, first: 0 }
    }
}

impl Policy for Tova {
    fn name(&self) -> String {
        let base = match self.decides {
            Decides::Layer => "tova",
            Decides::KvHead => "tova-head",
        };
        match self.first {
            0 => base.into(),
            first => format!("{base}+{first}"),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan { decides: self.decides, ..Plan::by_score(layer, weight()).protecting(self.first, 0) }
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            idea: "What the current token does not attend to is not worth carrying.",
            rule: "Average the current query's softmax weights over all query heads of the layer; omit the row with the lowest, the current token's included. One decision per layer.",
            cost: "O(heads · k) additions and a minimum over k",
            citation: "Oren et al. 2024, arXiv 2401.06104, section 3.3 and algorithm 1",
            differences: "On equal weights the oldest row goes (the authors' code leaves that to top-k), and weights are averaged in f32 or wider instead of the model's dtype.",
            ..Entry::new("tova", Tova::layer_wise())
        },
        Entry {
            idea: "TOVA with every KV head deciding for itself.",
            rule: "Average the current query's weights over the query heads of each KV head's group; every KV head omits its own lowest row.",
            cost: "O(heads · k) additions and a minimum over k per KV head",
            citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, appendix",
            differences: "Under grouped-query attention the group's mean decides; the paper's models had one query head per KV head. Ties as in tova.",
            ..Entry::new("tova-head", Tova::head_wise())
        },
        Entry {
            idea: "TOVA with the first i tokens protected.",
            rule: "As tova, but a row whose position is below i never goes. Needs k > i.",
            cost: "O(heads · k) additions and a minimum over k",
            citation: "Ablation of Oren et al. 2024, arXiv 2401.06104, table 3",
            differences: "As tova.",
            ..Entry::with_arguments("tova+i", "tova+4", |arguments| {
                Ok(Arc::new(Tova { first: arguments.first(), ..Tova::layer_wise() }))
            })
        },
    ]
}
