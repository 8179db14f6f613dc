//! The report of a run directory.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::BenchError;
use crate::experiment::Results;
use crate::experiment::manifest::Manifest;
use crate::experiment::run::TIMES;
use crate::figure::{Cell, Content, Figure};
use crate::render::{Report, write};

/// Writes `report.html` and `figures/` into a run directory, from its manifest, its times and the
/// results.
///
/// # Errors
///
/// When the manifest or the times cannot be read, a figure is not as it should be, or a file cannot
/// be written.
pub(super) fn report(directory: &Path, results: &Results) -> Result<(), BenchError> {
    let manifest = Manifest::read(directory)?;
    let identity = &manifest.identity;
    let names = |sources: &[crate::experiment::manifest::Source]| {
        sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let data = if identity.data.is_empty() { String::new() } else { format!(" on {}", names(&identity.data)) };
    let summary = format!(
        "{}{data}, {} units of work, device {}, {}.",
        names(&identity.models),
        identity.units,
        identity.device,
        identity.dtype
    );
    let speed = speed(&times(directory)?);
    let report = Report {
        title: &format!("Experiment: {}", identity.experiment),
        summary: &summary,
        results,
        manifest: &manifest.to_table()?,
        speed: speed.as_slice(),
    };
    write(&report, directory)
}

/// A line of the times.
#[derive(Debug, Deserialize)]
struct Time {
    key: String,
    arm: String,
    tokens: usize,
    seconds: f64,
}

/// The times of a run directory, none where there are none. A unit that was done twice, because the
/// run was killed in between, counts as it was done last; half a line, or one that makes no sense, is none:
/// no result follows from times.
fn times(directory: &Path) -> Result<Vec<Time>, BenchError> {
    let path = directory.join(TIMES);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(BenchError::Read { path, source }),
    };
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut order = Vec::new();
    let mut by_unit: BTreeMap<String, Time> = BTreeMap::new();
    for time in lines {
        let time: Time = time;
        if !by_unit.contains_key(&time.key) {
            order.push(time.key.clone());
        }
        by_unit.insert(time.key.clone(), time);
    }
    Ok(order.into_iter().filter_map(|key| by_unit.remove(&key)).collect())
}

/// Time by policy.
fn speed(times: &[Time]) -> Option<Figure> {
    let mut sums: Vec<(&str, usize, f64)> = Vec::new();
    for time in times {
        let name = time.arm.as_str();
        match sums.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, tokens, seconds)) => {
                (*tokens, *seconds) = (tokens.saturating_add(time.tokens), *seconds + time.seconds)
            }
            None => sums.push((name, time.tokens, time.seconds)),
        }
    }
    let row = |&(name, tokens, seconds): &(&str, usize, f64)| {
        let number = |value: f64, decimals| match value.is_finite() {
            true => Cell::rounded(value, None, decimals),
            false => Cell::empty(),
        };
        vec![Cell::text(name), Cell::count(tokens), number(seconds, 2), number(tokens as f64 / seconds, 0)]
    };
    let columns = ["policy", "tokens", "seconds", "tokens per second"];
    (!sums.is_empty()).then(|| Figure {
        id: "run-times".to_owned(),
        title: "Speed".to_owned(),
        caption: "Wall-clock time of the units of work, shared with those beside them.".to_owned(),
        content: Content::Table { columns: columns.map(str::to_owned).into(), rows: sums.iter().map(row).collect() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_by_policy() {
        let folder = tempfile::tempdir().unwrap();
        assert!(speed(&times(folder.path()).unwrap()).is_none());
        let line = |unit: usize, name: &str, seconds: f64| {
            serde_json::json!({ "key": unit.to_string(), "arm": name, "tokens": 10, "seconds": seconds }).to_string()
                + "\n"
        };
        let lines = [line(0, "tova@64", 9.0), line(1, "tova@64", 3.0), line(2, "full", 5.0)];
        // Unit 0 was done again, and the last line was cut off.
        let text = lines.concat() + &line(0, "tova@64", 1.0) + "{\"key\": 3, \"na";
        std::fs::write(folder.path().join(TIMES), text).unwrap();
        let Content::Table { rows, .. } = speed(&times(folder.path()).unwrap()).unwrap().content else { panic!() };
        let number = |value, decimals| Cell::rounded(value, None, decimals);
        assert_eq!(rows[0], [Cell::text("tova@64"), Cell::count(20), number(4.0, 2), number(5.0, 0)]);
        assert_eq!(rows[1], [Cell::text("full"), Cell::count(10), number(5.0, 2), number(2.0, 0)]);
    }
}
