//! A run directory that was damaged gives the results that it gave before, or an error: never others, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::common::{self, split, succeeds, text_of};
use msrnn_bench::experiment::merge::Runs;
use msrnn_bench::experiment::registry;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Every experiment, as small as it can be.
const RUNS: [&str; 6] = [
    "lm --stories 2 --context 40 --batch 1 --policies tova,random --states 8 --seeds 2",
    "lm --extrapolate --tokens 1100 --policies tova --states 8 --full-tokens 1040",
    "retrieval --lengths 400 --depths 0,1 --policies tova --states 16 --trials 1",
    "retention --context 64 --contexts 1 --cells 4 --policies tova,h2o --states 16",
    "story --states 16 --policies tova --seeds 2 --max-new-tokens 12",
    "understanding --stories 1 --questions 2 --policies tova --states 16",
];

/// Directories made of each run, some of them with more than one kind of damage.
const TRIALS: usize = 700;

/// The files that results follow from.
#[derive(Clone, PartialEq)]
struct Pair {
    manifest: Vec<u8>,
    samples: Vec<u8>,
    plan: Vec<u8>,
}

fn read(run: &Path) -> Pair {
    let file = |name: &str| std::fs::read(run.join(name)).unwrap();
    Pair { manifest: file("manifest.toml"), samples: file("samples.jsonl"), plan: file("plan.jsonl") }
}

fn write(run: &Path, pair: &Pair) {
    std::fs::write(run.join("manifest.toml"), &pair.manifest).unwrap();
    std::fs::write(run.join("samples.jsonl"), &pair.samples).unwrap();
    std::fs::write(run.join("plan.jsonl"), &pair.plan).unwrap();
}

/// The results as `metrics.json` has them, or why there are none.
fn results(run: &Path) -> Result<String, String> {
    let runs = Runs::read(&[run.to_owned()]).map_err(|e| e.to_string())?;
    let results = registry::finish(&runs, None).map_err(|e| e.to_string())?;
    Ok(serde_json::to_string_pretty(&results).unwrap() + "\n")
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Damages one of the files somewhere. `other`: lines of another run.
fn damage(pair: &mut Pair, other: &[u8], dice: &mut ChaCha8Rng) {
    let text = match dice.random_range(0..4) {
        0 => &mut pair.manifest,
        1 => &mut pair.plan,
        _ => &mut pair.samples,
    };
    if text.is_empty() {
        return;
    }
    let at = dice.random_range(0..text.len());
    let mut all = lines(text);
    let (a, b) = (dice.random_range(0..all.len()), dice.random_range(0..all.len()));
    match dice.random_range(0..12) {
        0 => all.swap(a, b),
        1 => drop(all.remove(a)),
        2 => all.insert(b, all[a].clone()),
        3 => {
            let mut other = lines(other);
            all.insert(a, other.swap_remove(b % other.len()));
        }
        4 => return text.truncate(at),
        5 => return text[at] ^= 1 << dice.random_range(0..8),
        6 => return text[at] = dice.random(),
        7 => return text.insert(at, dice.random()),
        8 => return drop(text.drain(at..(at + dice.random_range(1..40)).min(text.len()))),
        9 => {
            let zeros = vec![0; dice.random_range(1..40)];
            return text.extend(zeros);
        }
        what => {
            let numbers = common::numbers(text);
            let Some(range) = numbers.get(dice.random_range(0..numbers.len().max(1))) else { return };
            let digit = [b'0' + dice.random_range(0..10)];
            let huge = ["0", "1", "-1", "1e400", "9223372036854775807", "18446744073709551615", "4294967296", "nan"];
            match what {
                10 => text[range.start] = digit[0],
                _ => drop(text.splice(range.clone(), huge[dice.random_range(0..huge.len())].bytes())),
            }
            return;
        }
    }
    *text = all.concat();
}

#[test]
fn damaged_run_directories_give_the_same_results_or_an_error_that_names_a_file() {
    let place = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..RUNS.len()).map(|i| place.path().join(i.to_string())).collect();
    for (run, given) in runs.iter().zip(RUNS) {
        succeeds(&[&["experiment"], &split(given)[..], &["--out", text_of(run)]].concat());
    }
    let pairs: Vec<Pair> = runs.iter().map(|run| read(run)).collect();
    let scratch = place.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut dice = ChaCha8Rng::seed_from_u64(2024);
    let (mut same, mut refused) = (0, 0);
    for (index, pair) in pairs.iter().enumerate() {
        let expected = std::fs::read_to_string(runs[index].join("metrics.json")).unwrap();
        write(&scratch, pair);
        assert_eq!(results(&scratch).unwrap(), expected, "{}", RUNS[index]);
        for trial in 0..TRIALS {
            let mut damaged = pair.clone();
            for _ in 0..1 + trial % 3 {
                damage(&mut damaged, &pairs[(index + 1) % pairs.len()].samples, &mut dice);
            }
            write(&scratch, &damaged);
            let what = || {
                format!(
                    "{}, trial {trial}\n{}\n{}\n{}",
                    RUNS[index],
                    String::from_utf8_lossy(&damaged.manifest),
                    String::from_utf8_lossy(&damaged.plan),
                    String::from_utf8_lossy(&damaged.samples)
                )
            };
            let found = catch_unwind(AssertUnwindSafe(|| results(&scratch)));
            match found.unwrap_or_else(|_| panic!("a panic: {}", what())) {
                Ok(found) => {
                    assert!(found == expected, "other results: {}", what());
                    same += 1;
                }
                Err(error) => {
                    assert!(error.len() > 20, "{error}");
                    refused += 1;
                }
            }
        }
    }
    // Lines in another order, twice, or a torn end say the same; most damage does not.
    assert!(same > 100 && refused > 1000, "{same} gave the same, {refused} were refused");
}
