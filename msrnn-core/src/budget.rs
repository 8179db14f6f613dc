//! A bound as it is asked for, and the number of states that it becomes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How many states may be held: as a number, as a share of the context, or as bytes.
///
/// ```
/// use msrnn_core::budget::Budget;
///
/// let quarter: Budget = "25%".parse()?;
/// assert_eq!(quarter.resolve(4096, 1)?, 1024);
/// let bytes: Budget = "64MiB".parse()?;
/// assert_eq!(bytes.resolve(4096, 512 * 1024)?, 127); // one slot of 128 stays free
/// # Ok::<(), msrnn_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Budget {
    /// That many states.
    States(usize),
    /// That share of the context, in percent.
    Percent(f64),
    /// As many states as fit into that many bytes, all layers together, one batch row.
    Bytes(u64),
}

/// Bytes of a state with a bound, in all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBytes {
    /// Of every slot.
    pub each: usize,
    /// Beside all slots: of rows that are whole beside packed ones, of queries that a rule looks at, and of counters.
    pub beside: usize,
}

impl From<usize> for StateBytes {
    fn from(each: usize) -> Self {
        Self { each, beside: 0 }
    }
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Budget {
    /// The number of states k.
    ///
    /// `bytes_per_state`: of one row in all layers, the policy's memory included, and beside all rows. A bounded state
    /// of k rows has k + 1 slots, which all count.
    ///
    /// # Errors
    ///
    /// When it comes to less than one state, or to more than the context has tokens.
    pub fn resolve(&self, context: usize, bytes_per_state: impl Into<StateBytes>) -> Result<usize, Error> {
        let StateBytes { each: bytes_per_state, beside } = bytes_per_state.into();
        let states = match *self {
            Budget::States(states) => states,
            Budget::Percent(percent) => (context as f64 * percent / 100.0).round() as usize,
            Budget::Bytes(bytes) => {
                ((bytes as usize).saturating_sub(beside) / bytes_per_state.max(1)).saturating_sub(1)
            }
        };
        match states {
            0 => Err(Error::EmptyBudget { budget: self.to_string(), bytes_per_state, beside, context }),
            _ if states > context => Err(Error::BeyondContext { budget: self.to_string(), states, context }),
            states => Ok(states),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Budget::States(states) => write!(f, "{states}"),
            Budget::Percent(percent) => write!(f, "{percent}%"),
            Budget::Bytes(bytes) => {
                let (unit, size) = UNITS.into_iter().find(|(_, size)| bytes.is_multiple_of(*size)).unwrap_or(("B", 1));
                write!(f, "{}{unit}", bytes / size)
            }
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Budget(text.to_owned());
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            return if percent > 0.0 && percent.is_finite() { Ok(Budget::Percent(percent)) } else { Err(wrong()) };
        }
        for (unit, size) in UNITS {
            if let Some(number) = text.strip_suffix(unit) {
                let number: u64 = number.parse().map_err(|_| wrong())?;
                return number.checked_mul(size).map(Budget::Bytes).ok_or_else(wrong);
            }
        }
        text.parse().map(Budget::States).map_err(|_| wrong())
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl TryFrom<String> for Budget {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["512", "25%", "12.5%", "64MiB", "3GiB", "7B", "1025B", "2KiB"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_and_nothing_are_refused() {
        for text in ["", "x", "-3", "0%", "-5%", "1.5", "MiB", "NaN%", "99999999999999999999GiB"] {
            assert!(text.parse::<Budget>().is_err(), "{text:?}");
        }
        assert!(Budget::States(0).resolve(100, 1).is_err());
        assert!(Budget::Percent(0.1).resolve(100, 1).is_err());
        assert!(Budget::Bytes(15).resolve(100, 8).is_err());
        assert_eq!(Budget::States(100).resolve(100, 1), Ok(100));
        assert!(Budget::States(101).resolve(100, 1).is_err());
        assert!(Budget::Bytes(1 << 60).resolve(100, 1).is_err());
    }
}
