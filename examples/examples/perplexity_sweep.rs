//! Perplexity over states: `cargo run --release -p msrnn-examples --example perplexity_sweep`

use burn::tensor::{DType, Device};
use msrnn_bench::compare::{Grid, compare};
use msrnn_bench::{bundled, contexts::Contexts, report};
use msrnn_core::budget::Budget;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = bundled::load(DType::F32, &Device::default())?;
    let context = 512;
    let contexts = Contexts::of_stories(0, 4, context, &model)?;
    let policies = ["window+4", "tova", "h2o"].iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let states = vec![Budget::Percent(6.25), Budget::Percent(12.5), Budget::Percent(25.0)];
    let grid = Grid { batch: 4, jobs: 2, ..Grid::new(policies, states, context) };
    let comparison = compare(&model, &contexts, &grid, &|_| (), &false.into())?;
    println!("{}", report::table(&comparison));
    Ok(())
}
