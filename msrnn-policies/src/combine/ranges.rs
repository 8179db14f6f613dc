//! Policies for ranges of layers, or of heads, and one for the rest.

use std::ops::RangeInclusive;
use std::sync::Arc;

use msrnn_core::policy::{Layer, Plan, Policy};

use crate::error::SpecError;

/// What some of them do; none for full.
pub(super) type Part = Option<Arc<dyn Policy>>;

/// Of what there are ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Of {
    /// One of them.
    pub(super) one: &'static str,
    /// How many can be named.
    pub(super) most: usize,
}

/// A policy for every range, counted from 0, and one for the rest.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    of: Of,
    /// Disjoint, ascending.
    ranges: Vec<(RangeInclusive<usize>, Part)>,
    rest: Part,
}

impl Ranges {
    /// The same for all.
    pub(super) fn all(of: Of, policy: Part) -> Self {
        Self { of, ranges: Vec::new(), rest: policy }
    }

    /// Another policy for some.
    pub(super) fn but(mut self, range: RangeInclusive<usize>, policy: Part) -> Result<Self, SpecError> {
        let Of { one, most } = self.of;
        if range.is_empty() || *range.end() >= most {
            return Err(SpecError::NoRange { one, first: *range.start(), last: *range.end(), most: most - 1 });
        }
        let twice = |(other, _): &(RangeInclusive<usize>, _)| {
            let first = *range.start().max(other.start());
            (first <= *range.end().min(other.end())).then_some(first)
        };
        if let Some(index) = self.ranges.iter().find_map(twice) {
            return Err(SpecError::Twice { one, index });
        }
        let at = self.ranges.partition_point(|(other, _)| other.start() < range.start());
        self.ranges.insert(at, (range, policy));
        Ok(self)
    }

    /// Of every range, and of the rest.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Part> {
        self.ranges.iter().map(|(_, policy)| policy).chain([&self.rest])
    }

    /// The same with other policies, in the order of [`Ranges::policies`].
    pub(super) fn with(&self, policies: impl IntoIterator<Item = Part>) -> Self {
        let mut each: Vec<Part> = policies.into_iter().collect();
        let rest = each.pop().flatten();
        let ranges = self.ranges.iter().map(|(range, _)| range.clone()).zip(each).collect();
        Self { of: self.of, ranges, rest }
    }

    /// One more than the highest that is named.
    pub(super) fn named(&self) -> usize {
        self.ranges.iter().map(|(range, _)| range.end() + 1).max().unwrap_or(0)
    }

    /// What one does in a layer.
    pub(super) fn plan(&self, index: usize, layer: &Layer) -> Plan {
        let of = self.ranges.iter().find(|(range, _)| range.contains(&index)).map(|(_, policy)| policy);
        match of.unwrap_or(&self.rest) {
            Some(policy) => policy.plan(layer),
            None => Plan::full(layer),
        }
    }

    /// `layers(0-1: full, *: tova)`
    pub(super) fn name(&self) -> String {
        let mut name = format!("{}s(", self.of.one);
        let of = |policy: &Part| policy.as_ref().map_or_else(|| "full".into(), |policy| policy.name());
        for (range, policy) in &self.ranges {
            let (first, last) = (range.start(), range.end());
            name += &if first == last { format!("{first}: ") } else { format!("{first}-{last}: ") };
            name += &of(policy);
            name += ", ";
        }
        name + "*: " + &of(&self.rest) + ")"
    }
}
