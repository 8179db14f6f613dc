//! How a text is cut into chunks does not matter, nor does what comes later.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Case, check};
use super::machine::{Machine, all_agree, dtypes, widest};
use super::text::Text;
use crate::policy::Policy;

/// A scan in any chunks omits the same rows and gives the same outputs as steps.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn chunks_equal_single_tokens(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("chunks_equal_single_tokens", policy, |case| {
        let text = Text::new(case, device, dtype);
        let machine = || Machine::bounded(case, case.batch, policy, device, dtype);
        let (mut single, mut whole, mut chunked) = (machine(), machine(), machine());
        single.steps(&text, 0..case.tokens);
        whole.scans(&text, 0..case.tokens, &Case { chunks: vec![], ..case.clone() });
        chunked.scans(&text, 0..case.tokens, case);
        let single = single.trace();
        all_agree(&single, &whole.trace(), dtype).map_err(|how| format!("in one chunk: {how}"))?;
        all_agree(&single, &chunked.trace(), dtype)
    });
}

/// A policy that scores on the host decides as it does on the device: scans in blocks, in any
/// chunks, single tokens among them, and with batch rows that start anew in between, omit the same
/// rows and give the same outputs as steps. Holds trivially for a policy that does not.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn decisions_on_the_host_equal_decisions_on_the_device(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("decisions_on_the_host_equal_decisions_on_the_device", policy, |case| {
            let text = Text::new(case, device, dtype);
            let mut device_decides = Machine::bounded(case, case.batch, policy, device, dtype);
            let mut host_decides = Machine::unobserved(case, case.batch, policy, device, dtype);
            let row = case.seed as usize % case.batch;
            for tokens in [0..case.cut, case.cut..case.tokens] {
                device_decides.steps(&text, tokens.clone());
                host_decides.scans(&text, tokens, case);
                let traces = (device_decides.trace(), host_decides.trace());
                all_agree(&traces.0, &traces.1, dtype)?;
                if traces.0.iter().any(|trace| trace.certain < trace.outputs.len()) {
                    // From here on the states may differ.
                    break;
                }
                device_decides.reset(row);
                host_decides.reset(row);
            }
            Ok(())
        });
    }
}

/// Two texts that begin alike fare alike as long as they are, whatever follows in the same chunk.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn what_comes_later_changes_nothing_before(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("what_comes_later_changes_nothing_before", policy, |case| {
        let run = |branch: u64| {
            let seed = |token| if token < case.cut { case.seed } else { case.seed + branch };
            let text = Text::seeded(case, device, dtype, seed);
            let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
            machine.scans(&text, 0..case.tokens, case);
            machine.trace().into_iter().map(|trace| trace.first(case.cut)).collect::<Vec<_>>()
        };
        all_agree(&run(0), &run(1), dtype)
    });
}
