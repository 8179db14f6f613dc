//! Samples that are not what the plan asks for are refused by name, whatever their checksums say.

use std::path::Path;

use crate::common::{self, split, succeeds, text_of};
use msrnn_bench::experiment::merge::Runs;
use msrnn_bench::experiment::registry;
use msrnn_bench::experiment::seal;
use serde_json::{Value, json};

/// Every experiment, with two policies, so that there is something to mix up.
const RUNS: [&str; 6] = [
    "lm --stories 2 --context 40 --batch 1 --policies tova,random --states 8,12 --seeds 2",
    "lm --extrapolate --tokens 1060 --policies tova,window --states 8 --full-tokens 1040",
    "retrieval --lengths 400 --depths 0,1 --policies tova --states 16 --trials 2",
    "retention --context 64 --contexts 1 --cells 4 --policies tova,h2o --states 16",
    "story --states 16 --policies tova,window --seeds 2 --max-new-tokens 12",
    "understanding --stories 1 --questions 2 --policies tova,window --states 16",
];

/// The lines of a run, without their checksums.
pub(crate) fn lines(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
    let open = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("check");
        line
    };
    let mut lines: Vec<Value> = text.lines().map(open).collect();
    let plan = std::fs::read_to_string(run.join("plan.jsonl")).unwrap();
    let keys: Vec<Value> =
        plan.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].clone()).collect();
    lines.sort_by_key(|line| keys.iter().position(|key| *key == line["key"]));
    lines
}

/// Gives a run these lines, each with a good checksum.
pub(crate) fn write_lines(run: &Path, lines: &[Value]) {
    let text: Vec<u8> =
        lines.iter().flat_map(|line| [seal::close(line.to_string().as_bytes()), b"\n".to_vec()].concat()).collect();
    std::fs::write(run.join("samples.jsonl"), text).unwrap();
}

/// What a report says of a run with these lines.
fn report(run: &Path, lines: &[Value]) -> Result<String, String> {
    write_lines(run, lines);
    let runs = Runs::read(&[run.to_owned()]).map_err(|e| e.to_string())?;
    let results = registry::finish(&runs, None).map_err(|e| e.to_string())?;
    Ok(serde_json::to_string_pretty(&results).unwrap() + "\n")
}

/// Paths of all arrays, and of all values under some keys.
fn places(value: &Value, at: &str, arrays: &mut Vec<String>, keys: &mut Vec<String>) {
    match value {
        Value::Array(all) => {
            arrays.push(at.to_owned());
            all.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), arrays, keys));
        }
        Value::Object(all) => all.iter().for_each(|(key, value)| {
            let at = format!("{at}/{key}");
            if ["model", "policy", "states", "seed", "positions", "kind", "question"].contains(&&key[..])
                && !value.is_array()
            {
                keys.push(at.clone());
            }
            places(value, &at, arrays, keys);
        }),
        _ => {}
    }
}

/// Another value of the same type.
fn other(value: &Value) -> Value {
    match value {
        Value::String(text) if text == "original" => json!("in-state"),
        Value::String(text) if text == "policy" => json!("baseline"),
        Value::String(text) if text == "in-state" || text == "gap-compressed" => json!("original"),
        Value::String(text) if text == "full" || text == "baseline" => json!("policy"),
        Value::String(text) => json!(format!("{text}x")),
        Value::Number(number) => json!(number.as_u64().unwrap() + 1),
        Value::Null => json!(5),
        other => other.clone(),
    }
}

#[test]
fn lines_of_other_units_models_policies_or_numbers_of_values_are_refused_by_name_whatever_their_checksums() {
    let place = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for (index, given) in RUNS.iter().enumerate() {
        let run = place.path().join(index.to_string());
        succeeds(&[&["experiment"], &split(given)[..], &["--out", text_of(&run)]].concat());
        let good = lines(&run);
        let metrics = std::fs::read_to_string(run.join("metrics.json")).unwrap();
        assert_eq!(report(&run, &good).unwrap(), metrics, "{given}");
        let mut refused = |changed: &[Value], what: &str| {
            tried += 1;
            match report(&run, changed) {
                // A name is for people: what it is of is said by more than that.
                Ok(found) => assert!(found == metrics, "{given}: taken although {what}"),
                Err(error) => assert!(error.contains("unit ") || error.contains("fit together"), "{what}: {error}"),
            }
        };
        // What retrieval and retention keep is counts, which do not say of what: there it is the line that says it.
        let says = !given.starts_with("ret");
        // Units in each other's place: the samples alone, with their names, and the names alone.
        for a in 0..good.len() {
            for b in 0..a {
                for keys in [&["sample"][..], &["sample", "name"], &["name"]].into_iter().skip(usize::from(!says)) {
                    let mut changed = good.clone();
                    for &key in keys {
                        changed[a][key] = good[b][key].clone();
                        changed[b][key] = good[a][key].clone();
                    }
                    if changed != good {
                        refused(&changed, &format!("{keys:?} of {a} and {b} were swapped"));
                    }
                }
            }
        }
        for unit in 0..good.len() {
            let (mut arrays, mut keys) = (Vec::new(), Vec::new());
            places(&good[unit]["sample"], "", &mut arrays, &mut keys);
            for at in &keys {
                let mut changed = good.clone();
                let value = changed[unit]["sample"].pointer_mut(at).unwrap();
                *value = other(value);
                refused(&changed, &format!("{at} of {unit} was changed"));
            }
            // The first and last hundred; a map has thousands.
            for at in arrays.iter().take(100).chain(arrays.iter().skip(100).rev().take(100)) {
                for more in [false, true] {
                    let mut changed = good.clone();
                    let array = changed[unit]["sample"].pointer_mut(at).unwrap().as_array_mut().unwrap();
                    match (more, array.last().cloned()) {
                        (_, None) => continue,
                        (true, Some(last)) => array.push(last),
                        (false, Some(_)) => drop(array.pop()),
                    }
                    refused(&changed, &format!("{at} of {unit} has one {}", if more { "more" } else { "less" }));
                }
            }
            // A unit that is not there.
            let mut changed = good.clone();
            changed.remove(unit);
            refused(&changed, &format!("{unit} is missing"));
        }
        // The good lines are good still.
        assert_eq!(report(&run, &good).unwrap(), metrics, "{given}");
        // And a run that goes on says it before it does anything.
        let mut changed = good.clone();
        let key = if says { "sample" } else { "name" };
        changed[0][key] = good[good.len() - 1][key].clone();
        let _ = report(&run, &changed);
        let arguments = [&["experiment"], &split(given)[..], &["--out", text_of(&run)]].concat();
        let done = common::msrnn(&arguments);
        assert!(
            done.code == Some(1) && done.stderr.contains("unit 0") && done.stderr.contains("remove it"),
            "{done:?}"
        );
    }
    println!("{tried} changes, all refused");
    assert!(tried > 700, "{tried}");
}
