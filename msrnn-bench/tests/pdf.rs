//! Plots for a paper as PDF: of their size, with their words as text and their letters in the file.

use std::collections::BTreeSet;
use std::io::Read;

use msrnn_bench::experiment::Results;
use msrnn_bench::figure::{Axis, Content, Figure, Line, Point};
use msrnn_bench::render::plots::{Format, Size, style, write};

fn results() -> Results {
    let points = [16.0, 32.0, 64.0].map(|x| Point { x, y: 9.0 - x / 16.0, error: Some(0.25) });
    let line = Line { name: "tova & window".into(), reference: false, points: points.into() };
    let content = Content::Lines { x: Axis::log("states"), y: Axis::linear("perplexity"), lines: vec![line] };
    let figure = Figure { id: "lines".into(), title: "Perplexity".into(), caption: String::new(), content };
    Results {
        metrics: serde_json::Value::Null,
        arms: Vec::new(),
        notes: Vec::new(),
        figures: vec![figure],
        missing: Vec::new(),
    }
}

/// What the file says, its streams unpacked.
fn unpacked(pdf: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = pdf;
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    while let Some(at) = find(rest, b"stream\n") {
        text += &String::from_utf8_lossy(&rest[..at]);
        let packed = &rest[at + 7..];
        let end = find(packed, b"endstream").expect("a stream ends");
        let mut plain = Vec::new();
        // Some are not packed.
        let packed_well = flate2::read::ZlibDecoder::new(&packed[..end]).read_to_end(&mut plain).is_ok();
        text += &String::from_utf8_lossy(if packed_well { &plain } else { &packed[..end] });
        rest = &packed[end + 9..];
    }
    text + &String::from_utf8_lossy(rest)
}

/// The signs that the file says its letters stand for.
fn signs(pdf: &str) -> BTreeSet<char> {
    let maps = pdf.split("beginbfchar").skip(1).filter_map(|rest| rest.split("endbfchar").next());
    let codes = maps.flat_map(str::lines).filter_map(|line| line.rsplit('<').next()?.split('>').next());
    codes.filter_map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)).collect()
}

#[test]
fn a_page_has_its_size_in_points_and_its_words_as_text_in_letters_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let size: Size = "4x3in".parse().unwrap();
    let written = write(&results(), &style(size, 8.0, "sans-serif", true).unwrap(), Format::Pdf, directory.path());
    let files = match written {
        Err(error) if error.to_string().contains("no letters called") => {
            println!("skipped: {error}");
            return;
        }
        written => written.unwrap(),
    };
    assert_eq!(files, [directory.path().join("lines.pdf")]);
    let bytes = std::fs::read(&files[0]).unwrap();
    assert!(bytes.starts_with(b"%PDF-"));
    let pdf = unpacked(&bytes);
    let page = pdf.split("/MediaBox [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let sides: Vec<f64> = page.split_whitespace().map(|side| side.parse().unwrap()).collect();
    assert!(sides.iter().zip([0.0, 0.0, 288.0, 216.0]).all(|(side, asked)| (side - asked).abs() < 0.01), "{page}");
    assert!(pdf.contains("/FontFile"), "no letters are in the file");
    let (there, words) = (signs(&pdf), "Perplexity states perplexity tova & window 16 32 64");
    let lost: Vec<char> = words.chars().filter(|sign| !sign.is_whitespace() && !there.contains(sign)).collect();
    assert!(lost.is_empty(), "{lost:?} are not text: {there:?}");
    // The same again is the same file.
    write(&results(), &style(size, 8.0, "sans-serif", true).unwrap(), Format::Pdf, directory.path()).unwrap();
    assert_eq!(std::fs::read(&files[0]).unwrap(), bytes);
}

#[test]
fn letters_that_are_not_there_are_named_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let none = style(Size::default(), 8.0, "No Such Letters", false).unwrap();
    let error = write(&results(), &none, Format::Pdf, directory.path()).unwrap_err().to_string();
    assert!(error.contains("\"No Such Letters\"") && error.contains("‘font’") && error.contains("fc-list"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
