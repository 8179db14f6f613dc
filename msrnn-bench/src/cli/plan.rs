//! What `--dry-run` says.

use std::time::Duration;

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::run::Plan;
use msrnn_bench::memory;
use msrnn_bench::progress::in_words;
use msrnn_bench::wording::counted;
use serde::Serialize;

use super::{Outcome, print, print_json};

/// Units that are shown one by one.
const SHOWN: usize = 20;

/// What a plan prints as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// How long it takes, judged by a second of work.
    seconds: Option<f64>,
}

/// Says what would be done. `held`: what the bytes are of.
pub(super) fn show(plan: &Plan, held: &str, time: Option<Duration>, json: bool) -> Result<Outcome, BenchError> {
    if json {
        print_json(&Report { plan, seconds: time.map(|time| time.as_secs_f64()) })?;
        return Ok(Outcome::Done);
    }
    let mut text = summary(&counted(plan.units.len(), "unit"), plan.tokens, plan.state_bytes, held, time);
    for unit in plan.units.iter().take(SHOWN) {
        text += &format!("  {}: {} tokens, {}\n", unit.name, unit.tokens, memory::in_words(unit.state_bytes as u64));
    }
    if plan.units.len() > SHOWN {
        text += &format!("  and {} more\n", plan.units.len() - SHOWN);
    }
    print(&text)?;
    Ok(Outcome::Done)
}

/// Its first line.
pub(super) fn summary(things: &str, tokens: usize, bytes: usize, held: &str, time: Option<Duration>) -> String {
    let time = time.map(|time| format!(", about {}, judged by a second of work", in_words(time)));
    let bytes = memory::in_words(bytes as u64);
    format!("{things}, {tokens} tokens, at most {bytes} {held}{}\n", time.unwrap_or_default())
}
