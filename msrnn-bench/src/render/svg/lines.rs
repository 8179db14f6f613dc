//! Lines over a numeric axis, each named at its end.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::sheet::Sheet;
use super::{Drawn, PlotAxis, colour_of, mark, rgb, short};
use crate::figure::{Axis, Line};
use crate::render::{colour, extent};

/// Height of a line's name.
const NAME: i32 = 16;
/// Lines of more points are drawn without marks.
const MARKED: usize = 60;

pub(super) fn draw(sheet: &Sheet, x: &Axis, y: &Axis, lines: &[Line], svg: &mut String) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return Ok(false);
    }
    let (across, up) = extent::lines(x, y, lines);
    let mut places: Vec<f64> = points().map(|point| point.x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let x_ticks = across.ticks_at(&places, 6);
    let y_ticks = up.ticks(6);
    let (height, name) = (sheet.height(520.max(lines.len() as i32 * NAME + 110)), sheet.px(NAME));

    let beside = sheet.room(lines.iter().map(|line| line.name.as_str()));
    let root = SVGBackend::with_string(svg, (sheet.width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = sheet
        .chart(&root, beside, 46)?
        .build_cartesian_2d(PlotAxis::new(across, x_ticks), PlotAxis::new(up.clone(), y_ticks))?;
    let scale = |axis: &Axis, log: bool| short(&axis.label, 90) + if log { " (log scale)" } else { "" };
    let log_x = chart.as_coord_spec().x_spec().scale.log;
    chart
        .configure_mesh()
        .x_desc(scale(x, log_x))
        .y_desc(scale(y, up.log))
        .light_line_style(WHITE)
        .bold_line_style(sheet.stroke(RGBColor(0xe6, 0xe6, 0xe6), 1))
        .axis_style(sheet.stroke(RGBColor(0x88, 0x88, 0x88), 1))
        .label_style(sheet.font(13))
        .axis_desc_style(sheet.font(14))
        .draw()?;

    let mut ends = Vec::new();
    let mut places =
        colour::places(lines.iter().filter(|line| !line.reference).map(|line| line.name.as_str())).into_iter();
    for line in lines {
        let place = if line.reference { None } else { places.next() };
        let colour = place.map_or(rgb(colour::REFERENCE), colour_of);
        let outline = mark(place.unwrap_or(0), sheet);
        let stroke = sheet.stroke(colour, 2);
        let along = line.points.iter().map(|point| (point.x, point.y));
        if line.reference {
            chart.draw_series(DashedLineSeries::new(along.clone(), sheet.px(6), sheet.px(4), stroke))?;
        } else {
            chart.draw_series(LineSeries::new(along.clone(), stroke))?;
        }
        let errors = line.points.iter().filter_map(|point| point.error.map(|error| (point, error.abs())));
        chart.draw_series(errors.map(|(point, error)| {
            let low = if up.log { (point.y - error).max(up.lowest) } else { point.y - error };
            PathElement::new(
                [(point.x, low.max(f64::MIN)), (point.x, (point.y + error).min(f64::MAX))],
                sheet.stroke(colour, 1),
            )
        }))?;
        if !line.reference && line.points.len() <= MARKED {
            let marks = along.map(|point| EmptyElement::at(point) + Polygon::new(outline.clone(), colour.filled()));
            chart.draw_series(marks)?;
        }
        if let Some(point) = line.points.last() {
            ends.push((chart.plotting_area().map_coordinate(&(point.x, point.y)), line, colour, outline));
        }
    }

    // Names at the right, at the height of the ends of their lines, pushed apart where they would
    // overlap: upwards from the lowest, then down again from the top.
    ends.sort_by_key(|((_, y), ..)| std::cmp::Reverse(*y));
    let ((_, right), (top, bottom)) = {
        let (across, down) = chart.plotting_area().get_pixel_range();
        ((across.start, across.end), (down.start, down.end))
    };
    let mut places: Vec<i32> = Vec::new();
    for ((_, y), ..) in &ends {
        places.push((*y).min(places.last().map_or(bottom, |above| above - name)));
    }
    for index in (0..places.len()).rev() {
        let least = if index + 1 < places.len() { places[index + 1] + name } else { top };
        places[index] = places[index].max(least);
    }
    for ((_, line, colour, outline), y) in ends.into_iter().zip(places) {
        let at = (right + sheet.px(12), y);
        if line.reference {
            root.draw(&PathElement::new([(at.0 - sheet.px(5), y), (at.0 + sheet.px(5), y)], sheet.stroke(colour, 2)))?;
        } else {
            root.draw(&(EmptyElement::at(at) + Polygon::new(outline, colour.filled())))?;
        }
        root.draw(&Text::new(
            short(&line.name, 32),
            (at.0 + sheet.px(10), y),
            sheet.words(14, HPos::Left, VPos::Center),
        ))?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(true)
}
