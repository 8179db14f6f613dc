//! Figures as SVG: static, on white, for files, for print and for browsers without scripts.

mod bars;
mod heat_map;
mod lines;
mod sheet;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

use sheet::Sheet;
pub(crate) use sheet::{Print, Style};

use super::colour::{self, Rgb};
use super::printable;
use super::scale::{self, Scale};
use crate::error::BenchError;
use crate::figure::{Content, Figure};

/// A figure as SVG in the usual [`Style`]; none for tables and texts, and where there is nothing to draw.
///
/// # Errors
///
/// When it cannot be drawn.
pub(crate) fn svg(figure: &Figure) -> Result<Option<String>, BenchError> {
    styled(figure, &Style::default())
}

/// A figure as SVG; none for tables and texts, and where there is nothing to draw.
///
/// # Errors
///
/// When it cannot be drawn.
pub(crate) fn styled(figure: &Figure, style: &Style) -> Result<Option<String>, BenchError> {
    let mut svg = String::new();
    let sheet = Sheet::new(style, &figure.title);
    let drawn = match &figure.content {
        Content::Table { .. } | Content::Passages { .. } => return Ok(None),
        Content::Lines { x, y, lines } => lines::draw(&sheet, x, y, lines, &mut svg),
        Content::Bars { groups, y, series } => bars::draw(&sheet, groups, y, series, &mut svg),
        Content::HeatMap { .. } => heat_map::draw(&sheet, figure, &mut svg),
    };
    let drawn = drawn.map_err(|e| BenchError::Input(format!("{}: the plot cannot be drawn: {e}", figure.id)))?;
    Ok(drawn.then(|| sheet.finished(&svg, &figure.title)))
}

/// Whether something was drawn.
type Drawn = Result<bool, Box<dyn std::error::Error>>;

/// A scale as axis of the drawing library, with ticks of our choice.
struct PlotAxis {
    scale: Scale,
    ticks: Vec<f64>,
}

impl PlotAxis {
    fn new(scale: Scale, ticks: Vec<f64>) -> Self {
        Self { scale, ticks }
    }
}

impl Ranged for PlotAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        // Far outside is as good as outside, and no overflow.
        let share = self.scale.share(*value).clamp(-1.0, 2.0);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.scale.lowest..self.scale.highest
    }
}

impl ValueFormatter<f64> for PlotAxis {
    fn format(value: &f64) -> String {
        scale::label(*value)
    }
}

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

fn rgb([red, green, blue]: Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

/// The colour of a line or of bars.
fn colour_of(index: usize) -> RGBColor {
    rgb(colour::LINES[index % colour::LINES.len()])
}

/// A name that fits: its beginning where it is long.
fn short(name: &str, most: usize) -> String {
    let name = printable(name);
    match name.char_indices().nth(most) {
        Some(_) => name.chars().take(most - 1).chain(['…']).collect(),
        None => name,
    }
}

/// The outline of a mark around a point; a shape of its own for every few lines, so that they can be told apart
/// without colour.
fn mark(index: usize, sheet: &Sheet) -> Vec<(i32, i32)> {
    let outline: Vec<(f64, f64)> = match index % 4 {
        0 => (0..12)
            .map(|n| (f64::from(n) * std::f64::consts::TAU / 12.0).sin_cos())
            .map(|(x, y)| (3.6 * x, 3.6 * y))
            .collect(),
        1 => vec![(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)],
        2 => vec![(0.0, -4.0), (4.0, 3.0), (-4.0, 3.0)],
        _ => vec![(0.0, -4.0), (4.0, 0.0), (0.0, 4.0), (-4.0, 0.0)],
    };
    let round = |at: f64| (at * sheet.unit).round() as i32;
    outline.into_iter().map(|(x, y)| (round(x), round(y))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    proptest! {
        /// Whatever is drawn is an XML document with the title as it is, and draws inside itself.
        #[test]
        fn a_drawing_is_xml(figure in sample::figures()) {
            let Some(svg) = svg(&figure).unwrap() else { return Ok(()) };
            let document = roxmltree::Document::parse(&svg).unwrap();
            let root = document.root_element();
            prop_assert_eq!(root.attribute("aria-label").unwrap(), printable(&figure.title));
            let known = ["svg", "g", "rect", "line", "polyline", "polygon", "circle", "text", "image"];
            for node in root.descendants().filter(roxmltree::Node::is_element) {
                prop_assert!(known.contains(&node.tag_name().name()), "{}", node.tag_name().name());
            }
        }
    }
}
