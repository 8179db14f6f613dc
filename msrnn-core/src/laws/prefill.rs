//! The prefill protocol: the prompt with full attention, then one cut.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::check;
use super::machine::{Machine, all_agree, attention, by_row_and_token, dtypes, near, widest};
use super::packed::packing;
use super::spy::gone;
use super::states::rows_are_their_tokens;
use super::text::Text;
use crate::policy::Policy;
use crate::vanilla::causal_attention;

/// A prompt of at most k tokens fares as under the strict protocol, and so does what follows it.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn prefill_equals_strict_when_nothing_must_go(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("prefill_equals_strict_when_nothing_must_go", policy, |case| {
        let text = Text::new(case, device, dtype);
        let packing = packing(policy, case);
        // Of a prompt rows are packed afterwards.
        let whole = packing.map_or(usize::MAX, |packing| packing.keys.whole().min(packing.values.whole()));
        let prompt = case.tokens.min(case.states).min(whole);
        let machine = || Machine::bounded(case, case.batch, policy, device, dtype);
        let (mut strict, mut prefilled) = (machine(), machine());
        strict.steps(&text, 0..case.tokens);
        prefilled.prefill(&text, prompt);
        prefilled.steps(&text, prompt..case.tokens);
        all_agree(&strict.trace(), &prefilled.trace(), dtype)
    });
}

/// After a longer prompt the k rows are held, in chronological order, that the last token's scores
/// put highest, of equal ones the newest; the outputs are those of full attention.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn prefill_cut_keeps_k_highest(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("prefill_cut_keeps_k_highest", policy, |case| {
            if case.tokens <= case.states {
                return Ok(());
            }
            let text = Text::new(case, device, dtype);
            let mut machine = Machine::observed(case, case.batch, policy, None, device, dtype);
            machine.prefill(&text, case.tokens);
            let last = machine.looks().pop().ok_or("the policy was not asked")?;
            let (traces, held) = (machine.trace(), machine.state.held());
            let mut road = Machine::bounded(case, case.batch, policy, device, dtype);
            road.prefill(&text, case.tokens);
            all_agree(&traces, &road.trace(), dtype).map_err(|how| format!("on the road of production: {how}"))?;
            for (row, looks) in last.iter().enumerate() {
                let expected = gone(looks, machine.state.bound.as_ref().expect("it is bounded"));
                for (group, (look, gone)) in looks.iter().zip(expected).enumerate() {
                    let all = sorted(&look.rows.iter().map(|row| row.0).collect::<Vec<_>>());
                    let kept: Vec<i64> = all.into_iter().filter(|position| !gone.contains(position)).collect();
                    let omitted = sorted(&traces[row].omitted[case.tokens - 1][group]);
                    if held[row][group] != kept || omitted != gone {
                        let held = &held[row][group];
                        return Err(format!(
                            "batch row {row}: {held:?} held and {omitted:?} gone, not {kept:?} and {gone:?}"
                        ));
                    }
                    let slots = slots(&machine, row, group);
                    let (first, free) = slots.split_at(kept.len());
                    if first != kept || free.is_empty() || free.iter().any(|&position| position != -1) {
                        return Err(format!("batch row {row}: slots {slots:?} are not in order"));
                    }
                }
            }
            rows_are_their_tokens(&machine.state, &text)?;
            let Text { query, key, value } = text;
            let full = by_row_and_token(causal_attention(query, key, value, attention(case).scale, case.window));
            traces.iter().zip(&full).try_for_each(|(trace, full)| {
                near(&trace.outputs.concat(), &full.concat(), dtype).map_err(|how| format!("outputs: {how}"))
            })
        });
    }
}

/// What follows a prefill can be cut into chunks in any way.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn after_a_prefill_chunks_equal_single_tokens(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("after_a_prefill_chunks_equal_single_tokens", policy, |case| {
        let text = Text::new(case, device, dtype);
        let prompt = case.cut.max(1);
        let machine = || Machine::bounded(case, case.batch, policy, device, dtype);
        let (mut single, mut chunked) = (machine(), machine());
        single.prefill(&text, prompt);
        single.steps(&text, prompt..case.tokens);
        chunked.prefill(&text, prompt);
        chunked.scans(&text, prompt..case.tokens, case);
        all_agree(&single.trace(), &chunked.trace(), dtype)
    });
}

fn sorted(positions: &[i64]) -> Vec<i64> {
    let mut positions = positions.to_vec();
    positions.sort_unstable();
    positions
}

/// Positions in the slots of a batch row and group.
fn slots(machine: &Machine, row: usize, group: usize) -> Vec<i64> {
    let data = machine.state.positions().narrow(0, row, 1).narrow(1, group, 1).into_data().convert::<i64>();
    data.as_slice().expect("positions are integers").to_vec()
}
