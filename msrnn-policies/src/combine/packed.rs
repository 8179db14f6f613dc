//! Rows in fewer bits, under any policy.

use std::sync::Arc;

use msrnn_core::packing::{Packing, Per};
use msrnn_core::policy::{Foresight, Layer, Plan, Policy};
use msrnn_core::score::number;

/// Holds keys and values in 8, 4 or 2 bits; which row goes is the policy's business, or nothing goes.
///
/// Liu et al. 2024 (KIVI, arXiv 2402.02750) round so, keys per channel and values per token; see
/// [`msrnn_core::packing`].
///
/// ```
/// use msrnn_core::packing::{Bits, Packing, Per};
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::{Packed, Tova};
///
/// let int4 = |policy, per| Packed { policy, packing: Packing::new(Bits::Four, per, 32, 32) };
/// let tova = int4(Some(std::sync::Arc::new(Tova::layer_wise())), Per::Token);
/// assert_eq!(tova.name(), "int4(tova, group=32, recent=32)");
/// assert_eq!(int4(None, Per::Channel).name(), "int4(full, keys=channel, group=32, recent=32)");
/// ```
#[derive(Clone, Debug)]
pub struct Packed {
    /// Who goes; none where nothing does.
    pub policy: Option<Arc<dyn Policy>>,
    /// How rows are held.
    pub packing: Packing,
}

impl Policy for Packed {
    fn name(&self) -> String {
        let Packing { bits, group, keys, values } = &self.packing;
        let bits = bits.number();
        if keys.every != values.every {
            return format!("kivi(bits={bits}, group={group}, recent={})", values.recent);
        }
        let inside = self.policy.as_ref().map_or_else(|| "full".into(), |policy| policy.name());
        let keys_per = match keys.per {
            Per::Token => "",
            Per::Channel => ", keys=channel",
        };
        format!("int{bits}({inside}{keys_per}, group={group}, recent={})", values.recent)
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let plan = match &self.policy {
            Some(policy) => policy.plan(layer),
            None => Plan { states: None, ..Plan::by_score(layer, number(0.0)) },
        };
        plan.packed(self.packing)
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.as_ref()?.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy: Some(policy), ..self.clone() })))
    }
}
