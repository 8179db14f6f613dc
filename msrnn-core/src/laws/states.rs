//! How many rows a state holds, and which tokens they are.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::case::{Verdict, check};
use super::machine::{Machine, dtypes, widest};
use super::text::Text;
use crate::policy::Policy;
use crate::state::MultiState;

/// g(t) = min(t, k): after a cut k rows are held, before it as many more as the plan allows (one, where a row goes
/// at every token), inside a step the rule is shown all of them and the new one, and the memory allocated never
/// changes.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn at_most_k_states_after_a_cut_and_the_plans_slack_before_it(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("at_most_k_states_after_a_cut_and_the_plans_slack_before_it", policy, |case| {
        let text = Text::new(case, device, dtype);
        let mut observed = Machine::observed(case, case.batch, policy, None, device, dtype);
        let mut road = Machine::unobserved(case, case.batch, policy, device, dtype);
        let bound = road.state.bound.clone().expect("a policy under the laws bounds a layer");
        let latest = |machine: &Machine| {
            machine.state.latest.as_ref().map_or(0, |x| x.shape().num_elements() * x.dtype().size())
        };
        let bytes = road.state.bytes();
        let (mut held, mut most) = (0, 0);
        for t in 0..case.tokens {
            observed.steps(&text, t..t + 1);
            road.steps(&text, t..t + 1);
            held += 1;
            let goes = bound.limit().is_some_and(|limit| held >= limit);
            let calls = observed.looks();
            if calls.len() != usize::from(goes || !bound.channels().is_empty()) {
                return Err(format!("token {t}: the policy was called {} times", calls.len()));
            }
            let pooled = bound.safe().is_some();
            for look in calls.iter().flatten().flatten() {
                let rows = look.rows.len();
                if pooled {
                    continue;
                }
                if rows != held || distinct(look.rows.iter().map(|row| row.0)) != held {
                    return Err(format!("token {t}: shown {rows} rows instead of {held} distinct: {:?}", look.rows));
                }
            }
            if goes {
                held = bound.states;
            }
            most = most.max(held);
            for (who, machine) in [("observed", &observed), ("on its road", &road)] {
                for heads in machine.state.held().iter().filter(|_| pooled) {
                    // Heads that compete hold different numbers of rows, and together as many as others.
                    if heads.iter().map(Vec::len).sum::<usize>() != held * heads.len() {
                        return Err(format!("{who}, token {t}: {held} rows on average should be held, not {heads:?}"));
                    }
                }
                for rows in machine.state.held().iter().flatten().filter(|_| !pooled) {
                    if rows.len() != held || distinct(rows.iter().copied()) != held {
                        return Err(format!("{who}, token {t}: {held} rows should be held, not {rows:?}"));
                    }
                }
                if machine.state.rows_held().iter().any(|&rows| rows != held) || machine.state.max_rows() != most {
                    let said = machine.state.max_rows();
                    return Err(format!("{who}, token {t}: {held} rows are held, {most} at most, not {said}"));
                }
            }
            let (state, now) = (&road.state, road.state.bytes() - latest(&road));
            let limit = bound.limit().filter(|_| !pooled);
            if let Some(limit) = limit.filter(|&limit| (state.slots(), now) != (limit, bytes)) {
                return Err(format!("token {t}: {} slots and {now} bytes, not {limit} and {bytes}", state.slots()));
            }
        }
        Ok(())
    });
}

