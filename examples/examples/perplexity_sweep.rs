//! Perplexity over states: `cargo run --release -p msrnn-examples --example perplexity_sweep`

use std::sync::Arc;

use msrnn_bench::device::DeviceName;
use msrnn_bench::experiment::lm::{Lm, LmInputs, LmModel};
use msrnn_bench::experiment::models::Models;
use msrnn_bench::experiment::run::in_memory;
use msrnn_bench::hub::Downloads;
use msrnn_bench::precision::Precision;
use msrnn_bench::{bundled, render, texts};
use msrnn_core::budget::Budget;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let context = 512;
    let models = Models::new(&[bundled::NAME.into()], DeviceName::Cpu, Precision::F32, Downloads::UNWATCHED);
    let models = Arc::new(models);
    let texts = texts::stories(0, 4, context)?;
    let policies = ["window+4", "tova", "h2o"].iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let states = vec![Budget::Percent(6.25), Budget::Percent(12.5), Budget::Percent(25.0)];
    let names = texts.iter().map(|text| text.name.clone()).collect();
    let lm =
        Lm { batch: 4, contexts: Some(1), ..Lm::new(names, policies, states, LmModel::all(&models, Some(context))?) };
    let data: Vec<_> = texts.iter().map(|text| text.source()).collect();
    let inputs = LmInputs::new(models.clone(), texts, 1);
    let results = in_memory(&lm, &inputs, &models, &data)?;
    println!("{}", render::text::tables(&results));
    Ok(())
}
