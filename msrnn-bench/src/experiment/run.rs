//! The run directory: an experiment done, resumed, or put together from parts.
//!
//! ```text
//! manifest.toml    what the run is; before the work starts
//! samples.jsonl    a line per finished unit; on disk before the next one counts
//! times.jsonl      seconds per unit; the only thing that differs between two runs of one manifest
//! metrics.json     what follows from all samples; when the last one is there
//! report.html      the same to look at, with figures/ beside it
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::experiment::journal::{self, Journal, SAMPLES, Samples};
use crate::experiment::manifest::{Identity, MANIFEST, Manifest, Origin, Shard, Source, table};
use crate::experiment::models::Models;
use crate::experiment::{Experiment, Results, Unit, Watch};
use crate::output::write_file;

/// File name of the results.
pub const METRICS: &str = "metrics.json";
/// File name of the times.
pub const TIMES: &str = "times.jsonl";

/// How an experiment is run, without what decides its samples.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run directory.
    pub out: PathBuf,
    /// The part to do; none for all units.
    pub shard: Option<Shard>,
    /// Units side by side.
    pub jobs: usize,
    /// The command line, for the manifest.
    pub command: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found; none unless every unit of the whole experiment is finished.
    pub results: Option<Results>,
    /// Units of this run, finished ones, and those that were found finished.
    pub units: usize,
    /// Finished.
    pub finished: usize,
    /// Found finished when the run started.
    pub resumed: usize,
}

impl Outcome {
    /// Whether all units of this run are finished.
    pub fn complete(&self) -> bool {
        self.finished == self.units
    }
}

/// What an experiment is about to do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// All units, in order.
    pub units: Vec<Unit>,
    /// Tokens of all units.
    pub tokens: usize,
    /// Bytes of states of the largest unit.
    pub state_bytes: usize,
}

impl Plan {
    /// The plan of an experiment, or of a part of it.
    ///
    /// # Errors
    ///
    /// When its setting cannot be met.
    pub fn of<E: Experiment>(experiment: &E, inputs: &E::Inputs, shard: Option<Shard>) -> Result<Self, BenchError> {
        let units = experiment.units(inputs)?.into_iter().enumerate();
        let units: Vec<Unit> =
            units.filter(|(index, _)| shard.is_none_or(|shard| shard.holds(*index))).map(|(_, unit)| unit).collect();
        Ok(Self {
            tokens: units.iter().map(|unit| unit.tokens).sum(),
            state_bytes: units.iter().map(|unit| unit.state_bytes).max().unwrap_or(0),
            units,
        })
    }
}

/// What a run of an experiment is.
///
/// # Errors
///
/// When the setting cannot be met, or a model cannot be read.
pub fn identity<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    models: &Models,
    data: &[Source],
    shard: Option<Shard>,
) -> Result<Identity, BenchError> {
    let features =
        [("flex", cfg!(feature = "flex")), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];
    Ok(Identity {
        experiment: E::NAME.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: env!("MSRNN_COMMIT").into(),
        features: features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.into()).collect(),
        device: models.device().to_string(),
        dtype: models.precision().to_string(),
        units: experiment.units(inputs)?.len(),
        shard,
        models: models.sources()?,
        data: data.to_vec(),
        setting: table(experiment)?,
    })
}

/// Does what is left of an experiment in its run directory. The samples and results of a run that
/// was ended and started again are those of one that was not, to the byte.
///
/// # Errors
///
/// When the directory holds another run, which is said with what differs; when a unit fails; when
/// something cannot be written. What is finished stays.
pub fn run<E: Experiment>(
    experiment: &E,
    inputs: &E::Inputs,
    identity: Identity,
    options: &RunOptions,
    watch: Watch<'_>,
) -> Result<Outcome, BenchError> {
    let units = experiment.units(inputs)?;
    let manifest = Manifest { identity, origin: Origin::here(options.command.clone(), options.jobs) };
    let manifest = claim(&options.out, manifest)?;
    let (journal, done) = Journal::open(&options.out)?;
    let mine = |unit: &usize| options.shard.is_none_or(|shard| shard.holds(*unit));
    let left: Vec<usize> = (0..units.len()).filter(mine).filter(|unit| !done.contains_key(unit)).collect();
    let todo = left.len();
    let work = Work {
        experiment,
        inputs,
        units: &units,
        left,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        journal: Mutex::new((journal, Times::open(&options.out)?)),
    };
    let finished = work.all(options.jobs.max(1), watch)?;
    let outcome =
        |results| Outcome { results, units: done.len() + todo, finished: done.len() + finished, resumed: done.len() };
    if finished < todo || manifest.identity.shard.is_some() {
        return Ok(outcome(None));
    }
    // Read back what was written, so that the results are those of the file, whoever wrote it.
    let results = finish::<E>(&manifest, &journal::read(&options.out)?, &options.out)?;
    Ok(outcome(Some(results)))
}

