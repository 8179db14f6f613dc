//! Another policy in other layers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use msrnn_core::policy::{Foresight, Layer, Plan, Policy};
use msrnn_core::score::number;

use crate::error::SpecError;
use crate::needs::LAYERS;

/// What some layers do; none for full.
type PerRange = Option<Arc<dyn Policy>>;

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
    /// Disjoint, ascending.
    ranges: Vec<(RangeInclusive<usize>, PerRange)>,
    rest: Option<Arc<dyn Policy>>,
}

impl PerLayer {
    /// The same in all layers.
    pub fn all(policy: Option<Arc<dyn Policy>>) -> Self {
        Self { ranges: Vec::new(), rest: policy }
    }

    /// Another policy in some layers.
    ///
    /// # Errors
    ///
    /// When a layer has one already, there is no layer in the range, or it ends beyond the 256th.
    pub fn but(mut self, range: RangeInclusive<usize>, policy: Option<Arc<dyn Policy>>) -> Result<Self, SpecError> {
        if range.is_empty() || *range.end() >= LAYERS {
            return Err(SpecError::NoLayers { first: *range.start(), last: *range.end(), most: LAYERS - 1 });
        }
        let twice = |(other, _): &(RangeInclusive<usize>, _)| {
            let first = *range.start().max(other.start());
            (first <= *range.end().min(other.end())).then_some(first)
        };
        if let Some(layer) = self.ranges.iter().find_map(twice) {
            return Err(SpecError::LayerTwice { layer });
        }
        let at = self.ranges.partition_point(|(other, _)| other.start() < range.start());
        self.ranges.insert(at, (range, policy));
        Ok(self)
    }

    /// Of every range, and of the rest.
    fn policies(&self) -> impl Iterator<Item = &PerRange> {
        self.ranges.iter().map(|(_, policy)| policy).chain([&self.rest])
    }

    /// Whether nothing goes in any layer.
    pub(crate) fn is_full(&self) -> bool {
        self.policies().all(Option::is_none)
    }
}

impl Policy for PerLayer {
    fn name(&self) -> String {
        let mut name = String::from("layers(");
        let of =
            |policy: &Option<Arc<dyn Policy>>| policy.as_ref().map_or_else(|| "full".into(), |policy| policy.name());
        for (range, policy) in &self.ranges {
            let (first, last) = (range.start(), range.end());
            name += &if first == last { format!("{first}: ") } else { format!("{first}-{last}: ") };
            name += &of(policy);
            name += ", ";
        }
        name + "*: " + &of(&self.rest) + ")"
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let of = self.ranges.iter().find(|(range, _)| range.contains(&layer.index)).map(|(_, policy)| policy);
        match of.unwrap_or(&self.rest) {
            Some(policy) => policy.plan(layer),
            None => Plan { states: None, ..Plan::by_score(layer, number(0.0)) },
        }
    }

    /// Every layer has its own.
    fn foresight(&self) -> Option<Foresight> {
        let told: Vec<_> =
            self.policies().map(|policy| policy.as_ref().and_then(|policy| policy.foresight())).collect();
        if told.iter().all(Option::is_none) {
            return None;
        }
        let with = |of: fn(&Foresight) -> &Arc<dyn Policy>, others: bool| {
            let one = |(policy, told): (&PerRange, &Option<Foresight>)| match told {
                Some(told) => Some(of(told).clone()),
                None => policy.clone().filter(|_| others),
            };
            let mut each: Vec<PerRange> = self.policies().zip(&told).map(one).collect();
            let rest = each.pop().flatten();
            let ranges = self.ranges.iter().map(|(range, _)| range.clone()).zip(each).collect();
            Arc::new(Self { ranges, rest })
        };
        Some(Foresight { first: with(|told| &told.first, false), then: with(|told| &told.then, true) })
    }
}
