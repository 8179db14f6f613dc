//! What goes is merged into what stays, under any policy.

use std::sync::Arc;

use msrnn_core::merging::{Merging, Threshold, Weight};
use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

/// Before a row goes, the row that stays whose key is most similar takes up part of it, if they are similar enough.
///
/// Wan et al. 2024 (D2O, arXiv 2406.13035, section 3.3), with u the cosine similarity of the keys. In the form of its
/// code, K ← (K + Σ u·Kₒ) / (1 + n) over the n rows merged into one, and values likewise; in that of its paper
/// K ← (e·K + Σ eᵘ·Kₒ) / (e + Σ eᵘ). From which u on is a number here, or as in D2O a moving mean of all that were seen.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::{H2o, Merge};
///
/// let merge = Merge::of(std::sync::Arc::new(H2o::head_wise()));
/// assert_eq!(merge.name(), "merge(h2o, threshold=0.5)");
/// ```
#[derive(Clone, Debug)]
pub struct Merge {
    /// Who goes.
    pub policy: Arc<dyn Policy>,
    /// From which cosine similarity of their keys on rows are merged.
    pub threshold: Threshold,
    /// With which weights.
    pub weight: Weight,
}

impl Merge {
    /// Where none is given.
    pub const THRESHOLD: Threshold = Threshold::Fixed(0.5);

    /// What is merged where nothing more is said.
    pub fn of(policy: Arc<dyn Policy>) -> Self {
        Self { policy, threshold: Self::THRESHOLD, weight: Weight::default() }
    }
}

impl Policy for Merge {
    fn name(&self) -> String {
        let Self { policy, threshold, weight } = self;
        let weight = match weight {
            Weight::Mean => String::new(),
            Weight::Exp => format!(", weight={weight}"),
        };
        format!("merge({}, threshold={threshold}{weight})", policy.name())
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).merging(Merging { threshold: self.threshold, weight: self.weight })
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}
