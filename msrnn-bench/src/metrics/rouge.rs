//! ROUGE-N and ROUGE-L of one text against one reference, as PyPI's `rouge-score` 0.1.2 computes them.
//!
//! C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. Texts are lower-cased
//! and everything but `a-z0-9` separates words. ROUGE-L takes a text as one sequence, without
//! looking at sentences (`rougeL`, not `rougeLsum`).

use std::collections::HashMap;

use super::porter;

/// How two texts overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Share of the prediction that is in the reference.
    pub precision: f64,
    /// Share of the reference that is in the prediction.
    pub recall: f64,
    /// Harmonic mean of the two, 0 where both are 0.
    pub f: f64,
}

impl Overlap {
    /// Of `common` things, `predicted` in the prediction and `referred` in the reference.
    fn of(common: usize, predicted: usize, referred: usize) -> Self {
        let share = |n: usize| common as f64 / n.max(1) as f64;
        let (precision, recall) = (share(predicted), share(referred));
        let sum = precision + recall;
        Self { precision, recall, f: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// The words of a text, stemmed by Porter's rules where they have more than three letters, if asked for.
pub fn words(text: &str, stem: bool) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| if stem && word.len() > 3 { porter::stem(word) } else { word.to_owned() }).collect()
}

/// ROUGE-N: runs of `n` words, each as often as it is in both.
pub fn rouge_n(reference: &[String], prediction: &[String], n: usize) -> Overlap {
    let mut left: HashMap<&[String], usize> = HashMap::new();
    for run in reference.windows(n) {
        *left.entry(run).or_default() += 1;
    }
    let mut common = 0;
    for run in prediction.windows(n) {
        if let Some(count) = left.get_mut(run).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    let runs = |words: &[String]| (words.len() + 1).saturating_sub(n);
    Overlap::of(common, runs(prediction), runs(reference))
}

/// ROUGE-L: the longest sequence of words that both have in this order, with gaps.
pub fn rouge_l(reference: &[String], prediction: &[String]) -> Overlap {
    // One row of the table of longest common subsequences of prefixes.
    let mut row = vec![0; prediction.len() + 1];
    for word in reference {
        let mut diagonal = 0;
        for (column, other) in prediction.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if word == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    Overlap::of(row[prediction.len()], prediction.len(), reference.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(words("Don't stop: 3.5 Cafés!", false), ["don", "t", "stop", "3", "5", "caf", "s"]);
        assert_eq!(words("running runs was", true), ["run", "run", "was"]);
        assert!(words(" —!", false).is_empty());
    }

    #[test]
    fn repeated_words_count_as_often_as_they_are_in_both() {
        let (reference, prediction) = (words("the cat the dog", false), words("the the the", false));
        let Overlap { precision, recall, f } = rouge_n(&reference, &prediction, 1);
        assert_eq!((precision, recall), (2.0 / 3.0, 2.0 / 4.0));
        assert!((f - 4.0 / 7.0).abs() < 1e-15);
    }
}
