//! What follows from the samples of all contexts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::grid::Grid;
use super::history::{Share, steps_kept_by_all};
use super::notes::notes;
use super::sample::{Kept, Sample};
use super::{Retention, figures};
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::{Arm, Results};
use crate::statistics::{Mean, ratio};

/// What was found of one policy with its bound on one model.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    pub(super) model: String,
    pub(super) policy: String,
    pub(super) states: usize,
    pub(super) contexts: usize,
    /// Mean steps kept of all rows, as counted.
    pub(super) average: f64,
    /// The same by the closed form.
    pub(super) closed_form: f64,
    /// Share of recent rows, all layers and by layer.
    pub(super) recent: Option<f64>,
    pub(super) recent_by_layer: Vec<Option<f64>>,
    /// By kind of token.
    pub(super) kinds: BTreeMap<String, Kind>,
    /// Mean steps kept of each of the first tokens.
    pub(super) first: Vec<f64>,
    /// By span of steps: share of the first tokens that came so far and are held.
    pub(super) survival: Vec<Option<f64>>,
    /// The same of the very first token.
    pub(super) survival_of_first: Vec<Option<f64>>,
    /// By layer, where measured.
    pub(super) attention: Option<Vec<Attention>>,
    /// By span of steps, over all layers: share of attention on rows no longer held.
    pub(super) missing: Option<Vec<Option<f64>>>,
    /// By layer, row of positions, column of steps: share of rows held. Not among the metrics.
    #[serde(skip)]
    pub(super) maps: Vec<Vec<Vec<Option<f64>>>>,
}

/// Tokens of a kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Kind {
    pub(super) tokens: u64,
    pub(super) steps_kept: Mean,
}

/// Attention that a layer lost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Attention {
    /// Mean weight of a row at its omission.
    pub(super) omitted: Option<f64>,
    /// Mean share of a query's attention that falls on rows no longer held.
    pub(super) missing: Option<f64>,
}

pub(super) fn results(setting: &Retention, samples: &[Sample]) -> Result<Results, BenchError> {
    let mut arms = Vec::new();
    let mut found = Vec::new();
    for (i, of_arm) in samples.chunks(setting.contexts).enumerate() {
        let model = &setting.models[i / setting.arms.len()];
        let spec = &setting.arms[i % setting.arms.len()];
        let mut observed = Observed::default();
        of_arm.iter().for_each(|sample| observed.add(sample.observed));
        arms.push(Arm { model: model.clone(), policy: spec.to_string(), states: of_arm[0].states, observed });
        found.push(found_in(setting, model, &spec.name(), of_arm)?);
    }
    Ok(Results {
        figures: figures::figures(setting, &found),
        notes: notes(setting),
        metrics: json!({ "retention": found }),
        arms,
        missing: Vec::new(),
    })
}

fn found_in(setting: &Retention, model: &str, policy: &str, samples: &[Sample]) -> Result<Found, BenchError> {
    let grid = setting.grid();
    let Some(states) = samples[0].states else {
        return Err(BenchError::Input(format!("{policy} has no bound; retention looks at bounded states only")));
    };
    let layers = samples[0].held.len();
    let mut all = Kept::default();
    samples.iter().flat_map(|sample| sample.kinds.values()).for_each(|kept| all.add(*kept));
    let expected: f64 =
        samples.iter().map(|s| (s.groups * layers) as f64 * steps_kept_by_all(s.tokens, states) as f64).sum();
    let average = all.mean().unwrap_or(0.0);
    let closed_form = expected / all.rows as f64;
    if all.steps as f64 != expected {
        return Err(BenchError::Input(format!(
            "{policy}@{states}: rows were kept {average} steps on average where counts say {closed_form}; the samples \
             are damaged, run the experiment again in another ‘out’"
        )));
    }
    let recent = |layer: usize| {
        let mut share = Share::default();
        samples.iter().for_each(|sample| share.add(sample.recent[layer]));
        share
    };
    let mut recent_in_all = Share::default();
    (0..layers).for_each(|layer| recent_in_all.add(recent(layer)));
    let measured = samples.iter().all(|sample| sample.losses.is_some());
    Ok(Found {
        model: model.into(),
        policy: policy.into(),
        states,
        contexts: samples.len(),
        average,
        closed_form,
        recent: recent_in_all.value(),
        recent_by_layer: (0..layers).map(|layer| recent(layer).value()).collect(),
        kinds: kinds(samples),
        first: first(samples, layers),
        survival: survival(samples, grid, layers, setting.first),
        survival_of_first: survival(samples, grid, layers, 1),
        attention: measured.then(|| (0..layers).map(|layer| attention(samples, layer)).collect()),
        missing: measured.then(|| missing(samples, grid, layers)),
        maps: (0..layers).map(|layer| map(samples, grid, layer)).collect(),
    })
}

