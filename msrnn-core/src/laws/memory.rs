//! What a policy remembers belongs to a row.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Case, Verdict, check};
use super::machine::{Machine, dtypes};
use super::scorer::{Scorer, bound};
use super::spy::{Look, Remembered};
use super::text::Text;
use crate::policy::Policy;
use crate::score::Initial;

/// What a policy remembers of a row is zero when the row is new, and from then on what the policy
/// left there, wherever the row is held: by steps, in chunks, over the cut of a prefill, and after
/// a batch row started anew.
///
/// Says nothing of a policy without memory.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn memory_starts_at_zero_and_stays_with_its_row(policy: &Arc<dyn Policy>, device: &Device) {
    let scorer = Scorer(bound(policy, &Case::smallest(policy)));
    // Norms of keys and values are carried as well, and do not start at zero.
    let channels = scorer.0.channels().iter().filter(|channel| **channel == Initial::Zero).count();
    for dtype in dtypes(device) {
        check("memory_starts_at_zero_and_stays_with_its_row", policy, |case| {
            let text = Text::new(case, device, dtype);
            let machine = || Machine::observed(case, case.batch, policy, None, device, dtype);

            let mut restarted = machine();
            restarted.scans(&text, 0..case.cut, case);
            restarted.reset(case.seed as usize % case.batch);
            restarted.scans(&text, case.cut..case.tokens, case);
            stays(case, channels, &restarted.looks()).map_err(|how| format!("in chunks, {how}"))?;

            let mut prefilled = machine();
            prefilled.prefill(&text, case.cut.max(1));
            prefilled.steps(&text, case.cut.max(1)..case.tokens);
            stays(case, channels, &prefilled.looks()).map_err(|how| format!("after a prefill, {how}"))
        });
    }
}

/// Whether every call found what the one before left.
fn stays(case: &Case, channels: usize, calls: &[Vec<Vec<Look>>]) -> Verdict {
    if calls.len() != case.tokens {
        return Err(format!("the policy was called for {} tokens of {}", calls.len(), case.tokens));
    }
    let none = Remembered::new();
    for (token, call) in calls.iter().enumerate() {
        for (row, looks) in call.iter().enumerate() {
            for (group, look) in looks.iter().enumerate() {
                let left = if look.now == 0 { &none } else { &calls[token - 1][row][group].after };
                for (position, found) in &look.before {
                    let found = &found[..channels].to_vec();
                    let expected = match *position == look.now {
                        true => &vec![0.0; channels],
                        false => {
                            &left.get(position).ok_or(format!("position {position} came back"))?[..channels].to_vec()
                        }
                    };
                    if found != expected {
                        return Err(format!(
                            "token {token}, batch row {row}: {found:?} remembered of position {position}, not {expected:?}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
