//! A comparison as results: what `msrnn compare` shows in `report.html`.

use crate::compare::{Comparison, Kind, Run};
use crate::experiment::figure::{Axis, Cell, Content, Figure, Line, Point};
use crate::experiment::{Arm, Results};
use crate::statistics::Mean;

/// Perplexity over states as lines and as table, the paired difference to the full state, and what
/// the states held. `model`: as in `--model`.
pub fn results(comparison: &Comparison, model: &str) -> Results {
    let states = comparison.states();
    let mut figures = Vec::new();
    if !states.is_empty() {
        figures.push(perplexity(comparison, "Perplexity over states"));
    }
    figures.push(table(
        comparison,
        ("perplexity-table", "Perplexity"),
        "exp of the mean negative log-likelihood per token, ± standard error over contexts.",
        |run| Some(run.perplexity),
    ));
    figures.push(table(
        comparison,
        ("above-full", "Nats per token above the full state"),
        "Mean difference in negative log-likelihood, paired by context, ± standard error over contexts. \
         Contexts of other lengths cannot be paired.",
        |run| run.above_full,
    ));
    let arm = |run: &Run| Arm {
        model: model.to_owned(),
        policy: match (run.kind, run.states) {
            (Kind::Policy, Some(states)) => format!("{}@{states}", run.policy),
            (Kind::Baseline, Some(states)) => format!("full, contexts of {states}"),
            _ => run.policy.clone(),
        },
        // Shorter contexts are no bound on the state.
        states: run.states.filter(|_| run.kind == Kind::Policy),
        observed: run.observed,
    };
    let mut notes = vec!["Baseline: the full state on contexts as long as the bounded states.".to_owned()];
    if !comparison.complete {
        notes.insert(0, "The comparison was interrupted: this is what was finished until then.".to_owned());
    }
    let metrics = comparison.runs.iter().map(|run| {
        serde_json::json!({
            "kind": run.kind, "policy": run.policy, "states": run.states, "perplexity": run.perplexity,
            "above_full": run.above_full, "nll": run.nll, "tokens": run.tokens, "observed": run.observed,
        })
    });
    Results { metrics: metrics.collect(), arms: comparison.runs.iter().map(arm).collect(), notes, figures }
}

/// Perplexity over states, both axes logarithmic, one line per name, the full state as reference.
pub fn perplexity(comparison: &Comparison, title: &str) -> Figure {
    let states = comparison.states();
    let point = |x: usize, mean: Mean| Point { x: x as f64, y: mean.mean, error: mean.standard_error };
    let of_name = |&name: &&str| {
        let runs = states.iter().filter_map(|&states| Some((states, comparison.run(name, states)?.perplexity)));
        let points = runs.filter(|(_, mean)| mean.mean.is_finite()).map(|(states, mean)| point(states, mean));
        Line { name: name.to_owned(), reference: name == "baseline", points: points.collect() }
    };
    let mut lines: Vec<Line> = comparison.names().iter().map(of_name).collect();
    if let (Some(full), Some(&first), Some(&last)) = (comparison.full(), states.first(), states.last()) {
        let Mean { mean, .. } = full.perplexity;
        let points = [first, last].map(|x| Point { x: x as f64, y: mean, error: None });
        lines.insert(0, Line { name: full.policy.clone(), reference: true, points: points.into() });
    }
    Figure {
        id: "perplexity".to_owned(),
        title: title.to_owned(),
        caption: "Mean over contexts with its standard error. Lower is better; no bounded state is expected below \
                  the full one."
            .to_owned(),
        content: Content::Lines { x: Axis::log("states"), y: Axis::log("perplexity"), lines },
    }
}

/// Names down, states across.
fn table(
    comparison: &Comparison,
    (id, title): (&str, &str),
    caption: &str,
    value: impl Fn(&Run) -> Option<Mean>,
) -> Figure {
    let cell = |run: Option<&Run>| match run.and_then(&value) {
        Some(mean) => Cell::number(mean.mean, mean.standard_error),
        None => Cell::empty(),
    };
    let states = comparison.states();
    let columns = ["policy".to_owned()].into_iter().chain(states.iter().map(usize::to_string));
    let row = |name: &str| {
        let cells = states.iter().map(|&states| cell(comparison.run(name, states)));
        [Cell::text(name)].into_iter().chain(cells).collect()
    };
    let full = comparison.full().filter(|run| value(run).is_some()).map(|run| {
        let cells = states.iter().map(|_| cell(Some(run)));
        [Cell::text(&run.policy)].into_iter().chain(cells).collect()
    });
    Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        caption: caption.to_owned(),
        content: Content::Table {
            columns: columns.collect(),
            rows: full.into_iter().chain(comparison.names().into_iter().map(row)).collect(),
        },
    }
}

/// Time and memory of each run, apart from the results.
pub fn speed(comparison: &Comparison) -> Figure {
    let row = |run: &Run| {
        vec![
            Cell::text(&run.policy),
            run.states.map_or_else(Cell::empty, Cell::count),
            Cell::count(run.observed.state_bytes),
            Cell::Number { value: run.seconds, error: None, decimals: 1 },
            Cell::Number { value: run.tokens_per_second, error: None, decimals: 0 },
        ]
    };
    let columns = ["policy", "states", "state bytes", "seconds", "tokens per second"];
    Figure {
        id: "speed".to_owned(),
        title: "Memory and speed".to_owned(),
        caption: "Wall-clock time, shared with the runs beside it.".to_owned(),
        content: Content::Table {
            columns: columns.map(str::to_owned).into(),
            rows: comparison.runs.iter().map(row).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Observed;

    fn run(kind: Kind, policy: &str, states: Option<usize>, perplexity: f64, omitted: usize) -> Run {
        let mean = |mean| Mean { mean, standard_error: Some(0.1) };
        Run {
            kind,
            policy: policy.to_owned(),
            states,
            perplexity: mean(perplexity),
            above_full: (kind == Kind::Policy).then(|| mean(0.5)),
            nll: 1.0,
            tokens: 10,
            observed: Observed { omitted, max_rows: 8, state_bytes: 64 },
            seconds: 1.0,
            tokens_per_second: 10.0,
            contexts: Vec::new(),
        }
    }

    #[test]
    fn every_run_is_in_the_results() {
        let runs = vec![
            run(Kind::Full, "full", None, 2.0, 0),
            run(Kind::Baseline, "baseline", Some(8), 4.0, 0),
            run(Kind::Policy, "tova", Some(8), 3.0, 5),
            run(Kind::Policy, "tova", Some(64), 2.0, 0),
        ];
        let comparison = Comparison { runs, complete: true };
        let results = results(&comparison, "bundled");
        // The baseline has no bound that it could fail to reach.
        let unreached: Vec<&str> = results.never_bound().iter().map(|arm| arm.policy.as_str()).collect();
        assert_eq!(unreached, ["tova@64"]);
        let Content::Lines { lines, .. } = &results.figures[0].content else { panic!("{:?}", results.figures[0]) };
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["full", "baseline", "tova"]);
        assert_eq!(lines[2].points.iter().map(|p| (p.x, p.y)).collect::<Vec<_>>(), [(8.0, 3.0), (64.0, 2.0)]);
        let Content::Table { rows, .. } = &results.figures[1].content else { panic!("{:?}", results.figures[1]) };
        assert_eq!(rows[1], [Cell::text("baseline"), Cell::number(4.0, Some(0.1)), Cell::empty()]);
        let speed = speed(&comparison);
        super::super::check::check(results.figures.iter().chain([&speed])).unwrap();
    }
}
