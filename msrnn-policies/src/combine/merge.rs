//! What goes is merged into what stays, under any policy.

use std::sync::Arc;

use msrnn_core::merging::Merging;
use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

/// Before a row goes, the row that stays whose key is most similar takes up part of it, if they are similar enough.
///
/// Wan et al. 2024 (D2O, arXiv 2406.13035, section 3.3) with a fixed threshold, in the form of its code: with u the
/// cosine similarity of the keys, K ← (K + Σ u·Kₒ) / (1 + n) over the n rows merged into one, and values likewise.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::{H2o, Merge};
///
/// let merge = Merge { policy: std::sync::Arc::new(H2o::head_wise()), threshold: 0.5 };
/// assert_eq!(merge.name(), "merge(h2o, threshold=0.5)");
/// ```
#[derive(Clone, Debug)]
pub struct Merge {
    /// Who goes.
    pub policy: Arc<dyn Policy>,
    /// Rows are merged from this cosine similarity of their keys on.
    pub threshold: f64,
}

impl Merge {
    /// Where none is given.
    pub const THRESHOLD: f64 = 0.5;
}

impl Policy for Merge {
    fn name(&self) -> String {
        format!("merge({}, threshold={})", self.policy.name(), self.threshold)
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).merging(Merging { threshold: self.threshold })
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}
