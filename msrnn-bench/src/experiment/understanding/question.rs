//! Questions about documents, from files of several layouts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Task;
use super::prompt;
use crate::error::BenchError;
use crate::experiment::manifest::Source;
use crate::input::read_text;
use crate::memory;

/// A question about a document, and what people answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Unique in its data set.
    pub id: String,
    /// Names the document: questions about one document are not independent.
    pub document_id: String,
    /// What is truncated at its end where the whole does not fit.
    pub document: Arc<str>,
    /// What follows the document in the prompt.
    pub rest: String,
    /// At least one.
    pub references: Vec<String>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

/// Bytes of memory that a byte of JSON may take as a value: an empty object in an object is hundreds of bytes large.
const PER_BYTE: usize = 80;

/// The questions of a file, in its order, and what they are in a manifest: `name`, and the hash of the text,
/// however it was packed.
///
/// # Errors
///
/// When the file cannot be read or has none of the task's layouts; the message says which fields
/// were expected and where one is missing.
pub fn read(path: &Path, name: &str, task: Task) -> Result<(Vec<Question>, Source), BenchError> {
    let text = read_text(path)?;
    let needs = memory::product(&[text.len(), PER_BYTE]);
    memory::check(needs, &format!("{}, as JSON that is read at once,", path.display()), "cut it into smaller files")?;
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let source = Source::of_bytes(name, [(&*file, text.as_bytes())]);
    let questions = parse(&text, task).map_err(|reason| {
        BenchError::Input(format!("{}: {reason}\nexpected for ‘task’ {task}: {}", path.display(), expected(task)))
    })?;
    match questions.is_empty() {
        true => Err(BenchError::Input(format!("{}: there is no question in it", path.display()))),
        false => Ok((questions, source)),
    }
}

fn expected(task: Task) -> &'static str {
    match task {
        Task::Squality => {
            "lines of JSON, either as SQuALITY publishes them ({\"document\", \"questions\": [{\"question_text\", \
             \"responses\": [{\"response_text\"}]}]}) or in the layout of SCROLLS ({\"id\", \"input\": question, empty \
             line, story, \"output\"}, one line per reference)"
        }
        Task::Qasper => {
            "one JSON object as QASPER publishes it ({paper: {\"title\", \"abstract\", \"full_text\": \
             [{\"section_name\", \"paragraphs\"}], \"qas\": [{\"question\", \"question_id\", \"answers\": [{\"answer\": \
             {\"unanswerable\", \"extractive_spans\", \"yes_no\", \"free_form_answer\"}}]}]}}), or lines in the layout \
             of SCROLLS ({\"id\", \"input\": question, empty line, article, \"output\"}, one line per reference)"
        }
        Task::Jsonl | Task::Stories => {
            "lines of JSON, {\"prompt\": text, \"references\": [text, …]}, with \"id\", \"document\" (put before the \
             prompt and truncated at its end where the whole does not fit), \"document_id\" and \"stop\": [text, …] as \
             you like"
        }
    }
}

fn parse(text: &str, task: Task) -> Result<Vec<Question>, String> {
    if task == Task::Qasper
        && let Ok(papers) = serde_json::from_str::<serde_json::Map<String, Value>>(text)
        && papers.values().all(|paper| paper.get("qas").is_some())
    {
        return qasper(papers);
    }
    let mut questions: Vec<Question> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |reason: String| format!("line {}: {reason}", number + 1);
        let value: Value = serde_json::from_str(line).map_err(|e| at(format!("no JSON: {e}")))?;
        let found = match task {
            Task::Jsonl | Task::Stories => vec![plain(value, number).map_err(at)?],
            Task::Squality if value.get("questions").is_some() => squality(value, number).map_err(at)?,
            Task::Squality | Task::Qasper => vec![scrolls(value, task).map_err(at)?],
        };
        for question in found {
            match by_id.get(&question.id) {
                Some(&first) if questions[first].rest == question.rest => {
                    questions[first].references.extend(question.references);
                }
                Some(_) => return Err(at(format!("another question has the id {:?}", question.id))),
                None => {
                    by_id.insert(question.id.clone(), questions.len());
                    questions.push(question);
                }
            }
        }
    }
    Ok(questions)
}

