//! What was planned and measured, beside the paper's figures where the model is the paper's.

use crate::throughput::measure::Measured;
use crate::throughput::plan::Plan;
use crate::throughput::published;

/// Plans, and where there are any what came of them; `papers`: of the model that the paper measured.
pub(crate) fn markdown(plans: &[Plan], measured: &[Measured], papers: bool) -> String {
    let speeds = measured.iter().max_by_key(|row| row.plan.states).map(|row| row.tokens_per_second.mean);
    let most = measured.iter().map(|row| row.plan.states).max();
    let relative = most.map_or_else(|| "relative".into(), |most| format!("relative to {most}"));
    let line = |ours: [String; 5], theirs: [String; 3]| -> String {
        let [states, bytes, batch, tokens, relative] = ours;
        let [their_bytes, their_batch, their_relative] = theirs;
        let cells = match papers {
            true => vec![states, bytes, their_bytes, batch, their_batch, tokens, relative, their_relative],
            false => vec![states, bytes, batch, tokens, relative],
        };
        format!("| {} |\n", cells.join(" | "))
    };
    let header = ["states", "GB a sequence", "largest batch", "tokens/s", &relative].map(String::from);
    let mut text = line(header, ["paper"; 3].map(String::from));
    text += &line(["---:"; 5].map(String::from), ["---:"; 3].map(String::from)).replace(' ', "");
    for plan in plans {
        let published = published::of(plan.states);
        let paper = |f: &dyn Fn(published::Published) -> String| published.map_or_else(|| "-".into(), f);
        let speed = measured.iter().find(|row| row.plan.states == plan.states).map(|row| row.tokens_per_second);
        let tokens = speed.map_or_else(
            || "-".into(),
            |speed| match speed.deviation {
                Some(deviation) => format!("{:.1} ±{deviation:.1}", speed.mean),
                None => format!("{:.1}", speed.mean),
            },
        );
        let relative =
            speed.zip(speeds).map_or_else(|| "-".into(), |(speed, base)| format!("{:.2}", speed.mean / base));
        text += &line(
            [
                plan.states.to_string(),
                format!("{:.3}", plan.state_bytes as f64 / 1e9),
                plan.batch.to_string(),
                tokens,
                relative,
            ],
            [
                paper(&|it| format!("{:.2}", it.gigabytes)),
                paper(&|it| it.batch.to_string()),
                paper(&|it| format!("{:.1}", it.relative)),
            ],
        );
    }
    text
}
