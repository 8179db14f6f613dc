//! The numbers of a grid, a value a row: every context as it was scored, then each policy on all of them.

use super::{Lm, ModelSummary, Sample};
use crate::experiment::tidy::Row;
use crate::plan::Kind;
use crate::statistics::Interval;

pub(super) fn rows(lm: &Lm, samples: &[Sample], summaries: &[ModelSummary]) -> Vec<Row> {
    let mut rows: Vec<Row> = samples.iter().flat_map(|sample| contexts(lm, sample)).collect();
    for summary in summaries {
        for arm in &summary.arms {
            let row = Row {
                model: summary.model.clone(),
                policy: arm.policy.clone(),
                states: arm.states,
                n: Some(arm.tokens),
                ..Row::default()
            };
            rows.push(row.mean("nll", arm.nll));
            let mean = |metric, mean: Option<_>| mean.map(|mean| row.mean(metric, mean));
            rows.extend(mean("perplexity", arm.perplexity));
            rows.extend(arm.bits_per_byte.map(|bits| row.of("bits_per_byte", bits)));
            rows.extend(interval(&row, ["above_full", "above_full_low", "above_full_high"], arm.above_full));
            rows.extend(interval(&row, ["above_random", "above_random_low", "above_random_high"], arm.above_random));
            rows.extend(mean("kl", arm.kl));
            rows.extend(mean("agreement", arm.agreement));
        }
    }
    rows
}

/// A difference and the ends of its confidence interval.
fn interval(row: &Row, names: [&'static str; 3], found: Option<Interval>) -> Vec<Row> {
    let Some(Interval { mean, ends }) = found else { return Vec::new() };
    let ends = ends.into_iter().flat_map(|(low, high)| [row.of(names[1], low), row.of(names[2], high)]);
    std::iter::once(row.of(names[0], mean)).chain(ends).collect()
}

/// Sums over the predicted tokens of each context, per token.
fn contexts(lm: &Lm, sample: &Sample) -> Vec<Row> {
    let run = &sample.run;
    let mut rows = Vec::new();
    for (index, (id, score)) in sample.contexts.iter().zip(&run.scores).enumerate() {
        let row = Row {
            model: lm.models[sample.model].name.clone(),
            policy: run.policy.clone(),
            states: run.states,
            text: Some(lm.texts[id.text].clone()),
            context: Some(id.context),
            seed: sample.seed,
            n: Some(score.tokens),
            ..Row::default()
        };
        let tokens = score.tokens as f64;
        rows.push(row.of("nll", score.nll / tokens));
        if let (Kind::Policy, Some(divergence)) = (run.kind, &run.divergence) {
            rows.push(row.of("kl", divergence.kl[index] / tokens));
            rows.push(row.of("agreement", divergence.agreed[index] as f64 / tokens));
        }
    }
    rows
}
