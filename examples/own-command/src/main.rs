//! The whole msrnn command with one more policy.

use std::process::ExitCode;

use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::score::value_norm;
use msrnn_policies::registry::{Entry, Registry};

/// Omits the row whose *value* is shortest, head by head. The four newest rows are safe.
#[derive(Debug)]
struct ShortestValue;

impl Policy for ShortestValue {
    fn name(&self) -> String {
        "shortest-value".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_score(layer, value_norm()).per_head().protecting(0, 4)
    }
}

fn main() -> ExitCode {
    let entry = Entry {
        idea: "What adds little to any output is cheapest to lose.",
        rule: "Every KV head omits the row with the shortest value; the four newest rows are safe.",
        ..Entry::new("shortest-value", ShortestValue)
    };
    msrnn_bench::main_with(Registry::default().with(entry))
}
