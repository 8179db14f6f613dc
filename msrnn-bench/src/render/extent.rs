//! How far the data of a figure reaches.

use super::scale::Scale;
use crate::figure::{Axis, Line, Series};

/// Horizontal and vertical scale that hold all points and their errors.
pub(crate) fn lines(x: &Axis, y: &Axis, lines: &[Line]) -> (Scale, Scale) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let up = Scale::over(y, points().map(|point| point.y));
    let ends = points().flat_map(|point| {
        let error = point.error.unwrap_or(0.0).abs();
        let low = if up.log && point.y - error <= 0.0 { point.y } else { point.y - error };
        [low.max(f64::MIN), (point.y + error).min(f64::MAX)]
    });
    (Scale::over(x, points().map(|point| point.x)), Scale::over(y, ends).padded(0.04))
}

/// The scale that holds all bars, with their errors and zero.
pub(crate) fn bars(y: &Axis, series: &[Series]) -> Scale {
    let values = || series.iter().flat_map(|series| series.values.iter().flatten().copied());
    let log = Scale::over(y, values()).log;
    let ends = series.iter().flat_map(|series| {
        series.values.iter().enumerate().filter_map(|(group, value)| Some((group, (*value)?))).flat_map(
            move |(group, value)| {
                let error = series.errors.get(group).copied().flatten().unwrap_or(0.0).abs();
                let low = if log && value - error <= 0.0 { value } else { value - error };
                [low.max(f64::MIN), (value + error).min(f64::MAX)]
            },
        )
    });
    let padded = Scale::over(y, ends).padded(0.05);
    // From zero itself where all bars point the same way.
    match (padded.log, values().all(|value| value >= 0.0), values().all(|value| value <= 0.0)) {
        (false, true, _) => Scale { lowest: 0.0, ..padded }.with_zero(),
        (false, _, true) => Scale { highest: 0.0, ..padded }.with_zero(),
        _ => padded.with_zero(),
    }
}
