//! KV heads that compete for their layer's budget, under any policy.

use std::sync::Arc;

use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

/// The KV heads of a layer share its k · heads rows: those of highest score stay, whichever head's they are, but of
/// every head the best `floor` · k.
///
/// Feng et al. 2024 (Ada-KV, arXiv 2407.11550), in the form of kvpress: the floor is a minimum. (The authors' code
/// counts the rows that each head would win and moves these counts a share of the way towards k.) Memory is
/// allocated for the rows that each head holds.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::{Pooled, SnapKv};
///
/// let ada = Pooled { policy: std::sync::Arc::new(SnapKv::default()), floor: 0.2 };
/// assert_eq!(ada.name(), "pooled(snapkv, floor=0.2)");
/// ```
#[derive(Clone, Debug)]
pub struct Pooled {
    /// Scores rows by KV head.
    pub policy: Arc<dyn Policy>,
    /// From 0 to 1; above 0 it is at least one row.
    pub floor: f64,
}

impl Pooled {
    /// Where none is given, as in the authors' code and kvpress.
    pub const FLOOR: f64 = 0.2;
}

impl Policy for Pooled {
    fn name(&self) -> String {
        format!("pooled({}, floor={})", self.policy.name(), self.floor)
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).pooled(self.floor)
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}
