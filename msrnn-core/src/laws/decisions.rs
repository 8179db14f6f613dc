//! Which row goes, given the scores.
//!
//! The scores compared with are those that the decision was made on, so that rounding has no say.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::case::{Case, Verdict, check};
use super::machine::{Machine, dtypes};
use super::spy::Look;
use super::text::Text;
use crate::policy::{Granularity, Memory, Policy, Sees, View};

/// A row that scores +∞ is not omitted while another scores less, unless no later query sees it. Tried on
/// the policy as it is, and with a third of all rows protected on top.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn protected_rows_survive(policy: &Arc<dyn Policy>, device: &Device) {
    let protecting = altered(policy, |scores, view| {
        let third = view.positions().remainder_scalar(3).equal_elem(0);
        scores.mask_fill(third, f32::INFINITY)
    });
    each_decision("protected_rows_survive", policy, &[policy.clone(), protecting], device, |look, omitted| {
        let score = |&(position, score): &(i64, f64)| (position == omitted).then_some(score);
        let protected = look.rows.iter().find_map(score) == Some(f64::INFINITY);
        match look.rows.iter().find(|row| row.1 < f64::INFINITY) {
            Some((other, _)) if protected => Err(format!("position {omitted} was protected, {other} was not")),
            _ => Ok(()),
        }
    });
}

/// The row with the lowest score goes, and of equal ones the oldest; before it one that no later query
/// sees. Tried on the policy as it is, and with its scores made coarse so that many are equal.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn the_lowest_score_goes_and_on_ties_the_oldest(policy: &Arc<dyn Policy>, device: &Device) {
    let coarse = altered(policy, |scores, _| scores.mul_scalar(8).round());
    let law = "the_lowest_score_goes_and_on_ties_the_oldest";
    each_decision(law, policy, &[policy.clone(), coarse], device, |look, omitted| match look.lowest() {
        lowest if lowest == omitted => Ok(()),
        lowest => Err(format!("position {omitted} goes instead of {lowest}")),
    });
}

/// Checks every decision of some variants of a policy.
fn each_decision(
    law: &str,
    policy: &Arc<dyn Policy>,
    variants: &[Arc<dyn Policy>],
    device: &Device,
    holds: impl Fn(&Look, i64) -> Verdict,
) {
    for dtype in dtypes(device) {
        check(law, policy, |case| {
            variants.iter().try_for_each(|variant| {
                let mut machine = Machine::bounded(case, case.batch, variant, device, dtype);
                let text = Text::new(case, device, dtype);
                (0..case.tokens).try_for_each(|t| decision(case, &mut machine, &text, t, &holds))
            })
        });
    }
}

/// Makes one step, and checks what it decided.
fn decision(
    case: &Case,
    machine: &mut Machine,
    text: &Text,
    t: usize,
    holds: impl Fn(&Look, i64) -> Verdict,
) -> Verdict {
    machine.steps(text, t..t + 1);
    let looks = machine.looks();
    for (row, trace) in machine.trace().iter().enumerate() {
        for (group, omitted) in trace.omitted[0].iter().enumerate() {
            let &[omitted] = &omitted[..] else {
                if omitted.len() == usize::from(t >= case.states) {
                    continue;
                }
                return Err(format!("token {t} omits {omitted:?}"));
            };
            let look = &looks[0][row][group];
            if let Some(row) = look.rows.iter().find(|row| row.1.is_nan()) {
                return Err(format!("token {t}: the score of position {} is not a number", row.0));
            }
            holds(look, omitted).map_err(|how| format!("token {t}, batch row {row}: {how}; rows {:?}", look.rows))?;
        }
    }
    Ok(())
}

/// A policy with its scores changed.
#[derive(Debug)]
struct Altered {
    inner: Arc<dyn Policy>,
    change: fn(Tensor<3>, &View) -> Tensor<3>,
}

fn altered(inner: &Arc<dyn Policy>, change: fn(Tensor<3>, &View) -> Tensor<3>) -> Arc<dyn Policy> {
    Arc::new(Altered { inner: inner.clone(), change })
}

impl Policy for Altered {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn sees(&self) -> Sees {
        self.inner.sees()
    }

    fn granularity(&self) -> Granularity {
        self.inner.granularity()
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn min_states(&self) -> usize {
        self.inner.min_states()
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        (self.change)(self.inner.score(view, memory), view)
    }
}
