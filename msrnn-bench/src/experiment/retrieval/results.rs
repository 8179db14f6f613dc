//! Accuracies from the answers of all units.

use serde::Serialize;
use serde_json::json;

use super::prompt::{Said, Trial};
use super::task::Task;
use super::{Retrieval, Sample};
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::{Arm, Results};
use crate::figure::{Axis, Cell, Content, Excerpt, Figure, Line, Panel, Passage, Point};
use crate::statistics::Mean;
use crate::text_ids;

/// What an arm can do in a task, over all lengths and depths.
#[derive(Clone, Debug, Serialize)]
struct Skill {
    model: String,
    policy: String,
    states: Option<usize>,
    task: Task,
    questions: usize,
    exact: Mean,
    choice: Mean,
    reciprocal_rank: Mean,
    log_likelihood: Mean,
    /// Share of right choices by guessing.
    chance: f64,
    cells: Vec<Accuracy>,
}

/// The same at one length and depth.
#[derive(Clone, Debug, Serialize)]
struct Accuracy {
    length: usize,
    depth: f64,
    exact: f64,
    choice: f64,
}

pub(super) fn results(setting: &Retrieval, samples: &[Sample]) -> Result<Results, BenchError> {
    let (lengths, depths) = (setting.lengths.len(), setting.depths.len());
    let per_task = lengths * depths;
    let per_arm = setting.tasks.len() * per_task;
    let mut arms = Vec::new();
    let mut skills = Vec::new();
    for (i, of_arm) in samples.chunks(per_arm).enumerate() {
        let model = &setting.models[i / setting.arms.len()];
        let spec = &setting.arms[i % setting.arms.len()];
        let mut observed = Observed::default();
        of_arm.iter().for_each(|sample| observed.add(sample.observed));
        arms.push(Arm { model: model.clone(), policy: spec.to_string(), states: of_arm[0].states, observed });
        for (task, of_task) in setting.tasks.iter().zip(of_arm.chunks(per_task)) {
            skills.push(skill(setting, model, &spec.name(), *task, of_task));
        }
    }
    let figures = setting.tasks.iter().flat_map(|&task| {
        let of_task: Vec<&Skill> = skills.iter().filter(|skill| skill.task == task).collect();
        let numbers = [table(setting, task, &of_task), map(setting, task, &of_task), lines(setting, task, &of_task)];
        numbers.into_iter().chain(written(setting, task, samples))
    });
    Ok(Results {
        figures: figures.collect(),
        notes: notes(setting),
        metrics: json!({ "retrieval": skills }),
        arms,
        missing: Vec::new(),
    })
}

fn skill(setting: &Retrieval, model: &str, policy: &str, task: Task, samples: &[Sample]) -> Skill {
    let all = |value: &dyn Fn(&Trial) -> f64| {
        mean(&samples.iter().flat_map(|sample| &sample.trials).map(value).collect::<Vec<f64>>())
    };
    let depths = setting.depths.len();
    let cell = |(i, sample): (usize, &Sample)| {
        let share = |right: &dyn Fn(&Trial) -> bool| {
            sample.trials.iter().filter(|trial| right(trial)).count() as f64 / sample.trials.len() as f64
        };
        Accuracy {
            length: setting.lengths[i / depths],
            depth: setting.depths[i % depths],
            exact: share(&|trial| trial.exact),
            choice: share(&|trial| trial.rank == 1),
        }
    };
    Skill {
        model: model.into(),
        policy: policy.into(),
        states: samples.iter().find_map(|sample| sample.states),
        task,
        questions: samples.iter().map(|sample| sample.trials.len()).sum(),
        exact: all(&|trial| f64::from(u8::from(trial.exact))),
        choice: all(&|trial| f64::from(u8::from(trial.rank == 1))),
        reciprocal_rank: all(&|trial| 1.0 / trial.rank as f64),
        log_likelihood: all(&|trial| trial.log_likelihood),
        chance: 1.0 / task.candidates() as f64,
        cells: samples.iter().enumerate().map(cell).collect(),
    }
}

/// Mean and its standard error, the values taken as independent.
fn mean(values: &[f64]) -> Mean {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Mean { mean, standard_error: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()) }
}

impl Skill {
    /// `tova@64`, with the model where there are several.
    fn name(&self, setting: &Retrieval) -> String {
        let policy = match self.states {
            Some(states) => format!("{}@{states}", self.policy),
            None => self.policy.clone(),
        };
        self.line(setting, &policy)
    }

    fn line(&self, setting: &Retrieval, policy: &str) -> String {
        match setting.models.len() {
            1 => policy.to_owned(),
            _ => format!("{}, {policy}", self.model),
        }
    }
}

