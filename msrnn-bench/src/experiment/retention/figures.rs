//! Retention, drawn.

use std::collections::BTreeMap;

use super::Retention;
use super::results::{Found, Kind};
use crate::figure::{Axis, Cell, Content, Figure, Line, Panel, Point, Series};

/// Kinds with fewer tokens than this are in the table, but not among the bars.
const FEW: u64 = 20;

pub(super) fn figures(setting: &Retention, found: &[Found]) -> Vec<Figure> {
    let mut figures = vec![summary(setting, found), kinds(setting, found), bars(setting, found)];
    figures.push(first(setting, found));
    figures.push(survival(setting, found));
    if setting.attention {
        figures.push(missing(setting, found));
        figures.push(attention(setting, found));
    }
    figures.extend(found.iter().zip(ids(setting, found)).map(|(found, id)| map(setting, found, &id)));
    figures
}

impl Found {
    /// `tova@64`, with the model where there are several.
    fn name(&self, setting: &Retention) -> String {
        match setting.models.len() {
            1 => format!("{}@{}", self.policy, self.states),
            _ => format!("{}, {}@{}", self.model, self.policy, self.states),
        }
    }
}

/// The names as parts of files': short, and each another, whatever is written in a policy.
fn ids(setting: &Retention, found: &[Found]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for found in found {
        let lower = found.name(setting).to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join("-");
        name.truncate(80);
        let several = (2..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(several).find(|id| !ids.contains(id));
        ids.extend(free);
    }
    ids
}

fn number(value: Option<f64>) -> Cell {
    value.map_or_else(Cell::empty, |value| Cell::number(value, None))
}

/// A number of steps, to one decimal.
fn steps(value: f64, error: Option<f64>) -> Cell {
    Cell::rounded(value, error, 1)
}

fn summary(setting: &Retention, found: &[Found]) -> Figure {
    let mean = |values: &[Option<f64>]| {
        let values: Vec<f64> = values.iter().flatten().copied().collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let row = |found: &Found| {
        let omitted: Option<Vec<_>> =
            found.attention.as_ref().map(|all| all.iter().map(|layer| layer.omitted).collect());
        let missing: Option<Vec<_>> =
            found.attention.as_ref().map(|all| all.iter().map(|layer| layer.missing).collect());
        vec![
            Cell::text(found.name(setting)),
            steps(found.average, None),
            number(found.recent),
            found.first.first().map_or_else(Cell::empty, |&kept| steps(kept, None)),
            number(mean(&found.survival[found.survival.len().saturating_sub(1)..])),
            number(omitted.and_then(|all| mean(&all))),
            number(missing.and_then(|all| mean(&all))),
        ]
    };
    let columns = [
        "policy",
        "mean steps kept",
        "share recent",
        "steps of the first token",
        "first tokens left",
        "attention of an omission",
        "attention missing",
    ];
    Figure {
        id: "summary".into(),
        title: "What is kept".into(),
        caption: format!(
            "The mean of all rows follows from counts alone. First tokens left: share of the first {} that is held \
             after the last step.",
            setting.first
        ),
        content: Content::Table { columns: columns.map(String::from).to_vec(), rows: found.iter().map(row).collect() },
    }
}

/// Kinds of all arms, those kept longest by the first arm in front.
fn ordered(found: &[Found]) -> Vec<(&String, u64)> {
    let mut all: BTreeMap<&String, u64> = BTreeMap::new();
    for (kind, Kind { tokens, .. }) in found.iter().flat_map(|found| &found.kinds) {
        let most = all.entry(kind).or_default();
        *most = (*most).max(*tokens);
    }
    let kept = |kind: &String| {
        found.iter().filter_map(|found| found.kinds.get(kind)).map(|kind| kind.steps_kept.mean).sum::<f64>()
    };
    let mut ordered: Vec<(&String, u64)> = all.into_iter().collect();
    ordered.sort_by(|a, b| kept(b.0).total_cmp(&kept(a.0)));
    ordered
}

fn kinds(setting: &Retention, found: &[Found]) -> Figure {
    let average = std::iter::once(Cell::text("average"))
        .chain(std::iter::once(Cell::count(
            found.first().map_or(0, |found| found.kinds.values().map(|kind| kind.tokens as usize).sum()),
        )))
        .chain(found.iter().map(|found| steps(found.average, None)));
    let row = |(kind, tokens): (&String, u64)| {
        let mut row = vec![Cell::text(kind.clone()), Cell::count(tokens as usize)];
        row.extend(found.iter().map(|found| {
            found
                .kinds
                .get(kind)
                .map_or_else(Cell::empty, |kind| steps(kind.steps_kept.mean, kind.steps_kept.standard_error))
        }));
        row
    };
    let mut columns = vec!["kind".to_owned(), "tokens".to_owned()];
    columns.extend(found.iter().map(|found| found.name(setting)));
    Figure {
        id: "kinds".into(),
        title: "Mean steps kept by kind of token".into(),
        caption: "± standard error over contexts. The average is the same for all policies of equal bound.".into(),
        content: Content::Table {
            columns,
            rows: std::iter::once(average.collect()).chain(ordered(found).into_iter().map(row)).collect(),
        },
    }
}

fn bars(setting: &Retention, found: &[Found]) -> Figure {
    let groups: Vec<&String> =
        ordered(found).into_iter().filter(|&(_, tokens)| tokens >= FEW).map(|(kind, _)| kind).collect();
    let series = |found: &Found| {
        let of = |kind: &&String| found.kinds.get(*kind).map(|kind| kind.steps_kept);
        let relative = |value: f64| value / found.average;
        Series {
            name: found.name(setting),
            values: groups.iter().map(|kind| of(kind).map(|mean| relative(mean.mean))).collect(),
            errors: groups.iter().map(|kind| of(kind).and_then(|mean| mean.standard_error).map(relative)).collect(),
        }
    };
    Figure {
        id: "kinds-bars".into(),
        title: "Steps kept by kind of token, relative to the average".into(),
        caption: format!("Above 1: kept longer than rows are on average. Kinds with at least {FEW} tokens."),
        content: Content::Bars {
            y: Axis::linear("steps kept / average"),
            series: found.iter().map(series).collect(),
            groups: groups.into_iter().cloned().collect(),
        },
    }
}

fn first(setting: &Retention, found: &[Found]) -> Figure {
    let line = |found: &Found| Line {
        name: found.name(setting),
        reference: false,
        points: found
            .first
            .iter()
            .enumerate()
            .map(|(position, &kept)| Point { x: position as f64, y: kept, error: None })
            .collect(),
    };
    let mut lines: Vec<Line> = found.iter().map(line).collect();
    // The average of all rows, once per number of states.
    let mut seen = Vec::new();
    for found in found {
        if !seen.contains(&found.states) {
            seen.push(found.states);
            let ends = [0, setting.first.saturating_sub(1)];
            lines.push(Line {
                name: format!("average at {}", found.states),
                reference: true,
                points: ends.map(|x| Point { x: x as f64, y: found.average, error: None }).to_vec(),
            });
        }
    }
    Figure {
        id: "first-kept".into(),
        title: format!("Mean steps kept of the first {} tokens", setting.first),
        caption: "Over contexts, layers and deciding groups.".into(),
        content: Content::Lines { x: Axis::linear("position"), y: Axis::linear("steps kept"), lines },
    }
}

/// Values by span of steps, as points.
fn over_steps(setting: &Retention, values: &[Option<f64>]) -> Vec<Point> {
    let points = setting.grid().steps().into_iter().zip(values);
    points.filter_map(|(x, y)| y.map(|y| Point { x, y, error: None })).collect()
}

fn survival(setting: &Retention, found: &[Found]) -> Figure {
    let line = |found: &Found| Line {
        name: found.name(setting),
        reference: false,
        points: over_steps(setting, &found.survival),
    };
    Figure {
        id: "first-survival".into(),
        title: format!("Share of the first {} tokens that is held", setting.first),
        caption: "After every step looked at, over contexts, layers and deciding groups; of the tokens that came so \
                  far."
            .into(),
        content: Content::Lines {
            x: Axis::linear("step"),
            y: Axis::linear("share held"),
            lines: found.iter().map(line).collect(),
        },
    }
}

fn missing(setting: &Retention, found: &[Found]) -> Figure {
    let line = |found: &Found| Line {
        name: found.name(setting),
        reference: false,
        points: over_steps(setting, found.missing.as_deref().unwrap_or_default()),
    };
    Figure {
        id: "attention-missing".into(),
        title: "Attention on rows no longer held".into(),
        caption: "Share of the attention that the same queries would have paid to all rows so far; means over the \
                  steps of each span, layers and contexts."
            .into(),
        content: Content::Lines {
            x: Axis::linear("step"),
            y: Axis::linear("share of attention"),
            lines: found.iter().map(line).collect(),
        },
    }
}

fn attention(setting: &Retention, found: &[Found]) -> Figure {
    let layers = found.first().map_or(0, |found| found.maps.len());
    let mut columns = vec!["policy".to_owned()];
    columns.extend((0..layers).map(|layer| format!("omitted, layer {layer}")));
    columns.extend((0..layers).map(|layer| format!("missing, layer {layer}")));
    let row = |found: &Found| {
        let all = found.attention.iter().flatten();
        std::iter::once(Cell::text(found.name(setting)))
            .chain(all.clone().map(|layer| number_small(layer.omitted)))
            .chain(all.map(|layer| number_small(layer.missing)))
            .collect()
    };
    Figure {
        id: "attention".into(),
        title: "Attention lost, by layer".into(),
        caption: "Omitted: mean weight of a row in the step that omits it. Missing: mean share of a query's attention \
                  on rows no longer held."
            .into(),
        content: Content::Table { columns, rows: found.iter().map(row).collect() },
    }
}

fn number_small(value: Option<f64>) -> Cell {
    value.map_or_else(Cell::empty, |value| Cell::rounded(value, None, 5))
}

fn map(setting: &Retention, found: &Found, id: &str) -> Figure {
    let grid = setting.grid();
    Figure {
        id: format!("map-{id}"),
        title: format!("Rows held, {}", found.name(setting)),
        caption: format!(
            "Every {}th step; a cell is the share of the rows of {} neighbouring positions that is held after it.",
            grid.stride, grid.stride
        ),
        content: Content::HeatMap {
            panel: "layer".into(),
            x: Axis::linear("step"),
            columns: grid.steps(),
            y: Axis::linear("position"),
            rows: grid.positions(),
            value: "share of rows held".into(),
            panels: found
                .maps
                .iter()
                .enumerate()
                .map(|(layer, values)| Panel { name: layer.to_string(), values: values.clone() })
                .collect(),
        },
    }
}
