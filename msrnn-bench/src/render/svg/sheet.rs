//! What a drawing is drawn on: how large it is, and in which letters.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{INK, short};
use crate::render::printable;

/// How plots look.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    /// Width and height in inches, and the size of labels in points; none for a page that is read on a screen, where
    /// a plot is as high as it needs to be.
    pub print: Option<Print>,
    /// The family of letters, as CSS names it.
    pub font: String,
    /// Whether the title is written above.
    pub title: bool,
}

/// The size of a plot in print.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Print {
    /// In inches.
    pub width: f64,
    /// In inches.
    pub height: f64,
    /// Size of the labels on axes in points.
    pub label: f64,
}

impl Default for Style {
    fn default() -> Self {
        Self { print: None, font: GENERIC.to_owned(), title: true }
    }
}

/// The family that drawings are made in, before they get theirs.
const GENERIC: &str = "sans-serif";

/// Places to the inch in print, many enough that rounding to whole ones cannot be seen.
const FINE: f64 = 600.0;

/// Width on a screen.
const WIDTH: u32 = 860;

/// Sides of what is left for the data, in pixels of a screen, at least.
const LEAST: i32 = 60;

/// Around a chart, and for the labels at its left, in pixels of a screen.
const MARGIN: i32 = 12;
const LEFT: i32 = 72;

/// Size of labels on a screen, in pixels.
const LABEL: f64 = 13.0;

/// A sheet to draw on.
pub(super) struct Sheet {
    pub(super) width: u32,
    /// None where a drawing chooses.
    height: Option<u32>,
    /// What a pixel of a screen is here.
    pub(super) unit: f64,
    /// Empty where none is written.
    pub(super) title: String,
    style: Style,
}

impl Sheet {
    pub(super) fn new(style: &Style, title: &str) -> Self {
        let title = if style.title { short(title, 90) } else { String::new() };
        let places = |inches: f64| (inches * FINE).round().max(1.0) as u32;
        let (width, height, unit) = match style.print {
            None => (WIDTH, None, 1.0),
            Some(print) => (places(print.width), Some(places(print.height)), print.label / 72.0 * FINE / LABEL),
        };
        Self { width, height, unit, title, style: style.clone() }
    }

    pub(super) fn is_print(&self) -> bool {
        self.height.is_some()
    }

    /// So many pixels of a screen.
    pub(super) fn px(&self, pixels: i32) -> i32 {
        (f64::from(pixels) * self.unit).round() as i32
    }

    /// The height, or so many pixels where there is none.
    pub(super) fn height(&self, pixels: i32) -> u32 {
        self.height.unwrap_or(pixels.max(1) as u32)
    }

    /// Refuses a place of some width and height on which labels of so many places across and down leave too little.
    pub(super) fn leaves_room(&self, labels: [i32; 2], place: [i32; 2]) -> Result<(), String> {
        match place.into_iter().zip(labels).all(|(side, labels)| side - labels >= self.px(LEAST)) {
            true => Ok(()),
            false => Err("its labels leave no room on so small a sheet; give more of it, or smaller labels".into()),
        }
    }

    /// A chart on this sheet: its title, and room for labels below, of so many pixels, and beside it, of so many places.
    pub(super) fn chart<'r, 's>(
        &self,
        root: &'r DrawingArea<SVGBackend<'s>, Shift>,
        beside: i32,
        below: i32,
    ) -> Result<ChartBuilder<'r, 'r, SVGBackend<'s>>, String> {
        let (width, height) = root.dim_in_pixel();
        // Margins, and a title.
        let labels = [self.px(LEFT + MARGIN) + beside, self.px(below + 2 * MARGIN + 30)];
        self.leaves_room(labels, [width as i32, height as i32])?;
        let mut builder = ChartBuilder::on(root);
        if !self.title.is_empty() {
            builder.caption(&self.title, self.font(18));
        }
        builder
            .margin(self.px(MARGIN))
            .margin_right(beside)
            .x_label_area_size(self.px(below))
            .y_label_area_size(self.px(LEFT));
        Ok(builder)
    }

    /// Letters of so many pixels.
    pub(super) fn font(&self, pixels: i32) -> TextStyle<'static> {
        (GENERIC, self.px(pixels)).into_font().color(&INK)
    }

    /// The same at a place.
    pub(super) fn words(&self, pixels: i32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
        self.font(pixels).pos(Pos::new(horizontal, vertical))
    }

    /// Room for names of 13 pixels, as wide as the longest.
    pub(super) fn room<'a>(&self, names: impl Iterator<Item = &'a str>) -> i32 {
        self.px(names.map(|name| name.chars().count().min(32)).max().unwrap_or(0) as i32 * 7 + 34)
    }

    /// A line of so many pixels.
    pub(super) fn stroke(&self, colour: RGBColor, pixels: u32) -> ShapeStyle {
        colour.stroke_width((f64::from(pixels) * self.unit).round().max(1.0) as u32)
    }

    /// The drawing with its size, its letters, and its title for who cannot see it.
    pub(super) fn finished(&self, svg: &str, title: &str) -> String {
        let quoted = |text: &str| printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let mut head = format!("<svg role=\"img\" aria-label=\"{}\" ", quoted(title));
        let mut rest = svg;
        if let (Some(print), Some(size), Some(box_at)) = (self.style.print, svg.find("<svg "), svg.find("viewBox")) {
            head = format!("{}{head}width=\"{}in\" height=\"{}in\" ", &svg[..size], print.width, print.height);
            rest = &svg[box_at..];
            head.push_str(rest);
        } else {
            head = rest.replacen("<svg ", &head, 1);
        }
        match self.style.font == GENERIC {
            true => head,
            false => head.replace(
                &format!("font-family=\"{GENERIC}\""),
                &format!("font-family=\"{}\"", quoted(&self.style.font)),
            ),
        }
    }
}
