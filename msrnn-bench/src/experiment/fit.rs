//! Whether what was read back is what a setting asks for, beyond that it was not changed.
//!
//! A checksum finds accidents; a line that was moved, made by another program, or sealed anew has a good one. Every
//! experiment says in a file `fit.rs` what its samples look like, by setting and unit: which model and policy, which bound,
//! how many values. What follows from inputs alone, such as how long a text is, is compared among samples.

use std::fmt::Debug;

use msrnn_core::budget::Budget;
use msrnn_policies::PolicySpec;

use crate::evaluate::Observed;
use crate::experiment::manifest::Source;

/// Says that something is not what it should be.
pub(super) fn same<T: PartialEq + Debug + ?Sized>(what: &str, found: &T, asked: &T) -> Result<(), String> {
    match found == asked {
        true => Ok(()),
        false => Err(format!("its {what} is {}, not {}", short(found), short(asked))),
    }
}

/// Says that something does not hold.
pub(super) fn holds(what: &str, it: bool) -> Result<(), String> {
    if it { Ok(()) } else { Err(what.into()) }
}

/// A value for people, which may come from anywhere.
fn short(value: &(impl Debug + ?Sized)) -> String {
    const MOST: usize = 120;
    let shown = format!("{value:?}");
    match shown.chars().count() > MOST {
        true => format!("{}…", shown.chars().take(MOST).collect::<String>()),
        false => shown,
    }
}

/// The name of the model with that index.
pub(super) fn model(models: &[Source], index: usize) -> Result<&str, String> {
    let found = models.get(index).map(|model| model.name.as_str());
    found.ok_or_else(|| format!("its model is the one numbered {index}, of {}", models.len()))
}

/// The bound of a policy: a number of states where it was given as one, some number where not, none for the full state.
pub(super) fn states(budget: Option<Budget>, found: Option<usize>) -> Result<(), String> {
    match (budget, found) {
        (None, found) => same("number of states", &found, &None),
        (Some(Budget::States(asked)), found) => same("number of states", &found, &Some(asked)),
        (Some(_), Some(0) | None) => Err("it has no number of states, under a policy that bounds them".into()),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// The bounds that a policy runs under: its own, or each of those that were asked for; once without one where it keeps all,
/// and not at all for the full state.
pub(super) fn budgets(spec: &PolicySpec, asked: &[Budget]) -> Vec<Option<Budget>> {
    match (spec.is_full(), spec.budget()) {
        (true, _) => Vec::new(),
        (false, Some(own)) => vec![Some(own)],
        (false, None) if spec.keeps_all() => vec![None],
        (false, None) => asked.iter().copied().map(Some).collect(),
    }
}

/// A state without a bound keeps everything.
pub(super) fn observed(states: Option<usize>, observed: &Observed) -> Result<(), String> {
    holds(
        "its states had no bound, and rows were omitted from them",
        states.is_some() || (observed.omitted == 0 && observed.under_bound == 0),
    )?;
    holds("more predictions were made under a bound than in all", observed.under_bound <= observed.predicted)
}

/// More than any sum of logarithms is, and little enough that no sum of it is beyond a 64-bit number.
const MOST: f64 = 1e100;

/// Numbers that a sum of logarithms can be.
pub(super) fn finite(what: &str, values: &[f64]) -> Result<(), String> {
    holds(&format!("its {what} is not a number"), values.iter().all(|value| value.abs() < MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_that_were_asked_for_where_they_are_known() {
        let budget = |text: &str| Some(text.parse::<Budget>().unwrap());
        assert!(
            states(None, None).is_ok()
                && states(budget("8"), Some(8)).is_ok()
                && states(budget("25%"), Some(3)).is_ok()
        );
        assert_eq!(states(budget("8"), Some(9)).unwrap_err(), "its number of states is Some(9), not Some(8)");
        for (budget, found) in [(None, Some(8)), (budget("8"), None), (budget("25%"), None), (budget("1KiB"), Some(0))]
        {
            assert!(states(budget, found).is_err(), "{budget:?} {found:?}");
        }
        let tova: PolicySpec = "tova".parse().unwrap();
        let asked = [Budget::States(4), Budget::Percent(5.0)];
        assert_eq!(budgets(&tova, &asked), asked.map(Some));
        assert_eq!(budgets(&"tova@9".parse().unwrap(), &asked), [Some(Budget::States(9))]);
        assert_eq!(budgets(&"int4(full)".parse().unwrap(), &asked), [None]);
        assert_eq!(budgets(&PolicySpec::full(), &asked), []);
    }

    #[test]
    fn what_is_said_of_a_value_is_short() {
        let error = same("name", &"x".repeat(500), &"y".repeat(500)).unwrap_err();
        assert!(error.len() < 300, "{error}");
    }
}
