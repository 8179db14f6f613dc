//! The vanilla transformer is a multi-state RNN, and a bound that never binds changes nothing.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Case, check, check_shapes};
use super::machine::{Machine, attention, by_row_and_token, dtypes, near};
use super::text::Text;
use crate::policy::Policy;
use crate::vanilla::causal_attention;

/// The unbounded state gives, by steps and in chunks, what causal attention of the whole text does:
/// in f64 and f32, with grouped queries and with a sliding window.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn unbounded_state_equals_vanilla_attention(device: &Device) {
    for dtype in dtypes(device) {
        check_shapes(
            "unbounded_state_equals_vanilla_attention",
            &format!("the unbounded state in {dtype:?}"),
            1,
            |case| {
                let text = Text::new(case, device, dtype);
                let Text { query, key, value } = text.clone();
                let vanilla = causal_attention(query, key, value, attention(case).scale, case.window);
                let machine = || Machine::unbounded(case, case.batch, device, dtype);
                let (mut single, mut chunked) = (machine(), machine());
                single.steps(&text, 0..case.tokens);
                chunked.scans(&text, 0..case.tokens, case);
                let (single, chunked) = (single.trace(), chunked.trace());
                for (row, vanilla) in by_row_and_token(vanilla).iter().enumerate() {
                    for (t, vanilla) in vanilla.iter().enumerate() {
                        for (form, trace) in [("by steps", &single[row]), ("in chunks", &chunked[row])] {
                            near(vanilla, &trace.outputs[t], dtype)
                                .map_err(|how| format!("token {t} of batch row {row}, vanilla and {form}: {how}"))?;
                        }
                    }
                }
                Ok(())
            },
        );
    }
}

/// With as many states as there are tokens nothing is omitted, and the outputs are those of the
/// unbounded state that holds its rows alike: in f64 and f32.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_budget_of_at_least_the_length_equals_unbounded(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("a_budget_of_at_least_the_length_equals_unbounded", policy, |case| {
            let enough = Case { states: case.states.max(case.tokens), ..case.clone() };
            let text = Text::new(case, device, dtype);
            let mut unbounded = Machine::unbounded_as(case, case.batch, policy, device, dtype);
            unbounded.scans(&text, 0..case.tokens, case);
            let unbounded = unbounded.trace();

            let machine = || Machine::bounded(&enough, case.batch, policy, device, dtype);
            let (mut single, mut chunked) = (machine(), machine());
            single.steps(&text, 0..case.tokens);
            chunked.scans(&text, 0..case.tokens, case);
            for (form, machine) in [("by steps", &mut single), ("in chunks", &mut chunked)] {
                let trace = machine.trace();
                if let Some(omitted) = trace.iter().flat_map(|row| row.omitted.iter().flatten().flatten()).next() {
                    return Err(format!("{form}, position {omitted} was omitted, with {} states", enough.states));
                }
                for (row, (trace, unbounded)) in trace.iter().zip(&unbounded).enumerate() {
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
