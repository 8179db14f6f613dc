//! Another policy in other layers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use msrnn_core::policy::{Foresight, Layer, Named, Plan, Policy};

use super::ranges::{Of, Part, Ranges};
use crate::error::SpecError;
use crate::needs::LAYERS;

/// A policy for each range of layers, counted from 0, and one for the rest. None is `full`: there nothing goes.
///
/// ```
/// use msrnn_core::policy::{Layer, Policy};
/// use msrnn_policies::{PerLayer, Tova};
///
/// let layers = PerLayer::all(Some(std::sync::Arc::new(Tova::layer_wise()))).but(0..=1, None)?;
/// assert_eq!(layers.name(), "layers(0-1: full, *: tova)");
/// let layer = |index| Layer { index, layers: 12, kv_heads: 2, states: 512 };
/// assert_eq!(layers.plan(&layer(1)).states, None);
/// assert_eq!(layers.plan(&layer(2)).states, Some(512));
/// assert!(layers.but(1..=3, None).is_err(), "layer 1 would have two");
/// # Ok::<(), msrnn_policies::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PerLayer {
    ranges: Ranges,
}

impl PerLayer {
    /// The same in all layers.
    pub fn all(policy: Option<Arc<dyn Policy>>) -> Self {
        Self { ranges: Ranges::all(Of { one: "layer", most: LAYERS }, policy) }
    }

    /// Another policy in some layers.
    ///
    /// # Errors
    ///
    /// When a layer has one already, there is no layer in the range, or it ends beyond the 256th.
    pub fn but(self, range: RangeInclusive<usize>, policy: Option<Arc<dyn Policy>>) -> Result<Self, SpecError> {
        Ok(Self { ranges: self.ranges.but(range, policy)? })
    }
}

impl Policy for PerLayer {
    fn name(&self) -> String {
        self.ranges.name()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.ranges.plan(layer.index, layer).naming(Named { layers: self.ranges.named(), ..Named::default() })
    }

    /// Every layer has its own.
    fn foresight(&self) -> Option<Foresight> {
        let told: Vec<_> =
            self.ranges.policies().map(|policy| policy.as_ref().and_then(|policy| policy.foresight())).collect();
        if told.iter().all(Option::is_none) {
            return None;
        }
        let with = |of: fn(&Foresight) -> &Arc<dyn Policy>, others: bool| {
            let one = |(policy, told): (&Part, &Option<Foresight>)| match told {
                Some(told) => Some(of(told).clone()),
                None => policy.clone().filter(|_| others),
            };
            Arc::new(Self { ranges: self.ranges.with(self.ranges.policies().zip(&told).map(one)) })
        };
        Some(Foresight { first: with(|told| &told.first, false), then: with(|told| &told.then, true) })
    }
}
