//! Axes: values as shares of an axis, and the round numbers that label it.

use serde::Serialize;

use crate::figure::Axis;

/// A span of values, divided evenly or by equal ratios.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Scale {
    /// Equal ratios have equal lengths.
    pub log: bool,
    /// The value at the start.
    pub lowest: f64,
    /// The value at the end; above the lowest.
    pub highest: f64,
}

/// Below it numbers lose digits: nothing is told apart from zero.
const SMALLEST: f64 = 1e-300;

impl Scale {
    /// From the lowest to the highest of finite values. Some room around a single one; 0 to 1
    /// around none. Logarithmic where the axis says so and all values are positive, and none next to zero.
    pub(crate) fn over(axis: &Axis, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            lowest = lowest.min(value);
            highest = highest.max(value);
        }
        let log = axis.log && lowest >= SMALLEST;
        match () {
            () if lowest > highest => (lowest, highest) = (0.0, 1.0),
            // As good as equal: further apart than rounding errors, or there is nothing to divide.
            () if log && highest.ln() - lowest.ln() < 1e-9 => (lowest, highest) = (lowest / 2.0, highest * 2.0),
            () if !log && (highest / 2.0 - lowest / 2.0) <= (highest.abs().max(lowest.abs()) * 1e-9).max(SMALLEST) => {
                let room = if highest.abs() < SMALLEST { 1.0 } else { highest.abs() * 0.1 };
                (lowest, highest) = (lowest - room, highest + room);
            }
            () => {}
        }
        if log {
            lowest = lowest.max(f64::MIN_POSITIVE);
        }
        let log = log && highest > 0.0;
        Self { log, lowest: lowest.max(f64::MIN), highest: highest.min(f64::MAX) }
    }

    /// The same with a share of its length added at both ends.
    pub(crate) fn padded(&self, share: f64) -> Self {
        let (low, high) = (self.value(-share), self.value(1.0 + share));
        let lowest = if self.log { low.max(f64::MIN_POSITIVE) } else { low.max(f64::MIN) };
        Self { log: self.log, lowest, highest: high.min(f64::MAX) }
    }

    /// The same down to zero, or up to it: where lengths are compared rather than places.
    pub(crate) fn with_zero(&self) -> Self {
        match self.log {
            true => self.clone(),
            false => Self { log: false, lowest: self.lowest.min(0.0), highest: self.highest.max(0.0) },
        }
    }

    /// Where a value is: 0 at the lowest, 1 at the highest. Values that a logarithmic axis does not
    /// have are at its start.
    pub(crate) fn share(&self, value: f64) -> f64 {
        if self.log {
            let value = value.max(f64::MIN_POSITIVE);
            (value.ln() - self.lowest.ln()) / (self.highest.ln() - self.lowest.ln())
        } else {
            // By halves, so that no difference overflows.
            (value / 2.0 - self.lowest / 2.0) / (self.highest / 2.0 - self.lowest / 2.0)
        }
    }

    /// The value at a share: the inverse of [`Self::share`].
    pub(crate) fn value(&self, share: f64) -> f64 {
        if self.log {
            (self.lowest.ln() * (1.0 - share) + self.highest.ln() * share).exp()
        } else {
            self.lowest * (1.0 - share) + self.highest * share
        }
    }

    /// About `count` round numbers within the scale, ascending.
    pub(crate) fn ticks(&self, count: usize) -> Vec<f64> {
        let ticks = if self.log { self.log_ticks(count) } else { Vec::new() };
        if ticks.len() > 1 { ticks } else { self.linear_ticks(count) }
    }

    /// The values themselves where they are few and far enough apart, else round numbers.
    pub(crate) fn ticks_at(&self, values: &[f64], count: usize) -> Vec<f64> {
        let apart = |pair: &[f64]| self.share(pair[1]) - self.share(pair[0]) > 0.5 / count as f64;
        match values.len() <= count + 4 && values.windows(2).all(apart) && !values.is_empty() {
            true => values.to_vec(),
            false => self.ticks(count),
        }
    }

    fn linear_ticks(&self, count: usize) -> Vec<f64> {
        let rough = (self.highest / 2.0 - self.lowest / 2.0) / count as f64 * 2.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * decade).into_iter().find(|&step| step >= rough);
        let Some(step) = step.filter(|step| step.is_normal()) else { return vec![self.lowest, self.highest] };
        let first = (self.lowest / step).ceil();
        // Divided where the step is a fraction: 3 / 10 is 0.3, 3 × 0.1 is not.
        let parts = (1.0 / step).round();
        let divided = step < 1.0 && (parts * step - 1.0).abs() < 1e-9;
        let exact = |n: f64| if divided { (first + n) / parts } else { (first + n) * step };
        let all = (0..=2 * count).map(|n| exact(n as f64));
        all.take_while(|&tick| tick <= self.highest).filter(|&tick| tick >= self.lowest).collect()
    }

    fn log_ticks(&self, count: usize) -> Vec<f64> {
        let (first, last) = (self.lowest.log10().floor() as i32, self.highest.log10().ceil() as i32);
        let decades = self.highest.log10() - self.lowest.log10();
        let mantissas: &[f64] = match decades {
            d if d * 8.0 <= count as f64 * 1.5 => &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0],
            d if d * 3.0 <= count as f64 * 1.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let stride = (decades / count as f64).ceil().max(1.0) as usize;
        let power = |decade: i32| format!("1e{decade}").parse().unwrap_or(f64::NAN);
        let all = (first..=last).step_by(stride).flat_map(|decade| mantissas.iter().map(move |m| m * power(decade)));
        all.filter(|tick| (self.lowest..=self.highest).contains(tick)).collect()
    }
}

