//! `msrnn bench` measures what it was asked for, in every format, and refuses what makes no sense.
//! No test looks at how fast anything was.

use std::path::Path;

use crate::common::{self, checkpoint, files, msrnn, split, succeeds, text_of, write};
use serde_json::Value;

const SMALL: &str = "--shape 2x16x4:2x32x50 --prefill 9 --score 8 --decode 3";

fn bench(more: &str) -> Vec<String> {
    let repetitions = if more.contains("--repetitions") { "" } else { "--repetitions 2" };
    split(&format!("bench {SMALL} {repetitions} {more}")).into_iter().map(str::to_owned).collect()
}

fn json(more: &str) -> Value {
    succeeds(&bench(&format!("--format json {more}"))).json()
}

#[test]
fn json_has_setting_limits_and_one_object_per_row() {
    let found = json("--policies full,tova,window+4@6 --states 5,7 --baseline full --batch 2 --threads 1 --seed 3");
    for key in split(
        "version commit command started model parameters device dtype threads batch seed processor cores system load_seconds \
         first_token_seconds rows limits weight_bytes repetitions complete baseline",
    ) {
        assert!(!found[key].is_null(), "{key} is not in {found}");
    }
    assert_eq!(found["model"], "random 2x16x4:2x32x50");
    assert_eq!((&found["repetitions"], &found["complete"]), (&2.into(), &true.into()));
    let rows = found["rows"].as_array().unwrap();
    let described: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {} {}", row["test"].as_str().unwrap(), row["policy"], row["states"], row["depth"]))
        .map(|row| row.replace('"', ""))
        .collect();
    let expected = "prefill full null 0,prefill tova 5 0,prefill tova 7 0,prefill window+4 6 0,\
                    score full null 0,score tova 5 0,score tova 7 0,score window+4 6 0,\
                    decode full null 5,decode full null 7,decode tova 5 5,decode tova 7 7,decode window+4 6 6";
    assert_eq!(described, expected.split(',').collect::<Vec<_>>());
    for row in rows {
        for key in ["tokens_per_second", "seconds_per_token", "limit_share"] {
            assert!(row[key]["mean"].as_f64().unwrap() > 0.0, "{key} of {row}");
            assert!(row[key]["deviation"].as_f64().unwrap() >= 0.0, "{key} of {row}");
        }
        let decodes = row["test"] == "decode";
        assert_eq!(row["limit"], if decodes { "reading" } else { "multiplying" });
        assert_eq!(row["bytes_per_token"].is_number(), decodes);
        let alone = decodes && row["policy"] == "window+4";
        assert_eq!(row["relative_time"].is_null(), alone, "full is at no depth of 6: {row}");
        assert!(row["policy"] != "full" || row["relative_time"]["mean"] == 1.0, "{row}");
        assert!(row["states"].as_u64().is_none_or(|states| row["max_rows"] == states), "{row}");
    }
}

#[test]
fn bytes_of_a_decode_are_those_of_weights_and_states() {
    let found = json("--policies h2o --states 6 --depth 20 --batch 3");
    let row = &found["rows"][2];
    // 2 layers, 2 KV heads of 4 channels, 7 slots: keys and values, and beside them a position and a sum.
    let state = row["state_bytes"].as_f64().unwrap();
    let rows = f64::from(2 * 2 * 7 * 2 * 4 * 4);
    assert!((rows..2.0 * rows).contains(&state), "{state}");
    let weights = found["weight_bytes"].as_f64().unwrap();
    assert_eq!(weights, 4.0 * found["parameters"].as_f64().unwrap());
    assert_eq!(row["bytes_per_token"].as_f64().unwrap(), (weights + 3.0 * state) / 3.0);
    assert_eq!((&row["depth"], &row["mean_rows"]), (&20.into(), &7.0.into()));
}

