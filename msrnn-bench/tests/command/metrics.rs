//! ROUGE, Porter stems, token F1 and exact match against the reference implementations, on the
//! cases that `testdata/make_metric_cases.py` wrote down.

use crate::common::{read_json, testdata};
use msrnn_bench::metrics::rouge::{Overlap, rouge_l, rouge_n, words};
use msrnn_bench::metrics::{f1, porter};
use serde_json::Value;

/// Both sides are a few operations on small integers in double precision.
const ROUNDING: f64 = 1e-12;

fn cases() -> Value {
    read_json(&testdata().join("metrics/cases.json"))
}

#[test]
fn rouge_is_that_of_rouge_score() {
    for case in cases()["cases"].as_array().unwrap() {
        for (key, stem) in [("plain", false), ("stemmed", true)] {
            let text = |name: &str| words(case[name].as_str().unwrap(), stem);
            let (reference, prediction) = (text("reference"), text("prediction"));
            let found = [
                ("rouge1", rouge_n(&reference, &prediction, 1)),
                ("rouge2", rouge_n(&reference, &prediction, 2)),
                ("rougeL", rouge_l(&reference, &prediction)),
            ];
            for (kind, Overlap { precision, recall, f }) in found {
                for (at, value) in [precision, recall, f].into_iter().enumerate() {
                    let expected = case[key][kind][at].as_f64().unwrap();
                    assert!((value - expected).abs() < ROUNDING, "{key} {kind} {at}: {value} in {case}");
                }
            }
        }
    }
}

#[test]
fn stems_are_those_of_nltk() {
    let cases = cases();
    let stems = cases["stems"].as_object().unwrap();
    assert!(stems.len() > 1000);
    let wrong: Vec<String> = stems
        .iter()
        .map(|(word, stem)| (word, porter::stem(word), stem.as_str().unwrap()))
        .filter(|(_, found, expected)| found != expected)
        .map(|(word, found, expected)| format!("{word}: {found}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn token_f1_and_exact_match_are_those_of_the_evaluators() {
    for case in cases()["cases"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let (prediction, reference) = (text("prediction"), text("reference"));
        let found = f1::token_f1(prediction, reference);
        assert!((found - case["f1"].as_f64().unwrap()).abs() < ROUNDING, "{found} in {case}");
        assert_eq!(f1::exact_match(prediction, reference), case["exact"].as_f64().unwrap(), "{case}");
    }
}
