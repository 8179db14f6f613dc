//! What the report shows of an extrapolation.

use super::{Curve, Extrapolate, ExtrapolateModel, Stretch};
use crate::figure::{Axis, Cell, Content, Figure, Line, Point};

/// Segments of a text whose perplexity is shown by itself.
const SEGMENTS: usize = 40;

/// Curves and tables of all models.
pub fn figures(setting: &Extrapolate, samples: &[Stretch]) -> Vec<Figure> {
    let mut all = Vec::new();
    for (index, model) in setting.models.iter().enumerate() {
        let of_model: Vec<&Stretch> = samples.iter().filter(|stretch| stretch.model == index).collect();
        for figure in [running(&of_model), segments(&of_model), marks(model, &of_model)] {
            all.push(match setting.models.len() {
                1 => figure,
                _ => Figure {
                    id: format!("{}-{}", figure.id, index + 1),
                    title: format!("{}: {}", model.name, figure.title),
                    ..figure
                },
            });
        }
    }
    all
}

fn longest(stretches: &[&Stretch]) -> usize {
    stretches.iter().map(|stretch| stretch.curve.tokens()).max().unwrap_or(0)
}

fn lines(stretches: &[&Stretch], points: impl Fn(&Curve) -> Vec<(usize, f64)>) -> Content {
    let point = |(x, y): (usize, f64)| y.is_finite().then_some(Point { x: x as f64, y, error: None });
    let line = |stretch: &&Stretch| Line {
        name: stretch.name(),
        reference: stretch.states.is_none(),
        points: points(&stretch.curve).into_iter().filter_map(point).collect(),
    };
    Content::Lines {
        x: Axis::linear("tokens"),
        y: Axis::log("perplexity"),
        lines: stretches.iter().map(line).collect(),
    }
}

fn running(stretches: &[&Stretch]) -> Figure {
    Figure {
        id: "running-perplexity".into(),
        title: "Perplexity of all tokens up to a position".into(),
        caption: "A running average: what happens late shows little. The full state is dashed and ends at its limit."
            .into(),
        content: lines(stretches, Curve::running),
    }
}

fn segments(stretches: &[&Stretch]) -> Figure {
    let size = longest(stretches).div_ceil(SEGMENTS).max(1);
    Figure {
        id: "segment-perplexity".into(),
        title: "Perplexity of one segment after the other".into(),
        caption: format!("Segments of about {size} tokens, at the position of their end."),
        content: lines(stretches, |curve| curve.segments(size)),
    }
}

/// Running perplexity at the trained length, twice that, and so on, and at the end.
fn marks(model: &ExtrapolateModel, stretches: &[&Stretch]) -> Figure {
    let end = longest(stretches);
    let doubled = std::iter::successors(Some(model.trained), |&at| Some(2 * at)).take_while(|&at| at < end);
    let marks: Vec<usize> = doubled.chain([end]).collect();
    let columns = std::iter::once("up to token".to_owned()).chain(marks.iter().map(usize::to_string)).collect();
    let row = |stretch: &&Stretch| {
        let cell = |&at: &usize| match stretch.curve.running_at(at) {
            Some(value) if value.is_finite() => Cell::number(value, None),
            // No 64-bit number holds it.
            Some(_) => Cell::text("above e^709"),
            None => Cell::empty(),
        };
        std::iter::once(Cell::text(stretch.name())).chain(marks.iter().map(cell)).collect()
    };
    Figure {
        id: "marks".into(),
        title: "Perplexity of all tokens up to a position".into(),
        caption: format!(
            "{} was trained on {} tokens. At the nearest recorded position before. The last column is the whole text.",
            model.name, model.trained
        ),
        content: Content::Table { columns, rows: stretches.iter().map(row).collect() },
    }
}
