//! Under a model's own sliding window: what no later query can see goes first.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Case, Verdict, check};
use super::machine::{Machine, Trace, dtypes, near, widest};
use super::text::Text;
use crate::policy::Policy;

/// While a row is held that the sliding window hides from all later queries, no row goes that the next one
/// can see: by steps, in chunks, where the policy decides on tensors, on the host and in kernels, after a
/// batch row started anew, and in the cut of a prefill.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_row_that_no_later_query_can_see_goes_before_any_that_one_can(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("a_row_that_no_later_query_can_see_goes_before_any_that_one_can", policy, |case| {
        let Some(window) = case.window else { return Ok(()) };
        let text = Text::new(case, device, dtype);
        let observed = || Machine::observed(case, case.batch, policy, None, device, dtype);
        let road = || Machine::unobserved(case, case.batch, policy, device, dtype);
        for (who, machine) in [("observed", &observed as &dyn Fn() -> Machine), ("on its road", &road)] {
            let told = |form: &str, verdict: Verdict| verdict.map_err(|how| format!("{form}, {who}: {how}"));
            let whole = |machine: &mut Machine| holds(case, window, &machine.trace());

            let mut single = machine();
            single.steps(&text, 0..case.tokens);
            told("by steps", whole(&mut single))?;

            let mut chunked = machine();
            chunked.scans(&text, 0..case.tokens, case);
            told("in chunks", whole(&mut chunked))?;

            let mut prefilled = machine();
            prefilled.prefill(&text, case.cut.max(1));
            prefilled.steps(&text, case.cut.max(1)..case.tokens);
            told("after a prefill", whole(&mut prefilled))?;

            let mut restarted = machine();
            restarted.scans(&text, 0..case.cut, case);
            restarted.trace();
            let row = case.seed as usize % case.batch;
            restarted.reset(row);
            restarted.scans(&text, case.cut..case.tokens, case);
            let anew = [restarted.trace().swap_remove(row)];
            told("in a row that starts anew beside others", holds(case, window, &anew))?;
        }
        Ok(())
    });
}

/// Whether the law holds of batch rows from their first tokens on.
fn holds(case: &Case, window: usize, traces: &[Trace]) -> Verdict {
    for (row, trace) in traces.iter().enumerate() {
        let groups = trace.omitted.first().map_or(0, Vec::len);
        for group in 0..groups {
            let mut held: Vec<usize> = Vec::new();
            for (t, omitted) in (0..).zip(&trace.omitted) {
                held.push(t);
                let gone: Vec<usize> = omitted[group].iter().map(|&position| position as usize).collect();
                held.retain(|position| !gone.contains(position));
                let seen_next = |position: &&usize| **position + window > t + 1;
                let live = gone.iter().find(seen_next);
                let dead = held.iter().find(|position| !seen_next(position));
                if let (Some(live), Some(dead)) = (live, dead) {
                    return Err(format!(
                        "batch row {row}: token {t} omits position {live}, which the next query sees, and keeps {dead}, \
                         which none does; {} states, a window of {window}",
                        case.states
                    ));
                }
            }
        }
    }
    Ok(())
}

/// With as many states as a query sees rows before its own, all that it sees is held: the outputs are those
/// of the unbounded state, whatever the policy. In f64 and f32. Says nothing of a policy that rewrites rows, or rounds
/// them in groups that change with a cut.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_budget_of_all_that_the_window_shows_equals_unbounded(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("a_budget_of_all_that_the_window_shows_equals_unbounded", policy, |case| {
            // Of the shapes that have no window some get the widest that the bound allows.
            let window = case.window.unwrap_or(case.states + 1).min(case.states + 1);
            let case = &Case { window: Some(window), ..case.clone() };
            let text = Text::new(case, device, dtype);
            let mut unbounded = Machine::unbounded_as(case, case.batch, policy, device, dtype);
            unbounded.steps(&text, 0..case.tokens);
            let unbounded = unbounded.trace();

            let observed = || Machine::observed(case, case.batch, policy, None, device, dtype);
            let (mut single, mut chunked) = (observed(), observed());
            let mut unobserved = Machine::unobserved(case, case.batch, policy, device, dtype);
            single.steps(&text, 0..case.tokens);
            chunked.scans(&text, 0..case.tokens, case);
            unobserved.scans(&text, 0..case.tokens, case);
            for (form, machine) in [("by steps", single), ("in chunks", chunked), ("unobserved", unobserved)] {
                let mut machine = machine;
                for (row, (trace, unbounded)) in machine.trace().iter().zip(&unbounded).enumerate() {
                    for t in 0..case.tokens {
                        near(&unbounded.outputs[t], &trace.outputs[t], dtype)
                            .map_err(|how| format!("token {t} of batch row {row}, unbounded and {form}: {how}"))?;
                    }
                }
            }
            Ok(())
        });
    }
}
