//! What the report shows of a grid.

use msrnn_policies::PolicySpec;

use super::paper::{TABLE_3_STATES, table_3};
use super::summary::{ArmSummary, ModelSummary, Pair};
use crate::figure::{Axis, Cell, Content, Figure, Line, Point};
use crate::plan::Kind;
use crate::statistics::{Interval, Mean, perplexity_in_words};
use crate::text_ids;
use crate::wording::counted;

/// Tables and lines of all models.
pub fn figures(summaries: &[ModelSummary]) -> Vec<Figure> {
    let several = summaries.len() > 1;
    let mut all = Vec::new();
    for (index, summary) in summaries.iter().enumerate() {
        let mut figures = vec![perplexities(summary)];
        if !summary.states().is_empty() {
            figures.push(lines(summary));
        }
        if summary.llama_2_7b {
            figures.push(published());
        }
        if summary.arms.iter().any(|arm| arm.bits_per_byte.is_some()) {
            figures.push(bits(summary));
        }
        let drawn = !summary.states().is_empty();
        if drawn && summary.arms.iter().any(|arm| arm.kind == Kind::Policy && arm.above_full.is_some()) {
            figures.push(above_full_lines(summary));
        }
        figures.push(differences(summary));
        if !summary.pairs.is_empty() {
            figures.push(pairs(summary));
        }
        if summary.arms.iter().any(|arm| arm.kl.is_some()) {
            figures.push(divergences(summary));
            figures.extend(drawn.then(|| divergence_lines(summary)));
            figures.push(agreements(summary));
            figures.extend(drawn.then(|| agreement_lines(summary)));
        }
        for figure in figures {
            all.push(match several {
                false => figure,
                true => Figure {
                    id: format!("{}-{}", figure.id, index + 1),
                    title: format!("{}: {}", summary.model, figure.title),
                    ..figure
                },
            });
        }
    }
    all
}

fn over(summary: &ModelSummary) -> String {
    match summary.n {
        1 => "One context, so that there is no standard error.".into(),
        n => format!("± one standard error over {n} {}.", summary.error_over),
    }
}

/// Policies down, states across. What keeps all states has the same value under each number of them.
fn grid(summary: &ModelSummary, names: &[&str], cell: impl Fn(&ArmSummary, usize) -> Cell) -> Content {
    let mut states = summary.states();
    let mut columns = vec!["policy \\ states".to_owned()];
    columns.extend(states.iter().map(usize::to_string));
    if states.is_empty() {
        columns.push("all states".into());
        states.push(0);
    }
    let row = |name: &&str| {
        let cells = states.iter().map(|&k| summary.arm(name, k).map_or_else(Cell::empty, |arm| cell(arm, k)));
        std::iter::once(Cell::text(*name)).chain(cells).collect()
    };
    Content::Table { columns, rows: names.iter().map(row).collect() }
}

fn number(mean: &Mean, decimals: usize) -> Cell {
    Cell::rounded(mean.mean, mean.standard_error, decimals)
}

/// A mean, if there is one.
fn some(mean: Option<Mean>, decimals: usize) -> Cell {
    mean.map_or_else(Cell::empty, |mean| number(&mean, decimals))
}

fn perplexity(arm: &ArmSummary) -> Cell {
    match &arm.perplexity {
        Some(mean) => number(mean, 3),
        None => Cell::text(perplexity_in_words(arm.nll.mean, 3)),
    }
}

/// Which of the policies are none, but are told what comes.
fn ceilings(names: &[&str]) -> String {
    let is_ceiling = |name: &&str| name.parse::<PolicySpec>().is_ok_and(|spec| spec.is_ceiling());
    let told =
        |name: &str| format!(" {name} is a ceiling and no policy: it is told what the rest of a context attends to.");
    names.iter().copied().filter(is_ceiling).map(told).collect()
}

