//! `msrnn policies` and `msrnn explain`

use msrnn_bench::error::BenchError;
use msrnn_policies::registry;

use super::{Outcome, print};

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// As the Markdown table of the README
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A policy, such as tova or window+4
    name: String,
}

pub(super) fn list(args: &ListArgs) -> Result<Outcome, BenchError> {
    print(&if args.markdown { registry::markdown() } else { registry::table() })?;
    Ok(Outcome::Done)
}

pub(super) fn explain(args: &ExplainArgs) -> Result<Outcome, BenchError> {
    print(&registry::explain(&args.name)?)?;
    Ok(Outcome::Done)
}
