//! Files of texts, ids and questions: read, and the first contexts of what they hold scored now and then.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use msrnn_bench::contexts::{Contexts, Cutting};
use msrnn_bench::experiment::understanding::{Task, question};
use msrnn_bench::texts::{self, Wanted};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::dice::Dice;
use crate::models::{TEXT, score};
use crate::{Verdict, World};

const LINES: &str = "{\"text\": \"one\", \"id\": 7}\n{\"text\": \"zwölf\\n\", \"a\": {\"text\": [1, 2]}}\n\"drei\"\n\n{\"text\": null}\n";
const ARRAY: &str =
    "[{\"text\": \"one\"}, \"two\", {\"text\": \"three\", \"id\": [3, {\"a\": null}]}, {\"text\": \"\"}]";
const COLUMN: &str = "{\"text\": [\"one\", \"\", null, \"two\"], \"id\": [1, 2, 3, 4]}";
const TABLE: &str = "text,id\r\none,1\r\n\"two, \"\"so\"\"\nlines\",2\r\n,3\r\nfour,4\r\n";

/// Reads a file, or the directory that it is in, in one of the ways there are.
fn read(world: &World, path: &Path, dice: &mut Dice) -> Verdict {
    let paths = [if dice.one_in(4) { path.parent().unwrap().to_owned() } else { path.to_owned() }];
    let field = if dice.one_in(6) { dice.text() } else { "text".into() };
    let join = dice.one_in(3).then_some("\n\n");
    let limit = dice.one_in(3).then(|| 1 + dice.below(3));
    let wanted = Wanted { field: &field, join, limit, ..Wanted::new(&paths) };
    let found = texts::read(&wanted).map_err(|e| e.to_string())?;
    assert!(!found.texts.is_empty() && found.texts.iter().all(|text| !text.text.is_empty()));
    let cutting = Cutting { contexts: Some(2), stride: dice.one_in(2).then_some(9), ..Cutting::new(12) };
    let contexts = Contexts::of_texts(&found.texts, &cutting, &world.bundled).map_err(|e| e.to_string())?;
    if dice.one_in(20) { score(&world.bundled, &contexts.contexts[..1]) } else { Ok(()) }
}

