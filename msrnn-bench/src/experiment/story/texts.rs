//! Simple statistics of stories, for when nobody judges them.

use std::collections::HashSet;

/// Words of a text: what is between white space.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// distinct-n (Li et al. 2016): different runs of `n` words over all of them, case ignored. None for a
/// text without such a run.
pub(super) fn distinct(text: &str, n: usize) -> Option<f64> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let runs = words.windows(n);
    let all = runs.len();
    let different: HashSet<&[&str]> = runs.collect();
    (all > 0).then(|| different.len() as f64 / all as f64)
}

/// Words at the start that two texts have in common.
pub(super) fn agreeing(a: &str, b: &str) -> usize {
    a.split_whitespace().zip(b.split_whitespace()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_once_however_often_they_come() {
        assert_eq!(distinct("a b A b", 1), Some(0.5));
        assert_eq!(distinct("a b A b", 2), Some(2.0 / 3.0));
        assert_eq!((distinct("a", 2), distinct("", 1)), (None, None));
    }

    #[test]
    fn texts_agree_up_to_the_first_difference() {
        assert_eq!(agreeing("one two  three", "one two four three"), 2);
        assert_eq!(agreeing("one", "one two"), 1);
    }
}