fn table(setting: &Retrieval, task: Task, skills: &[&Skill]) -> Figure {
    let cell = |mean: Mean| Cell::number(mean.mean, mean.standard_error);
    let row = |skill: &&Skill| {
        vec![
            Cell::text(skill.name(setting)),
            cell(skill.exact),
            cell(skill.choice),
            cell(skill.reciprocal_rank),
            cell(skill.log_likelihood),
            Cell::count(skill.questions),
        ]
    };
    let heads = ["policy", "exact match", "choice", "reciprocal rank", "ln p(answer)", "questions"];
    Figure {
        id: format!("{}-accuracy", task.name()),
        title: format!("Retrieval, {}: over all lengths and depths", task.name()),
        caption: format!(
            "Mean ± standard error over questions. Guessing chooses right in {:.3} of them.",
            1.0 / task.candidates() as f64
        ),
        content: Content::Table { columns: heads.map(String::from).to_vec(), rows: skills.iter().map(row).collect() },
    }
}

fn map(setting: &Retrieval, task: Task, skills: &[&Skill]) -> Figure {
    let depths = setting.depths.len();
    let panel = |skill: &&Skill| Panel {
        name: skill.name(setting),
        values: (0..depths)
            .map(|depth| skill.cells.iter().skip(depth).step_by(depths).map(|cell| Some(cell.exact)).collect())
            .collect(),
    };
    Figure {
        id: format!("{}-map", task.name()),
        title: format!("Retrieval, {}: exact match by length and depth", task.name()),
        caption: "Depth 0: the fact stands at the beginning; 1: right before the question.".into(),
        content: Content::HeatMap {
            panel: "policy".into(),
            x: Axis::linear("length, tokens"),
            columns: setting.lengths.iter().map(|&length| length as f64).collect(),
            y: Axis::linear("depth"),
            rows: setting.depths.clone(),
            value: "share of exact matches".into(),
            panels: skills.iter().map(panel).collect(),
        },
    }
}

