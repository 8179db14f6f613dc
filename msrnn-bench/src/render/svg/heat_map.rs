//! Grids of values: all panels side by side with one span of colours. The first row is on top.

use std::fmt::Write;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{Drawn, INK, rgb, short, words};
use crate::experiment::figure::{Content, Figure, Panel};
use crate::render::{colour, raster, scale};

/// Room for a panel with its labels.
const CELL: (i32, i32) = (430, 400);
/// Where the grid lies in it: left, top, width, height.
const GRID: (i32, i32, i32, i32) = (72, 34, 330, 304);

pub(super) fn draw(figure: &Figure, svg: &mut String) -> Drawn {
    let Content::HeatMap { panel: kind, x, columns, y, rows, value, panels } = &figure.content else {
        return Ok(false);
    };
    if panels.is_empty() || columns.is_empty() || rows.is_empty() {
        return Ok(false);
    }
    let span = colour::span(panels.iter().flat_map(|panel| panel.values.iter().flatten().flatten().copied()));
    let across = panels.len().min(2) as i32;
    let down = (panels.len() as i32 + across - 1) / across;
    let (width, height) = (CELL.0 * 2, 50 + CELL.1 * down + 60);
    let mut images = String::new();
    {
        let root = SVGBackend::with_string(svg, (width as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        root.draw(&Text::new(short(&figure.title, 90), (width / 2, 24), words(22, HPos::Center, VPos::Center)))?;
        for (index, panel) in panels.iter().enumerate() {
            let index = index as i32;
            let offset = if across == 1 { CELL.0 / 2 } else { 0 };
            let corner = (index % across * CELL.0 + GRID.0 + offset, 50 + index / across * CELL.1 + GRID.1);
            let name = if panels.len() > 1 { format!("{kind} {}", panel.name) } else { panel.name.clone() };
            root.draw(&Text::new(short(&name, 50), (corner.0, corner.1 - 12), words(15, HPos::Left, VPos::Center)))?;
            image(&mut images, corner, panel, span)?;
            for (at, coordinate) in labelled(columns, 6) {
                let place = corner.0 + middle(at, columns.len(), GRID.2);
                let style = words(13, HPos::Center, VPos::Top);
                root.draw(&Text::new(scale::label(coordinate), (place, corner.1 + GRID.3 + 6), style))?;
            }
            for (at, coordinate) in labelled(rows, 6) {
                let place = corner.1 + middle(at, rows.len(), GRID.3);
                let style = words(13, HPos::Right, VPos::Center);
                root.draw(&Text::new(scale::label(coordinate), (corner.0 - 6, place), style))?;
            }
            let below = (corner.0 + GRID.2 / 2, corner.1 + GRID.3 + 26);
            root.draw(&Text::new(short(&x.label, 50), below, words(14, HPos::Center, VPos::Top)))?;
            let style = words(14, HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
            root.draw(&Text::new(short(&y.label, 45), (corner.0 - 58, corner.1 + GRID.3 / 2), style))?;
        }
        // The colours and what they mean.
        let (left, top) = (GRID.0, height - 48);
        let steps = 110;
        for step in 0..steps {
            let fill = rgb(colour::of_share(f64::from(step) / f64::from(steps - 1))).filled();
            root.draw(&Rectangle::new([(left + step * 2, top), (left + step * 2 + 2, top + 12)], fill))?;
        }
        let end = left + steps * 2;
        root.draw(&Text::new(scale::label(span.0), (left, top + 16), words(13, HPos::Left, VPos::Top)))?;
        root.draw(&Text::new(scale::label(span.1), (end, top + 16), words(13, HPos::Right, VPos::Top)))?;
        root.draw(&Text::new(short(value, 60), (end + 12, top + 6), words(14, HPos::Left, VPos::Center)))?;
        let none = panels.iter().flat_map(|panel| panel.values.iter().flatten()).any(Option::is_none);
        if none {
            let at = (end + 12, top + 18);
            root.draw(&Rectangle::new([at, (at.0 + 12, at.1 + 12)], rgb(colour::NO_VALUE).filled()))?;
            let text = Text::new("no value", (at.0 + 18, at.1 + 6), words(13, HPos::Left, VPos::Center));
            root.draw(&text)?;
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
    corner: (i32, i32),
    panel: &Panel,
    span: (f64, f64),
) -> Result<(), Box<dyn std::error::Error>> {
    let (x, y, width, height) = (corner.0, corner.1, GRID.2, GRID.3);
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
