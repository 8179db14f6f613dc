//! The standard error of any statistic of independent groups, by leaving each out once.

use crate::statistics::Mean;

/// A statistic of all groups, and its jackknife standard error
/// √((n−1)/n Σ (θ₋ᵢ − θ̄)²) over groups (Efron and Stein 1981). For a mean of equal groups this is
/// the usual standard error of the mean.
///
/// `statistic` is given the group to leave out. None where it has no finite value; no error for fewer
/// than two groups, or where the statistic has no finite value without one of them.
pub(super) fn jackknife(groups: usize, statistic: impl Fn(Option<usize>) -> f64) -> Option<Mean> {
    let mean = Some(statistic(None)).filter(|value| value.is_finite())?;
    let without: Vec<f64> = (0..groups).map(|group| statistic(Some(group))).collect();
    let n = groups as f64;
    let centre = without.iter().sum::<f64>() / n;
    let squares: f64 = without.iter().map(|value| (value - centre).powi(2)).sum();
    let standard_error = Some(((n - 1.0) / n * squares).sqrt()).filter(|error| groups > 1 && error.is_finite());
    Some(Mean { mean, standard_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_mean_it_is_the_standard_error_of_the_mean() {
        let values = [1.0, 4.0, 4.0, 7.0, 9.0];
        let mean = |out: Option<usize>| {
            let kept: Vec<f64> = (0..values.len()).filter(|i| Some(*i) != out).map(|i| values[i]).collect();
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        let found = jackknife(values.len(), mean).unwrap();
        let n = values.len() as f64;
        let deviations: f64 = values.iter().map(|value| (value - found.mean).powi(2)).sum();
        assert_eq!(found.mean, 5.0);
        assert!((found.standard_error.unwrap() - (deviations / (n - 1.0) / n).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_has_no_value_has_no_error() {
        assert_eq!(jackknife(3, |_| f64::NAN), None);
        let one = jackknife(1, |out| if out.is_some() { f64::NAN } else { 2.0 }).unwrap();
        assert_eq!((one.mean, one.standard_error), (2.0, None));
    }
}