/// Makes the directory that of a run, or finds that it already is.
fn claim(directory: &Path, manifest: Manifest) -> Result<Manifest, BenchError> {
    if !directory.join(MANIFEST).exists() {
        if directory.join(SAMPLES).exists() {
            return Err(BenchError::Input(format!(
                "{}: there are samples but no {MANIFEST} that says of what; choose another --out",
                directory.display()
            )));
        }
        manifest.write(directory)?;
        return Ok(manifest);
    }
    let there = Manifest::read(directory)?;
    let differences = there.identity.differences(&manifest.identity)?;
    match differences.is_empty() {
        true => Ok(there),
        false => Err(BenchError::Input(format!(
            "{} holds another run, which this one cannot resume. There:\n  {}\nGive the same settings, or choose \
             another --out",
            directory.display(),
            differences.join("\n  ")
        ))),
    }
}

/// Units that are left, and those who do them.
struct Work<'a, E: Experiment> {
    experiment: &'a E,
    inputs: &'a E::Inputs,
    units: &'a [Unit],
    left: Vec<usize>,
    next: AtomicUsize,
    /// Set when a unit has failed.
    stop: AtomicBool,
    journal: Mutex<(Journal, Times)>,
}

impl<E: Experiment> Work<'_, E> {
    /// Does all units, `jobs` side by side. The number of those finished.
    fn all(&self, jobs: usize, watch: Watch<'_>) -> Result<usize, BenchError> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| self.some(watch))).collect();
            let mut finished = 0;
            let mut failed = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(n)) => finished += n,
                    Ok(Err(error)) => failed = failed.or(Some(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failed.map_or(Ok(finished), Err)
        })
    }

    /// Does one unit after the other as long as there are any.
    fn some(&self, watch: Watch<'_>) -> Result<usize, BenchError> {
        let mut finished = 0;
        while !watch.interrupted() && !self.stop.load(Ordering::Relaxed) {
            let Some(&unit) = self.left.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            match self.one(unit, watch) {
                Ok(true) => finished += 1,
                Ok(false) => break,
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(finished)
    }

    fn one(&self, unit: usize, watch: Watch<'_>) -> Result<bool, BenchError> {
        let started = Instant::now();
        let Some(sample) = self.experiment.sample(self.inputs, unit, &watch)? else { return Ok(false) };
        let mut journal = self.journal.lock().expect("no writer panicked");
        journal.0.append(unit, &self.units[unit].name, &sample)?;
        journal.1.add(unit, &self.units[unit], started.elapsed().as_secs_f64())?;
        Ok(true)
    }
}

/// Seconds per unit, as lines of JSON.
struct Times {
    path: PathBuf,
    file: std::fs::File,
}

impl Times {
    fn open(directory: &Path) -> Result<Self, BenchError> {
        let path = directory.join(TIMES);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| BenchError::Write { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    fn add(&mut self, unit: usize, what: &Unit, seconds: f64) -> Result<(), BenchError> {
        let line = serde_json::json!({ "unit": unit, "name": what.name, "tokens": what.tokens, "seconds": seconds });
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}

/// What an experiment of that type found, from its manifest and all samples. Writes `metrics.json`.
///
/// # Errors
///
/// When samples are missing or do not fit the setting, or a file cannot be written.
pub fn finish<E: Experiment>(manifest: &Manifest, samples: &Samples, out: &Path) -> Result<Results, BenchError> {
    let damaged = |e: &dyn std::fmt::Display| {
        BenchError::Input(format!("{}: {e}; was this run made by another version of msrnn?", out.display()))
    };
    let experiment: E = manifest.identity.setting.clone().try_into().map_err(|e| damaged(&e))?;
    let units = manifest.identity.units;
    if let Some(missing) = (0..units).find(|unit| !samples.contains_key(unit)) {
        return Err(BenchError::Input(format!(
            "unit {missing} of {units} is not finished ({} are); give the same command with the same --out to \
             go on, or the parts that are missing",
            samples.len()
        )));
    }
    let samples = samples
        .values()
        .map(|finished| E::Sample::deserialize(&finished.sample))
        .collect::<Result<Vec<E::Sample>, _>>()
        .map_err(|e| damaged(&e))?;
    let results = experiment.results(&samples)?;
    experiment.write_files(&samples, out)?;
    let mut json =
        serde_json::to_vec_pretty(&results).map_err(|e| BenchError::Input(format!("the results are no JSON: {e}")))?;
    json.push(b'\n');
    write_file(&out.join(METRICS), &json)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
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
        let options = RunOptions { out: out.into(), shard, jobs: 2, command: vec!["msrnn".into()] };
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
        assert_eq!(runs.samples, journal::read(&at("whole")).unwrap());
        finish::<Thirds>(&runs.manifest, &runs.samples, &at("both")).unwrap();
        assert_eq!(metrics(&at("both")), metrics(&at("whole")));

        let one = Runs::read(&[at("1")]).unwrap();
        let error = finish::<Thirds>(&one.manifest, &one.samples, &at("both")).unwrap_err().to_string();
        assert!(error.contains("unit 1 of 5 is not finished"), "{error}");
        go(&[9.0], &at("other"), None, &calm).unwrap();
        let error = Runs::read(&[at("1"), at("other")]).unwrap_err().to_string();
        assert!(error.contains("not parts of one experiment") && error.contains("units: 5, not 1"), "{error}");
    }
}
