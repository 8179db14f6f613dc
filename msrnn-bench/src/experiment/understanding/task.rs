//! What is asked, and how answers are scored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::{f1, rouge};

/// A kind of question, with its layouts and prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Questions about science-fiction stories, answered in a paragraph (Wang et al. 2022).
    Squality,
    /// Questions about papers, answered concisely or not at all (Dasigi et al. 2021).
    Qasper,
    /// Any prompts with references.
    Jsonl,
    /// What the bundled generator's stories said early and need late.
    Stories,
}

/// How an answer is compared with its references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Geometric mean of ROUGE-1, ROUGE-2 and ROUGE-L.
    Rouge,
    /// Token F1.
    F1,
    /// Exact match after normalisation.
    Exact,
}

impl Task {
    /// The metric of the task's publication; token F1 for others.
    pub fn metric(self) -> Metric {
        match self {
            Task::Squality => Metric::Rouge,
            Task::Qasper | Task::Jsonl | Task::Stories => Metric::F1,
        }
    }

    /// Tokens of an answer, at most: those that ZeroSCROLLS allows, since the paper gives none.
    pub fn max_new_tokens(self) -> usize {
        match self {
            Task::Squality => 1024,
            Task::Qasper | Task::Jsonl => 128,
            Task::Stories => 16,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Squality => "squality",
            Task::Qasper => "qasper",
            Task::Jsonl => "jsonl",
            Task::Stories => "stories",
        })
    }
}

impl Metric {
    /// Names of what [`Metric::scores`] gives, in order.
    pub fn parts(self) -> &'static [&'static str] {
        match self {
            Metric::Rouge => &["rouge1", "rouge2", "rougeL"],
            Metric::F1 => &["f1"],
            Metric::Exact => &["exact"],
        }
    }

    /// What its score is called.
    pub fn label(self) -> &'static str {
        match self {
            Metric::Rouge => "ROUGE-1/2/L, geometric mean",
            Metric::F1 => "token F1",
            Metric::Exact => "exact match, %",
        }
    }

    /// The scores of an answer, times 100: for each part that of the reference that suits it best.
    /// `stem` applies to ROUGE.
    pub fn scores(self, answer: &str, references: &[String], stem: bool) -> Vec<f64> {
        let best = |score: &dyn Fn(&str) -> f64| {
            100.0 * references.iter().map(|reference| score(reference)).fold(0.0, f64::max)
        };
        match self {
            Metric::F1 => vec![best(&|reference| f1::token_f1(answer, reference))],
            Metric::Exact => vec![best(&|reference| f1::exact_match(answer, reference))],
            Metric::Rouge => {
                let answer = rouge::words(answer, stem);
                let words = |reference: &str| rouge::words(reference, stem);
                vec![
                    best(&|reference| rouge::rouge_n(&words(reference), &answer, 1).f),
                    best(&|reference| rouge::rouge_n(&words(reference), &answer, 2).f),
                    best(&|reference| rouge::rouge_l(&words(reference), &answer).f),
                ]
            }
        }
    }

    /// The score of several answers: the mean of each part over answers, and the geometric mean of
    /// those. This is the order of the SCROLLS evaluator; a geometric mean per answer would be
    /// another number.
    pub fn total<'s>(self, answers: impl Iterator<Item = &'s [f64]>) -> f64 {
        let mut sums = vec![0.0; self.parts().len()];
        let mut n = 0.0;
        for scores in answers {
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
            n += 1.0;
        }
        match sums[..] {
            [sum] => sum / n,
            _ => sums.iter().map(|sum| sum / n).product::<f64>().powf(1.0 / sums.len() as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_takes_the_reference_that_suits_it_best() {
        let references = ["red green blue".to_owned(), "blue green red grey grey".to_owned()];
        let scores = Metric::Rouge.scores("red green blue grey", &references, false);
        // Words: 8/9 with the second; pairs: 4/5 with the first; subsequence: 6/7 with the first.
        for (found, expected) in scores.iter().zip([800.0 / 9.0, 80.0, 600.0 / 7.0]) {
            assert!((found - expected).abs() < 1e-9, "{scores:?}");
        }
        assert_eq!(Metric::F1.scores("unanswerable", &["no".into(), "Unanswerable".into()], false), [100.0]);
    }

    #[test]
    fn the_geometric_mean_is_of_means_not_the_mean_of_geometric_means() {
        let answers = [[100.0, 0.0, 100.0], [0.0, 100.0, 0.0]];
        let total = Metric::Rouge.total(answers.iter().map(|scores| &scores[..]));
        assert!((total - 50.0).abs() < 1e-12, "{total}");
    }
}
