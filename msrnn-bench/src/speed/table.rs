//! Measured rows as Markdown and CSV.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::error::BenchError;
use crate::speed::measure::{Limit, Measured, Measurement};
use crate::speed::soak::Soak;
use crate::speed::timing::Spread;

/// The columns of the CSV.
pub const COLUMNS: [&str; 24] = [
    "test",
    "tokens",
    "policy",
    "states",
    "depth",
    "batch",
    "mean_rows",
    "tokens_per_second",
    "tokens_per_second_sd",
    "seconds_per_token",
    "seconds_per_token_sd",
    "relative_time",
    "relative_time_sd",
    "bytes_per_token",
    "operations_per_token",
    "limit",
    "limit_share",
    "limit_share_sd",
    "state_bytes",
    "max_rows",
    "omitted",
    "repetitions",
    "form",
    "road",
];

/// One line per row.
///
/// # Errors
///
/// Never in practice: it writes to memory.
pub(crate) fn csv(measurement: &Measurement) -> Result<Vec<u8>, BenchError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| BenchError::Input(format!("the rows cannot be written as CSV: {e}"));
    writer.write_record(COLUMNS).map_err(failed)?;
    for row in &measurement.rows {
        let [speed, speed_sd] = both(Some(row.tokens_per_second));
        let [time, time_sd] = both(Some(row.seconds_per_token));
        let [relative, relative_sd] = both(row.relative_time);
        let [share, share_sd] = both(Some(row.limit_share));
        let form = match row.test {
            crate::speed::plan::Test::Score { form: crate::evaluate::Form::Step, .. } => "step",
            crate::speed::plan::Test::Decode { .. } => "step",
            _ => "layer",
        };
        let record: [String; COLUMNS.len()] = [
            row.test.name().to_owned(),
            row.test.tokens().to_string(),
            row.policy.clone(),
            optional(row.states),
            row.depth.to_string(),
            row.batch.to_string(),
            row.mean_rows.to_string(),
            speed,
            speed_sd,
            time,
            time_sd,
            relative,
            relative_sd,
            optional(row.bytes_per_token),
            row.operations_per_token.to_string(),
            limit(row).to_owned(),
            share,
            share_sd,
            row.observed.state_bytes.to_string(),
            row.observed.max_rows.to_string(),
            row.observed.omitted.to_string(),
            measurement.repetitions.to_string(),
            form.to_owned(),
            row.road.clone(),
        ];
        writer.write_record(record).map_err(failed)?;
    }
    writer.into_inner().map_err(|e| BenchError::Input(format!("the rows cannot be written as CSV: {e}")))
}

/// A value and its standard deviation, empty where there is none.
fn both(spread: Option<Spread>) -> [String; 2] {
    [optional(spread.map(|spread| spread.mean)), optional(spread.and_then(|spread| spread.deviation))]
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn limit(row: &Measured) -> &'static str {
    match row.limit {
        Limit::Reading => "reading",
        Limit::Multiplying => "multiplying",
    }
}

/// The rows as a table.
pub(crate) fn markdown(measurement: &Measurement) -> String {
    let relative = measurement.baseline.as_ref().map(|baseline| format!(" time relative to {baseline} |"));
    let mut text = format!(
        "| test | policy | states | depth | tokens/s |{} read per token | of the limit | state |\n|---|---|---:|---:|---:|{}---:|---:|---:|\n",
        relative.as_deref().unwrap_or(""),
        if relative.is_some() { "---:|" } else { "" }
    );
    for row in &measurement.rows {
        let states = row.states.map_or("all".to_owned(), |states| states.to_string());
        let _ = write!(
            text,
            "| {} | {} | {states} | {} | {} |",
            row.test,
            row.policy,
            row.depth,
            plus_minus(row.tokens_per_second, 1)
        );
        if relative.is_some() {
            let _ = write!(text, " {} |", row.relative_time.map_or("-".to_owned(), |time| plus_minus(time, 3)));
        }
        let read = row.bytes_per_token.map_or("-".to_owned(), size);
        let share = format!("{:.2} {}", row.limit_share.mean, limit(row));
        let _ = writeln!(text, " {read} | {share} | {} |", size(row.observed.state_bytes as f64));
    }
    text
}

