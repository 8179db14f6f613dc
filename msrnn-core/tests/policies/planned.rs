//! Policies that are one function.

use msrnn_core::policy::{Layer, Plan, Policy};

/// A policy by its plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned(pub(crate) &'static str, pub(crate) fn(&Layer) -> Plan);

impl Policy for Planned {
    fn name(&self) -> String {
        self.0.into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        (self.1)(layer)
    }
}
