//! Text in bounded memory: `cargo run --release -p msrnn-examples --example generate [MODEL_DIR]`
//!
//! Without a directory the bundled model runs.

use std::io::Write;
use std::path::Path;

use burn::tensor::{DType, Device};
use msrnn_models::Model;
use msrnn_models::generate::generate;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use msrnn_policies::PolicySpec;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let model = match std::env::args().nth(1) {
        Some(directory) => Model::load(Path::new(&directory), DType::F32, &device)?,
        None => msrnn_bench::bundled::load(DType::F32, &device)?,
    };
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.prompt("Long ago, somebody took")?;

    let spec: PolicySpec = "tova@64".parse()?;
    let compression = spec.compression(model.decoder.config().max_position_embeddings, |_| 1)?;
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
    let sampling = Sampling { temperature: 0.8, seed: 1, ..Sampling::default() };
    let mut text = tokenizer.stream_behind(&prompt)?;
    let generation = generate(&model, &recurrent, &prompt, Protocol::Strict, sampling, 300, |token| {
        print!("{}", text.push(token).unwrap_or_default());
        std::io::stdout().flush().is_ok()
    })?;
    print!("{}", text.finish()?);
    let bytes: usize = generation.states.iter().map(|state| state.bytes()).sum();
    println!("\n[{} tokens under {spec}, {bytes} bytes of state]", generation.tokens.len());
    Ok(())
}
