//! What files and options claim is weighed against the memory at hand before it is allocated, and files that may not grow
//! are errors of whom they belong to.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crate::common::{files, text_of};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Runs a command line of the shell in which `$MSRNN` is the command.
fn shell(line: &str, directory: &Path) -> Output {
    let mut sh = Command::new("sh");
    sh.args(["-c", line]).env("MSRNN", env!("CARGO_BIN_EXE_msrnn")).current_dir(directory);
    // Fewer threads take less address space.
    sh.env("RAYON_NUM_THREADS", "2").stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address space of 3 GiB: what is left of it is what is at hand, whatever the machine has.
const LIMITED: &str = "ulimit -v 3145728; ";

/// 1.2 GB of spaces, packed into members of a megabyte.
const MEGABYTES: usize = 1200;

#[test]
fn files_that_unpack_to_more_than_memory_allows_for_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let megabyte = vec![b' '; 1 << 20];
    let gzip = {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&megabyte).unwrap();
        packed.finish().unwrap()
    };
    std::fs::write(at("bomb.txt.gz"), gzip.repeat(MEGABYTES)).unwrap();
    let zstd = zstd::stream::encode_all(&megabyte[..], 19).unwrap();
    std::fs::write(at("bomb.txt.zst"), zstd.repeat(MEGABYTES)).unwrap();
    std::fs::write(at("bomb.jsonl.gz"), gzip.repeat(MEGABYTES)).unwrap();
    // One value, in a dictionary, of which every row says that it is that one.
    let schema = Arc::new(parse_message_type("message m { required binary text (UTF8); }").unwrap());
    let properties = Arc::new(
        WriterProperties::builder().set_compression(parquet::basic::Compression::ZSTD(Default::default())).build(),
    );
    let file = std::fs::File::create(at("bomb.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let value = ByteArray::from(megabyte[..megabyte.len() / 2].to_vec());
    column.typed::<ByteArrayType>().write_batch(&vec![value; 2 * MEGABYTES], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    assert!(std::fs::metadata(at("bomb.parquet")).unwrap().len() < 20_000);

    for name in ["bomb.txt.gz", "bomb.txt.zst", "bomb.jsonl.gz", "bomb.parquet"] {
        let output = shell(&format!("{LIMITED} \"$MSRNN\" perplexity --policy full --text {name}"), place.path());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("memory at hand") && said.contains("iB") && said.contains(name), "{name}: {said}");
    }
    // The first row alone is no bomb.
    let few = format!(
        "{LIMITED} \"$MSRNN\" perplexity --policy full --text bomb.parquet --limit 1 --contexts 1 --context 64"
    );
    let output = shell(&few, place.path());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn options_beyond_reason_are_refused_and_nothing_is_allocated_or_written() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("text.txt"), "Once upon a time there was a fox. ".repeat(200)).unwrap();
    let before = files(place.path());
    let commands = [
        "perplexity --policy tova@HUGE --text text.txt",
        "perplexity --policy tova --states HUGE --text text.txt --context 64",
        "generate --policy full --prompt a --context HUGE --max-new-tokens HUGE",
        "generate --policy tova@HUGE --prompt a",
        "generate --policy full --prompt a --samples HUGE --temperature 1 --max-new-tokens HUGE",
        "chat --policy tova@HUGE --chat-template text.txt",
        "compare --stories HUGE --context 1024 --out out",
        "compare --stories 1000000 --context HUGE --out out",
        "compare --jobs HUGE --stories 1 --context 32 --out out",
        "compare --states HUGE --policies tova --stories 1 --context 32 --out out",
        "bench --batch HUGE --decode 1",
        "bench --depth HUGE --policies tova --states 16",
        "bench --prefill HUGE",
        "bench --soak HUGE --policies tova --states 16",
        "bench --shape HUGEx64x4x128x100",
        "bench --shape 2xHUGEx4x128x100",
        "bench --shape 2x64x4x128xHUGE",
        "bench --shape 16000x1048576x1024x1048576x100",
        "bench --threads HUGE --decode 1",
        "throughput --states HUGE --shape 2x64x4x128x100",
        "throughput --states 16 --shape 2x64x4x128x100 --memory HUGE",
        "throughput --states 16 --shape 2x64x4x128x100 --memory 1MiB --sequences HUGE",
        "train --batch HUGE --threads 1 --out out",
        "train --context HUGE --out out",
        "train --hidden-size HUGE --out out",
        "train --vocab-size HUGE --out out",
        "experiment lm --seeds HUGE --policies random --states 16 --text text.txt --context 32 --out out",
        "experiment lm --stories 2 --context HUGE --out out",
        "experiment lm --extrapolate --tokens HUGE --out out",
        "experiment lm --jobs HUGE --text text.txt --out out",
        "experiment lm --states HUGE --policies tova --text text.txt --context 64 --out out",
        "experiment story --seeds HUGE --states 16 --policies tova --out out",
        "experiment story --max-new-tokens HUGE --context HUGE --states 16 --policies tova --seeds 1 --out out",
        "experiment retrieval --lengths HUGE --trials 1 --policies tova --states 16 --out out",
        "experiment retrieval --trials HUGE --lengths 400 --policies tova --states 16 --out out",
        "experiment retention --contexts HUGE --context 1024 --policies tova --states 16 --out out",
        "experiment retention --contexts 1 --context HUGE --policies tova --states 16 --out out",
        "experiment understanding --stories HUGE --policies tova --states 16 --out out",
    ];
    for command in commands {
        for huge in ["1000000000", "1000000000000", "18446744073709551615", "99999999999999999999"] {
            let line = format!("{LIMITED} timeout 60 \"$MSRNN\" {}", command.replace("HUGE", huge));
            let output = shell(&line, place.path());
            let said = said(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{line}: {:?}: {said}", output.status);
            assert!(said.contains("error") && !said.contains("panicked"), "{line}: {said}");
            assert_eq!(files(place.path()), before, "{line}");
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_what_was_finished_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let run = "\"$MSRNN\" experiment lm --policies tova,window --states 8,16 --context 64 --contexts 6 --batch 1 \
               --jobs 1 --text text.txt --out run";
    std::fs::write(place.path().join("text.txt"), "Once upon a time there was a fox. ".repeat(400)).unwrap();
    let whole = shell(&run.replace("--out run", "--out whole"), place.path());
    assert!(whole.status.success(), "{}", said(&whole));
    let metrics = |name: &str| std::fs::read(place.path().join(name).join("metrics.json")).unwrap();

    // From the first file to the last: blocks of 512 bytes.
    let mut kept = Vec::new();
    for blocks in [0, 2, 8, 16, 40] {
        let output = shell(&format!("ulimit -f {blocks}; {run}"), place.path());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{blocks}: {:?}: {said}", output.status);
        assert!(said.contains("cannot write") && said.contains("too large"), "{blocks}: {said}");
        let lines = std::fs::read_to_string(place.path().join("run/samples.jsonl")).unwrap_or_default();
        assert!(lines.is_empty() || lines.ends_with('\n'));
        kept.push(lines.lines().count());
    }
    assert!(kept.is_sorted() && kept[kept.len() - 1] > 0, "{kept:?}");
    let output = shell(run, place.path());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(metrics("run"), metrics("whole"));

    // Other files, and standard output.
    for (command, name) in [
        ("trace --policy tova@8 --text text.txt --context 64 --out t.jsonl", "t.jsonl"),
        ("perplexity --policy full --text text.txt --context 64 --contexts 1 --logits l.npy", "l.npy"),
        ("compare --policies tova --states 8 --stories 1 --context 64 --out compared", "compared"),
        ("explain tova > out.txt", "standard output"),
    ] {
        let output = shell(&format!("ulimit -f 1; \"$MSRNN\" {command}"), place.path());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {:?}: {said}", output.status);
        assert!(said.contains("cannot write") && said.contains(name), "{command}: {said}");
        assert!(!place.path().join(name).is_file(), "{command}");
    }
    assert!(text_of(place.path()).len() > 1);
}
