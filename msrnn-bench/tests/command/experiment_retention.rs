//! `msrnn experiment retention` on small inputs.

use crate::common::{checkpoint, msrnn, read_json, split, succeeds, text_of, write};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;

const SMALL: &str = "experiment retention --contexts 2 --context 200 --states 32 --cells 20 --json";

fn found<'r>(results: &'r Value, policy: &str) -> &'r Value {
    let all = results["metrics"]["retention"].as_array().unwrap();
    all.iter().find(|found| found["policy"] == policy).unwrap_or_else(|| panic!("no {policy}"))
}

fn as_json(row: &parquet::record::Row) -> Value {
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Int(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.clone().into(),
        other => panic!("{other}"),
    };
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

#[test]
fn every_policy_is_looked_at_from_all_sides() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let results = succeeds(&split(&format!("{SMALL} --out {}", text_of(&out)))).json();
    // The average does not depend on the policy: Σ min(t, 33) / 200.
    let average = (1..=200).map(|t: i32| f64::from(t.min(33))).sum::<f64>() / 200.0;
    for policy in ["window", "window+4", "h2o", "tova", "random"] {
        let found = found(&results, policy);
        for value in ["average", "closed_form"] {
            assert!((found[value].as_f64().unwrap() - average).abs() < 1e-9, "{found}");
        }
    }
    let window = found(&results, "window");
    assert_eq!(window["recent"], 1.0);
    // A row takes part in its own step and the 32 that follow.
    assert!(window["first"].as_array().unwrap().iter().all(|kept| kept == 33.0), "{window}");
    let sinks = found(&results, "window+4");
    assert_eq!((&sinks["first"][0], &sinks["first"][3]), (&200.0.into(), &197.0.into()));
    assert!(sinks["survival_of_first"].as_array().unwrap().iter().all(|share| share == 1.0));
    // TOVA omits what weighs least: no policy can lose less with an omission, given the same step.
    let lost = |policy| found(&results, policy)["attention"][0]["omitted"].as_f64().unwrap();
    assert!(lost("tova") < lost("random") && lost("tova") < lost("window"));

    let map = results["figures"].as_array().unwrap().iter().find(|f| f["id"] == "map-window-32").unwrap();
    let content = &map["content"];
    assert_eq!(content["panels"].as_array().unwrap().len(), 4);
    assert_eq!((content["rows"].as_array().unwrap().len(), content["columns"].as_array().unwrap().len()), (20, 20));
    // After step 199 the window holds positions 168 to 199: of 160..169 two.
    let last = |row: usize| &content["panels"][0]["values"][row][19];
    assert_eq!((last(15), last(16), last(17)), (&0.0.into(), &0.2.into(), &1.0.into()));
    assert_eq!(content["panels"][0]["values"][19][0], Value::Null);
    assert_eq!(read_json(&out.join("metrics.json")), results);
}

#[test]
fn the_trace_has_every_omission() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let results = succeeds(&split(&format!("{SMALL} --policies window,h2o --out {}", text_of(&out)))).json();
    let reader = SerializedFileReader::try_from(out.join("trace.parquet").as_path()).unwrap();
    let rows: Vec<Value> = reader.get_row_iter(None).unwrap().map(|row| as_json(&row.unwrap())).collect();
    let omitted: u64 = results["arms"].as_array().unwrap().iter().map(|arm| arm["omitted"].as_u64().unwrap()).sum();
    assert_eq!(rows.len() as u64, omitted);
    for row in &rows {
        let number = |name: &str| row[name].as_i64().unwrap();
        assert_eq!(number("kept"), number("step") - number("position") + 1);
        assert!((0.0..=1.0).contains(&row["mass"].as_f64().unwrap()));
        assert_eq!(row["head"].is_null(), row["policy"] == "window");
        if row["policy"] == "window" {
            assert_eq!(number("kept"), 33);
        }
    }
    let without = directory.path().join("without");
    let more = format!("{SMALL} --policies window --no-trace --no-attention --out {}", text_of(&without));
    let results = succeeds(&split(&more)).json();
    assert!(!without.join("trace.parquet").exists());
    assert!(found(&results, "window")["attention"].is_null());
}