#[test]
fn csv_has_a_header_and_a_line_per_row() {
    let text = succeeds(&bench("--format csv --policies tova --states 5 --form step")).stdout;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(msrnn_bench::speed::table::COLUMNS.to_vec()));
    let rows: Vec<Vec<String>> = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let starts: Vec<String> = rows.iter().map(|row| row[..5].join(" ")).collect();
    assert_eq!(starts, ["prefill 9 tova 5 0", "score 8 tova 5 0", "decode 3 tova 5 5"]);
    let of = |name: &str| msrnn_bench::speed::table::COLUMNS.iter().position(|column| *column == name).unwrap();
    assert_eq!(rows[1][of("form")], "step");
    assert_eq!(rows[1][of("road")], "decided inside blocks of tokens, on the host");
}

#[test]
fn the_default_measures_the_bundled_model_as_a_table() {
    let text = succeeds(&["bench", "--repetitions", "1", "--warm-up", "0"]).stdout;
    for words in ["bundled (1.0 M parameters)", "loaded in", "limits", "peak resident"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    let starts =
        ["| test |", "|---|", "| prefill 512 | full |", "| prefill 512 | tova | 256 |", "| score 1024 | full |"];
    let starts = [&starts[..], &["| score 1024 | tova | 256 |", "| decode | full | all | 256 |"]].concat();
    assert!(table.iter().zip(&starts).all(|(line, start)| line.starts_with(start)), "{text}");
    assert_eq!(table.len(), 2 + 6, "{text}");
}

#[test]
fn a_checkpoint_is_measured_in_another_dtype() {
    let model = checkpoint("llama-gqa");
    let arguments =
        "bench --repetitions 1 --dtype f64 --prefill 0 --score 0 --decode 2 --states 4 --format json --model";
    let found = succeeds(&[split(arguments), vec![text_of(&model)]].concat()).json();
    assert_eq!(found["dtype"], "f64");
    assert_eq!(found["weight_bytes"].as_u64().unwrap(), 8 * found["parameters"].as_u64().unwrap());
}

#[test]
fn a_soak_watches_memory_and_steps() {
    let found =
        succeeds(&split("bench --shape 1x8x2:1x16x20 --soak 2000 --policies window,tova --states 8 --format json"))
            .json();
    let soaks = found["soaks"].as_array().unwrap();
    assert_eq!(soaks.iter().map(|soak| soak["policy"].as_str().unwrap()).collect::<Vec<_>>(), ["window", "tova"]);
    for soak in soaks {
        assert_eq!((&soak["tokens"], &soak["states"]), (&2000.into(), &8.into()));
        assert_eq!(soak["seconds_per_step"].as_array().unwrap().len(), 1, "100,000 tokens were not seen");
        assert!(soak["step_ratio"].is_null());
        assert_eq!(soak["resident_ratio"].is_number(), cfg!(target_os = "linux"));
    }
    let table = succeeds(&split("bench --shape 1x8x2:1x16x20 --soak 1000 --policies tova --states 8")).stdout;
    assert!(table.contains("| tova | 8 | 1000 |"), "{table}");
}

#[test]
fn a_result_file_appears_whole_and_takes_no_other_files_place() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/result.json");
    let run = || msrnn(&bench(&format!("--format json --out {}", text_of(&out))));
    let done = run();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains(text_of(&out)), "{done:?}");
    assert_eq!(files(directory.path()), std::slice::from_ref(&out));
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["complete"], true);

    let again = run();
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("exists already") && again.stderr.contains(text_of(&out)), "{again:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), written);
}