/// The limits and the memory, in words.
pub(crate) fn summary(measurement: &Measurement) -> String {
    let mut text = String::new();
    if let Some(limits) = &measurement.limits {
        let giga = |spread: Spread| {
            plus_minus(
                Spread {
                    mean: spread.mean / 1e9,
                    deviation: spread.deviation.map(|deviation| deviation / 1e9),
                    median: spread.median / 1e9,
                },
                1,
            )
        };
        let _ = writeln!(
            text,
            "limits, measured in every round: reading {} GB/s; matrix products {} GFLOP/s in f32, {} in the model's dtype",
            giga(limits.read_bytes_per_second),
            giga(limits.f32_operations_per_second),
            giga(limits.operations_per_second)
        );
    }
    let peak = measurement.peak_resident_bytes.map_or("unknown".to_owned(), |bytes| size(bytes as f64));
    let _ = writeln!(
        text,
        "memory: weights {}, peak resident {peak} with the states of all rows",
        size(measurement.weight_bytes as f64)
    );
    let mut told = BTreeSet::new();
    for row in &measurement.rows {
        if told.insert(&row.policy) {
            let _ = writeln!(text, "{}: {}", row.policy, row.road);
        }
    }
    text
}

/// Long runs as a table.
pub(crate) fn soaks(soaks: &[Soak]) -> String {
    let mut text = "| policy | states | tokens | tokens/s | resident, first tenth | last tenth | last / first \
                    | step at the 100,000th / 1,000th token | state |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for soak in soaks {
        let resident = |bytes: Option<f64>| bytes.map_or("-".to_owned(), size);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {} | {} | {} | {} | {} |",
            soak.policy,
            soak.states.map_or("all".to_owned(), |states| states.to_string()),
            soak.tokens,
            soak.tokens_per_second,
            resident(soak.first_tenth_resident_bytes),
            resident(soak.last_tenth_resident_bytes),
            soak.resident_ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.4}")),
            soak.step_ratio.map_or("-".to_owned(), |ratio| format!("{:.3} (median)", ratio.median)),
            size(soak.state_bytes as f64)
        );
    }
    text
}

fn plus_minus(spread: Spread, digits: usize) -> String {
    match spread.deviation {
        Some(deviation) => format!("{:.digits$} ± {deviation:.digits$}", spread.mean),
        None => format!("{:.digits$}", spread.mean),
    }
}