fn perplexities(summary: &ModelSummary) -> Figure {
    let mut names = summary.names();
    names.extend(summary.full().map(|full| full.policy.as_str()));
    Figure {
        id: "perplexity".into(),
        title: "Perplexity over states".into(),
        caption: format!(
            "Lower is better. {} {} of at most {} tokens, {}, {} predicted tokens. baseline: contexts of so many \
             tokens instead{}{}{}",
            over(summary),
            counted(summary.contexts, "context"),
            summary.context,
            text_ids::begun(&summary.prefix),
            summary.tokens,
            match summary.full().and_then(|full| full.bits_per_byte) {
                Some(bits) => format!("; full: every state, {bits:.4} bits per byte."),
                None => "; full: every state.".into(),
            },
            ceilings(&names),
            match summary.states().into_iter().any(|states| summary.best(states).is_some()) {
                true =>
                    " The marked policy of a column is below every other with as many states, by the 95 % intervals of their paired differences.",
                false => "",
            },
        ),
        content: grid(summary, &names, |arm, states| match summary.best(states) == Some(&arm.policy) {
            true => perplexity(arm).marked(),
            false => perplexity(arm),
        }),
    }
}

fn bits(summary: &ModelSummary) -> Figure {
    let row = |arm: &ArmSummary| {
        vec![
            Cell::text(&arm.policy),
            arm.states.map_or_else(Cell::empty, Cell::count),
            arm.bits_per_byte.map_or_else(Cell::empty, |bits| number(&Mean { mean: bits, standard_error: None }, 4)),
        ]
    };
    Figure {
        id: "bits-per-byte".into(),
        title: "Bits per byte".into(),
        caption: "Bits of the predicted tokens over the UTF-8 bytes of the text that they stand for. Lower is better."
            .into(),
        content: Content::Table {
            columns: ["policy", "states", "bits per byte"].map(String::from).to_vec(),
            rows: summary.arms.iter().map(row).collect(),
        },
    }
}

fn lines(summary: &ModelSummary) -> Figure {
    let states = summary.states();
    let point = |k: usize, arm: &ArmSummary| {
        let Mean { mean, standard_error } = arm.perplexity?;
        Some(Point { x: k as f64, y: mean, error: standard_error })
    };
    let mut lines: Vec<Line> = Vec::new();
    if let Some(full) = summary.full() {
        let ends = [states[0], states[states.len() - 1]];
        let points = ends.iter().filter_map(|&k| point(k, full)).collect();
        lines.push(Line { name: "full".into(), reference: true, points });
    }
    for name in summary.names() {
        let points = states.iter().filter_map(|&k| point(k, summary.arm(name, k)?)).collect();
        lines.push(Line { name: name.into(), reference: false, points });
    }
    if summary.llama_2_7b {
        let measured = summary.names();
        for (name, row) in table_3().into_iter().filter(|(name, _)| measured.contains(name)) {
            let points = TABLE_3_STATES.iter().zip(row).map(|(&k, y)| Point { x: k as f64, y, error: None }).collect();
            lines.push(Line { name: format!("{name}, published"), reference: true, points });
        }
    }
    Figure {
        id: "perplexity-lines".into(),
        title: "Perplexity over states".into(),
        caption: "Both axes are logarithmic. The full state is dashed.".into(),
        content: Content::Lines { x: Axis::log("states"), y: Axis::log("perplexity"), lines },
    }
}

fn published() -> Figure {
    let columns = std::iter::once("policy \\ states".to_owned()).chain(TABLE_3_STATES.iter().map(usize::to_string));
    let cell = |value: f64| Cell::rounded(value, None, 2);
    let row = |(name, values): (&str, [f64; 7])| {
        std::iter::once(Cell::text(name)).chain(values.into_iter().map(cell)).collect()
    };
    Figure {
        id: "published".into(),
        title: "Published for LLaMA-2-7B".into(),
        caption: "Table 3 of the paper: PG-19's test split, contexts of 4,096 tokens, bf16. The row of h2o-layer is \
                  that of window+1 as printed."
            .into(),
        content: Content::Table { columns: columns.collect(), rows: table_3().into_iter().map(row).collect() },
    }
}

fn differences(summary: &ModelSummary) -> Figure {
    let heads = ["policy", "states", "above full", "from", "to", "above random", "from", "to"];
    let cells = |interval: Option<Interval>| interval.map_or_else(|| [0; 3].map(|_| Cell::empty()), ends);
    let row = |arm: &ArmSummary| {
        let name = [Cell::text(&arm.policy), arm.states.map_or_else(Cell::empty, Cell::count)];
        [name.to_vec(), cells(arm.above_full).to_vec(), cells(arm.above_random).to_vec()].concat()
    };
    let arms = summary.arms.iter().filter(|arm| arm.kind != Kind::Full);
    Figure {
        id: "differences".into(),
        title: "Paired differences in nats per token".into(),
        caption: format!(
            "To the full state, and to random omission with as many states, with 95 % confidence intervals over {} {} \
             (Student's t). Below zero is better.",
            summary.n, summary.error_over
        ),
        content: Content::Table { columns: heads.map(String::from).to_vec(), rows: arms.map(row).collect() },
    }
}