/// A number for a person: whole numbers in full, others with six significant digits.
pub(crate) fn label(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e9 {
        return grouped(&format!("{value:.0}"));
    }
    if !(1e-4..1e9).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let decimals = (5 - size.log10().floor() as i32).max(0) as usize;
    grouped(trimmed(&format!("{value:.decimals$}")))
}

/// Without zeros at the end of its decimals.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// With commas between thousands from five digits on.
pub(crate) fn grouped(number: &str) -> String {
    let start = usize::from(number.starts_with('-'));
    let end = number.find('.').unwrap_or(number.len());
    let digits = end - start;
    if digits < 5 || !number[start..end].bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut text = number[..start].to_owned();
    for (index, digit) in number[start..end].chars().enumerate() {
        if index > 0 && (digits - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + &number[end..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axis(log: bool) -> Axis {
        Axis { label: String::new(), log }
    }

    #[test]
    fn round_numbers() {
        assert_eq!(Scale::over(&axis(false), [0.0, 1.0]).ticks(5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(Scale::over(&axis(true), [16.0, 512.0]).ticks(5), [20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(Scale::over(&axis(true), [16.0, 512.0]).ticks_at(&[16.0, 64.0, 512.0], 5), [16.0, 64.0, 512.0]);
        assert_eq!(Scale::over(&axis(false), [-30.0, 70_000.0]).ticks(4), [0.0, 20_000.0, 40_000.0, 60_000.0]);
        let labels = [0.3, 1_048_576.0, -70_000.0, 1e12, 1.5e-7, 0.0, 2.25].map(label);
        assert_eq!(labels, ["0.3", "1,048,576", "-70,000", "1e12", "1.5e-7", "0", "2.25"]);
    }

    #[test]
    fn a_log_axis_that_cannot_be_one_is_linear() {
        assert!(!Scale::over(&axis(true), [0.0, 1.0]).log);
        assert!(!Scale::over(&axis(true), [-1.0, 1.0]).log);
    }

    fn finite() -> impl Strategy<Value = f64> {
        use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
        prop_oneof![POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO, -100.0..100.0]
    }

    proptest! {
        /// Whatever the values: the scale has a length, every value lies on it, ticks ascend within.
        #[test]
        fn every_value_lies_on_its_scale(values in prop::collection::vec(finite(), 0..6), log: bool, zero: bool) {
            let mut scale = Scale::over(&axis(log), values.iter().copied()).padded(0.04);
            if zero {
                scale = scale.with_zero();
            }
            prop_assert!(scale.lowest < scale.highest, "{scale:?}");
            for value in values {
                let share = scale.share(value);
                prop_assert!((-1e-6..=1.000_001).contains(&share), "{value} at {share} of {scale:?}");
            }
            for count in [1, 5, 9] {
                let ticks = scale.ticks(count);
                prop_assert!(ticks.len() <= 4 * count + 16);
                prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?} of {scale:?}");
                prop_assert!(ticks.iter().all(|&tick| (scale.lowest..=scale.highest).contains(&tick)));
            }
        }

        /// value and share are inverse of each other.
        #[test]
        fn value_is_the_inverse_of_share(low in 0.001f64..1e6, ratio in 1.01f64..1e6, at in 0.0f64..1.0, log: bool) {
            let scale = Scale::over(&axis(log), [low, low * ratio]);
            // Rounding errors of a logarithm near 1e12, relative to a length of at least ln 1.01.
            prop_assert!((scale.share(scale.value(at)) - at).abs() < 1e-9);
        }

        /// A label is the number to within its six digits.
        #[test]
        fn a_label_is_its_number(value in -1e12f64..1e12) {
            let read: f64 = label(value).replace(',', "").parse().unwrap();
            prop_assert!((read - value).abs() <= value.abs() * 6e-4 + 1e-300);
        }
    }
}
