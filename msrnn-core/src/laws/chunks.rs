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

/// Every road decides alike: the one that production takes, by steps and in chunks of any size, single tokens
/// among them, and with batch rows that start anew in between, omits the same rows and gives the same outputs as
/// the rule in tensor operations, token by token.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn every_road_decides_as_tensor_operations_do(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("every_road_decides_as_tensor_operations_do", policy, |case| {
            let text = Text::new(case, device, dtype);
            let row = case.seed as usize % case.batch;
            for in_chunks in [false, true] {
                let mut tensors = Machine::observed(case, case.batch, policy, None, device, dtype);
                let mut road = Machine::unobserved(case, case.batch, policy, device, dtype);
                for tokens in [0..case.cut, case.cut..case.tokens] {
                    tensors.steps(&text, tokens.clone());
                    match in_chunks {
                        true => road.scans(&text, tokens, case),
                        false => road.steps(&text, tokens),
                    }
                    let traces = (tensors.trace(), road.trace());
                    all_agree(&traces.0, &traces.1, dtype)
                        .map_err(|how| format!("{}: {how}", if in_chunks { "in chunks" } else { "by steps" }))?;
                    if traces.0.iter().any(|trace| trace.certain < trace.outputs.len()) {
                        // From here on the states may differ.
                        break;
                    }
                    tensors.reset(row);
                    road.reset(row);
                }
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
