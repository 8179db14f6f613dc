//! Ours and the paper's figures side by side.

use std::fmt::Write;

use crate::throughput::measure::Measured;
use crate::throughput::plan::Plan;
use crate::throughput::published;

/// Plans, and where there are any what came of them.
pub fn markdown(plans: &[Plan], measured: &[Measured]) -> String {
    let speeds = measured.iter().max_by_key(|row| row.plan.states).map(|row| row.tokens_per_second.mean);
    let most = measured.iter().map(|row| row.plan.states).max();
    let relative = most.map_or_else(|| "relative".into(), |most| format!("relative to {most}"));
    let mut text = String::new();
    let _ =
        writeln!(text, "| states | GB a sequence | paper | largest batch | paper | tokens/s | {relative} | paper |");
    text.push_str("|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for plan in plans {
        let published = published::of(plan.states);
        let paper = |f: &dyn Fn(published::Published) -> String| published.map_or_else(|| "-".into(), f);
        let speed = measured.iter().find(|row| row.plan.states == plan.states).map(|row| row.tokens_per_second);
        let _ = writeln!(
            text,
            "| {} | {:.3} | {} | {} | {} | {} | {} | {} |",
            plan.states,
            plan.state_bytes as f64 / 1e9,
            paper(&|it| format!("{:.2}", it.gigabytes)),
            plan.batch,
            paper(&|it| it.batch.to_string()),
            speed.map_or_else(
                || "-".into(),
                |speed| match speed.deviation {
                    Some(deviation) => format!("{:.1} ±{deviation:.1}", speed.mean),
                    None => format!("{:.1}", speed.mean),
                }
            ),
            speed.zip(speeds).map_or_else(|| "-".into(), |(speed, base)| format!("{:.2}", speed.mean / base)),
            paper(&|it| format!("{:.1}", it.relative)),
        );
    }
    text
}
