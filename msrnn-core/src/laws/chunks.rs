//! How a text is cut into chunks does not matter, nor does what comes later.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::{Case, check};
use super::machine::{Machine, all_agree, widest};
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
