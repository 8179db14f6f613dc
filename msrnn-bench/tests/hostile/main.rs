//! Hostile and broken inputs of every kind, made from a seed: no panic, no abort, no result that is not a number, no file
//! outside the places that were given, and an error that says something.
//!
//! `cargo test` tries a few hundred. As many as you like, for an hour, say:
//!
//! ```sh
//! MSRNN_HOSTILE=50000 cargo test --release --workspace --test hostile -- --ignored --nocapture
//! ```
//!
//! In a file system in memory, `TMPDIR=/dev/shm`, it takes a third of the time. An input is known by its number: `MSRNN_HOSTILE_FROM=31415 MSRNN_HOSTILE=1` tries that one again and keeps its files.

#[path = "../common/mod.rs"]
mod common;
mod dice;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod models;
#[cfg(feature = "hub")]
#[path = "../command/hub/repo.rs"]
#[allow(dead_code)]
mod repo;
mod runs;
#[cfg(feature = "hub")]
#[path = "../common/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device};
use dice::Dice;
use msrnn_bench::bundled;
use msrnn_models::Model;

// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What became of an input: a result that is in order, or an error.
pub(crate) type Verdict = Result<(), String>;

/// What all inputs share.
pub(crate) struct World {
    /// Where inputs lie: the only place that is given.
    pub(crate) scratch: PathBuf,
    pub(crate) bundled: Model,
    pub(crate) runs: runs::Runs,
}

/// A kind of input: its name, what is tried with one, and how many of a hundred are of it.
type Kind = (&'static str, fn(&World, &mut Dice) -> Verdict, usize);

const KINDS: &[Kind] = &[
    ("config.json", models::config, 14),
    ("model.safetensors.index.json", models::index, 6),
    ("safetensors", models::weights, 8),
    ("tokenizer.json", models::tokenizer, 14),
    ("tokenizer_config.json, generation_config.json", models::settings, 5),
    ("texts: plain, .gz, .zst, .csv", files::texts, 8),
    ("texts: JSON, JSON lines", files::json, 9),
    ("texts: Parquet", files::parquet, 8),
    ("token ids, questions", files::lists, 7),
    ("run directories", runs::damaged, 8),
    ("run directories with good checksums", runs::forged, 6),
    ("TOML of options", runs::options, 1),
    #[cfg(feature = "hub")]
    ("answers of a hub", hub::answers, 6),
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Paths below a directory, links not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

fn try_inputs(from: u64, count: u64) {
    let place = tempfile::tempdir().unwrap();
    let (scratch, elsewhere) = (place.path().join("scratch"), place.path().join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    // A relative path leads here.
    std::env::set_current_dir(&elsewhere).unwrap();
    let runs = runs::Runs::make(&place.path().join("runs"));
    let before = below(place.path());
    let world = World { scratch, bundled: bundled::load(DType::F32, &Device::flex()).unwrap(), runs };
    let all: Vec<&Kind> = KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.2)).collect();
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let current = watch();
    for index in from..from + count {
        let (name, attempt, _) = all[(index % all.len() as u64) as usize];
        current.store(index, Ordering::Relaxed);
        std::fs::create_dir(&world.scratch).unwrap();
        let started = Instant::now();
        let mut dice = Dice::new(index);
        let what = || format!("input {index}, {name}: MSRNN_HOSTILE_FROM={index} MSRNN_HOSTILE=1 tries it again");
        let Ok(verdict) = catch_unwind(AssertUnwindSafe(|| attempt(&world, &mut dice))) else {
            panic!("a panic, or a result that is wrong: {}", what());
        };
        if let Err(error) = &verdict {
            assert!(error.trim().len() > 8, "{error:?} says nothing: {}", what());
        }
        if count == 1 {
            println!("{}: {verdict:?}", what());
            keep(&world.scratch);
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{:?} for {}", started.elapsed(), what());
        counts.entry(name).or_default()[usize::from(verdict.is_err())] += 1;
        std::fs::remove_dir_all(&world.scratch).unwrap();
        // Nothing but the scratch directory was written.
        assert!(below(&elsewhere).is_empty(), "{:?}: {}", below(&elsewhere), what());
        if index % 50 == 0 {
            assert_eq!(below(place.path()), before, "{}", what());
        }
        if index % 1000 == 999 {
            println!("{} inputs", index + 1 - from);
        }
    }
    current.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(below(place.path()), before);
    for (name, [taken, refused]) in counts {
        println!("{name}: {} inputs, {taken} taken, {refused} refused", taken + refused);
    }
    std::env::set_current_dir("/").unwrap();
}

/// Ends the tests when an input takes for ever, which cannot be caught otherwise. The number of the input at hand.
fn watch() -> &'static AtomicU64 {
    static CURRENT: AtomicU64 = AtomicU64::new(u64::MAX);
    std::thread::spawn(|| {
        let mut last = (u64::MAX, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = CURRENT.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if now != u64::MAX && last.1.elapsed() > Duration::from_secs(240) {
                println!("input {now} takes for ever: MSRNN_HOSTILE_FROM={now} MSRNN_HOSTILE=1 tries it again");
                std::process::exit(101);
            }
        }
    });
    &CURRENT
}

/// Keeps the files of an input that is tried by itself.
fn keep(scratch: &Path) {
    let kept = std::env::temp_dir().join(format!("msrnn-hostile-{}", std::process::id()));
    for path in below(scratch).into_iter().filter(|path| path.is_file()) {
        let to = kept.join(path.strip_prefix(scratch).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&path, to).unwrap();
    }
    println!("its files are in {}", kept.display());
}

#[test]
fn hostile_inputs_end_with_a_result_that_is_in_order_or_an_error() {
    try_inputs(1_000_000, 400);
}

#[test]
#[ignore = "as many as MSRNN_HOSTILE says, 50,000 if it says nothing: an hour"]
fn hostile_inputs_as_many_as_you_like() {
    try_inputs(number("MSRNN_HOSTILE_FROM", 0), number("MSRNN_HOSTILE", 50_000));
}