fn packed(bytes: &[u8], ending: &str) -> Vec<u8> {
    match ending {
        "gz" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(bytes).unwrap();
            packed.finish().unwrap()
        }
        "zst" => zstd::stream::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

/// Writes a file of that name, damaged before or after it was packed, and reads it.
fn damaged(world: &World, name: &str, mut bytes: Vec<u8>, dice: &mut Dice) -> Verdict {
    let ending = *dice.of(&["", "", "gz", "zst"]);
    let other = [TEXT.as_bytes(), LINES.as_bytes(), b"\xff\xfe\x00PAR1\x1f\x8b"].concat();
    let after = !ending.is_empty() && dice.one_in(2);
    if !after {
        (0..=dice.below(3)).for_each(|_| dice.bytes(&mut bytes, &other));
    }
    bytes = packed(&bytes, ending);
    if after {
        (0..=dice.below(3)).for_each(|_| dice.bytes(&mut bytes, &other));
    }
    let name = if ending.is_empty() { name.to_owned() } else { format!("{name}.{ending}") };
    let path = world.scratch.join(name);
    std::fs::write(&path, bytes).unwrap();
    read(world, &path, dice)
}

pub(crate) fn texts(world: &World, dice: &mut Dice) -> Verdict {
    let (name, content) = *dice.of(&[("a.txt", TEXT), ("a.csv", TABLE), ("a", TEXT), ("a.txt", LINES)]);
    damaged(world, name, content.into(), dice)
}

pub(crate) fn json(world: &World, dice: &mut Dice) -> Verdict {
    let (name, content) = *dice.of(&[("a.jsonl", LINES), ("a.json", ARRAY), ("a.json", COLUMN), ("a.json", LINES)]);
    match dice.one_in(2) {
        true => damaged(world, name, content.into(), dice),
        // Other values in the same places.
        false => {
            let change = |text: &str, dice: &mut Dice| dice.json_text(text, LINES.as_bytes());
            let bytes = match content == LINES {
                true => {
                    let lines = content.lines().filter(|line| !line.is_empty());
                    lines.flat_map(|line| [change(line, dice), b"\n".to_vec()].concat()).collect()
                }
                false => change(content, dice),
            };
            let path = world.scratch.join(name);
            std::fs::write(&path, bytes).unwrap();
            read(world, &path, dice)
        }
    }
}

pub(crate) fn parquet(world: &World, dice: &mut Dice) -> Verdict {
    let path = world.scratch.join("a.parquet");
    let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())];
    let properties = WriterProperties::builder()
        .set_compression(*dice.of(&compressions))
        .set_dictionary_enabled(dice.one_in(2))
        .set_writer_version(*dice.of(&[WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]));
    let schema = *dice.of(&[
        "message m { optional binary text (UTF8); }",
        "message m { optional binary text; }",
        "message m { optional group text (LIST) { repeated binary element (UTF8); } }",
    ]);
    let nested = schema.contains("LIST");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    for _ in 0..1 + dice.below(2) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> =
            (0..dice.below(30)).map(|i| ByteArray::from(TEXT.as_bytes()[..i % 7].to_vec())).collect();
        let (present, repeated) = if nested { (2, Some(vec![0; values.len()])) } else { (1, None) };
        let levels = vec![present; values.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), repeated.as_deref()).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (other, length) = (bytes.clone(), bytes.len());
    match dice.below(3) {
        // Of the footer, which claims the most.
        0 => {
            let footer = u32::from_le_bytes(bytes[length - 8..length - 4].try_into().unwrap()) as usize;
            let at = length - 8 - footer + dice.below(footer);
            bytes[at] = *dice.of(&[0xff, 0x7f, 0x80, 0, 1, bytes[at] ^ 1, bytes[at].wrapping_add(1)]);
        }
        _ => (0..=dice.below(3)).for_each(|_| dice.bytes(&mut bytes, &other)),
    }
    std::fs::write(&path, bytes).unwrap();
    read(world, &path, dice)
}

pub(crate) fn lists(world: &World, dice: &mut Dice) -> Verdict {
    let path = world.scratch.join("a.json");
    if dice.one_in(2) {
        std::fs::write(&path, dice.json_text("[1, 42, 7, 9, 11, 3, 5, 6, 8]", b"[[1.5, -2], \"x\"]")).unwrap();
        let cutting = Cutting::new(5);
        let contexts = Contexts::of_ids(&[path], &cutting, &world.bundled).map_err(|e| e.to_string())?;
        return if dice.one_in(20) { score(&world.bundled, &contexts.contexts) } else { Ok(()) };
    }
    let (task, content) = *dice.of(&[
        (
            Task::Jsonl,
            r#"{"prompt": "a", "references": ["b"], "document": "d", "id": "i", "document_id": "e", "stop": ["\n"]}"#,
        ),
        (
            Task::Squality,
            r#"{"document": "d", "questions": [{"question_text": "q", "responses": [{"response_text": "r"}]}]}"#,
        ),
        (Task::Squality, r#"{"id": "1", "input": "q\n\nstory", "output": "o"}"#),
        (
            Task::Qasper,
            r#"{"p": {"title": "t", "abstract": "a", "full_text": [{"section_name": "s", "paragraphs": ["x"]}],
            "qas": [{"question": "q", "question_id": "i", "answers": [{"answer": {"unanswerable": false,
            "extractive_spans": ["e"], "yes_no": null, "free_form_answer": ""}}]}]}}"#,
        ),
    ]);
    std::fs::write(&path, dice.json_text(content, b"{\"id\": 3}")).unwrap();
    let (questions, _) = question::read(&path, "a.json", task).map_err(|e| e.to_string())?;
    assert!(!questions.is_empty());
    Ok(())
}
