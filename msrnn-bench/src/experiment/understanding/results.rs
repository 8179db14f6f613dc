//! What answers say about policies.

use std::collections::BTreeSet;

use msrnn_policies::without_budget;
use serde::Serialize;

use super::jackknife::jackknife;
use super::{Answer, Metric, Task, Understanding};
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::generation::Ended;
use crate::experiment::{Arm, Results};
use crate::figure::{Axis, Cell, Content, Excerpt, Figure, Line, Passage, Point};
use crate::statistics::Mean;
use crate::text_ids;

/// A model under a policy, over all its answers.
#[derive(Clone, Debug, Serialize)]
struct Row {
    model: String,
    policy: String,
    /// Rows of a bounded state; tokens of the baseline's context.
    states: Option<usize>,
    answers: usize,
    documents: usize,
    /// The metric, 0 to 100, with its jackknife error over documents.
    score: Mean,
    /// Means of its parts.
    parts: Vec<f64>,
    /// Score minus that of the full state, paired by document.
    above_full: Option<Mean>,
    /// 100 times the score over that of the full state, paired by document.
    percent_of_full: Option<Mean>,
    /// Mean share of a document that was in the prompt.
    kept: f64,
    /// Prompts whose document was cut.
    cut: usize,
    /// Mean length of an answer.
    answer_tokens: f64,
    /// Answers that were broken off for their length.
    broken_off: usize,
    #[serde(flatten)]
    observed: Observed,
}

/// Answers of one arm.
struct Group<'s> {
    model: &'s str,
    policy: &'s str,
    states: Option<usize>,
    answers: Vec<&'s Answer>,
}

pub(super) fn results(setting: &Understanding, samples: &[Answer]) -> Result<Results, BenchError> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for answer in samples {
        let same = |group: &&mut Group<'_>| group.model == answer.model && group.policy == answer.policy;
        match groups.iter_mut().find(same) {
            Some(group) => group.answers.push(answer),
            None => groups.push(Group {
                model: &answer.model,
                policy: &answer.policy,
                states: answer.states,
                answers: vec![answer],
            }),
        }
    }
    let rows: Vec<Row> = groups
        .iter()
        .map(|group| {
            let full = groups.iter().find(|full| full.model == group.model && full.policy == "full");
            row(setting.metric, group, full)
        })
        .collect::<Result<_, _>>()?;
    let arms = rows.iter().map(|row| Arm {
        model: row.model.clone(),
        policy: row.policy.clone(),
        states: row.states.filter(|_| !is_baseline(row)),
        observed: row.observed,
    });
    let metrics = serde_json::json!({
        "task": setting.task,
        "metric": setting.metric,
        "parts": setting.metric.parts(),
        "rows": rows,
    });
    Ok(Results {
        metrics,
        arms: arms.collect(),
        notes: notes(setting, &rows),
        figures: figures(setting.metric, &rows).into_iter().chain(answers(setting.metric, samples)).collect(),
        missing: Vec::new(),
    })
}

/// Questions whose answers a page shows.
const SHOWN: usize = 3;

/// The first questions with their answers, to be read; none where samples do not say what was asked.
fn answers(metric: Metric, samples: &[Answer]) -> Option<Figure> {
    let mut questions: Vec<&str> = Vec::new();
    for answer in samples {
        if !questions.contains(&answer.question.as_str()) {
            questions.push(&answer.question);
        }
    }
    let several = samples.iter().any(|answer| answer.model != samples[0].model);
    let passage = |question: &&str| {
        let all: Vec<&Answer> = samples.iter().filter(|answer| answer.question == **question).collect();
        let asked = all.iter().find_map(|answer| answer.asked.as_ref())?;
        let mut texts = vec![Excerpt::new("reference", "", &asked.reference)];
        texts.extend(all.into_iter().map(|answer| {
            let by = if several { format!("{}, {}", answer.model, answer.policy) } else { answer.policy.clone() };
            let parts =
                metric.parts().iter().filter_map(|part| Some(format!("{part} {:.1}", answer.scores.get(*part)?)));
            Excerpt::new(by, parts.collect::<Vec<_>>().join(", "), &answer.written.text)
        }));
        Some(Passage { title: asked.question.split_whitespace().collect::<Vec<_>>().join(" "), texts })
    };
    let passages: Vec<Passage> = questions.iter().take(SHOWN).filter_map(passage).collect();
    let caption = "The first questions, with the first reference. All answers: samples.jsonl.";
    (!passages.is_empty()).then(|| Figure {
        id: "answers".into(),
        title: "Answers".into(),
        caption: caption.into(),
        content: Content::Passages { passages },
    })
}