/// Ends of an interval, where there are any.
fn ends(interval: Interval) -> [Cell; 3] {
    let number = |value: f64| number(&Mean { mean: value, standard_error: None }, 4);
    let (low, high) = interval.ends.map_or((Cell::empty(), Cell::empty()), |(low, high)| (number(low), number(high)));
    [number(interval.mean), low, high]
}

fn pairs(summary: &ModelSummary) -> Figure {
    let row = |pair: &Pair| {
        let names = [Cell::text(&pair.policy), Cell::text(&pair.against), Cell::count(pair.states)];
        [names, ends(pair.above)].concat()
    };
    Figure {
        id: "pairs".into(),
        title: "Every two policies".into(),
        caption: format!(
            "Paired differences in nats per token, the first less the second, with 95 % confidence intervals over {} {} \
             (Student's t). Below zero the first is better.",
            summary.n, summary.error_over
        ),
        content: Content::Table {
            columns: ["policy", "against", "states", "above", "from", "to"].map(String::from).to_vec(),
            rows: summary.pairs.iter().map(row).collect(),
        },
    }
}

/// A line for every policy over its states.
fn over_states(summary: &ModelSummary, y: Axis, of: impl Fn(&ArmSummary) -> Option<(f64, Option<f64>)>) -> Content {
    let states = summary.states();
    let line = |name: &&str| {
        let point = |&k: &usize| {
            let (y, error) = of(summary.arm(name, k)?)?;
            Some(Point { x: k as f64, y, error })
        };
        Line { name: (*name).into(), reference: false, points: states.iter().filter_map(point).collect() }
    };
    Content::Lines { x: Axis::log("states"), y, lines: policies(summary).iter().map(line).collect() }
}

/// The figure one decides by.
fn above_full_lines(summary: &ModelSummary) -> Figure {
    let half = |interval: Interval| (interval.mean, interval.ends.map(|(low, high)| (high - low) / 2.0));
    Figure {
        id: "above-full-lines".into(),
        title: "Nats per token above the full state".into(),
        caption: format!(
            "Zero is the full state. Bars: 95 % confidence intervals of the paired difference over {} {}.",
            summary.n, summary.error_over
        ),
        content: over_states(summary, Axis::linear("nats per token above full"), |arm| arm.above_full.map(half)),
    }
}

fn of_mean(mean: Option<Mean>) -> Option<(f64, Option<f64>)> {
    mean.map(|mean| (mean.mean, mean.standard_error))
}

fn divergence_lines(summary: &ModelSummary) -> Figure {
    Figure {
        id: "kl-lines".into(),
        title: "KL divergence from the full state over states".into(),
        caption: over(summary),
        content: over_states(summary, Axis::linear("KL(full‖policy), nats per token"), |arm| of_mean(arm.kl)),
    }
}

fn agreement_lines(summary: &ModelSummary) -> Figure {
    Figure {
        id: "agreement-lines".into(),
        title: "Top-1 agreement with the full state over states".into(),
        caption: over(summary),
        content: over_states(summary, Axis::linear("share of tokens"), |arm| of_mean(arm.agreement)),
    }
}

/// The policies without the baseline, of which only the likelihood is known.
fn policies(summary: &ModelSummary) -> Vec<&str> {
    let policy = |name: &&str| summary.arms.iter().any(|arm| arm.policy == *name && arm.kind == Kind::Policy);
    summary.names().into_iter().filter(policy).collect()
}

fn divergences(summary: &ModelSummary) -> Figure {
    Figure {
        id: "kl".into(),
        title: "KL divergence from the full state, nats per token".into(),
        caption: format!("Mean of KL(full‖policy) over all predicted tokens. {}", over(summary)),
        content: grid(summary, &policies(summary), |arm, _| some(arm.kl, 4)),
    }
}

fn agreements(summary: &ModelSummary) -> Figure {
    Figure {
        id: "agreement".into(),
        title: "Top-1 agreement with the full state".into(),
        caption: format!(
            "Share of predicted tokens whose most probable next token is that of the full state. {}",
            over(summary)
        ),
        content: grid(summary, &policies(summary), |arm, _| some(arm.agreement, 3)),
    }
}
