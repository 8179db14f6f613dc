//! Another policy in other KV heads.

use std::ops::RangeInclusive;
use std::sync::Arc;

use msrnn_core::needs::HEADS;
use msrnn_core::policy::{Layer, Named, Plan, Policy};

use super::ranges::{Of, Ranges};
use crate::error::SpecError;

/// A policy for each range of a layer's KV heads, counted from 0, and one for the rest. None is `full`: there nothing goes.
/// Every head is a state of its own, with memory for what it holds.
///
/// Heads that retrieve keep all rows and others only sinks and a window in DuoAttention (Xiao et al. 2024, arXiv 2410.10819),
/// which finds out which are which by training; here they are named.
///
/// ```
/// use msrnn_core::policy::{Layer, Policy};
/// use msrnn_policies::{PerHead, Window};
///
/// let heads = PerHead::all(Some(std::sync::Arc::new(Window { first: 4 }))).but(0..=0, None)?;
/// assert_eq!(heads.name(), "heads(0: full, *: window+4)");
/// let plan = heads.plan(&Layer { index: 0, layers: 12, kv_heads: 3, states: 512 });
/// assert_eq!(plan.heads.iter().map(|head| head.states).collect::<Vec<_>>(), [None, Some(512), Some(512)]);
/// # Ok::<(), msrnn_policies::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PerHead {
    ranges: Ranges,
}

impl PerHead {
    /// The same in all heads.
    pub fn all(policy: Option<Arc<dyn Policy>>) -> Self {
        Self { ranges: Ranges::all(Of { one: "head", most: HEADS }, policy) }
    }

    /// Another policy in some heads.
    ///
    /// # Errors
    ///
    /// When a head has one already, there is no head in the range, or it ends beyond the 64th.
    pub fn but(self, range: RangeInclusive<usize>, policy: Option<Arc<dyn Policy>>) -> Result<Self, SpecError> {
        Ok(Self { ranges: self.ranges.but(range, policy)? })
    }
}

impl Policy for PerHead {
    fn name(&self) -> String {
        self.ranges.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let one = Layer { kv_heads: 1, ..*layer };
        let heads = (0..layer.kv_heads).map(|head| self.ranges.plan(head, &one)).collect();
        Plan::by_head(layer, heads).naming(Named { heads: self.ranges.named(), ..Named::default() })
    }
}
