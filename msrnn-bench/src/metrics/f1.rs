//! Token F1 and exact match of an answer, as the evaluators of SQuAD 1.1 and QASPER count them.
//!
//! Answers are lower-cased, ASCII punctuation and the articles *a*, *an*, *the* are removed, and
//! what is left is split at white space. `unanswerable`, `yes` and `no` are answers like others: a
//! question that a reference calls unanswerable is answered right by that word alone.

use std::collections::HashMap;

/// The words of an answer that count.
pub fn words(answer: &str) -> Vec<String> {
    let bare: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut text = String::with_capacity(bare.len());
    // An article is a whole run of letters and digits, whatever is beside it: "a–b" has one.
    for run in bare.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = run.trim_end_matches(|c: char| !c.is_alphanumeric());
        match word {
            "a" | "an" | "the" => text.push(' '),
            _ => text.push_str(word),
        }
        text.push_str(&run[word.len()..]);
    }
    text.split(white_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// As Python splits: the four ASCII separators count too.
fn white_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// F1 over words, each as often as it is in both; 0 where none is.
pub fn token_f1(prediction: &str, reference: &str) -> f64 {
    let (prediction, reference) = (words(prediction), words(reference));
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &reference {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in &prediction {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let (precision, recall) = (common as f64 / prediction.len() as f64, common as f64 / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// 1 where the words that count are the same, else 0.
pub fn exact_match(prediction: &str, reference: &str) -> f64 {
    f64::from(u8::from(words(prediction) == words(reference)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_and_punctuation_do_not_count() {
        assert_eq!(words("The U.S. has a\u{2013}b, an \"answer\""), ["us", "has", "\u{2013}b", "answer"]);
        assert_eq!(exact_match("Unanswerable.", "unanswerable"), 1.0);
        assert_eq!(exact_match("yes", "no"), 0.0);
    }

    #[test]
    fn f1_counts_repetitions_and_is_zero_without_a_common_word() {
        assert_eq!(token_f1("red red blue", "red green"), 2.0 * (1.0 / 3.0) * 0.5 / (1.0 / 3.0 + 0.5));
        assert_eq!(token_f1("the", "a"), 0.0);
    }
}
