//! Files that were damaged by chance or on purpose: an error each, never a panic, and no memory by the numbers that
//! they give.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{DType, Device};
use common::{testdata, tokens, values};
use msrnn_models::Model;
use msrnn_models::error::ModelError;
use msrnn_models::gguf::Gguf;
use msrnn_models::storage::{Storage, Weights};
use msrnn_models::tokenizer::Tokenizer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The system's allocator, which notes the largest piece that anybody asks for.
struct Noting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// More than any of the files needs; their rotary tables are the largest piece.
const MOST: usize = 16 << 20;

/// Numbers that are more than there is, or next to what is too many.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 255, 1 << 16, 1 << 24, 1 << 31, u32::MAX as u64, 1 << 40, 1 << 63, u64::MAX - 31, u64::MAX];

/// One damage of many kinds, most of them where counts, lengths, names and values are.
fn damage(bytes: &mut Vec<u8>, header: usize, rng: &mut ChaCha8Rng) {
    let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let at = if below(8) == 0 { below(bytes.len()) } else { below(header.min(bytes.len())) };
    match below(7) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, (0..below(40)).map(|_| 0xa5).collect::<Vec<_>>())),
        4 => drop(bytes.drain(at..(at + 1 + below(40)).min(bytes.len()))),
        width => {
            let (number, width) = (NUMBERS[below(NUMBERS.len())].to_le_bytes(), if width == 5 { 4 } else { 8 });
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
    }
}

/// Everything that is done with a file; how far it got.
fn read(path: &Path) -> usize {
    fn short<T>(result: Result<T, ModelError>) -> Option<T> {
        let long = |error: &ModelError| error.to_string().len() > 2000;
        assert!(!result.as_ref().err().is_some_and(long), "a message without end");
        result.ok()
    }
    let Some(gguf) = short(Gguf::open(path)) else { return 0 };
    let configured = short(gguf.config());
    let vocabulary = short(gguf.vocabulary());
    if let Some(vocabulary) = &vocabulary
        && let Some(tokenizer) = short(Tokenizer::of_vocabulary("damaged", vocabulary.clone(), None))
    {
        let ids = tokenizer.encode("A cat, 12  cats;\n\tdéjà vu 猫 <s> <|im_end|>");
        let _ = ids.and_then(|ids| tokenizer.decode(&ids));
    }
    if configured.is_none() {
        return 1;
    }
    let stored = Storage { weights: Weights::Stored, ..DType::F32.into() };
    let in_blocks = short(Model::load(path, stored, &Device::default()));
    let in_floats = short(Model::load(path, DType::F32, &Device::default()));
    // What is refused in the one form is refused in the other.
    assert_eq!(in_blocks.is_some(), in_floats.is_some());
    if let Some(model) = in_blocks {
        let step = values(model.decoder.logits(model.decoder.embed(tokens(&[1]))));
        assert_eq!(step.len(), model.decoder.config().vocab_size);
    }
    match in_floats {
        None => 2,
        Some(model) => {
            let vocab = model.decoder.config().vocab_size;
            assert_eq!(values(model.decoder.forward(tokens(&[1, 2, 3]))).len(), 3 * vocab);
            3
        }
    }
}

#[test]
fn no_damage_makes_a_panic_or_takes_memory_by_its_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.gguf");
    let mut rng = ChaCha8Rng::seed_from_u64(20_241_127);
    for (name, tries) in [("types.gguf", 1500), ("llama3.gguf", 1500), ("vocab-llama-old.gguf", 1000)] {
        let whole = std::fs::read(testdata().join("gguf").join(name)).unwrap();
        std::fs::write(&path, &whole).unwrap();
        read(&path);
        LARGEST.store(0, Ordering::Relaxed);
        let mut reached = [0; 4];
        // Up to where the tensors are about.
        let header = 10_000;
        for _ in 0..tries {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.next_u64() % 3 {
                damage(&mut bytes, header, &mut rng);
            }
            std::fs::write(&path, &bytes).unwrap();
            reached[read(&path)] += 1;
        }
        // The damage is of all kinds: some is found at once, some later, and some is none.
        let expected = if name.starts_with("vocab") { 1..3 } else { 0..4 };
        assert!(reached[expected].iter().all(|count| *count > 0), "{name}: {reached:?}");
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(largest < MOST, "{name}: somebody asked for {largest} bytes");
        println!("{name}: {reached:?}, at most {largest} bytes at once");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.gguf");
    let whole = std::fs::read(testdata().join("gguf/llama3.gguf")).unwrap();
    let mut lengths: Vec<usize> = (0..200).chain((200..whole.len()).step_by(997)).collect();
    // The last tensor ends with the file, but for what fills it up.
    lengths.push(whole.len() - 64);
    for length in lengths {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.contains("cut.gguf") && error.contains("download the file again"), "{length}: {error}");
    }
}