/// Bytes, with a unit.
fn size(bytes: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let (scale, unit) = units.into_iter().find(|&(scale, _)| bytes >= scale).unwrap_or((1.0, "B"));
    let digits = usize::from(scale > 1.0);
    format!("{:.digits$} {unit}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use burn::tensor::{DType, Device};
    use msrnn_models::Model;

    use super::*;
    use crate::evaluate::Form;
    use crate::experiment::{Event, Watch};
    use crate::speed::measure::{Settings, estimate, measure, plan};
    use crate::speed::plan::{Grid, Test};
    use crate::speed::shape::Shape;
    use crate::speed::workload::Conditions;

    fn asked(baseline: Option<&str>) -> (Model, Grid, Settings) {
        let model = "1x8x2:1x16x20".parse::<Shape>().unwrap().model(0, DType::F32, &Device::flex());
        let grid = Grid {
            tests: vec![
                Test::Prefill { tokens: 9 },
                Test::Score { tokens: 9, form: Form::Step },
                Test::Decode { tokens: 2 },
            ],
            policies: vec!["full".parse().unwrap(), "window+4".parse().unwrap()],
            states: vec![5],
            depths: Vec::new(),
        };
        let settings = Settings {
            conditions: Conditions { batch: 1, threads: 1, seed: 0, captures: true },
            repetitions: 2,
            warm_up: 1,
            baseline: baseline.map(|baseline| baseline.parse().unwrap()),
            on_host: true,
        };
        (model, grid, settings)
    }

    fn measured(baseline: Option<&str>) -> Measurement {
        let (model, grid, settings) = asked(baseline);
        measure(&model, &grid, &settings, Watch { advance: &|_| (), tell: &|_| (), interrupt: &false.into() }).unwrap()
    }

    #[test]
    fn what_is_told_adds_up_to_what_is_planned() {
        let (model, grid, settings) = asked(None);
        let planned = plan(&model, &grid, &settings).unwrap();
        let names: Vec<&str> = planned.units.iter().map(|unit| unit.name.as_str()).collect();
        let decoded = ["decode, full, depth 5", "decode, window+4@5, depth 5"];
        assert_eq!(names[..2], ["prefill 9, full", "prefill 9, window+4@5"]);
        assert_eq!(names[4..], decoded);
        // Three rounds, of which each decodes a token that is not timed. A state that grows passes the depth half way.
        assert_eq!(planned.units.iter().map(|unit| unit.tokens).collect::<Vec<_>>(), [27, 27, 27, 27, 12, 14]);
        assert!(estimate(&model, &grid, &settings, &false.into()).unwrap().is_some());

        let (gone, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let tell = |event: Event<'_>| match event {
            Event::Left(units, tokens) => assert_eq!((units, tokens), (planned.units.len(), planned.tokens)),
            Event::Begins(_) => {}
            Event::Ends(_) => _ = ended.fetch_add(1, Ordering::Relaxed),
        };
        let advance = |tokens: usize| _ = gone.fetch_add(tokens, Ordering::Relaxed);
        measure(&model, &grid, &settings, Watch { advance: &advance, tell: &tell, interrupt: &false.into() }).unwrap();
        assert_eq!((gone.into_inner(), ended.into_inner()), (planned.tokens, planned.units.len()));
    }

    #[test]
    fn every_row_is_in_every_format_with_all_columns() {
        let found = measured(Some("full"));
        assert_eq!((found.rows.len(), found.repetitions, found.complete), (6, 2, true));
        let csv = csv(&found).unwrap();
        let mut reader = csv::Reader::from_reader(&csv[..]);
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 6);
        let field = |row: usize, name: &str| {
            records[row][COLUMNS.iter().position(|column| *column == name).unwrap()].to_owned()
        };
        assert_eq!((field(0, "test"), field(1, "policy")), ("prefill".into(), "window+4".into()));
        assert_eq!((field(0, "states"), field(1, "states")), (String::new(), "5".into()));
        assert_eq!((field(0, "relative_time"), field(0, "relative_time_sd")), ("1".into(), "0".into()));
        assert_eq!((field(0, "bytes_per_token"), field(5, "limit")), (String::new(), "reading".into()));
        for name in ["tokens_per_second", "seconds_per_token", "limit_share", "operations_per_token", "bytes_per_token"]
        {
            assert!(field(5, name).parse::<f64>().unwrap() > 0.0, "{name}");
        }

        let markdown = markdown(&found);
        assert_eq!(markdown.lines().count(), 2 + 6);
        let bars: Vec<usize> = markdown.lines().map(|line| line.matches('|').count()).collect();
        assert!(bars.iter().all(|&n| n == bars[0]), "{markdown}");
        assert!(markdown.contains("relative to full") && markdown.contains("score 9, step form"));

        let json = serde_json::to_value(&found).unwrap();
        let row = &json["rows"][5];
        assert_eq!((row["test"].as_str(), row["states"].as_u64()), (Some("decode"), Some(5)));
        assert!(row["tokens_per_second"]["mean"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let found = measured(None);
        assert!(found.rows.iter().all(|row| row.relative_time.is_none()));
        assert!(!markdown(&found).contains("relative"));
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!([12.0, 3_400.0, 5e6, 2.5e9].map(size), ["12 B", "3.4 kB", "5.0 MB", "2.5 GB"]);
    }
}