/// A command must be refused with `code`, saying all of `words`, and must leave `directory` as it was.
#[track_caller]
fn refused(directory: &Path, code: i32, more: &str, words: &[&str]) {
    let before = files(directory);
    let done = msrnn(&[&["bench"], &split(more)[..]].concat());
    assert_eq!(done.code, Some(code), "{done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is not in {}\nof msrnn {}", done.stderr, done.command);
    }
    assert_eq!(files(directory), before, "msrnn {}", done.command);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "file", "");
    let (place, file) = (text_of(directory.path()), text_of(&file));
    let cases: [(i32, &str, &[&str]); 17] = [
        (2, "--shape 12x768", &["12x768x12:4x2048x32000"]),
        (2, "--shape 2x16x4:3x32x50", &["3 KV heads"]),
        (2, "--shape 2x16x4x32x50 --model bundled", &["--shape", "--model"]),
        (2, "--policies tovaa", &["tovaa", "tova-head"]),
        (2, "--baseline tovaa", &["tovaa"]),
        (2, "--format xml", &["markdown, csv, json"]),
        (2, "--soak 1000 --decode 5", &["--soak", "--decode"]),
        (1, "--depth 99999999", &["99999999", "last position"]),
        (1, "--states 0", &["at least one state"]),
        (1, "--policies window+4 --states 4", &["window+4@5"]),
        (1, "--baseline h2o", &["h2o", "--policies"]),
        (1, "--repetitions 0", &["at least 1"]),
        (1, "--batch 0", &["at least 1"]),
        (1, "--threads 0", &["--threads 0"]),
        (1, "--prefill 0 --score 0 --decode 0", &["nothing to measure"]),
        (1, "--soak 3", &["--soak 3"]),
        (1, "--soak 1000 --format csv", &["markdown or json"]),
    ];
    for (code, more, words) in cases {
        refused(directory.path(), code, more, words);
        // Nor is a file left behind.
        refused(directory.path(), code, &format!("{more} --out {place}/result"), words);
    }
    refused(directory.path(), 1, &format!("--out {place}"), &[place, "choose another place"]);
    refused(directory.path(), 1, &format!("--out {file}/result"), &["cannot write", file]);
    refused(directory.path(), 1, &format!("--model {place}/nowhere"), &["Hugging Face model directory"]);
}

#[test]
fn a_dry_run_plans_the_rows_without_measuring_them() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("result");
    let plan = json(&format!("--policies full,tova --states 6 --batch 2 --dry-run --out {}", text_of(&out)));
    let names: Vec<&str> =
        plan["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 6);
    assert_eq!((names[1], names[4]), ("prefill 9, tova@6", "decode, full, depth 6"));
    // Three rounds of 9, 8 and 3 + 1 tokens for two policies, the last ones behind six others, or behind four of a state that
    // grows and is to have six half way; with two rows each.
    assert_eq!(plan["tokens"], ((27 + 24 + 12) * 2 + 6 + 4) * 2);
    assert!(plan["state_bytes"].as_u64().unwrap() > 0 && plan["seconds"].as_f64().unwrap() > 0.0, "{plan}");
    assert!(!out.exists());
    let soak = succeeds(&split("bench --shape 2x16x4:2x32x50 --policies tova --states 6 --soak 1000 --dry-run")).stdout;
    assert!(soak.starts_with("1 unit, 1000 tokens, at most ") && soak.contains("score 1000, tova@6"), "{soak}");
    refused(directory.path(), 1, "--dry-run --baseline h2o", &["h2o", "--policies"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_bench_keeps_whole_rounds_under_a_name_that_says_partial() {
    let directory = tempfile::tempdir().unwrap();
    let (out, partial) = (directory.path().join("result.json"), directory.path().join("result.json.partial"));
    let more = format!("--format json --repetitions 1000000 --out {}", text_of(&out));
    let mut running = common::start(&bench(&more));
    while !partial.exists() {
        assert!(running.ended().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let sent = std::process::Command::new("kill").args(["-s", "INT", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let done = running.wait();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert_eq!(files(directory.path()), std::slice::from_ref(&partial));
    let result: Value = serde_json::from_str(&std::fs::read_to_string(&partial).unwrap()).unwrap();
    assert_eq!(result["complete"], false);
    assert!(result["repetitions"].as_u64().unwrap() < 1_000_000);
}
