//! Which row goes, given the scores.
//!
//! The scores compared with are those that the decision was made on, so that rounding has no say.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Verdict, check};
use super::machine::{Machine, dtypes};
use super::spy::{Change, Look, gone};
use super::text::Text;
use crate::policy::Policy;

/// A row that scores +∞ is not omitted while another stays that scores less, unless no later query sees it. Tried
/// on the policy as it is, and with a third of all rows protected on top.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn protected_rows_survive(policy: &Arc<dyn Policy>, device: &Device) {
    let protecting: Change = |scores, view| {
        let third = view.positions().remainder_scalar(3).equal_elem(0);
        scores.mask_fill(third, f32::INFINITY)
    };
    each_decision("protected_rows_survive", policy, [None, Some(protecting)], device, |look, omitted, _| {
        let is_gone = |row: &&(i64, f64)| omitted.contains(&row.0);
        let protected = look.rows.iter().filter(is_gone).find(|row| row.1 == f64::INFINITY);
        match (protected, look.rows.iter().filter(|row| !is_gone(row)).find(|row| row.1 < f64::INFINITY)) {
            (Some((gone, _)), Some((other, _))) => Err(format!("position {gone} was protected, {other} was not")),
            _ => Ok(()),
        }
    });
}

/// The rows with the lowest scores go, and of equal ones the oldest; before them those that no later query
/// sees. Tried on the policy as it is, and with its scores made coarse so that many are equal.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn the_lowest_score_goes_and_on_ties_the_oldest(policy: &Arc<dyn Policy>, device: &Device) {
    let coarse: Change = |scores, _| scores.mul_scalar(8).round();
    let law = "the_lowest_score_goes_and_on_ties_the_oldest";
    each_decision(law, policy, [None, Some(coarse)], device, |_, omitted, expected| match expected == omitted {
        true => Ok(()),
        false => Err(format!("positions {omitted:?} go instead of {expected:?}")),
    });
}

/// Checks every decision under some changes of a policy's scores.
fn each_decision(
    law: &str,
    policy: &Arc<dyn Policy>,
    changes: [Option<Change>; 2],
    device: &Device,
    holds: impl Fn(&Look, &[i64], &[i64]) -> Verdict,
) {
    for dtype in dtypes(device) {
        check(law, policy, |case| {
            changes.iter().try_for_each(|change| {
                let mut machine = Machine::observed(case, case.batch, policy, *change, device, dtype);
                let text = Text::new(case, device, dtype);
                (0..case.tokens).try_for_each(|t| decision(&mut machine, &text, t, &holds))
            })
        });
    }
}

/// Makes one step, and checks what it decided.
fn decision(machine: &mut Machine, text: &Text, t: usize, holds: impl Fn(&Look, &[i64], &[i64]) -> Verdict) -> Verdict {
    let bound = machine.state.bound.clone().expect("a policy under the laws bounds a layer");
    let held = machine.state.rows_held()[0] + 1;
    let goes = bound.limit().is_some_and(|limit| held >= limit);
    machine.steps(text, t..t + 1);
    let looks = machine.looks();
    for (row, trace) in machine.trace().iter().enumerate() {
        if !goes {
            match trace.omitted[0].iter().flatten().next() {
                Some(position) => return Err(format!("token {t} omits position {position}, and nothing has to go")),
                None => continue,
            }
        }
        let expected = gone(&looks[0][row], &bound);
        for (group, omitted) in trace.omitted[0].iter().enumerate() {
            let look = &looks[0][row][group];
            if let Some(row) = look.rows.iter().find(|row| row.1.is_nan()) {
                return Err(format!("token {t}: the score of position {} is not a number", row.0));
            }
            let mut omitted = omitted.clone();
            omitted.sort_unstable();
            holds(look, &omitted, &expected[group])
                .map_err(|how| format!("token {t}, batch row {row}: {how}; rows {:?}", look.rows))?;
        }
    }
    Ok(())
}