fn is_baseline(row: &Row) -> bool {
    row.policy.starts_with("baseline@")
}

/// The score of answers in a metric's parts, in order.
fn parts(metric: Metric, answer: &Answer) -> Result<Vec<f64>, BenchError> {
    let part = |part: &&str| {
        answer.scores.get(*part).copied().ok_or_else(|| {
            BenchError::Input(format!(
                "the answer to {:?} has no {part}; the samples are of another metric",
                answer.question
            ))
        })
    };
    metric.parts().iter().map(part).collect()
}

fn row(metric: Metric, group: &Group<'_>, full: Option<&Group<'_>>) -> Result<Row, BenchError> {
    let scored = |group: &Group<'_>| -> Result<Vec<(String, Vec<f64>)>, BenchError> {
        group.answers.iter().map(|answer| Ok((answer.document.clone(), parts(metric, answer)?))).collect()
    };
    let mine = scored(group)?;
    let full = full.map(scored).transpose()?;
    let documents: Vec<&str> =
        mine.iter().map(|(document, _)| document.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let total = |scores: &[(String, Vec<f64>)], out: Option<usize>| {
        let kept = scores.iter().filter(|(document, _)| out.is_none_or(|out| documents[out] != document));
        metric.total(kept.map(|(_, scores)| &scores[..]))
    };
    let n = group.answers.len();
    let mean =
        |value: &dyn Fn(&Answer) -> f64| group.answers.iter().map(|answer| value(answer)).sum::<f64>() / n as f64;
    let count = |what: &dyn Fn(&Answer) -> bool| group.answers.iter().filter(|answer| what(answer)).count();
    let mut observed = Observed::default();
    group.answers.iter().for_each(|answer| observed.add(answer.written.observed));
    let paired = |statistic: &dyn Fn(f64, f64) -> f64| {
        let full = full.as_ref().filter(|_| group.policy != "full")?;
        jackknife(documents.len(), |out| statistic(total(&mine, out), total(full, out)))
    };
    Ok(Row {
        model: group.model.into(),
        policy: group.policy.into(),
        states: group.states,
        answers: n,
        documents: documents.len(),
        score: jackknife(documents.len(), |out| total(&mine, out)).expect("scores are finite"),
        parts: (0..metric.parts().len())
            .map(|part| mine.iter().map(|(_, scores)| scores[part]).sum::<f64>() / n as f64)
            .collect(),
        above_full: paired(&|mine, full| mine - full),
        percent_of_full: paired(&|mine, full| 100.0 * mine / full),
        kept: mean(&|answer| answer.kept),
        cut: count(&|answer| answer.kept < 1.0),
        answer_tokens: mean(&|answer| answer.written.tokens as f64),
        broken_off: count(&|answer| answer.written.ended == Ended::Length),
        observed,
    })
}

fn notes(setting: &Understanding, rows: &[Row]) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Every answer is generated greedily, at most {} tokens, after a prompt that went through the state under \
             the {} protocol. A document that is too long is cut at its end, so that prompt and answer fit the context.",
            setting.max_new_tokens, setting.protocol
        ),
        text_ids::note(setting.reading),
        "baseline@n is the full state on a document that was cut so that prompt and answer fit n tokens.".into(),
        "± is the jackknife standard error over documents: questions about one document are not independent. \
         Differences and percentages are paired by document."
            .into(),
    ];
    notes.push(match setting.chat {
        true => {
            "Prompts are what a user says, in the model's chat template, which is told the same day always, 1970-01-01."
                .into()
        }
        false => "No chat template is put around prompts.".into(),
    });
    if setting.ask_after {
        notes.push(
            "The question came after the cut: the document was read as one block and compressed, and nothing that decided \
             what stays had seen the question; question and answer are held as they come."
                .into(),
        );
    }
    if setting.metric == Metric::Rouge {
        notes.push(format!(
            "ROUGE-1, ROUGE-2 and ROUGE-L are F-measures as rouge-score 0.1.2 computes them{}, each against the \
             reference that suits it best; their means over questions are then multiplied and the third root is taken, \
             as the SCROLLS evaluator does.",
            if setting.stem { ", on Porter stems" } else { ", without stemming" }
        ));
    }
    match setting.task {
        Task::Squality | Task::Qasper => notes.push(
            "The prompt is that of the paper's Table 4. What the paper does not give is chosen here: where the prompt \
             breaks lines and how long an answer may be."
                .into(),
        ),
        Task::Stories => notes.push(
            "The documents are held-out stories of the bundled generator and the questions are asked as in its scenes; \
             a model that was not trained on it does not know them."
                .into(),
        ),
        Task::Jsonl => {}
    }
    let models: BTreeSet<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    for model in models {
        let of_model = || rows.iter().filter(|row| row.model == model);
        let sizes = |baseline: bool| -> BTreeSet<usize> {
            of_model().filter(|row| is_baseline(row) == baseline).filter_map(|row| row.states).collect()
        };
        let absent: Vec<String> =
            sizes(false).difference(&sizes(true)).filter(|_| setting.baseline).map(usize::to_string).collect();
        if !absent.is_empty() {
            notes.push(format!(
                "{model}: there is no baseline of {} tokens, which are too few for the longest question with its \
                 answer, or more than the context.",
                absent.join(", ")
            ));
        }
        if let Some(full) = of_model().find(|row| row.policy == "full") {
            notes.push(format!(
                "{model}: for the full context the document was cut in {} of {} prompts, which hold {:.1} % of it on \
                 average.",
                full.cut,
                full.answers,
                100.0 * full.kept
            ));
        }
    }
    notes
}

