use super::*;
use crate::device::DeviceName;
use crate::experiment::merge::Runs;
use crate::hub::Downloads;
use crate::precision::Precision;
use proptest::prelude::*;

/// Divides numbers, and is interrupted or fails where it is told to.
#[derive(Serialize, Deserialize)]
struct Thirds {
    numbers: Vec<f64>,
}

#[derive(Default)]
struct Trouble {
    interrupt_at: Option<usize>,
    fail_at: Option<usize>,
}

impl Experiment for Thirds {
    const NAME: &'static str = "thirds";
    type Inputs = Trouble;
    type Sample = f64;

    fn units(&self, _: &Trouble) -> Result<Vec<Unit>, BenchError> {
        let unit = |number: &f64| Unit { name: format!("a third of {number}"), tokens: 1, state_bytes: 2 };
        Ok(self.numbers.iter().map(unit).collect())
    }

    fn sample(&self, trouble: &Trouble, unit: usize, watch: &Watch<'_>) -> Result<Option<f64>, BenchError> {
        (watch.advance)(1);
        if trouble.fail_at == Some(unit) {
            return Err(BenchError::Input("told to fail".into()));
        }
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

    fn results(&self, samples: &[f64]) -> Result<Results, BenchError> {
        let metrics = serde_json::json!({ "samples": samples, "sum": samples.iter().sum::<f64>() });
        Ok(Results { metrics, arms: Vec::new(), notes: Vec::new(), figures: Vec::new() })
    }
}

fn go(numbers: &[f64], out: &Path, shard: Option<&str>, trouble: &Trouble) -> Result<Outcome, BenchError> {
    let experiment = Thirds { numbers: numbers.to_vec() };
    let shard = shard.map(|shard| shard.parse().unwrap());
    let models = Models::new(&["bundled".into()], DeviceName::Cpu, Precision::F32, Downloads::UNWATCHED);
    let identity = identity(&experiment, trouble, &models, &[], shard)?;
    let options = RunOptions { out: out.into(), shard, jobs: 2, on_host: true, command: vec!["msrnn".into()] };
    let watch = Watch { advance: &|_| (), interrupt: &AtomicBool::new(false) };
    run(&experiment, trouble, identity, &options, watch)
}

fn metrics(out: &Path) -> Vec<u8> {
    std::fs::read(out.join(METRICS)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_run_that_was_ended_or_failed_ends_with_the_results_of_one_that_was_not(
        numbers in proptest::collection::vec(-1e9..1e9f64, 1..8),
        at in 0usize..8,
        fails in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (whole, twice) = (directory.path().join("whole"), directory.path().join("twice"));
        let calm = Trouble::default();
        prop_assert!(go(&numbers, &whole, None, &calm).unwrap().complete());

        let at = at % numbers.len();
        let trouble = Trouble { interrupt_at: (!fails).then_some(at), fail_at: fails.then_some(at) };
        match go(&numbers, &twice, None, &trouble) {
            Ok(outcome) => prop_assert!(!fails && !outcome.complete() && outcome.results.is_none()),
            Err(error) => prop_assert!(fails && error.to_string().contains("told to fail")),
        }
        prop_assert!(twice.join(MANIFEST).exists() && !twice.join(METRICS).exists());
        let outcome = go(&numbers, &twice, None, &calm).unwrap();
        prop_assert!(outcome.complete());
        prop_assert_eq!(metrics(&twice), metrics(&whole));
        // And a third time there is nothing left to do.
        prop_assert_eq!(go(&numbers, &twice, None, &calm).unwrap().resumed, numbers.len());
        prop_assert_eq!(metrics(&twice), metrics(&whole));
    }
}

#[test]
fn another_setting_does_not_resume_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let calm = Trouble::default();
    go(&[1.0, 2.0], directory.path(), None, &calm).unwrap();
    let before = metrics(directory.path());
    let error = go(&[1.0, 5.0], directory.path(), None, &calm).unwrap_err().to_string();
    assert!(error.contains("setting.numbers: [1.0, 2.0], not [1.0, 5.0]"), "{error}");
    assert_eq!(metrics(directory.path()), before);
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
    assert_eq!(runs.samples, journal::read(&at("whole"), &runs.manifest.identity).unwrap());
    std::fs::create_dir(at("both")).unwrap();
    runs.manifest.write(&at("both")).unwrap();
    finish::<Thirds>(&runs.manifest, &runs.samples, Some(&at("both"))).unwrap();
    assert_eq!(metrics(&at("both")), metrics(&at("whole")));

    let one = Runs::read(&[at("1")]).unwrap();
    let error = finish::<Thirds>(&one.manifest, &one.samples, None).unwrap_err().to_string();
    assert!(error.contains("unit 1 of 5 is not finished"), "{error}");
    go(&[9.0], &at("other"), None, &calm).unwrap();
    let error = Runs::read(&[at("1"), at("other")]).unwrap_err().to_string();
    assert!(error.contains("not parts of one experiment") && error.contains("units: 5, not 1"), "{error}");
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
    let files = [MANIFEST, SAMPLES, TIMES];
    let texts = files.map(|file| std::fs::read(whole.join(file)).unwrap());
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let (mut same, mut refused) = (0, 0);
    for _ in 0..400 {
        let _ = std::fs::remove_dir_all(&damaged);
        std::fs::create_dir(&damaged).unwrap();
        let which = dice.random_range(0..3);
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
