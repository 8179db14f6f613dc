//! Knorm: rows with long keys go.
//!
//! Devoto et al. 2024 (arXiv 2406.11430): the norm of a key is anticorrelated with the attention that it gets.

use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::score::key_norm;
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits, per KV head, the row with the longest key.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Knorm;
///
/// assert_eq!(Knorm.name(), "knorm");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knorm;

impl Policy for Knorm {
    fn name(&self) -> String {
        "knorm".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_score(layer, -key_norm()).per_head()
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "Keys that are short draw attention; long ones can go.",
        rule: "Per KV head, omit the row with the largest Euclidean norm of its key.",
        cost: "O(k) comparisons of norms that are carried with the rows; no attention weights",
        citation: "Devoto et al. 2024, arXiv 2406.11430, section 3",
        differences: "At every token unless composed otherwise; after-prompt(knorm) is kvpress' KnormPress. The authors' code leaves the first two layers whole and prunes above 2,048 rows only. A token that comes again has a key of the same norm in the first layer but for rounding, which then decides.",
        ..Entry::new("knorm", Knorm)
    }]
}
