use std::path::Path;

use serde::{Deserialize, Serialize};

use super::*;
use crate::device::DeviceName;
use crate::experiment::manifest::{MANIFEST, MEANING, Source};
use crate::experiment::models::Models;
use crate::experiment::{Unit, journal};
use crate::hub::Downloads;
use crate::precision::Precision;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

/// Divides numbers, and is interrupted or fails where it is told to.
#[derive(Serialize, Deserialize)]
struct Thirds {
    numbers: Vec<f64>,
}

#[derive(Default)]
struct Trouble {
    interrupt_at: Option<usize>,
    fail_at: Option<usize>,
    panic_at: Option<usize>,
    done: AtomicUsize,
}

impl Experiment for Thirds {
    const NAME: &'static str = "thirds";
    type Inputs = Trouble;
    type Sample = f64;

    fn units(&self, _: &Trouble) -> Result<Vec<Unit>, BenchError> {
        let unit = |number: &f64| Unit {
            name: format!("a third of {number}"),
            model: Some(0),
            arm: format!("{number}"),
            tokens: 1,
            state_bytes: 2,
            depends: serde_json::json!([number.to_bits()]),
            ..Unit::default()
        };
        Ok(self.numbers.iter().map(unit).collect())
    }

    fn sample(&self, trouble: &Trouble, unit: usize, watch: &Watch<'_>) -> Result<Option<f64>, BenchError> {
        (watch.advance)(1);
        if trouble.fail_at == Some(unit) {
            return Err(BenchError::Input("told to fail".into()));
        }
        assert!(trouble.panic_at != Some(unit), "told to panic");
        trouble.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok((trouble.interrupt_at != Some(unit)).then(|| self.numbers[unit] / 3.0))
    }

    fn check(&self, _: &[Source], unit: usize, name: &str, sample: &f64) -> Result<(), String> {
        let number = self.numbers[unit];
        match name == format!("a third of {number}") && *sample == number / 3.0 {
            true => Ok(()),
            false => Err(format!("it is no third of {number}")),
        }
    }

    fn check_all(&self, _: &[Source], samples: &[f64]) -> Result<(), String> {
        if samples.len() == self.numbers.len() { Ok(()) } else { Err("some are missing".into()) }
    }

    fn without(mut self, arms: &BTreeSet<String>) -> Self {
        self.numbers.retain(|number| !arms.contains(&number.to_string()));
        self
    }

    fn rows(&self, samples: &[f64]) -> Vec<crate::experiment::tidy::Row> {
        let row = |&value| crate::experiment::tidy::Row { metric: "third", value, ..Default::default() };
        samples.iter().map(row).collect()
    }

    fn results(&self, samples: &[f64]) -> Result<Results, BenchError> {
        let metrics = serde_json::json!({ "samples": samples, "sum": samples.iter().sum::<f64>() });
        Ok(Results { metrics, arms: Vec::new(), notes: Vec::new(), figures: Vec::new(), missing: Vec::new() })
    }
}

fn ask(numbers: &[f64], trouble: &Trouble) -> (Thirds, Asked) {
    let experiment = Thirds { numbers: numbers.to_vec() };
    let models = Models::new(&["bundled".into()], DeviceName::Cpu, Precision::F32, Downloads::UNWATCHED);
    let asked = Asked::new(&experiment, trouble, &models, &[]).unwrap();
    (experiment, asked)
}

fn options(out: &Path, shard: Option<&str>) -> RunOptions {
    RunOptions {
        out: out.into(),
        shard: shard.map(|shard| shard.parse().unwrap()),
        jobs: 2,
        on_host: true,
        accept_version: false,
        reuse: Vec::new(),
        command: vec!["msrnn".into()],
    }
}

fn with(
    numbers: &[f64],
    options: &RunOptions,
    trouble: &Trouble,
    change: impl FnOnce(Asked) -> Asked,
) -> Result<Outcome, BenchError> {
    let (experiment, asked) = ask(numbers, trouble);
    let watch = Watch { advance: &|_| (), tell: &|_| (), interrupt: &AtomicBool::new(false) };
    run(&experiment, trouble, change(asked), options, watch)
}

fn go(numbers: &[f64], out: &Path, shard: Option<&str>, trouble: &Trouble) -> Result<Outcome, BenchError> {
    with(numbers, &options(out, shard), trouble, |asked| asked)
}

