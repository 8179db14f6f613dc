//! Rows that never go, under any policy.

use std::sync::Arc;

use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

/// Protects the first tokens and the newest rows, beside what the policy protects itself.
///
/// ```
/// use msrnn_core::policy::{Layer, Policy};
/// use msrnn_policies::{Protect, Tova};
///
/// let safe = Protect { policy: std::sync::Arc::new(Tova::layer_wise()), first: 4, newest: 16 };
/// assert_eq!(safe.name(), "protect(tova, first=4, newest=16)");
/// assert_eq!(safe.plan(&Layer::only(512)).fewest_states(), 20);
/// ```
#[derive(Clone, Debug)]
pub struct Protect {
    /// Who goes of the others.
    pub policy: Arc<dyn Policy>,
    /// Of how many of the first tokens no row goes. They count inside k.
    pub first: usize,
    /// How many of the newest rows do not go. They count inside k.
    pub newest: usize,
}

impl Policy for Protect {
    fn name(&self) -> String {
        let mut name = format!("protect({}", self.policy.name());
        for (what, rows) in [("first", self.first), ("newest", self.newest)] {
            if rows > 0 {
                name += &format!(", {what}={rows}");
            }
        }
        name + ")"
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).protecting(self.first, self.newest)
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}
