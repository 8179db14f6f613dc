//! Two devices, one behaviour.

use std::sync::Arc;

use burn::tensor::{DType, Device};

use super::case::check;
use super::machine::{Machine, all_agree};
use super::text::Text;
use crate::policy::Policy;
use crate::precision::computes_in;

/// The same text in the same dtype on another device omits the same rows and gives the same outputs
/// but for rounding, step by step and in chunks: in every dtype that both devices have.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn two_devices_agree(policy: &Arc<dyn Policy>, reference: &Device, device: &Device) {
    let both = |dtype: &DType| computes_in(reference, *dtype) && computes_in(device, *dtype);
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16].into_iter().filter(both) {
        check("two_devices_agree", policy, |case| {
            let run = |device: &Device, in_chunks: bool, observed: bool| {
                let text = Text::new(case, device, dtype);
                let mut machine = match observed {
                    true => Machine::observed(case, case.batch, policy, None, device, dtype),
                    false => Machine::unobserved(case, case.batch, policy, device, dtype),
                };
                match in_chunks {
                    true => machine.scans(&text, 0..case.tokens, case),
                    false => machine.steps(&text, 0..case.tokens),
                }
                machine.trace()
            };
            let expected = run(reference, false, true);
            let told =
                |how: &str, verdict: Result<(), String>| verdict.map_err(|why| format!("{how}, {dtype:?}: {why}"));
            told("by steps", all_agree(&expected, &run(device, false, true), dtype))?;
            told("by steps, unobserved", all_agree(&expected, &run(device, false, false), dtype))?;
            told("in chunks", all_agree(&expected, &run(device, true, false), dtype))
        });
    }
}