fn metrics(out: &Path) -> Vec<u8> {
    std::fs::read(out.join(METRICS)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_run_that_was_ended_or_failed_ends_with_the_results_of_one_that_was_not(
        numbers in proptest::collection::btree_set(-1_000_000..1_000_000i32, 2..8),
        at in 0usize..8,
        fails in any::<bool>(),
    ) {
        let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
        let directory = tempfile::tempdir().unwrap();
        let (whole, twice) = (directory.path().join("whole"), directory.path().join("twice"));
        let calm = Trouble::default();
        prop_assert!(go(&numbers, &whole, None, &calm).unwrap().complete());

        let at = at % numbers.len();
        let trouble = Trouble { interrupt_at: (!fails).then_some(at), fail_at: fails.then_some(at), ..Trouble::default() };
        let outcome = go(&numbers, &twice, None, &trouble).unwrap();
        prop_assert!(twice.join(MANIFEST).exists());
        if fails {
            prop_assert!(outcome.complete() && outcome.finished == numbers.len() - 1);
            let missing = outcome.results.unwrap().missing;
            prop_assert!(missing.len() == 1 && missing[0].reason.contains("told to fail"));
            prop_assert!(metrics(&twice) != metrics(&whole));
        } else {
            prop_assert!(!outcome.complete() && outcome.results.is_none() && !twice.join(METRICS).exists());
        }
        let outcome = go(&numbers, &twice, None, &calm).unwrap();
        prop_assert!(outcome.complete());
        prop_assert_eq!(metrics(&twice), metrics(&whole));
        // And a third time there is nothing left to do.
        prop_assert_eq!(go(&numbers, &twice, None, &calm).unwrap().resumed, numbers.len());
        prop_assert_eq!(metrics(&twice), metrics(&whole));
    }
}

#[test]
fn what_is_not_asked_for_any_more_is_never_dropped_and_what_differs_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let calm = Trouble::default();
    go(&[1.0, 2.0], directory.path(), None, &calm).unwrap();
    let before = metrics(directory.path());
    for other in [&[1.0, 5.0][..], &[1.0], &[]] {
        let error = go(other, directory.path(), None, &calm).unwrap_err().to_string();
        assert!(error.contains("1 of its 2 finished") || error.contains("2 of its 2 finished"), "{error}");
        assert!(error.contains("setting.numbers: [1.0, 2.0], not [") && error.contains("another ‘out’"), "{error}");
    }
    assert_eq!(metrics(directory.path()), before);
}

#[test]
fn a_run_that_was_extended_has_the_bytes_of_one_that_was_asked_for_at_once_and_does_nothing_twice() {
    let place = tempfile::tempdir().unwrap();
    let (grown, whole) = (place.path().join("grown"), place.path().join("whole"));
    let done = |numbers: &[f64], out: &Path| {
        let calm = Trouble::default();
        let outcome = go(numbers, out, None, &calm).unwrap();
        (calm.done.into_inner(), outcome.resumed)
    };
    assert_eq!(done(&[3.0, 1.0], &grown), (2, 0));
    // Behind, between and before.
    assert_eq!(done(&[3.0, 1.0, 4.0], &grown), (1, 2));
    assert_eq!(done(&[7.0, 3.0, 9.0, 1.0, 4.0], &grown), (2, 3));
    done(&[7.0, 3.0, 9.0, 1.0, 4.0], &whole);
    assert_eq!(metrics(&grown), metrics(&whole));
}

#[test]
fn finished_units_are_found_in_the_directories_that_are_named() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let calm = Trouble::default();
    go(&[1.0, 2.0], &at("a"), None, &calm).unwrap();
    go(&[3.0, 9.0], &at("b"), None, &calm).unwrap();
    let (reuse, fresh) = (vec![at("a"), at("b")], Trouble::default());
    let outcome =
        with(&[1.0, 3.0, 5.0], &RunOptions { reuse, ..options(&at("c"), None) }, &fresh, |asked| asked).unwrap();
    assert_eq!((outcome.resumed, fresh.done.into_inner()), (2, 1));
    go(&[1.0, 3.0, 5.0], &at("whole"), None, &calm).unwrap();
    assert_eq!(metrics(&at("c")), metrics(&at("whole")));
}

