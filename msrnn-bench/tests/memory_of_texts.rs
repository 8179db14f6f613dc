//! What texts take in memory on their way from a file to contexts: at most 12 bytes for every byte of text, at any time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use burn::tensor::Device;
use msrnn_bench::bundled;
use msrnn_bench::contexts::{Contexts, Cutting};
use msrnn_bench::texts::{self, Wanted};
use msrnn_models::Model;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The system's allocator, counting the bytes in use and the most there were.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that were in use during some work, above those before it.
fn peak<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed) - before)
}

/// Bytes of memory for a byte of text.
const MOST_PER_BYTE: f64 = 12.0;
/// What does not depend on the text: a part that is being encoded, the tokenizer's tables.
const BESIDE: i64 = 6 << 20;

/// A text of so many bytes and more.
fn prose(bytes: usize) -> String {
    let stories: String = texts::stories(5, 40, 500).unwrap().into_iter().map(|text| text.text).collect();
    stories.repeat(bytes / stories.len() + 1)
}

fn write_parquet(path: &Path, rows: &[&str]) {
    let schema = Arc::new(parse_message_type("message m { required binary text (UTF8); }").unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(100) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = rows.iter().map(|&row| row.into()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn contexts(path: &Path, model: &Model, cutting: &Cutting) -> Contexts {
    let found = texts::read(&Wanted { limit: None, ..Wanted::new(&[path.into()]) }).unwrap();
    Contexts::of_texts(&found.texts, cutting, model).unwrap()
}

#[test]
fn a_text_takes_twelve_times_its_bytes_at_most_whatever_kind_of_file_it_is_in() {
    let model = bundled::load(burn::tensor::DType::F32, &Device::flex()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let text = prose(3 << 20);
    let paragraphs: Vec<&str> = text.split("\n\n").filter(|part| !part.is_empty()).collect();
    let objects: Vec<String> = paragraphs.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
    let gzip = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    std::fs::write(at("a.txt"), &text).unwrap();
    std::fs::write(at("a.txt.gz"), gzip(&text)).unwrap();
    std::fs::write(at("a.txt.zst"), zstd::stream::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    std::fs::write(at("a.jsonl"), objects.join("\n")).unwrap();
    std::fs::write(at("a.json"), format!("[{}]", objects.join(","))).unwrap();
    std::fs::write(at("whole.json"), serde_json::to_string(&text).map(|text| format!("[{text}]")).unwrap()).unwrap();
    let cells: String = paragraphs.iter().map(|text| format!("\"{}\"\n", text.replace('"', "\"\""))).collect();
    std::fs::write(at("a.csv"), format!("text\n{cells}")).unwrap();
    write_parquet(&at("a.parquet"), &paragraphs);
    let bytes = text.len() as f64;
    drop((objects, cells));
    for name in ["a.txt", "a.txt.gz", "a.txt.zst", "a.jsonl", "a.json", "whole.json", "a.csv", "a.parquet"] {
        let (found, most) = peak(|| texts::read(&Wanted::new(&[at(name)])).unwrap());
        let letters: usize = found.texts.iter().map(|text| text.text.len()).sum();
        assert!(letters > text.len() * 9 / 10, "{name}: {letters}");
        let per_byte = most as f64 / bytes;
        println!("{name}: {per_byte:.1} bytes per byte to be read");
        assert!(per_byte <= 4.0, "{name}: {per_byte} bytes of memory per byte of text");
    }
    for name in ["a.txt", "a.jsonl"] {
        let (all, most) = peak(|| contexts(&at(name), &model, &Cutting::new(1024)));
        let per_byte = (most - BESIDE) as f64 / bytes;
        println!("{name}: {:.1} bytes per byte, {} contexts", most as f64 / bytes, all.contexts.len());
        assert!(all.tokens() > text.len() / 8, "{name}: {}", all.tokens());
        assert!(per_byte <= MOST_PER_BYTE, "{name}: {per_byte} bytes of memory per byte of text");
    }

    // The first contexts alone: the text itself, and not its ids.
    let first = Cutting { contexts: Some(2), ..Cutting::new(1024) };
    let (some, most) = peak(|| contexts(&at("a.txt"), &model, &first));
    assert_eq!(some.contexts[..], contexts(&at("a.txt"), &model, &Cutting::new(1024)).contexts[..2]);
    println!("a.txt, two contexts: {:.1} bytes per byte", most as f64 / bytes);
    assert!(((most - BESIDE) as f64) < 1.1 * bytes, "{most} bytes for two contexts of {bytes} bytes");

    // Values that are many times their letters, if they are kept: they are passed over as they are read.
    let objects = format!("[{}\"one text\"]", "{\"text\": null, \"a\": {\"b\": {}}},".repeat(100_000));
    std::fs::write(at("objects.json"), &objects).unwrap();
    let (found, most) = peak(|| texts::read(&Wanted::new(&[at("objects.json")])).unwrap());
    assert_eq!((found.texts.len(), found.skipped.empty), (1, 100_000));
    assert!(most < 2 * objects.len() as i64 + (1 << 20), "{most} bytes for {} of JSON", objects.len());
}
