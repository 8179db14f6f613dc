//! Groups of bars.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::sheet::Sheet;
use super::{Drawn, INK, PlotAxis, colour_of, short};
use crate::figure::{Axis, Series};
use crate::render::colour;
use crate::render::extent;
use crate::render::scale::Scale;

pub(super) fn draw(sheet: &Sheet, groups: &[String], y: &Axis, series: &[Series], svg: &mut String) -> Drawn {
    if series.iter().flat_map(|series| &series.values).flatten().next().is_none() {
        return Ok(false);
    }
    let up = extent::bars(y, series);
    let ticks = up.ticks(6);
    // Names lie where they fit into their groups, and stand where they do not.
    let names: Vec<String> = groups.iter().map(|name| short(name, 18)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    // On paper a plot is as wide as it may be, on a screen as it needs to be.
    let bars = groups.len() as i32 * (series.len() as i32 * 4 + 6);
    let width = if sheet.is_print() { sheet.width } else { sheet.width.max((260 + bars) as u32) };
    let slot = (width as i32 - sheet.px(260)) / groups.len().max(1) as i32;
    let lying = sheet.px(longest * 8) <= slot;
    let below = if lying { 40 } else { longest * 8 + 20 };

    let beside = match series.len() {
        1 => sheet.px(20),
        _ => sheet.room(series.iter().map(|series| series.name.as_str())),
    };
    let height = sheet.height(460 + below);
    let root = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let across = Scale { log: false, lowest: 0.0, highest: groups.len() as f64 };
    let mut chart = sheet
        .chart(&root, beside, below)?
        .build_cartesian_2d(PlotAxis::new(across, Vec::new()), PlotAxis::new(up.clone(), ticks))?;
    chart
        .configure_mesh()
        .y_desc(short(&y.label, 90) + if up.log { " (log scale)" } else { "" })
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(sheet.stroke(RGBColor(0xe6, 0xe6, 0xe6), 1))
        .axis_style(sheet.stroke(RGBColor(0x88, 0x88, 0x88), 1))
        .label_style(sheet.font(13))
        .axis_desc_style(sheet.font(14))
        .draw()?;

    let floor = if up.log { up.lowest } else { 0.0 };
    let each = 0.8 / series.len() as f64;
    let places = colour::places(series.iter().map(|series| series.name.as_str()));
    for (index, one) in series.iter().enumerate() {
        let colour = colour_of(places[index]);
        for (group, value) in one.values.iter().enumerate().filter_map(|(group, value)| Some((group, (*value)?))) {
            let left = group as f64 + 0.1 + each * index as f64;
            let right = left + each * 0.92;
            chart.draw_series([Rectangle::new([(left, floor), (right, value)], colour.filled())])?;
            if let Some(error) = one.errors.get(group).copied().flatten() {
                let middle = left.midpoint(right);
                let low = if up.log { (value - error.abs()).max(up.lowest) } else { value - error.abs() };
                let ends = [(middle, low.max(f64::MIN)), (middle, (value + error.abs()).min(f64::MAX))];
                chart.draw_series([PathElement::new(ends, sheet.stroke(INK, 1))])?;
            }
        }
    }
    let area = chart.plotting_area();
    let (horizontal, vertical) = area.get_pixel_range();
    for (group, name) in names.iter().enumerate() {
        let (x, _) = area.map_coordinate(&(group as f64 + 0.5, up.lowest));
        let style = if lying {
            sheet.words(13, HPos::Center, VPos::Top)
        } else {
            sheet.words(13, HPos::Right, VPos::Center).transform(FontTransform::Rotate270)
        };
        root.draw(&Text::new(name.clone(), (x, vertical.end + sheet.px(8)), style))?;
    }
    if series.len() > 1 {
        for (index, one) in series.iter().enumerate() {
            let (x, y) = (horizontal.end + sheet.px(12), vertical.start + sheet.px(8 + 20 * index as i32));
            let half = sheet.px(6);
            root.draw(&Rectangle::new([(x, y - half), (x + 2 * half, y + half)], colour_of(places[index]).filled()))?;
            root.draw(&Text::new(
                short(&one.name, 32),
                (x + sheet.px(20), y),
                sheet.words(14, HPos::Left, VPos::Center),
            ))?;
        }
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(true)
}
