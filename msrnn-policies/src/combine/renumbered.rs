//! How rows are numbered, under any policy.

use std::sync::Arc;

use msrnn_core::placement::Positions;
use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

/// Says by which positions rows are rotated, whatever a run says of policies that say nothing.
///
/// ```
/// use msrnn_core::placement::Positions;
/// use msrnn_core::policy::{Layer, Policy};
/// use msrnn_policies::{Renumbered, Window};
///
/// // StreamingLLM.
/// let streaming = Renumbered { positions: Positions::InState, policy: std::sync::Arc::new(Window { first: 4 }) };
/// assert_eq!(streaming.name(), "in-state(window+4)");
/// assert_eq!(streaming.plan(&Layer::only(512)).positions, Some(Positions::InState));
/// ```
#[derive(Clone, Debug)]
pub struct Renumbered {
    /// How.
    pub positions: Positions,
    /// Who goes.
    pub policy: Arc<dyn Policy>,
}

impl Policy for Renumbered {
    fn name(&self) -> String {
        format!("{}({})", self.positions, self.policy.name())
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(layer).numbered(self.positions)
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}
