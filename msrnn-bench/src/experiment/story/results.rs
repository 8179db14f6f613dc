//! What pairs of stories say about policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::texts::{agreeing, distinct, words};
use super::verdict::{Choice, Outcome};
use super::{Pair, Story};
use crate::evaluate::Observed;
use crate::experiment::generation::Written;
use crate::experiment::{Arm, Results};
use crate::figure::{Axis, Cell, Content, Excerpt, Figure, Passage, Series};
use crate::text_ids;

/// A model under a policy, over all seeds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    model: String,
    policy: String,
    states: Option<usize>,
    stories: usize,
    /// Pairs of the same text as the full state's; they are not judged.
    identical: usize,
    /// Mean number of words until the first that differs from the full state's.
    agreeing_words: Option<f64>,
    verdicts: Option<Verdicts>,
    texts: Texts,
    #[serde(flatten)]
    observed: Observed,
}

/// Outcomes for the bounded state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Verdicts {
    judged: usize,
    wins: usize,
    ties: usize,
    losses: usize,
    /// Answers that named no option, or several; two answers to a pair.
    unclear: usize,
    /// Answers that chose what was shown first, and second.
    first: usize,
    second: usize,
}

/// Means over stories.
#[derive(Clone, Copy, Debug, Serialize)]
struct Texts {
    tokens: f64,
    words: f64,
    /// distinct-1 and distinct-2 over stories that have such runs.
    distinct_1: Option<f64>,
    distinct_2: Option<f64>,
}

pub(super) fn results(setting: &Story, pairs: &[Pair]) -> Results {
    let mut rows: Vec<Row> = Vec::new();
    let mut models: Vec<&str> = Vec::new();
    for pair in pairs {
        if !models.contains(&pair.model.as_str()) {
            models.push(&pair.model);
        }
    }
    for model in &models {
        let of_model: Vec<&Pair> = pairs.iter().filter(|pair| pair.model == *model).collect();
        // Every seed has one full story, however many pairs it is in.
        let full: BTreeMap<u64, &Written> = of_model.iter().map(|pair| (pair.seed, &pair.full)).collect();
        rows.push(full_row(model, &full.into_values().collect::<Vec<_>>()));
        let mut policies: Vec<&str> = Vec::new();
        for pair in &of_model {
            if !policies.contains(&pair.policy.as_str()) {
                policies.push(&pair.policy);
            }
        }
        for policy in policies {
            rows.push(row(&of_model.iter().filter(|pair| pair.policy == policy).copied().collect::<Vec<_>>()));
        }
    }
    let arms = rows.iter().map(|row| Arm {
        model: row.model.clone(),
        policy: row.policy.clone(),
        states: row.states,
        observed: row.observed,
    });
    Results {
        metrics: serde_json::json!({ "judge": setting.judge, "rows": rows }),
        arms: arms.collect(),
        notes: notes(setting, &rows),
        figures: figures(&rows, models.len() > 1).into_iter().chain(stories(pairs, models.len() > 1)).collect(),
        missing: Vec::new(),
    }
}

/// Seeds whose stories a page shows.
const SHOWN: usize = 3;

/// The stories of the first seeds, to be read.
fn stories(pairs: &[Pair], several: bool) -> Option<Figure> {
    let seeds: BTreeSet<u64> = pairs.iter().map(|pair| pair.seed).collect();
    let by = |pair: &Pair, policy: &str| if several { format!("{}, {policy}", pair.model) } else { policy.to_owned() };
    let passage = |seed: u64| {
        let mut texts: Vec<Excerpt> = Vec::new();
        for pair in pairs.iter().filter(|pair| pair.seed == seed) {
            let full = by(pair, "full");
            if texts.iter().all(|text| text.by != full) {
                texts.push(Excerpt::new(full, "", &pair.full.text));
            }
            let remark = match &pair.judged {
                Some(judged) => judged.outcome.name(),
                None if pair.identical() => "the same text",
                None => "",
            };
            texts.push(Excerpt::new(by(pair, &pair.policy), remark, &pair.bounded.text));
        }
        Passage { title: format!("Seed {seed}"), texts }
    };
    let passages: Vec<Passage> = seeds.into_iter().take(SHOWN).map(passage).collect();
    (!passages.is_empty()).then(|| Figure {
        id: "stories".into(),
        title: "What was written".into(),
        caption: "The first seeds, each drawn alike under every policy. All stories: samples.jsonl.".into(),
        content: Content::Passages { passages },
    })
}

