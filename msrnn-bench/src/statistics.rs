//! Means per token over contexts or texts, with their standard errors and confidence intervals.
//!
//! A mean per token is a ratio, Σ values / Σ tokens, so that every predicted token weighs the same.
//! Its standard error is the linearised one of a ratio (Cochran, *Sampling Techniques*, 3rd ed.,
//! 1977, §6.3): √(n/(n−1) Σ (value − mean · tokens)²) / Σ tokens over the n contexts or texts, which
//! are taken as independent. Contexts of one text are not: where there are several texts, they are
//! the units ([`by_text`]). Confidence intervals are mean ± t · standard error with Student's t of
//! n − 1 degrees of freedom.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean per token and its standard error over contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Σ values / Σ tokens.
    pub mean: f64,
    /// Standard error of that ratio over contexts; none for fewer than two.
    pub standard_error: Option<f64>,
}

/// A mean difference per token and what it may really be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Σ differences / Σ tokens.
    pub mean: f64,
    /// Lower and upper end; none for fewer than two contexts or texts.
    pub ends: Option<(f64, f64)>,
}

/// The ratio Σ values / Σ tokens of pairs of value and tokens, with its standard error.
pub fn ratio(values: &[(f64, usize)]) -> Mean {
    let tokens: f64 = values.iter().map(|&(_, tokens)| tokens as f64).sum();
    let mean = values.iter().map(|&(value, _)| value).sum::<f64>() / tokens;
    let n = values.len() as f64;
    let squares: f64 = values.iter().map(|&(value, tokens)| (value - mean * tokens as f64).powi(2)).sum();
    let standard_error = (values.len() > 1).then(|| (n / (n - 1.0) * squares).sqrt() / tokens);
    Mean { mean, standard_error }
}

impl Mean {
    /// Perplexity of a mean negative log-likelihood; none where it is beyond a 64-bit number.
    #[must_use]
    pub fn exp(self) -> Option<Self> {
        let Self { mean, standard_error } = self;
        let perplexity = perplexity_of(mean)?;
        let standard_error = standard_error.map(|error| perplexity * error).filter(|error| error.is_finite());
        Some(Self { mean: perplexity, standard_error })
    }
}

/// exp of nats per token. None where there is no such number in 64 bits, from 709.8 nats on: files say nothing there,
/// and the nats are beside it.
pub fn perplexity_of(nats: f64) -> Option<f64> {
    Some(nats.exp()).filter(|perplexity| perplexity.is_finite())
}

/// A perplexity in words; as a power of e where it is beyond a 64-bit number.
pub fn perplexity_in_words(nats: f64, decimals: usize) -> String {
    match perplexity_of(nats) {
        Some(perplexity) => format!("{perplexity:.decimals$}"),
        None if nats.is_finite() => format!("e^{nats:.1}"),
        None => "none".to_owned(),
    }
}

/// What a report says where a perplexity is left out.
pub const BEYOND: &str = "Where a perplexity is beyond a 64-bit number (709.8 nats per token) it is left out of files, \
                          and shown as a power of e: the negative log-likelihood is there.";

/// Pairs of value and tokens, summed over the contexts of the same text, in the order in which texts
/// appear first. `texts`: which text each context is of.
pub fn by_text<T: PartialEq>(texts: &[T], values: &[(f64, usize)]) -> Vec<(f64, usize)> {
    let mut sums: Vec<(&T, (f64, usize))> = Vec::new();
    for (text, &(value, tokens)) in texts.iter().zip(values) {
        match sums.iter_mut().find(|(known, _)| *known == text) {
            Some((_, sum)) => *sum = (sum.0 + value, sum.1 + tokens),
            None => sums.push((text, (value, tokens))),
        }
    }
    sums.into_iter().map(|(_, sum)| sum).collect()
}

/// Two-sided quantile of Student's t: |T| of `degrees` degrees of freedom is below it with
/// probability `confidence`.
pub fn t_quantile(confidence: f64, degrees: usize) -> f64 {
    let t = StudentsT::new(0.0, 1.0, degrees as f64).expect("the degrees of freedom are positive");
    t.inverse_cdf(0.5 + confidence / 2.0)
}

/// Confidence of the intervals.
pub const CONFIDENCE: f64 = 0.95;

/// The interval of [`CONFIDENCE`] around a mean per token over `n` contexts or texts.
pub fn interval(mean: &Mean, n: usize) -> Interval {
    let half = mean.standard_error.map(|error| t_quantile(CONFIDENCE, n - 1) * error);
    Interval { mean: mean.mean, ends: half.map(|half| (mean.mean - half, mean.mean + half)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contexts_give_the_textbook_standard_error() {
        let Mean { mean, standard_error } = ratio(&[(10.0, 10), (20.0, 10), (30.0, 10)]);
        assert_eq!(mean, 2.0);
        // Deviation 1 of the means 1, 2, 3, over √3.
        assert!((standard_error.unwrap() - 1.0 / 3.0f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_long_context_weighs_more_than_a_short_one() {
        assert_eq!(ratio(&[(30.0, 10), (5.0, 5)]).mean, 35.0 / 15.0);
        assert_eq!(ratio(&[(30.0, 10)]).standard_error, None);
    }

    #[test]
    fn contexts_of_one_text_are_one_unit() {
        let contexts = [(1.0, 10), (2.0, 20), (4.0, 10), (8.0, 5)];
        assert_eq!(by_text(&["a", "b", "a", "c"], &contexts), [(5.0, 20), (2.0, 20), (8.0, 5)]);
    }

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        // Two-sided 5 % and 1 %, from tables of Student's t distribution.
        for (confidence, degrees, expected) in [
            (0.95, 1, 12.706),
            (0.95, 2, 4.303),
            (0.95, 5, 2.571),
            (0.95, 15, 2.131),
            (0.95, 30, 2.042),
            (0.95, 99, 1.984),
            (0.99, 10, 3.169),
        ] {
            let found = t_quantile(confidence, degrees);
            assert!((found - expected).abs() < 6e-4, "t of {degrees} degrees is {found}");
        }
    }

    #[test]
    fn an_interval_is_the_mean_and_t_standard_errors() {
        // Differences of 1, 2, 3 per token: mean 2, standard error 1/√3, t of 2 degrees 4.303.
        let mean = ratio(&[(10.0, 10), (20.0, 10), (30.0, 10)]);
        let (low, high) = interval(&mean, 3).ends.unwrap();
        assert!((high - low - 2.0 * 4.302_653 / 3.0f64.sqrt()).abs() < 1e-5, "{low} to {high}");
        assert!((high + low - 4.0).abs() < 1e-12);
        assert_eq!(interval(&ratio(&[(10.0, 10)]), 1).ends, None);
    }

    #[test]
    fn a_perplexity_beyond_64_bits_is_absent_and_no_infinity() {
        let found = |nll: f64| ratio(&[(nll * 10.0, 10), (nll * 11.0, 10)]).exp();
        assert!(found(5.0).is_some_and(|mean| mean.mean.is_finite() && mean.standard_error.is_some()));
        assert_eq!(found(900.0), None);
        // The mean fits, its error does not.
        let edge = ratio(&[(7090.0, 10), (0.1, 10), (14180.0, 10)]).exp().unwrap();
        assert!(edge.mean.is_finite() && edge.standard_error.is_none());
        assert_eq!(ratio(&[(50.0, 10)]).exp().unwrap().standard_error, None);
        assert_eq!(
            [5.0f64.ln(), 812.34, f64::NAN].map(|nats| perplexity_in_words(nats, 2)),
            ["5.00", "e^812.3", "none"]
        );
    }
}
