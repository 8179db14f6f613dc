//! `msrnn devices`

use msrnn_bench::devices;
use msrnn_bench::error::BenchError;

use super::{Outcome, print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let offers = devices::offers();
    match args.json {
        true => print_json(&serde_json::json!({ "devices": offers }))?,
        false => print(&devices::table(&offers))?,
    }
    Ok(Outcome::Done)
}
