//! Grids of values: all panels side by side with one span of colours. The first row is on top.

use std::fmt::Write;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::sheet::Sheet;
use super::{Drawn, INK, rgb, short};
use crate::figure::{Content, Figure, Panel};
use crate::render::{colour, raster, scale};

/// Height of a panel with its labels on a screen, in pixels.
const PANEL: i32 = 400;
/// Around a grid in its panel, in pixels: left, top, right, bottom.
const AROUND: [i32; 4] = [72, 34, 28, 62];
/// Heights of the title and of the colours below.
const TITLE: i32 = 50;
const COLOURS: i32 = 60;
/// Steps that the colours are shown in.
const STEPS: i32 = 110;

pub(super) fn draw(sheet: &Sheet, figure: &Figure, svg: &mut String) -> Drawn {
    let Content::HeatMap { panel: kind, x, columns, y, rows, value, panels } = &figure.content else {
        return Ok(false);
    };
    if panels.is_empty() || columns.is_empty() || rows.is_empty() {
        return Ok(false);
    }
    let px = |pixels| sheet.px(pixels);
    let span = colour::span(panels.iter().flat_map(|panel| panel.values.iter().flatten().flatten().copied()));
    let across = panels.len().min(2) as i32;
    let down = (panels.len() as i32 + across - 1) / across;
    let (width, title) = (sheet.width, if sheet.title.is_empty() { 0 } else { TITLE });
    let height = sheet.height(title + PANEL * down + COLOURS);
    // One panel stands in the middle of a screen, and fills a sheet of paper.
    let alone = across == 1 && sheet.is_print();
    let of_panel = (width as i32 / if alone { 1 } else { 2 }, (height as i32 - px(title + COLOURS)) / down);
    let [left, top, right, bottom] = AROUND.map(px);
    let grid = (of_panel.0 - left - right, of_panel.1 - top - bottom);
    sheet.leaves_room([left + right, top + bottom], [of_panel.0, of_panel.1])?;
    let mut images = String::new();
    {
        let root = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        if title > 0 {
            let style = sheet.words(22, HPos::Center, VPos::Center);
            root.draw(&Text::new(sheet.title.clone(), (width as i32 / 2, px(24)), style))?;
        }
        for (index, panel) in panels.iter().enumerate() {
            let index = index as i32;
            let offset = if across == 1 && !alone { of_panel.0 / 2 } else { 0 };
            let corner = (index % across * of_panel.0 + left + offset, px(title) + index / across * of_panel.1 + top);
            let name = if panels.len() > 1 { format!("{kind} {}", panel.name) } else { panel.name.clone() };
            let style = sheet.words(15, HPos::Left, VPos::Center);
            root.draw(&Text::new(short(&name, 50), (corner.0, corner.1 - px(12)), style))?;
            image(&mut images, corner, grid, panel, span)?;
            for (at, coordinate) in labelled(columns, 6) {
                let place = corner.0 + middle(at, columns.len(), grid.0);
                let style = sheet.words(13, HPos::Center, VPos::Top);
                root.draw(&Text::new(scale::label(coordinate), (place, corner.1 + grid.1 + px(6)), style))?;
            }
            for (at, coordinate) in labelled(rows, 6) {
                let place = corner.1 + middle(at, rows.len(), grid.1);
                let style = sheet.words(13, HPos::Right, VPos::Center);
                root.draw(&Text::new(scale::label(coordinate), (corner.0 - px(6), place), style))?;
            }
            let below = (corner.0 + grid.0 / 2, corner.1 + grid.1 + px(26));
            root.draw(&Text::new(short(&x.label, 50), below, sheet.words(14, HPos::Center, VPos::Top)))?;
            let style = sheet.words(14, HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
            root.draw(&Text::new(short(&y.label, 45), (corner.0 - px(58), corner.1 + grid.1 / 2), style))?;
        }
        // The colours and what they mean.
        let top = height as i32 - px(48);
        let at = |step: i32| left + px(2 * step);
        for step in 0..STEPS {
            let fill = rgb(colour::of_share(f64::from(step) / f64::from(STEPS - 1))).filled();
            root.draw(&Rectangle::new([(at(step), top), (at(step + 1), top + px(12))], fill))?;
        }
        let end = at(STEPS);
        let (left_words, right_words) =
            (sheet.words(13, HPos::Left, VPos::Top), sheet.words(13, HPos::Right, VPos::Top));
        root.draw(&Text::new(scale::label(span.0), (left, top + px(16)), left_words))?;
        root.draw(&Text::new(scale::label(span.1), (end, top + px(16)), right_words))?;
        let beside = sheet.words(14, HPos::Left, VPos::Center);
        root.draw(&Text::new(short(value, 60), (end + px(12), top + px(6)), beside))?;
        let none = panels.iter().flat_map(|panel| panel.values.iter().flatten()).any(Option::is_none);
        if none {
            let at = (end + px(12), top + px(18));
            root.draw(&Rectangle::new([at, (at.0 + px(12), at.1 + px(12))], rgb(colour::NO_VALUE).filled()))?;
            let style = sheet.words(13, HPos::Left, VPos::Center);
            root.draw(&Text::new("no value", (at.0 + px(18), at.1 + px(6)), style))?;
        }
        root.present()?;
    }
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, &images);
    }
    Ok(true)
}

fn image(
    svg: &mut String,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    panel: &Panel,
    span: (f64, f64),
) -> Result<(), Box<dyn std::error::Error>> {
    let url = raster::data_url(&panel.values, span)?;
    write!(
        svg,
        "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\" href=\"{url}\"/>\n\
         <rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"{}\"/>\n",
        colour::hex([INK.0, INK.1, INK.2])
    )?;
    Ok(())
}

/// The middle of a cell, in pixels from the first one's side.
fn middle(index: usize, cells: usize, length: i32) -> i32 {
    ((index as f64 + 0.5) / cells as f64 * f64::from(length)).round() as i32
}

/// About `count` cells to label, evenly apart, with their coordinates.
pub(crate) fn labelled(coordinates: &[f64], count: usize) -> Vec<(usize, f64)> {
    let least = coordinates.len().div_ceil(count).max(1);
    let decade = 10usize.pow(least.ilog10());
    let stride = [1, 2, 5, 10].map(|m| m * decade).into_iter().find(|&stride| stride >= least).unwrap_or(least);
    coordinates.iter().copied().enumerate().step_by(stride).collect()
}