fn figures(metric: Metric, rows: &[Row]) -> Vec<Figure> {
    let models: Vec<&str> = rows.iter().fold(Vec::new(), |mut models, row| {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
        models
    });
    let mut figures = vec![table(metric, rows, models.len() > 1)];
    for (number, model) in models.iter().enumerate() {
        let of_model: Vec<&Row> = rows.iter().filter(|row| row.model == *model).collect();
        let suffix = if models.len() > 1 { format!("-{}", number + 1) } else { String::new() };
        let lines =
            |value: &dyn Fn(&Row) -> Option<Mean>, full: Option<f64>, label: &str, id: &str, title: &str| Figure {
                id: format!("{id}{suffix}"),
                title: format!("{title}, {model}"),
                caption: "Error bars are standard errors over documents.".into(),
                content: Content::Lines {
                    x: Axis::log("states"),
                    y: Axis::linear(label),
                    lines: lines(&of_model, value, full),
                },
            };
        let full = of_model.iter().find(|row| row.policy == "full").map(|row| row.score.mean);
        figures.push(lines(&|row| Some(row.score), full, metric.label(), "score", "Score over states"));
        if full.is_some_and(|full| full > 0.0) {
            figures.push(lines(
                &|row| row.percent_of_full,
                Some(100.0),
                "% of the full state's score",
                "retention",
                "Share of the full state's score",
            ));
        }
    }
    figures
}

/// Points by policy, with the full state as a level line.
fn lines(rows: &[&Row], value: &dyn Fn(&Row) -> Option<Mean>, full: Option<f64>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let (Some(states), Some(mean)) = (row.states, value(row)) else { continue };
        let point = Point { x: states as f64, y: mean.mean, error: mean.standard_error };
        let name = without_budget(&row.policy);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: name.into(), reference: is_baseline(row), points: vec![point] }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
    let ends = || rows.iter().filter_map(|row| row.states);
    if let (Some(full), Some(first), Some(last)) = (full, ends().min(), ends().max()) {
        let points = [first, last].map(|x| Point { x: x as f64, y: full, error: None });
        lines.push(Line { name: "full".into(), reference: true, points: points.into() });
    }
    lines
}