/// An object of the type that is wanted.
fn fields<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn plain(value: Value, number: usize) -> Result<Question, String> {
    #[derive(Deserialize)]
    struct Line {
        id: Option<String>,
        #[serde(default)]
        document: String,
        document_id: Option<String>,
        prompt: String,
        references: Vec<String>,
        #[serde(default)]
        stop: Vec<String>,
    }
    let line: Line = fields(value)?;
    if line.references.is_empty() {
        return Err("\"references\" is empty".into());
    }
    let id = line.id.unwrap_or_else(|| format!("line {}", number + 1));
    Ok(Question {
        document_id: line.document_id.unwrap_or_else(|| id.clone()),
        id,
        document: line.document.into(),
        rest: line.prompt,
        references: line.references,
        stop: line.stop,
    })
}

fn scrolls(value: Value, task: Task) -> Result<Question, String> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
        input: String,
        output: Option<String>,
    }
    let Line { id, input, output } = fields(value)?;
    let output = output.ok_or("\"output\" is null: a split without references cannot be scored")?;
    let (question, document) =
        input.split_once("\n\n").ok_or("\"input\" has no empty line between question and document")?;
    // SCROLLS has no name for a document, but the documents themselves are equal.
    let document_id = format!("{:016x}", fnv(document));
    Ok(Question {
        id,
        document_id,
        document: document.trim().into(),
        rest: prompt::rest(task, question.trim()),
        references: vec![output],
        stop: Vec::new(),
    })
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn squality(value: Value, number: usize) -> Result<Vec<Question>, String> {
    #[derive(Deserialize)]
    struct Story {
        #[serde(default)]
        metadata: Metadata,
        document: String,
        questions: Vec<Asked>,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        passage_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct Asked {
        question_text: String,
        responses: Vec<Response>,
    }
    #[derive(Deserialize)]
    struct Response {
        response_text: String,
    }
    let story: Story = fields(value)?;
    let document: Arc<str> = story.document.trim().into();
    let document_id = story.metadata.passage_id.unwrap_or_else(|| format!("line {}", number + 1));
    let question = |(index, asked): (usize, Asked)| match asked.responses.is_empty() {
        true => Err(format!("question {} has no response: a split without references cannot be scored", index + 1)),
        false => Ok(Question {
            id: format!("{document_id}, question {}", index + 1),
            document_id: document_id.clone(),
            document: document.clone(),
            rest: prompt::rest(Task::Squality, asked.question_text.trim()),
            references: asked.responses.into_iter().map(|response| response.response_text).collect(),
            stop: Vec::new(),
        }),
    };
    story.questions.into_iter().enumerate().map(question).collect()
}

fn qasper(papers: serde_json::Map<String, Value>) -> Result<Vec<Question>, String> {
    #[derive(Deserialize)]
    struct Paper {
        title: String,
        #[serde(rename = "abstract")]
        summary: String,
        full_text: Vec<Section>,
        qas: Vec<Asked>,
    }
    #[derive(Deserialize)]
    struct Section {
        section_name: Option<String>,
        paragraphs: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Asked {
        question: String,
        question_id: String,
        answers: Vec<Annotation>,
    }
    #[derive(Deserialize)]
    struct Annotation {
        answer: Answer,
    }
    let mut questions = Vec::new();
    for (document_id, paper) in papers {
        let paper: Paper = fields(paper).map_err(|e| format!("paper {document_id}: {e}"))?;
        let sections = paper.full_text.into_iter().flat_map(|section| {
            section.section_name.into_iter().chain(section.paragraphs).map(|part| part.trim().to_owned())
        });
        let parts = [paper.title, paper.summary].into_iter().chain(sections).filter(|part| !part.is_empty());
        let document: Arc<str> = parts.collect::<Vec<_>>().join("\n\n").into();
        for asked in paper.qas {
            let id = asked.question_id;
            let references = asked.answers.iter().map(|annotation| annotation.answer.text());
            let references: Option<Vec<String>> = references.collect();
            let references = references
                .filter(|references| !references.is_empty())
                .ok_or_else(|| format!("paper {document_id}, question {id}: an annotation without an answer"))?;
            questions.push(Question {
                id,
                document_id: document_id.clone(),
                document: document.clone(),
                rest: prompt::rest(Task::Qasper, asked.question.trim()),
                references,
                stop: Vec::new(),
            });
        }
    }
    Ok(questions)
}

/// One annotator's answer in QASPER.
#[derive(Deserialize)]
struct Answer {
    unanswerable: bool,
    extractive_spans: Vec<String>,
    yes_no: Option<bool>,
    free_form_answer: String,
}

impl Answer {
    /// As QASPER's evaluator reads it: the first of these that there is.
    fn text(&self) -> Option<String> {
        match self {
            Self { unanswerable: true, .. } => Some("Unanswerable".into()),
            Self { extractive_spans, .. } if !extractive_spans.is_empty() => Some(extractive_spans.join(", ")),
            Self { free_form_answer, .. } if !free_form_answer.is_empty() => Some(free_form_answer.clone()),
            Self { yes_no, .. } => yes_no.map(|yes| if yes { "Yes".into() } else { "No".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrolls_lines_of_one_id_are_references_of_one_question() {
        let line = |id: &str, output: &str| {
            serde_json::json!({ "id": id, "pid": "x", "input": "Why?\n\nText\n\nmore", "output": output }).to_string()
        };
        let text = [line("1", "because"), line("2", "so"), line("1", "Unanswerable")].join("\n");
        let questions = parse(&text, Task::Qasper).unwrap();
        assert_eq!(questions.len(), 2);
        assert_eq!(questions[0].references, ["because", "Unanswerable"]);
        assert_eq!(&*questions[0].document, "Text\n\nmore");
        assert_eq!(questions[0].document_id, questions[1].document_id);
        assert!(questions[0].rest.contains("Question:\nWhy?\n\nAnswer:"));
    }

    #[test]
    fn squality_as_published_has_several_questions_with_several_references() {
        let text = r#"{"metadata": {"passage_id": "7"}, "document": " A story. ", "questions": [
            {"question_text": "What?", "question_number": 1, "responses": [{"response_text": "a"}, {"response_text": "b"}]},
            {"question_text": "Who?", "question_number": 2, "responses": [{"response_text": "c"}]}]}"#;
        let questions = parse(&text.replace('\n', ""), Task::Squality).unwrap();
        assert_eq!(questions.len(), 2);
        assert_eq!((&*questions[1].document, questions[1].id.as_str()), ("A story.", "7, question 2"));
        assert_eq!(questions[0].references, ["a", "b"]);
    }

    #[test]
    fn qasper_answers_are_those_that_its_evaluator_reads() {
        let answer = |unanswerable: bool, spans: &[&str], yes_no: Option<bool>, free: &str| {
            serde_json::json!({ "answer": { "unanswerable": unanswerable, "extractive_spans": spans, "yes_no": yes_no,
                "free_form_answer": free, "evidence": [], "highlighted_evidence": [] }, "worker_id": "w" })
        };
        let answers = [
            answer(true, &[], None, ""),
            answer(false, &["one span", "two"], None, ""),
            answer(false, &[], None, "in words"),
            answer(false, &[], Some(true), ""),
            answer(false, &[], Some(false), ""),
        ];
        let paper = serde_json::json!({ "1909.00694": { "title": "T", "abstract": "A.",
            "full_text": [{ "section_name": "S", "paragraphs": ["p", "q"] }, { "section_name": null, "paragraphs": [] }],
            "qas": [{ "question": "Why?", "question_id": "q1", "answers": answers }] } });
        let questions = parse(&paper.to_string(), Task::Qasper).unwrap();
        assert_eq!(questions[0].references, ["Unanswerable", "one span, two", "in words", "Yes", "No"]);
        assert_eq!(&*questions[0].document, "T\n\nA.\n\nS\n\np\n\nq");
    }

    #[test]
    fn errors_name_the_line_and_the_field() {
        let error = |text: &str, task| parse(text, task).unwrap_err();
        assert!(error("{\"prompt\": \"p\"}", Task::Jsonl).contains("line 1: missing field `references`"));
        assert!(error("\n{\"prompt\": \"p\", \"references\": []}", Task::Jsonl).contains("line 2"));
        assert!(error("{\"id\": \"1\", \"input\": \"q\", \"output\": \"o\"}", Task::Qasper).contains("empty line"));
        assert!(error("{\"id\": \"1\", \"input\": \"q\\n\\nd\", \"output\": null}", Task::Squality).contains("null"));
    }
}