fn observed(stories: &[&Written]) -> Observed {
    let mut observed = Observed::default();
    stories.iter().for_each(|story| observed.add(story.observed));
    observed
}

fn full_row(model: &str, stories: &[&Written]) -> Row {
    Row {
        model: model.into(),
        policy: "full".into(),
        states: None,
        stories: stories.len(),
        identical: 0,
        agreeing_words: None,
        verdicts: None,
        texts: texts(stories),
        observed: observed(stories),
    }
}

fn row(pairs: &[&Pair]) -> Row {
    let bounded: Vec<&Written> = pairs.iter().map(|pair| &pair.bounded).collect();
    let common: usize = pairs.iter().map(|pair| agreeing(&pair.full.text, &pair.bounded.text)).sum();
    let judged: Vec<_> = pairs.iter().filter_map(|pair| pair.judged.as_ref()).collect();
    let outcomes = |outcome| judged.iter().filter(|judged| judged.outcome == outcome).count();
    let choices = |choice| judged.iter().flat_map(|judged| judged.choices).filter(|chosen| *chosen == choice).count();
    let verdicts = (!judged.is_empty()).then(|| Verdicts {
        judged: judged.len(),
        wins: outcomes(Outcome::Win),
        ties: outcomes(Outcome::Tie),
        losses: outcomes(Outcome::Loss),
        unclear: choices(Choice::Unclear),
        first: choices(Choice::A),
        second: choices(Choice::B),
    });
    Row {
        model: pairs[0].model.clone(),
        policy: pairs[0].policy.clone(),
        states: Some(pairs[0].states),
        stories: pairs.len(),
        identical: pairs.iter().filter(|pair| pair.identical()).count(),
        agreeing_words: Some(common as f64 / pairs.len() as f64),
        verdicts,
        texts: texts(&bounded),
        observed: observed(&bounded),
    }
}