fn kinds(samples: &[Sample]) -> BTreeMap<String, Kind> {
    let mut by_kind: BTreeMap<&str, Vec<(f64, usize)>> = BTreeMap::new();
    let mut tokens: BTreeMap<&str, u64> = BTreeMap::new();
    for sample in samples {
        let decisions = (sample.groups * sample.held.len()) as u64;
        for (kind, kept) in &sample.kinds {
            by_kind.entry(kind).or_default().push((kept.steps as f64, kept.rows as usize));
            *tokens.entry(kind).or_default() += kept.rows / decisions;
        }
    }
    let kind = |(kind, kept): (&str, Vec<(f64, usize)>)| {
        (kind.to_owned(), Kind { tokens: tokens[kind], steps_kept: ratio(&kept) })
    };
    by_kind.into_iter().map(kind).collect()
}

/// Mean steps kept of each of the first tokens, over contexts that have it.
fn first(samples: &[Sample], layers: usize) -> Vec<f64> {
    let most = samples.iter().map(|sample| sample.first_kept.len()).max().unwrap_or(0);
    let mean = |position: usize| {
        let mut kept = Kept::default();
        for sample in samples {
            if let Some(&steps) = sample.first_kept.get(position) {
                kept.add(Kept { rows: (sample.groups * layers) as u64, steps });
            }
        }
        kept.mean().unwrap_or(0.0)
    };
    (0..most).map(mean).collect()
}

/// By span: of the first `n` positions that came so far, the share that is held.
fn survival(samples: &[Sample], grid: Grid, layers: usize, n: usize) -> Vec<Option<f64>> {
    let at = |span: usize| {
        let mut share = Share::default();
        for sample in samples.iter().filter(|sample| span < grid.spans(sample.tokens)) {
            for (position, held) in sample.first_held.iter().enumerate().take(n) {
                if position <= grid.step(span, sample.tokens) {
                    share.add(Share { part: u64::from(held[span]), of: (sample.groups * layers) as u64 });
                }
            }
        }
        share.value()
    };
    (0..grid.spans(grid.context)).map(at).collect()
}

fn attention(samples: &[Sample], layer: usize) -> Attention {
    let losses = || samples.iter().filter_map(|sample| Some((sample, sample.losses.as_ref()?.get(layer)?)));
    let omissions: u64 = losses().map(|(_, loss)| loss.omissions).sum();
    let omitted: f64 = losses().map(|(_, loss)| loss.omitted).sum();
    let steps: usize = losses().map(|(sample, _)| sample.tokens * sample.groups).sum();
    let missing: f64 = losses().map(|(_, loss)| loss.missing.iter().sum::<f64>()).sum();
    Attention {
        omitted: (omissions > 0).then(|| omitted / omissions as f64),
        missing: (steps > 0).then(|| missing / steps as f64),
    }
}

fn missing(samples: &[Sample], grid: Grid, layers: usize) -> Vec<Option<f64>> {
    let at = |span: usize| {
        let (mut sum, mut steps) = (0.0, 0);
        for sample in samples.iter().filter(|sample| span < grid.spans(sample.tokens)) {
            sum += sample.losses.iter().flatten().map(|loss| loss.missing[span]).sum::<f64>();
            steps += grid.span(span, sample.tokens).len() * sample.groups * layers;
        }
        (steps > 0).then(|| sum / steps as f64)
    };
    (0..grid.spans(grid.context)).map(at).collect()
}