fn table(metric: Metric, rows: &[Row], several: bool) -> Figure {
    let cell = |mean: Option<Mean>| match mean {
        Some(Mean { mean, standard_error }) => Cell::rounded(mean, standard_error, 2),
        None => Cell::empty(),
    };
    let plain = |value: f64, decimals| Cell::rounded(value, None, decimals);
    let mut columns: Vec<String> = Vec::new();
    if several {
        columns.push("model".into());
    }
    columns.extend(["policy".into(), metric.label().to_owned()]);
    if metric.parts().len() > 1 {
        columns.extend(metric.parts().iter().map(|part| (*part).to_owned()));
    }
    for column in ["above full", "% of full", "answer tokens", "omitted", "rows", "state bytes"] {
        columns.push(column.into());
    }
    let cells = rows.iter().map(|row| {
        let mut cells = Vec::new();
        if several {
            cells.push(Cell::text(&row.model));
        }
        cells.extend([Cell::text(&row.policy), cell(Some(row.score))]);
        if metric.parts().len() > 1 {
            cells.extend(row.parts.iter().map(|&part| plain(part, 2)));
        }
        cells.extend([
            cell(row.above_full),
            cell(row.percent_of_full),
            plain(row.answer_tokens, 1),
            Cell::count(row.observed.omitted),
            Cell::count(row.observed.max_rows),
            Cell::count(row.observed.state_bytes),
        ]);
        cells
    });
    Figure {
        id: "scores".into(),
        title: format!("Scores of answers: {}", metric.label()),
        caption:
            "0 to 100, ± standard error over documents. Rows are the most that were held, bytes those allocated, after the cut where a prompt is cut at once."
                .into(),
        content: Content::Table { columns, rows: cells.collect() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use msrnn_models::tokenizer::TextOptions;

    use super::*;
    use crate::experiment::generation::Written;
    use crate::experiment::understanding::Asked;

    fn setting() -> Understanding {
        Understanding {
            reading: TextOptions::default(),
            task: Task::Jsonl,
            metric: Metric::F1,
            stem: false,
            policies: Vec::new(),
            states: Vec::new(),
            baseline: true,
            context: None,
            max_new_tokens: 4,
            stop: Vec::new(),
            protocol: Default::default(),
            ask_after: false,
            chat: false,
            positions: Default::default(),
            seed: 0,
        }
    }

    fn answer(policy: &str, states: Option<usize>, document: &str, score: f64, omitted: usize) -> Answer {
        Answer {
            model: "m".into(),
            policy: policy.into(),
            states,
            question: format!("{document} {score}"),
            document: document.into(),
            prompt_sha256: String::new(),
            prompt_tokens: 10,
            kept: 1.0,
            asked: Some(Asked { question: "\n\nWho?".into(), reference: "Ada".into() }),
            scores: BTreeMap::from([("f1".into(), score)]),
            written: Written {
                text: "x".into(),
                tokens: 2,
                ended: Ended::Eos,
                observed: Observed { omitted, max_rows: 8, state_bytes: 100, ..Observed::default() },
            },
        }
    }

    #[test]
    fn the_first_questions_are_shown_with_reference_answers_and_scores() {
        let samples: Vec<Answer> = [("full", None), ("tova@8", Some(8))]
            .into_iter()
            .flat_map(|(policy, states)| (0..5).map(move |i| answer(policy, states, &format!("d{i}"), f64::from(i), 5)))
            .collect();
        let found = results(&setting(), &samples).unwrap();
        let Some(Content::Passages { passages }) = found.figures.last().map(|figure| &figure.content) else {
            panic!("no answers in {:?}", found.figures)
        };
        assert_eq!(passages.len(), SHOWN);
        let texts: Vec<_> =
            passages[2].texts.iter().map(|text| (&text.by[..], &text.remark[..], &text.text[..])).collect();
        assert_eq!(passages[2].title, "Who?");
        assert_eq!(texts, [("reference", "", "Ada"), ("full", "f1 2.0", "x"), ("tova@8", "f1 2.0", "x")]);
    }

    #[test]
    fn differences_and_shares_are_paired_by_document() {
        let full =
            [("a", 80.0), ("b", 40.0), ("c", 60.0)].map(|(document, score)| answer("full", None, document, score, 0));
        let half = [("a", 40.0), ("b", 20.0), ("c", 30.0)]
            .map(|(document, score)| answer("tova@8", Some(8), document, score, 5));
        let found = results(&setting(), &[full, half].concat()).unwrap();
        let rows = found.metrics["rows"].as_array().unwrap();
        assert_eq!(rows[0]["score"]["mean"], 60.0);
        assert!(rows[0]["percent_of_full"].is_null());
        assert_eq!(rows[1]["percent_of_full"]["mean"], 50.0);
        // Half of it in every document: the share has no error, though the scores have.
        assert!(rows[1]["percent_of_full"]["standard_error"].as_f64().unwrap() < 1e-12);
        assert!(rows[1]["score"]["standard_error"].as_f64().unwrap() > 1.0);
        assert_eq!(found.arms[1].observed.omitted, 15);
        assert!(found.never_bound().is_empty());
        assert!(found.notes.iter().any(|note| note.contains("no baseline of 8 tokens")), "{:?}", found.notes);
    }

    #[test]
    fn a_baseline_is_no_bounded_state() {
        let samples = [
            answer("full", None, "a", 0.0, 0),
            answer("baseline@8", Some(8), "a", 0.0, 0),
            answer("tova@8", Some(8), "a", 0.0, 0),
        ];
        let found = results(&setting(), &samples).unwrap();
        let names: Vec<&str> = found.never_bound().iter().map(|arm| arm.policy.as_str()).collect();
        assert_eq!(names, ["tova@8"]);
        // Nothing can be said relative to a score of nought.
        assert!(found.metrics["rows"][1]["percent_of_full"].is_null());
        assert_eq!(found.figures.len(), 3);
    }
}
