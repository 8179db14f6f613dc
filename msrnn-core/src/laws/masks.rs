//! A row that is omitted is gone, which is the same as being hidden for ever.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::check;
use super::machine::{Machine, all_agree, widest};
use super::simulation::Simulation;
use super::text::Text;
use crate::policy::Policy;

/// Steps omit the rows and give the outputs that a simulation does which keeps the whole history
/// and hides omitted rows from attention and policy alike.
///
/// Says nothing of a policy that rewrites rows, since hidden rows have no part in that.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_mask_simulation_equals_physical_omission(policy: &Arc<dyn Policy>, device: &Device) {
    let dtype = widest(device);
    check("a_mask_simulation_equals_physical_omission", policy, |case| {
        let text = Text::new(case, device, dtype);
        let mut machine = Machine::bounded(case, case.batch, policy, device, dtype);
        machine.steps(&text, 0..case.tokens);
        let simulated: Vec<_> =
            (0..case.batch).map(|row| Simulation::trace(case, policy, device, dtype, &text.row(row))).collect();
        all_agree(&machine.trace(), &simulated, dtype)
    });
}