/// Share of rows held: a row of values per span of positions, one per span of steps.
fn map(samples: &[Sample], grid: Grid, layer: usize) -> Vec<Vec<Option<f64>>> {
    let spans = grid.spans(grid.context);
    let cell = |position: usize, at: usize| {
        let mut share = Share::default();
        for sample in samples.iter().filter(|sample| at < grid.spans(sample.tokens)) {
            let Some(&held) = sample.held[layer][at].get(position) else { continue };
            let rows = grid.span(position, sample.tokens).len() * sample.groups;
            share.add(Share { part: u64::from(held), of: rows as u64 });
        }
        // Three decimals are more than a colour shows, and keep the file short.
        share.value().map(|value| (value * 1000.0).round() / 1000.0)
    };
    (0..spans).map(|position| (0..spans).map(|at| cell(position, at)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use msrnn_models::tokenizer::TextOptions;

    use super::super::attention::Losses;
    use super::super::history::{Group, History};
    use super::super::sample::Wanted;
    use super::*;
    use crate::figure::Content;

    fn setting() -> Retention {
        Retention {
            reading: TextOptions::default(),
            models: vec!["m".into()],
            arms: vec!["window@2".parse().unwrap()],
            contexts: 2,
            context: 6,
            first: 3,
            cells: 3,
            attention: true,
            trace: false,
            seed: 0,
        }
    }

    /// A window of two, in one layer.
    fn window(kinds: &[&'static str]) -> Sample {
        let n = kinds.len();
        let omitted_at = (0..n).map(|position| (position + 2 < n).then_some(position + 2)).collect();
        let history = History {
            groups: vec![Group { layer: 0, head: None, omitted_at }],
            losses: Some(vec![Losses { omitted: vec![0.25; n - 2], missing: vec![0.5; n] }]),
            observed: Observed { omitted: n - 2, max_rows: 2, state_bytes: 1, ..Observed::default() },
        };
        Sample::new(&history, Some(2), Wanted { grid: Grid::new(6, 3), first: 3, kinds, trace: false })
    }

    #[test]
    fn contexts_of_unlike_length_are_put_together_by_counts() {
        let samples = [window(&["special", "NN", "NN", "NN", ".", "."]), window(&["special", "NN", "NN", "."])];
        let results = results(&setting(), &samples).unwrap();
        let found = &results.metrics["retention"][0];
        // 1 + 2 + 3 · 4 and 1 + 2 + 3 · 2 steps of ten rows.
        assert_eq!((&found["average"], &found["closed_form"]), (&2.4.into(), &2.4.into()));
        assert_eq!(found["recent"], 1.0);
        // NN: 3 + 3 + 3 and 3 + 2 of five; full stops: 2 + 1 and 1 of three.
        assert_eq!(found["kinds"]["NN"]["steps_kept"]["mean"], 14.0 / 5.0);
        assert_eq!(found["kinds"]["."]["steps_kept"]["mean"], 4.0 / 3.0);
        assert_eq!((&found["kinds"]["NN"]["tokens"], &found["kinds"]["special"]["tokens"]), (&5.into(), &2.into()));
        // Position 2 is omitted at step 4 in the first, and held to the end, step 3, in the second.
        assert_eq!(found["first"], serde_json::json!([3.0, 3.0, 2.5]));
        // After steps 1, 3 and 5, of the first three tokens: {0, 1}; {2} of each; nothing.
        assert_eq!(found["survival"], serde_json::json!([1.0, 1.0 / 3.0, 0.0]));
        assert_eq!(found["survival_of_first"], serde_json::json!([1.0, 0.0, 0.0]));
        assert_eq!(found["attention"], serde_json::json!([{ "omitted": 0.25, "missing": 0.5 }]));
        assert_eq!(found["missing"], serde_json::json!([0.5, 0.5, 0.5]));
        let map = results.figures.iter().find(|figure| figure.id == "map-window-2").unwrap();
        let Content::HeatMap { panels, rows, columns, .. } = &map.content else { panic!("no map") };
        assert_eq!((rows, columns), (&vec![0.0, 2.0, 4.0], &vec![1.0, 3.0, 5.0]));
        let (held, gone) = (Some(1.0), Some(0.0));
        assert_eq!(panels[0].values, [[held, gone, gone], [None, held, gone], [None, None, held]]);
        assert_eq!(
            results.arms[0].observed,
            Observed { omitted: 6, max_rows: 2, state_bytes: 1, ..Observed::default() }
        );
    }

    #[test]
    fn rows_that_were_kept_for_another_time_than_counts_say_are_noticed() {
        let mut samples = [window(&["NN"; 6]), window(&["NN"; 6])];
        samples[1].kinds.get_mut("NN").unwrap().steps += 1;
        let error = results(&setting(), &samples).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        samples[0].states = None;
        assert!(results(&setting(), &samples).is_err());
    }
}
