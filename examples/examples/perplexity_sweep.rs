//! Perplexity over states: `cargo run --release -p msrnn-examples --example perplexity_sweep`

use burn::tensor::{DType, Device};
use msrnn_bench::compare::{Grid, compare};
use msrnn_bench::evaluate::Form;
use msrnn_bench::{bundled, contexts::Contexts, report};
use msrnn_core::budget::Budget;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::Positions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = bundled::load(DType::F32, &Device::default())?;
    let context = 512;
    let contexts = Contexts::of_stories(0, 4, context, &model)?;
    let grid = Grid {
        policies: ["window+4", "tova", "h2o"].iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        states: vec![Budget::Percent(6.25), Budget::Percent(12.5), Budget::Percent(25.0)],
        context,
        positions: Positions::Original,
        protocol: Protocol::Strict,
        form: Form::Layer,
        batch: 4,
        jobs: 2,
    };
    let comparison = compare(&model, &contexts, &grid, &|_| (), &false.into())?;
    println!("{}", report::table(&comparison));
    Ok(())
}
