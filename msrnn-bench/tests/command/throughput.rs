//! `msrnn throughput` and `msrnn devices`: what they print, and what they refuse. No test looks at how
//! fast anything was.

use crate::common::{msrnn, split, succeeds, testdata, text_of};
use serde_json::Value;

fn throughput(more: &str) -> Value {
    succeeds(&split(&format!("throughput --json {more}"))).json()
}

#[test]
fn a_dry_run_computes_memory_and_batch_of_a_model_that_does_not_fit_here() {
    let found = throughput("--shape llama-2-7b --dtype f16 --memory 32GiB --dry-run");
    assert_eq!(found["parameters"], 6_738_415_616u64);
    assert_eq!(found["measured"], Value::Array(vec![]));
    let plans = found["plans"].as_array().unwrap();
    let batches: Vec<u64> = plans.iter().map(|plan| plan["batch"].as_u64().unwrap()).collect();
    // The weights take 13.5 of 34.4 · 10⁹ bytes; twice the states, about half the batch.
    assert!(batches.windows(2).all(|pair| pair[0] > pair[1]), "{batches:?}");
    for (plan, paper) in plans.iter().zip(found["published"].as_array().unwrap()) {
        assert_eq!(plan["states"], paper["states"]);
        let (ours, theirs) = (plan["batch"].as_f64().unwrap(), paper["batch"].as_f64().unwrap());
        assert!((0.9..1.3).contains(&(ours / theirs)), "{ours} sequences of {}, {theirs} in the paper", plan["states"]);
    }
}

#[test]
fn every_number_of_states_is_measured_and_its_states_are_what_was_predicted() {
    for more in ["--steps 2 --repetitions 2", "--sequences 5 --length 9"] {
        for policy in ["tova", "h2o", "window+4"] {
            let found =
                throughput(&format!("--shape 2x24x4:2x32x50 --memory 200KiB --states 8,16 --policy {policy} {more}"));
            assert_eq!(found["complete"], true);
            let measured = found["measured"].as_array().unwrap();
            assert_eq!(measured.len(), 2);
            for row in measured {
                assert_eq!(row["reported_state_bytes"], row["state_bytes"], "{policy}");
                assert!(row["tokens_per_second"]["mean"].as_f64().unwrap() > 0.0);
                assert!(row["batch"].as_u64().unwrap() > 1);
            }
        }
    }
}

#[test]
fn the_table_of_the_papers_model_has_ours_beside_the_papers() {
    let done = succeeds(&split("throughput --shape llama-2-7b --dtype f16 --memory 32GiB --dry-run"));
    for figure in ["| 256 |", "139", "8.5", "| 4096 |", "2.18"] {
        assert!(done.stdout.contains(figure), "{figure} is not in {}", done.stdout);
    }
}

#[test]
fn the_table_of_another_model_has_ours_alone() {
    let shape = "throughput --shape 2x24x4:2x32x50 --memory 1MiB --states 8,16 --dry-run";
    let done = succeeds(&split(shape));
    assert!(
        done.stdout.contains("| states | GB a sequence | largest batch | tokens/s | relative |"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("paper"), "{}", done.stdout);
    assert!(succeeds(&split(&format!("{shape} --json"))).json().get("published").is_none());
}

#[test]
fn a_dry_run_says_how_long_it_takes_and_how_it_knows() {
    for (more, how) in
        [("--steps 2", "filling states and a second of steps"), ("--sequences 5 --length 9", "generating")]
    {
        let shape = format!("throughput --shape 2x24x4:2x32x50 --memory 100KiB --states 8 --dry-run {more}");
        let text = succeeds(&split(&shape)).stdout;
        assert!(text.contains("measuring takes about") && text.contains(how), "{text}");
        let found = succeeds(&split(&format!("{shape} --json"))).json();
        assert!(found["seconds"].as_f64().unwrap() > 0.0, "{found}");
    }
}

#[test]
fn a_dry_run_of_more_than_the_machine_has_shows_plans_and_why_no_time_is_told() {
    let shape = "throughput --shape 2x24x4:2x32x50 --memory 900000GiB --states 8 --dry-run";
    let text = succeeds(&split(shape)).stdout;
    for part in ["| 8 |", "no time can be told: weights and ", "are at hand; give less --memory"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let found = succeeds(&split(&format!("{shape} --json"))).json();
    assert!(found["seconds"].is_null() && found["plans"][0]["batch"].as_u64().unwrap() > 1, "{found}");
    assert!(found["no_seconds_since"].as_str().unwrap().contains("give less ‘memory’"), "{found}");
    // What a dry run says of it, the run refuses before it makes anything.
    let refused = msrnn(&split(&shape.replace(" --dry-run", "")));
    assert!(refused.code == Some(1) && refused.stderr.contains("give less --memory"), "{refused:?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_remedy() {
    for (more, remedy) in [
        ("--memory 25%", "32GiB"),
        ("--memory 1KiB", "--memory"),
        ("--policy tova@64", "--states"),
        ("--policy full", "tova"),
        ("--policy window+4 --states 4", "5"),
        ("--steps 0", "--steps"),
        ("--sequences 0", "--sequences"),
        ("--sequences 3 --length 1", "--length"),
    ] {
        let done = msrnn(&split(&format!("throughput --shape 2x24x4:2x32x50 {more}")));
        assert!(matches!(done.code, Some(1 | 2)), "{more}: {:?}", done.code);
        assert!(done.stderr.contains(remedy), "{more}: {}", done.stderr);
    }
}

#[test]
fn devices_are_listed_with_dtypes_or_the_reason_why_not() {
    let found = succeeds(&split("devices --json")).json();
    let devices = found["devices"].as_array().unwrap();
    let cpu = devices.iter().find(|device| device["device"] == "cpu").unwrap();
    assert!(cpu["available"]["dtypes"].as_array().unwrap().contains(&"f32".into()), "{cpu}");
    let text = succeeds(&split("devices")).stdout;
    for device in devices {
        assert!(text.contains(device["device"].as_str().unwrap()), "{device} is not in {text}");
    }
}

#[test]
fn a_gguf_file_is_measured_as_it_is_stored_in_the_bytes_that_were_planned() {
    let file = testdata().join("gguf/types.gguf");
    let found = |more: &str| {
        let run = "--memory 4MiB --states 8 --steps 1 --repetitions 1";
        throughput(&format!("--model {} {run} {more}", text_of(&file)))
    };
    let all = ["", "--dtype stored", "--dtype stored/f16", "--activations int8", "--dtype f32"].map(found);
    let dtypes = all.each_ref().map(|found| found["dtype"].as_str().unwrap());
    assert_eq!(dtypes, ["stored", "stored", "stored/f16", "stored/f32/int8", "f32"]);
    for found in &all {
        let row = &found["measured"][0];
        assert_eq!(row["reported_weight_bytes"], row["weight_bytes"], "{found}");
        assert_eq!(row["reported_state_bytes"], row["state_bytes"], "{found}");
    }
    let [usual, stored, narrow, rounded, floats] = all.map(|found| found["plans"][0]["weight_bytes"].as_u64().unwrap());
    assert_eq!([stored, narrow, rounded], [usual; 3]);
    // Blocks of few bits, with matrices of floats among them.
    assert!(usual < floats && usual * 8 > floats, "{usual} and {floats}");
    let planned = throughput(&format!("--model {} --memory 4MiB --states 8 --dry-run", text_of(&file)));
    assert_eq!(planned["plans"][0]["weight_bytes"], usual);
}