fn lines(setting: &Retrieval, task: Task, skills: &[&Skill]) -> Figure {
    let point = |x: usize, mean: Mean| Point { x: x as f64, y: mean.mean, error: mean.standard_error };
    let mut bounded: Vec<usize> = skills.iter().filter_map(|skill| skill.states).collect();
    bounded.sort_unstable();
    bounded.dedup();
    let mut lines: Vec<Line> = Vec::new();
    for skill in skills {
        let name = skill.line(setting, &skill.policy);
        let points = match skill.states {
            Some(states) => vec![point(states, skill.exact)],
            None => bounded.iter().map(|&states| point(states, skill.exact)).collect(),
        };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.extend(points),
            None => lines.push(Line { name, reference: skill.states.is_none(), points }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
    Figure {
        id: format!("{}-states", task.name()),
        title: format!("Retrieval, {}: exact match over states", task.name()),
        caption: "Over all lengths and depths.".into(),
        content: Content::Lines { x: Axis::log("states"), y: Axis::linear("share of exact matches"), lines },
    }
}

/// Questions of a task whose answers a page shows.
const SHOWN: usize = 3;

/// The first questions with what was written, to be read; none where samples do not say it.
fn written(setting: &Retrieval, task: Task, samples: &[Sample]) -> Option<Figure> {
    // In the middle of the longest text.
    let (length, depth) = (setting.lengths.len() - 1, setting.depths.len() / 2);
    let of_cell: Vec<(&Sample, String)> = samples
        .iter()
        .enumerate()
        .map(|(unit, sample)| (setting.cell(unit), sample))
        .filter(|(cell, _)| setting.tasks[cell.task] == task && (cell.length, cell.depth) == (length, depth))
        .map(|(cell, sample)| {
            let arm = setting.arms[cell.arm].to_string();
            let by = if setting.models.len() > 1 { format!("{}, {arm}", setting.models[cell.model]) } else { arm };
            (sample, by)
        })
        .collect();
    let passage = |trial: usize| {
        let all: Vec<(&Trial, &Said, &String)> = of_cell
            .iter()
            .filter_map(|(sample, by)| sample.trials.get(trial).and_then(|t| Some((t, t.said.as_ref()?, by))))
            .collect();
        let (_, first, _) = all.first()?;
        let mut texts = vec![Excerpt::new("reference", "", &first.answer)];
        texts.extend(all.iter().map(|(trial, said, by)| {
            let remark = format!("{}, rank {}", if trial.exact { "exact match" } else { "no match" }, trial.rank);
            Excerpt::new(by.as_str(), remark, &said.written)
        }));
        Some(Passage { title: first.asked.split_whitespace().collect::<Vec<_>>().join(" "), texts })
    };
    let passages: Vec<Passage> = (0..SHOWN).filter_map(passage).collect();
    (!passages.is_empty()).then(|| Figure {
        id: format!("{}-written", task.name()),
        title: format!("Retrieval, {}: what was written", task.name()),
        caption: format!(
            "The first questions about texts of {} tokens with the fact at depth {}: the greedy continuation, of as many \
             tokens as the answer. All of them: samples.jsonl.",
            setting.lengths[length], setting.depths[depth]
        ),
        content: Content::Passages { passages },
    })
}

fn notes(setting: &Retrieval) -> Vec<String> {
    let trials = setting.trials;
    vec![
        "Exact match: the greedy continuation begins with the answer, token for token. Choice: among the candidate \
         answers the right one has the highest log-likelihood, summed over its tokens and not divided by their number; \
         on equal values it does not count as right."
            .into(),
        format!(
            "{trials} questions per length and depth, the same ones for all policies, lengths and depths (seed {}). \
             Standard errors take questions as independent.",
            setting.seed
        ),
        text_ids::note(setting.reading),
        match setting.ask_after {
            false => "Strict protocol: the state is bounded from the first token on, and the question itself takes rows of it.",
            true => {
                "The question came after the cut: all before it was read as one block and compressed by rules that had not \
                 seen it; question and answer are held as they come."
            }
        }
        .into(),
    ]
}

#[cfg(test)]
mod tests {
    use msrnn_models::tokenizer::TextOptions;
    use msrnn_policies::PolicySpec;

    use super::*;

    fn trial(exact: bool, rank: usize) -> Trial {
        let said = Said { asked: "Where?".into(), answer: " home".into(), written: format!(" rank {rank}") };
        Trial { exact, rank, log_likelihood: -1.0, tokens: 10, said: Some(said) }
    }

    /// Two arms, one task, two lengths, two depths, two questions.
    fn example() -> (Retrieval, Vec<Sample>) {
        let setting = Retrieval {
            reading: TextOptions::default(),
            models: vec!["m".into()],
            arms: vec![PolicySpec::full(), "tova@8".parse().unwrap()],
            tasks: vec![Task::Facts],
            lengths: vec![100, 200],
            depths: vec![0.0, 0.5],
            trials: 2,
            seed: 0,
            ask_after: false,
        };
        let sample = |states: Option<usize>, a: (bool, usize), b: (bool, usize)| Sample {
            states,
            observed: Observed {
                omitted: states.map_or(0, |_| 5),
                max_rows: 8,
                state_bytes: 64,
                ..Observed::default()
            },
            trials: vec![trial(a.0, a.1), trial(b.0, b.1)],
        };
        let samples = vec![
            sample(None, (true, 1), (true, 1)),
            sample(None, (true, 1), (true, 1)),
            sample(None, (true, 1), (false, 2)),
            sample(None, (true, 1), (false, 1)),
            sample(Some(8), (false, 4), (false, 4)),
            sample(Some(8), (true, 1), (false, 4)),
            sample(Some(8), (false, 4), (false, 4)),
            sample(Some(8), (true, 1), (true, 1)),
        ];
        (setting, samples)
    }

    #[test]
    fn accuracies_are_counted_where_they_belong() {
        let (setting, samples) = example();
        let results = results(&setting, &samples).unwrap();
        let skills = results.metrics["retrieval"].as_array().unwrap();
        assert_eq!(skills[0]["exact"]["mean"], 0.75);
        assert_eq!(skills[0]["choice"]["mean"], 0.875);
        assert_eq!(skills[1]["exact"]["mean"], 0.375);
        // 3 of 8 right at rank 1, the others at rank 4.
        assert_eq!(skills[1]["reciprocal_rank"]["mean"], (3.0 + 5.0 * 0.25) / 8.0);
        // Sample variance 8/7 · p(1 − p), over 8.
        let error = skills[1]["exact"]["standard_error"].as_f64().unwrap();
        assert!((error - (0.375f64 * 0.625 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(results.arms[1].observed.omitted, 20);
        assert_eq!((results.arms[0].states, results.arms[1].states), (None, Some(8)));
        let Content::HeatMap { panels, .. } = &results.figures[1].content else { panic!("no map") };
        // Rows are depths, columns lengths.
        assert_eq!(panels[1].values, [[Some(0.0), Some(0.0)], [Some(0.5), Some(1.0)]]);
        let Content::Lines { lines, .. } = &results.figures[2].content else { panic!("no lines") };
        let Content::Passages { passages } = &results.figures[3].content else { panic!("no passages") };
        let texts: Vec<&str> = passages[1].texts.iter().map(|text| &text.text[..]).collect();
        assert_eq!((&passages[1].title[..], texts), ("Where?", vec!["home", "rank 1", "rank 1"]));
        let remarks: Vec<&str> = passages[1].texts.iter().map(|text| &text.remark[..]).collect();
        assert_eq!(remarks, ["", "no match, rank 1", "exact match, rank 1"]);
        assert!(lines[0].reference && lines[0].points[0].x == 8.0 && lines[0].points[0].y == 0.75);
    }

    #[test]
    fn missing_samples_are_refused() {
        use crate::experiment::Experiment;
        let (setting, samples) = example();
        assert!(setting.results(&samples[1..]).is_err());
    }
}
