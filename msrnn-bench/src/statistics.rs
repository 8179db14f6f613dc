//! Means per token over contexts, with their standard errors.

use serde::{Deserialize, Serialize};

use crate::evaluate::ContextScore;

/// A mean per token and its standard error over contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Σ values / Σ tokens.
    pub mean: f64,
    /// Standard error of that ratio over contexts; none for fewer than two.
    pub standard_error: Option<f64>,
}

/// The ratio Σ values / Σ tokens over contexts. Its standard error takes contexts as independent:
/// √(n/(n−1) Σ (value − mean · tokens)²) / Σ tokens.
pub(crate) fn ratio(values: &[(f64, usize)]) -> Mean {
    let tokens: f64 = values.iter().map(|&(_, tokens)| tokens as f64).sum();
    let mean = values.iter().map(|&(value, _)| value).sum::<f64>() / tokens;
    let n = values.len() as f64;
    let squares: f64 = values.iter().map(|&(value, tokens)| (value - mean * tokens as f64).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (n / (n - 1.0) * squares).sqrt() / tokens);
    Mean { mean, standard_error }
}

/// Mean negative log-likelihood per token.
pub fn mean_nll(contexts: &[ContextScore]) -> Mean {
    ratio(&contexts.iter().map(|context| (context.nll, context.tokens)).collect::<Vec<_>>())
}

/// Perplexity and its standard error (by the delta method: perplexity · that of the mean).
pub fn perplexity(contexts: &[ContextScore]) -> Mean {
    let Mean { mean, standard_error } = mean_nll(contexts);
    let perplexity = mean.exp();
    Mean { mean: perplexity, standard_error: standard_error.map(|error| perplexity * error) }
}

/// Mean difference in nats per token to another run on the same contexts, paired by context.
/// None where the runs did not score the same contexts.
pub fn paired_difference(contexts: &[ContextScore], reference: &[ContextScore]) -> Option<Mean> {
    let alike = contexts.len() == reference.len()
        && !contexts.is_empty()
        && contexts.iter().zip(reference).all(|(a, b)| a.tokens == b.tokens);
    alike.then(|| {
        let differences = contexts.iter().zip(reference).map(|(a, b)| (a.nll - b.nll, a.tokens));
        ratio(&differences.collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[(f64, usize)]) -> Vec<ContextScore> {
        values.iter().map(|&(nll, tokens)| ContextScore { nll, tokens }).collect()
    }

    #[test]
    fn equal_contexts_give_the_textbook_standard_error() {
        let Mean { mean, standard_error } = mean_nll(&scores(&[(10.0, 10), (20.0, 10), (30.0, 10)]));
        assert_eq!(mean, 2.0);
        // Deviation 1 of the means 1, 2, 3, over √3.
        assert!((standard_error.unwrap() - 1.0 / 3.0f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_long_context_weighs_more_than_a_short_one() {
        assert_eq!(mean_nll(&scores(&[(30.0, 10), (5.0, 5)])).mean, 35.0 / 15.0);
        assert_eq!(mean_nll(&scores(&[(30.0, 10)])).standard_error, None);
    }

    #[test]
    fn pairing_removes_what_runs_have_in_common() {
        let reference = scores(&[(10.0, 10), (90.0, 10)]);
        let run = scores(&[(11.0, 10), (91.0, 10)]);
        let Mean { mean, standard_error } = paired_difference(&run, &reference).unwrap();
        assert!((mean - 0.1).abs() < 1e-12 && standard_error.unwrap() < 1e-12);
        assert!(paired_difference(&run, &reference[..1]).is_none());
    }
}