/// Positions are the original ones: the token after n others has position n however many of them
/// are held, and a row goes on holding the key and value of the token at its position.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn positions_count_tokens_seen(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("positions_count_tokens_seen", policy, |case| {
            let text = Text::new(case, device, dtype);
            let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
            for t in 0..case.tokens {
                machine.steps(&text, t..t + 1);
                let ahead = machine.state.ahead(1).into_data().convert::<i64>();
                let ahead: &[i64] = ahead.as_slice().expect("positions are integers");
                if ahead.iter().any(|&next| next != t as i64 + 1) || machine.state.seen().iter().any(|&n| n != t + 1) {
                    return Err(format!("after token {t} the next is said to be {ahead:?}"));
                }
            }
            let mut chunked = Machine::bounded(case, case.batch, policy, device, dtype);
            chunked.scans(&text, 0..case.tokens, case);
            for (form, calls) in [("by steps", machine.looks()), ("in chunks", chunked.looks())] {
                let first = case.tokens - calls.len();
                for (t, look) in
                    (first..).zip(&calls).flat_map(|(t, call)| call.iter().flatten().map(move |look| (t, look)))
                {
                    let newest = look.rows.iter().map(|row| row.0).max();
                    if look.now != t as i64 || newest != Some(t as i64) {
                        return Err(format!("{form}, token {t} is shown as {} among {:?}", look.now, look.rows));
                    }
                }
            }
            rows_are_their_tokens(&machine.state, &text)
        });
    }
}

/// For n tokens, the mean over all of them of the steps that they took part in is
/// Σ_{t=1..n} min(t, k+1) / n under every policy, which is how "steps kept" is to be counted: the
/// step that omits a row is its last.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn mean_steps_kept_does_not_depend_on_the_policy(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("mean_steps_kept_does_not_depend_on_the_policy", policy, |case| {
        let text = Text::new(case, device, dtype);
        let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
        machine.scans(&text, 0..case.tokens, case);
        let n = case.tokens;
        let expected: usize = (1..=n).map(|t| t.min(case.states + 1)).sum();
        for (row, trace) in machine.trace().iter().enumerate() {
            for group in 0..machine.state.groups() {
                let mut last: Vec<usize> = vec![n - 1; n];
                for (step, omitted) in trace.omitted.iter().enumerate() {
                    omitted[group].iter().for_each(|&position| last[position as usize] = step);
                }
                let kept: usize = last.iter().enumerate().map(|(position, last)| last + 1 - position).sum();
                if kept != expected {
                    return Err(format!("batch row {row}: {kept} steps kept in all, instead of {expected}"));
                }
            }
        }
        Ok(())
    });
}

fn distinct(positions: impl Iterator<Item = i64>) -> usize {
    positions.collect::<std::collections::BTreeSet<_>>().len()
}

/// Whether every row holds the key and value of the token at its position. A policy that rewrites
/// rows is free to change them.
pub(super) fn rows_are_their_tokens(state: &MultiState, text: &Text) -> Verdict {
    if state.bound.as_ref().is_some_and(|bound| bound.plan.rewrites()) {
        return Ok(());
    }
    if state.packing().is_some() {
        // The law of packed states compares them with rounded rows.
        return Ok(());
    }
    let [batch, kv_heads, slots, head_dim] = state.keys().dims();
    let tokens = text.key.dims()[2];
    let host = |x: Tensor<4>| x.into_data().convert::<f64>();
    let positions = state.positions().into_data().convert::<i64>();
    let positions: &[i64] = positions.as_slice().expect("positions are integers");
    for (what, rows, expected) in [("key", state.keys(), &text.key), ("value", state.values(), &text.value)] {
        let (rows, expected) = (host(rows), host(expected.clone()));
        let rows: &[f64] = rows.as_slice().expect("rows are numbers");
        let expected: &[f64] = expected.as_slice().expect("rows are numbers");
        for head in 0..batch * kv_heads {
            let group = head * state.groups() / kv_heads;
            for slot in 0..slots {
                let position = positions[group * slots + slot];
                let held = &rows[(head * slots + slot) * head_dim..][..head_dim];
                if position >= 0 && held != &expected[(head * tokens + position as usize) * head_dim..][..head_dim] {
                    return Err(format!("the row of position {position} holds another {what}: {held:?}"));
                }
            }
        }
    }
    Ok(())
}
