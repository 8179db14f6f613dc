//! Figures of a comparison: perplexity over states, memory and speed.

use crate::compare::{Comparison, Run};
use crate::experiment::figure::{Axis, Cell, Content, Figure, Line, Point};
use crate::statistics::Mean;

/// Perplexity over states, both axes logarithmic, one line per name, the full state as reference.
pub fn perplexity(comparison: &Comparison, title: &str) -> Figure {
    let states = comparison.states();
    let point = |x: usize, mean: Mean| Point { x: x as f64, y: mean.mean, error: mean.standard_error };
    let of_name = |&name: &&str| {
        let runs = states.iter().filter_map(|&states| Some((states, comparison.run(name, states)?.perplexity?)));
        let points = runs.map(|(states, mean)| point(states, mean));
        Line { name: name.to_owned(), reference: name == "baseline", points: points.collect() }
    };
    let mut lines: Vec<Line> = comparison.names().iter().map(of_name).collect();
    let full = comparison.full().and_then(|full| Some((full, full.perplexity?.mean)));
    if let (Some((full, mean)), Some(&first), Some(&last)) = (full, states.first(), states.last()) {
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
    use crate::compare::Kind;
    use crate::evaluate::Observed;

    fn run(kind: Kind, policy: &str, states: Option<usize>, perplexity: f64) -> Run {
        Run {
            kind,
            policy: policy.to_owned(),
            states,
            perplexity: perplexity.is_finite().then_some(Mean { mean: perplexity, standard_error: Some(0.1) }),
            bits_per_byte: None,
            above_full: None,
            nll: 1.0,
            tokens: 10,
            observed: Observed { omitted: 1, max_rows: 8, state_bytes: 64, ..Observed::default() },
            seconds: 1.0,
            tokens_per_second: 10.0,
            contexts: Vec::new(),
        }
    }

    #[test]
    fn every_run_is_a_point() {
        let runs = vec![
            run(Kind::Full, "full", None, 2.0),
            run(Kind::Baseline, "baseline", Some(8), 4.0),
            run(Kind::Policy, "tova", Some(8), 3.0),
            // A perplexity that overflowed has no place on an axis.
            run(Kind::Policy, "tova", Some(16), f64::INFINITY),
            run(Kind::Policy, "tova", Some(64), 2.5),
        ];
        let comparison = Comparison { runs, complete: true };
        let (perplexity, speed) = (perplexity(&comparison, "A title"), speed(&comparison));
        super::super::check::check([&perplexity, &speed]).unwrap();
        let Content::Lines { lines, .. } = &perplexity.content else { panic!("{perplexity:?}") };
        let points = |line: &Line| line.points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["full", "baseline", "tova"]);
        assert_eq!(points(&lines[0]), [(8.0, 2.0), (64.0, 2.0)]);
        assert_eq!(points(&lines[2]), [(8.0, 3.0), (64.0, 2.5)]);
    }
}
