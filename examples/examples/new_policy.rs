//! A policy of one's own, put through every law and run on a model:
//! `cargo run --release -p msrnn-examples --example new_policy`, and
//! `cargo test --release -p msrnn-examples` for the laws.

use std::sync::Arc;

use burn::tensor::{DType, Device};
use msrnn_bench::evaluate::{Scoring, evaluate};
use msrnn_bench::{bundled, contexts::Contexts};
use msrnn_core::compression::Compression;
use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::score::value_norm;

// The whole policy: begin.
/// Omits the row whose *value* is shortest, head by head: what adds little to any output is
/// cheapest to lose. The four newest rows are safe.
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
// The whole policy: end.

#[cfg(test)]
msrnn_core::policy_laws!(shortest_value, ShortestValue);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = bundled::load(DType::F32, &Device::default())?;
    let contexts = Contexts::of_stories(0, 4, 512, &model)?;
    for states in [32, 64, 128] {
        let compression = Compression::bounded(Arc::new(ShortestValue), states)?;
        let scoring = Scoring { batch: 4, ..Scoring::new(compression) };
        let evaluation = evaluate(&model, &contexts.contexts, &scoring, &mut (), &false.into())?;
        let perplexity = evaluation.perplexity().map_or_else(|| "none".into(), |perplexity| format!("{perplexity:.3}"));
        println!("shortest-value@{states}: perplexity {perplexity}");
    }
    Ok(())
}
