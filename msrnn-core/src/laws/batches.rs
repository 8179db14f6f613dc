//! The rows of a batch know nothing of each other.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Device;

use super::case::check;
use super::machine::{Machine, widest};
use super::text::Text;
use crate::policy::Policy;

/// Every row of a batch fares as it does alone, also beside a row that starts anew in mid-run, so
/// that the rows have seen different numbers of tokens.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_batch_equals_its_rows_alone(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("a_batch_equals_its_rows_alone", policy, |case| {
        let text = Text::new(case, device, dtype);
        let restarted = case.seed as usize % case.batch;
        let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
        machine.scans(&text, 0..case.cut, case);
        let before = machine.trace();
        machine.reset(restarted);
        machine.scans(&text, case.cut..case.tokens, case);
        let after = machine.trace();

        for (row, (before, after)) in before.into_iter().zip(after).enumerate() {
            let alone = |tokens: Range<usize>| {
                let mut machine = Machine::bounded(case, 1, policy, device, dtype);
                machine.steps(&text.row(row), tokens);
                machine.trace().remove(0)
            };
            let verdict = if row == restarted {
                let restart = after.agrees(&alone(case.cut..case.tokens), dtype);
                before.agrees(&alone(0..case.cut), dtype).and(restart)
            } else {
                before.then(after).agrees(&alone(0..case.tokens), dtype)
            };
            verdict.map_err(|how| {
                format!("batch row {row} (row {restarted} starts anew after {} tokens): {how}", case.cut)
            })?;
        }
        Ok(())
    });
}
