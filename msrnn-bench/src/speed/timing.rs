//! Repetitions and their spread.

use serde::Serialize;

/// Mean and spread of repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of one repetition, with n − 1; none for fewer than two.
    pub deviation: Option<f64>,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
}

impl Spread {
    /// Of at least one value.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub(crate) fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a spread needs a value");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Self { mean, deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()), median }
    }
}

/// Runs every subject once per round, in order, so that a drift of the machine hits all alike.
/// Returns the values of every subject, one per whole round.
///
/// `go_on` is asked before every round; `run` is given the subject's index and returns none to end
/// in the middle of a round, which then does not count.
///
/// # Errors
///
/// The first of `run`.
pub(crate) fn in_turn<S, E>(
    subjects: &mut [S],
    rounds: usize,
    mut go_on: impl FnMut(usize) -> bool,
    mut run: impl FnMut(usize, &mut S) -> Result<Option<f64>, E>,
) -> Result<Vec<Vec<f64>>, E> {
    let mut values = vec![Vec::with_capacity(rounds); subjects.len()];
    'rounds: for round in 0..rounds {
        if !go_on(round) {
            break;
        }
        let mut these = Vec::with_capacity(subjects.len());
        for (index, subject) in subjects.iter_mut().enumerate() {
            let Some(value) = run(index, subject)? else { break 'rounds };
            these.push(value);
        }
        values.iter_mut().zip(these).for_each(|(values, value)| values.push(value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_deviation_and_median_are_the_textbooks() {
        let spread = Spread::of(&[1.0, 2.0, 6.0]);
        assert_eq!((spread.mean, spread.median), (3.0, 2.0));
        assert!((spread.deviation.unwrap() - 7.0f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[4.0]), Spread { mean: 4.0, deviation: None, median: 4.0 });
        assert_eq!(Spread::of(&[4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn subjects_take_turns_and_a_broken_round_does_not_count() {
        let mut order = Vec::new();
        let mut subjects = ["a", "b"];
        let values = in_turn(
            &mut subjects,
            3,
            |_| true,
            |index, name| {
                order.push(*name);
                let broken = order.len() == 6;
                Ok::<_, ()>((!broken).then_some(index as f64))
            },
        );
        assert_eq!(values.unwrap(), [vec![0.0, 0.0], vec![1.0, 1.0]]);
        assert_eq!(order.concat(), "ababab");
    }
}