#[test]
fn a_unit_that_fails_or_panics_is_recorded_the_others_are_reported_and_the_next_run_tries_it_again() {
    let place = tempfile::tempdir().unwrap();
    let (out, whole) = (place.path().join("out"), place.path().join("whole"));
    let numbers = [1.0, 2.0, 3.0, 4.0];
    let trouble = Trouble { fail_at: Some(1), panic_at: Some(3), ..Trouble::default() };
    let outcome = go(&numbers, &out, None, &trouble).unwrap();
    let results = outcome.results.unwrap();
    assert_eq!((outcome.finished, outcome.failed.len(), &results.missing), (2, 2, &outcome.failed));
    assert_eq!(results.metrics["sum"], 1.0 / 3.0 + 3.0 / 3.0);
    let reasons: Vec<&str> = results.missing.iter().map(|missing| missing.reason.as_str()).collect();
    assert!(reasons[0] == "told to fail" && reasons[1].contains("told to panic"), "{reasons:?}");
    assert!(
        results.notes[0].contains("MISSING: 2 of 4 units failed") && results.notes[0].contains("2, 4"),
        "{results:?}"
    );
    let read = Runs::read(std::slice::from_ref(&out)).unwrap();
    assert_eq!(finish::<Thirds>(&read, None).unwrap(), results);

    let again = Trouble::default();
    assert!(go(&numbers, &out, None, &again).unwrap().failed.is_empty());
    assert_eq!(again.done.into_inner(), 2);
    go(&numbers, &whole, None, &Trouble::default()).unwrap();
    assert_eq!(metrics(&out), metrics(&whole));

    let all = Trouble { fail_at: Some(0), ..Trouble::default() };
    let error = go(&[1.0], &place.path().join("none"), None, &all).unwrap_err().to_string();
    assert!(error.contains("1 of 1 failed") && error.contains("told to fail"), "{error}");
}

#[test]
fn numbers_of_two_meanings_never_mix_unless_that_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path();
    let calm = Trouble::default();
    with(&[1.0, 2.0], &options(out, None), &calm, |asked| asked.meaning(MEANING - 1).unwrap()).unwrap();
    let error = go(&[1.0, 2.0], out, None, &calm).unwrap_err().to_string();
    assert!(
        error.contains(&format!("meaning {}", MEANING - 1))
            && error.contains("‘accept_version’")
            && error.contains("‘out’"),
        "{error}"
    );
    let accepting = RunOptions { accept_version: true, ..options(out, None) };
    let outcome = with(&[1.0, 2.0, 3.0], &accepting, &calm, |asked| asked).unwrap();
    assert_eq!((outcome.resumed, outcome.finished), (2, 3));
}

#[test]
fn what_numbers_do_not_depend_on_is_recorded_and_changes_no_unit() {
    let place = tempfile::tempdir().unwrap();
    let calm = Trouble::default();
    go(&[1.0], place.path(), None, &calm).unwrap();
    let path = place.path().join(MANIFEST);
    let text = std::fs::read_to_string(&path).unwrap();
    let commit = env!("MSRNN_COMMIT");
    std::fs::write(&path, text.replace(&format!("commit = \"{commit}\""), "commit = \"another\"")).unwrap();
    let one_job = RunOptions { jobs: 1, ..options(place.path(), None) };
    let outcome = with(&[1.0], &one_job, &calm, |mut asked| {
        asked.identity.models[0].name = "spelled/otherwise".into();
        asked
    });
    assert_eq!(outcome.unwrap().resumed, 1);
    let manifest = crate::experiment::manifest::Manifest::read(place.path()).unwrap();
    let commits: Vec<&str> = manifest.origin.iter().map(|origin| origin.commit.as_str()).collect();
    assert_eq!(commits, ["another", commit]);
    assert_eq!(manifest.identity.models[0].name, "spelled/otherwise");
    assert!(manifest.origin[1].remarks(&manifest.origin[0])[0].contains("commit was another"));
}