#[test]
fn texts_and_models_of_ones_own_work() {
    let directory = tempfile::tempdir().unwrap();
    let text = "\"Where is it?\" asked Ben. He'd paid $5 to see the dog's tricks (all of them).\n\n";
    let text = write(directory.path(), "text.txt", text.repeat(20));
    let out = directory.path().join("run");
    let results =
        succeeds(&split(&format!("{SMALL} --policies tova --text {} --out {}", text_of(&text), text_of(&out)))).json();
    let kinds = found(&results, "tova")["kinds"].as_object().unwrap();
    // A closing quotation mark may stand in one token with the mark before it, and then counts as that.
    for kind in ["``", ".", "NNP", "DT", "POS", "TO", "$", "CD", "(", ")", "newline", "special"] {
        assert!(kinds.contains_key(kind), "{kind} is not in {:?}", kinds.keys());
    }
    let tokens: u64 = kinds.values().map(|kind| kind["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, 2 * 200);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(directory.path(), "text.txt", "Too short for two contexts.");
    for (more, says) in [
        ("--cells 300".to_owned(), "256"),
        ("--contexts 0".to_owned(), "at least one"),
        ("--policies full".to_owned(), "at least one policy"),
        ("--context 1".to_owned(), "at least 2"),
        ("--states 2000".to_owned(), "1024"),
        (format!("--text {}", text_of(&text)), "--contexts"),
        (format!("--model {}", text_of(&checkpoint("nowhere"))), "nowhere"),
    ] {
        let out = directory.path().join("run");
        let done = msrnn(&split(&format!("experiment retention {more} --out {}", text_of(&out))));
        assert_eq!(done.code, Some(1), "{more}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{more}: {}", done.stderr);
        assert!(!out.join("samples.jsonl").exists());
    }
}

#[test]
fn a_policy_that_keeps_another_number_of_rows_is_refused_before_the_work() {
    for policy in ["every(4, tova)", "layers(0: full, *: tova)", "pyramid(tova)", "after-prompt(tova)"] {
        let done = msrnn(&["experiment", "retention", "--policies", policy, "--states", "8"]);
        assert_eq!(done.code, Some(1), "{policy}");
        assert!(
            done.stderr.contains(policy) && done.stderr.contains("at every token in every layer"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn what_attention_loses_is_not_computed_of_rows_that_are_attended_otherwise_than_they_came() {
    let directory = tempfile::tempdir().unwrap();
    for (index, policy) in ["merge(tova)", "int8(tova)", "in-state(tova)", "streaming"].into_iter().enumerate() {
        let out = directory.path().join(index.to_string());
        let run = ["experiment", "retention", "--contexts", "1", "--context", "60", "--states", "40", "--cells", "10"];
        let run = [&run[..], &["--policies", policy, "--out", text_of(&out)]].concat();
        let done = msrnn(&run);
        assert_eq!(done.code, Some(1), "{policy}: {}", done.stderr);
        assert!(done.stderr.contains("--no-attention") && !out.exists(), "{policy}: {}", done.stderr);
        succeeds(&[&run[..], &["--no-attention"]].concat());
    }
}

#[test]
fn policies_that_differ_in_signs_alone_or_are_long_have_files_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let long = format!("score({}weight)", "0 + ".repeat(60));
    let policies = format!("score(weight + value_norm),score(weight * value_norm),{long}");
    let mut arguments: Vec<String> =
        split("experiment retention --contexts 1 --context 40 --states 8 --cells 10 --policies")
            .iter()
            .map(|argument| argument.to_string())
            .collect();
    arguments.extend([policies, "--out".into(), text_of(&out).into()]);
    succeeds(&arguments);
    let maps =
        std::fs::read_dir(out.join("figures")).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut maps: Vec<String> = maps.filter(|name| name.starts_with("map-") && name.ends_with(".csv")).collect();
    maps.sort();
    assert_eq!(maps.len(), 3, "{maps:?}");
    assert_eq!(maps[1..], ["map-score-weight-value-norm-8-2.csv", "map-score-weight-value-norm-8.csv"]);
    assert!(maps[0].len() < 100, "{maps:?}");
}