fn texts(stories: &[&Written]) -> Texts {
    let n = stories.len() as f64;
    let mean = |n: usize| {
        let values: Vec<f64> = stories.iter().filter_map(|story| distinct(&story.text, n)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Texts {
        tokens: stories.iter().map(|story| story.tokens).sum::<usize>() as f64 / n,
        words: stories.iter().map(|story| words(&story.text)).sum::<usize>() as f64 / n,
        distinct_1: mean(1),
        distinct_2: mean(2),
    }
}

fn notes(setting: &Story, rows: &[Row]) -> Vec<String> {
    let mut notes = vec![format!(
        "Every policy continues the same prompt with the same draws, temperature {}, top-p {}, {} seeds from {} on, {} \
         protocol. How the paper drew is not published.",
        setting.temperature, setting.top_p, setting.seeds, setting.seed, setting.protocol
    )];
    notes.push(text_ids::note(setting.reading));
    match &setting.judge {
        Some(judge) => {
            notes.push(format!(
                "{} judges every pair in both orders, with the question of the paper's Table 4. A win or a loss is what \
                 it chose in both orders; all else is a tie. Pairs of the same text are dropped. Percentages are of the \
                 judged pairs, ± their binomial standard error.",
                judge.model
            ));
            let sum =
                |count: fn(&Verdicts) -> usize| rows.iter().filter_map(|row| row.verdicts.as_ref()).map(count).sum();
            let (first, second, unclear): (usize, usize, usize) =
                (sum(|verdicts| verdicts.first), sum(|verdicts| verdicts.second), sum(|verdicts| verdicts.unclear));
            notes.push(format!(
                "The judge chose what it was shown first {first} times and what it was shown second {second} times; \
                 {unclear} answers chose nothing clearly and count as equal."
            ));
        }
        None => notes.push(
            "Nobody judged these stories. To have it done, run `experiment story` with this run's directory as ‘stories’, \
             the judge's address and model as ‘judge’ and ‘judge_model’, and another ‘out’."
                .into(),
        ),
    }
    notes
}

fn figures(rows: &[Row], several: bool) -> Vec<Figure> {
    let mut figures = Vec::new();
    let judged: Vec<&Row> = rows.iter().filter(|row| row.verdicts.is_some()).collect();
    if !judged.is_empty() {
        figures.push(verdict_table(&judged, several));
        figures.push(bars(&judged, several));
    }
    figures.push(text_table(rows, several));
    figures
}

/// A share in percent and its binomial standard error.
fn share(count: usize, of: usize) -> (f64, f64) {
    let p = count as f64 / of as f64;
    (100.0 * p, 100.0 * (p * (1.0 - p) / of as f64).sqrt())
}

fn name(row: &Row, several: bool) -> String {
    if several { format!("{}, {}", row.model, row.policy) } else { row.policy.clone() }
}

fn counts(verdicts: &Verdicts) -> [usize; 3] {
    [verdicts.wins, verdicts.ties, verdicts.losses]
}

fn verdict_table(rows: &[&Row], several: bool) -> Figure {
    let cells = rows.iter().filter_map(|row| Some((row, row.verdicts?))).map(|(row, verdicts)| {
        let shares = counts(&verdicts).map(|count| {
            let (value, error) = share(count, verdicts.judged);
            Cell::rounded(value, Some(error), 1)
        });
        let head = [
            Cell::text(name(row, several)),
            Cell::count(row.stories),
            Cell::count(row.identical),
            Cell::count(verdicts.judged),
        ];
        head.into_iter().chain(shares).chain([Cell::count(verdicts.unclear)]).collect()
    });
    let columns = ["policy", "pairs", "identical", "judged", "win %", "tie %", "loss %", "unclear answers"];
    Figure {
        id: "verdicts".into(),
        title: "Stories of bounded states against those of the full state".into(),
        caption: "A win is for the bounded state.".into(),
        content: Content::Table { columns: columns.map(str::to_owned).into(), rows: cells.collect() },
    }
}

fn bars(rows: &[&Row], several: bool) -> Figure {
    let outcomes = [Outcome::Win, Outcome::Tie, Outcome::Loss].map(Outcome::name);
    let series = outcomes.into_iter().enumerate().map(|(at, name)| {
        let shares = rows.iter().map(|row| row.verdicts.map(|verdicts| share(counts(&verdicts)[at], verdicts.judged)));
        let (values, errors) =
            shares.map(|share| (share.map(|(value, _)| value), share.map(|(_, error)| error))).unzip();
        Series { name: name.into(), values, errors }
    });
    Figure {
        id: "outcomes".into(),
        title: "Wins, ties and losses of bounded states".into(),
        caption: "Of judged pairs, with binomial standard errors.".into(),
        content: Content::Bars {
            groups: rows.iter().map(|row| name(row, several)).collect(),
            y: Axis::linear("% of judged pairs"),
            series: series.collect(),
        },
    }
}

fn text_table(rows: &[Row], several: bool) -> Figure {
    let number = |value: Option<f64>, decimals| match value {
        Some(value) => Cell::rounded(value, None, decimals),
        None => Cell::empty(),
    };
    let cells = rows.iter().map(|row| {
        let compared = row.states.is_some();
        vec![
            Cell::text(name(row, several)),
            Cell::count(row.stories),
            number(Some(row.texts.tokens), 1),
            number(Some(row.texts.words), 1),
            number(row.texts.distinct_1, 3),
            number(row.texts.distinct_2, 3),
            number(row.agreeing_words, 1),
            if compared { number(Some(share(row.identical, row.stories).0), 1) } else { Cell::empty() },
            Cell::count(row.observed.omitted),
            Cell::count(row.observed.max_rows),
            Cell::count(row.observed.state_bytes),
        ]
    });
    let columns = [
        "policy",
        "stories",
        "tokens",
        "words",
        "distinct-1",
        "distinct-2",
        "words as full",
        "identical %",
        "omitted",
        "rows",
        "state bytes",
    ];
    Figure {
        id: "texts".into(),
        title: "The stories".into(),
        caption: "Means over stories. distinct-n is the share of different runs of n words; words as full is how many \
                  words a story begins with that the full state's has too."
            .into(),
        content: Content::Table { columns: columns.map(str::to_owned).into(), rows: cells.collect() },
    }
}

#[cfg(test)]
mod tests {
    use msrnn_models::tokenizer::TextOptions;

    use super::*;
    use crate::experiment::generation::Ended;
    use crate::experiment::story::JudgeSetting;
    use crate::experiment::story::verdict::Judged;

    fn written(text: &str, omitted: usize) -> Written {
        let observed = Observed { omitted, max_rows: 8, state_bytes: 64, ..Observed::default() };
        Written { text: text.into(), tokens: 3, ended: Ended::Length, observed }
    }

    fn pair(seed: u64, bounded: &str, outcome: Option<Outcome>) -> Pair {
        let choices = [Choice::A, Choice::B];
        let judged = outcome.map(|outcome| Judged { answers: ["(A)".into(), "(B)".into()], choices, outcome });
        Pair {
            model: "m".into(),
            policy: "tova@8".into(),
            states: 8,
            seed,
            prompt_tokens: 2,
            full: written("one two three", 0),
            bounded: written(bounded, 5),
            judged,
        }
    }

    fn setting(judge: bool) -> Story {
        Story {
            reading: TextOptions::default(),
            prompt: "p".into(),
            policies: Vec::new(),
            states: Vec::new(),
            seeds: 4,
            seed: 0,
            temperature: 1.0,
            top_p: 1.0,
            context: None,
            max_new_tokens: None,
            protocol: Default::default(),
            positions: Default::default(),
            judge: judge.then(|| JudgeSetting { url: "u".into(), model: "j".into() }),
        }
    }

    #[test]
    fn identical_stories_are_dropped_and_shares_are_of_the_judged() {
        let pairs = [
            pair(0, "one two three", None),
            pair(1, "one two four", Some(Outcome::Loss)),
            pair(2, "five", Some(Outcome::Tie)),
            pair(3, "one", Some(Outcome::Win)),
            pair(4, "one six", Some(Outcome::Tie)),
        ];
        let found = results(&setting(true), &pairs);
        let row = &found.metrics["rows"][1];
        assert_eq!((&row["identical"], &row["stories"]), (&1.into(), &5.into()));
        let verdicts = &row["verdicts"];
        let counts = ["judged", "wins", "ties", "losses"].map(|key| verdicts[key].as_u64().unwrap());
        assert_eq!(counts, [4, 1, 2, 1]);
        assert_eq!(row["agreeing_words"], 7.0 / 5.0);
        assert_eq!(found.metrics["rows"][0]["stories"], 5);
        assert_eq!(found.arms[1].observed.omitted, 25);
        assert_eq!(found.figures.len(), 4);
        let Content::Passages { passages } = &found.figures[3].content else { panic!("no stories") };
        assert_eq!(passages.len(), SHOWN);
        let texts: Vec<_> =
            passages[1].texts.iter().map(|text| (&text.by[..], &text.remark[..], &text.text[..])).collect();
        assert_eq!(texts, [("full", "", "one two three"), ("tova@8", "loss", "one two four")]);
        assert_eq!(passages[0].texts[1].remark, "the same text");
    }

    #[test]
    fn without_a_judge_the_texts_are_described_and_the_way_on_is_said() {
        let found = results(&setting(false), &[pair(0, "one two four", None)]);
        assert_eq!(found.figures.len(), 2);
        assert!(found.notes.iter().any(|note| note.contains("directory as ‘stories’")));
    }
}