#[test]
fn parts_of_an_experiment_put_together_are_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let calm = Trouble::default();
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0];
    let at = |name: &str| directory.path().join(name);
    go(&numbers, &at("whole"), None, &calm).unwrap();
    for part in ["1/2", "2/2"] {
        let outcome = go(&numbers, &at(&part[..1]), Some(part), &calm).unwrap();
        assert!(outcome.complete() && outcome.results.is_none());
    }
    let runs = Runs::read(&[at("2"), at("1")]).unwrap();
    assert_eq!(runs.samples, journal::read(&at("whole")).unwrap());
    assert_eq!(
        finish::<Thirds>(&runs, None).unwrap(),
        finish::<Thirds>(&Runs::read(&[at("whole")]).unwrap(), None).unwrap()
    );

    let one = Runs::read(&[at("1")]).unwrap();
    let error = finish::<Thirds>(&one, None).unwrap_err().to_string();
    assert!(error.contains("unit 1 of 5") && error.contains("is not finished"), "{error}");
    // The second part, done where the first lies, makes the whole.
    let outcome = go(&numbers, &at("1"), Some("2/2"), &calm).unwrap();
    assert!(outcome.complete() && outcome.results.is_some());
    assert_eq!(metrics(&at("1")), metrics(&at("whole")));
}

#[test]
fn runs_that_overlap_are_put_together_whichever_comes_first_and_contradictions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let calm = Trouble::default();
    let at = |name: &str| directory.path().join(name);
    go(&[1.0, 2.0], &at("few"), None, &calm).unwrap();
    go(&[1.0, 3.0, 2.0], &at("many"), None, &calm).unwrap();
    go(&[9.0], &at("other"), None, &calm).unwrap();
    for order in [["few", "many"], ["many", "few"]] {
        let runs = Runs::read(&order.map(at)).unwrap();
        assert_eq!(finish::<Thirds>(&runs, None).unwrap().metrics["samples"].as_array().unwrap().len(), 3);
    }
    let error = Runs::read(&[at("few"), at("other")]).unwrap_err().to_string();
    assert!(error.contains("not parts of one experiment") && error.contains("setting.numbers"), "{error}");

    let samples = at("few").join(SAMPLES);
    let text = std::fs::read_to_string(&samples).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("check");
            line["sample"] = serde_json::json!(0.5);
            String::from_utf8(crate::experiment::seal::close(line.to_string().as_bytes())).unwrap() + "\n"
        })
        .collect();
    std::fs::write(&samples, lines.concat()).unwrap();
    let error = Runs::read(&[at("few"), at("many")]).unwrap_err().to_string();
    assert!(error.contains("something else of unit \"a third of"), "{error}");
}

/// What a run does with a directory that was damaged since.
#[test]
fn a_run_that_goes_on_in_a_damaged_directory_ends_with_the_same_bytes_or_an_error() {
    use rand::{RngExt, SeedableRng};
    let place = tempfile::tempdir().unwrap();
    let (whole, damaged) = (place.path().join("whole"), place.path().join("damaged"));
    let numbers = [1.0, 1e9, -2.5, 7.0];
    let calm = Trouble::default();
    go(&numbers, &whole, None, &calm).unwrap();
    let expected = metrics(&whole);
    let files = [MANIFEST, SAMPLES, TIMES, PLAN];
    let texts = files.map(|file| std::fs::read(whole.join(file)).unwrap());
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let (mut same, mut refused) = (0, 0);
    for _ in 0..400 {
        let _ = std::fs::remove_dir_all(&damaged);
        std::fs::create_dir(&damaged).unwrap();
        let which = dice.random_range(0..4);
        for (index, (file, text)) in files.iter().zip(&texts).enumerate() {
            let mut text = text.clone();
            let at = dice.random_range(0..text.len());
            match (index == which, dice.random_range(0..4)) {
                (false, _) => {}
                (_, 0) => text.truncate(at),
                (_, 1) => text[at] ^= 1 << dice.random_range(0..8),
                (_, 2) => drop(text.drain(at..text.len().min(at + 9))),
                _ => text.insert(at, dice.random()),
            }
            std::fs::write(damaged.join(file), text).unwrap();
        }
        match go(&numbers, &damaged, None, &calm) {
            Ok(outcome) => {
                assert!(outcome.complete());
                assert_eq!(metrics(&damaged), expected);
                same += 1;
            }
            Err(_) => {
                assert!(!damaged.join(METRICS).exists());
                refused += 1;
            }
        }
    }
    assert!(same > 50 && refused > 50, "{same} {refused}");
}
