//! Run directories that were damaged, and options in a file.

use std::path::Path;

use msrnn_bench::experiment::merge;
use msrnn_bench::experiment::registry;
use msrnn_bench::experiment::seal;
use serde_json::Value;

use crate::common::{msrnn, split, succeeds, text_of};
use crate::dice::Dice;
use crate::{Verdict, World};

/// Every experiment, as small as it can be.
const RUNS: [&str; 6] = [
    "lm --stories 2 --context 40 --batch 1 --policies tova,random --states 8 --seeds 2",
    "lm --extrapolate --tokens 1060 --policies tova --states 8 --full-tokens 1040",
    "retrieval --lengths 400 --depths 0,1 --policies tova --states 16 --trials 1",
    "retention --context 64 --contexts 1 --cells 4 --policies tova,h2o --states 16",
    "story --states 16 --policies tova --seeds 2 --max-new-tokens 12",
    "understanding --stories 1 --questions 2 --policies tova --states 16",
];

/// Manifest, samples and plan of every experiment.
pub(crate) struct Runs(Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>);

impl Runs {
    pub(crate) fn make(place: &Path) -> Self {
        let make = |(index, given): (usize, &&str)| {
            let run = place.join(index.to_string());
            succeeds(&[&["experiment"], &split(given)[..], &["--out", text_of(&run)]].concat());
            let read = |name: &str| std::fs::read(run.join(name)).unwrap();
            (read("manifest.toml"), read("samples.jsonl"), read("plan.jsonl"))
        };
        Self(RUNS.iter().enumerate().map(make).collect())
    }
}

/// Reads a run back and writes its report. What it says must be numbers.
fn report(run: &Path) -> Verdict {
    let runs = merge::Runs::read(&[run.to_owned()]).map_err(|e| e.to_string())?;
    let results = registry::finish(&runs, Some(run)).map_err(|e| e.to_string())?;
    let written = std::fs::read_to_string(run.join("metrics.json")).unwrap();
    let value: Value = serde_json::from_str(&written).unwrap();
    // A number that is none is written as null: where there must be one, this does not read back.
    let back: msrnn_bench::experiment::Results = serde_json::from_value(value).unwrap();
    assert_eq!(back, results);
    Ok(())
}

fn write(run: &Path, manifest: &[u8], samples: &[u8], plan: &[u8]) {
    std::fs::create_dir(run).unwrap();
    std::fs::write(run.join("manifest.toml"), manifest).unwrap();
    std::fs::write(run.join("samples.jsonl"), samples).unwrap();
    std::fs::write(run.join("plan.jsonl"), plan).unwrap();
}

pub(crate) fn damaged(world: &World, dice: &mut Dice) -> Verdict {
    let (mut manifest, mut samples, mut plan) = dice.of(&world.runs.0).clone();
    let other = dice.of(&world.runs.0).1.clone();
    for _ in 0..=dice.below(3) {
        match dice.below(5) {
            0 | 1 => dice.bytes(&mut manifest, &other),
            2 => dice.bytes(&mut plan, &other),
            _ => dice.bytes(&mut samples, &other),
        }
    }
    let run = world.scratch.join("run");
    write(&run, &manifest, &samples, &plan);
    report(&run)
}

/// Lines that were changed and sealed anew, of a manifest that may have been changed before.
pub(crate) fn forged(world: &World, dice: &mut Dice) -> Verdict {
    let (mut manifest, samples, plan) = dice.of(&world.runs.0).clone();
    let run = world.scratch.join("run");
    if dice.one_in(3) {
        dice.bytes(&mut manifest, b"");
    }
    write(&run, &manifest, b"", &plan);
    let mut lines: Vec<Value> =
        String::from_utf8(samples).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("check");
    }
    for _ in 0..=dice.below(2) {
        let (at, from) = (dice.below(lines.len()), dice.below(lines.len()));
        match dice.below(4) {
            0 => lines[at]["sample"] = lines[from]["sample"].clone(),
            1 => lines[at]["key"] = lines[from]["key"].clone(),
            _ => dice.json(&mut lines[at]["sample"]),
        }
    }
    let text: Vec<u8> = lines
        .iter()
        .filter(|line| line.is_object())
        .flat_map(|line| [seal::close(line.to_string().as_bytes()), b"\n".to_vec()].concat())
        .collect();
    std::fs::write(run.join("samples.jsonl"), text).unwrap();
    report(&run)
}

pub(crate) fn options(world: &World, dice: &mut Dice) -> Verdict {
    let path = world.scratch.join("options.toml");
    let mut text = b"stories = 2\ncontext = 40\nbatch = 1\npolicies = [\"tova\", \"window+4@8\"]\nstates = [\"8\", \"25%\"]\nseeds = 2\n\
        form = \"layer\"\npositions = \"original\"\n"
        .to_vec();
    (0..=dice.below(3)).for_each(|_| dice.bytes(&mut text, b"\"\"\"\n[[x]]\nextrapolate = true\n"));
    std::fs::write(&path, text).unwrap();
    let done = msrnn(&["experiment", "lm", "--config", text_of(&path), "--dry-run", "--json"]);
    assert!(!done.stderr.contains("panicked"), "{done:?}");
    let moves = |sign: char| sign.is_control() && !matches!(sign, '\n' | '\t');
    assert!(!done.stderr.contains(moves), "{done:?}");
    match done.code {
        Some(0) => Ok(()),
        Some(1 | 2) => Err(done.stderr),
        _ => panic!("{done:?}"),
    }
}
