//! Random: the seeded baseline that a rule has to beat.

use std::sync::Arc;

use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::score::random;
use serde::{Deserialize, Serialize};

use crate::registry::Entry;

/// Omits a row chosen uniformly at random, one decision per layer.
///
/// The choice is a hash of seed, layer, step and position, so it is the same on every device, in
/// every batch and in every form of evaluation.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Random;
///
/// assert_eq!(Random::default().name(), "random");
/// assert_eq!(Random { seed: Some(0) }.name(), "random:0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// Seed; none where none was named, which draws as 0 does.
    pub seed: Option<u64>,
}

impl Policy for Random {
    fn name(&self) -> String {
        match self.seed {
            None => "random".into(),
            Some(seed) => format!("random:{seed}"),
        }
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_score(layer, random(self.seed.unwrap_or(0)))
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry {
        idea: "The baseline that a rule has to beat.",
        rule: "Omit any of the k + 1 rows with equal probability; one decision per layer. random:SEED chooses another sequence.",
        cost: "O(k) integer operations; no attention weights",
        citation: "A control, not a published method",
        differences: "The choice is a 15-bit hash of seed, layer, step and position: beyond 32,717 held rows, equal hashes let the older go.",
        ..Entry::with_arguments("random", "random", |arguments| Ok(Arc::new(Random { seed: arguments.seed() })))
    }]
}
