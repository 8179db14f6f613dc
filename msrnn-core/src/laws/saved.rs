//! A state is all that matters of the past.

use std::sync::Arc;

use burn::tensor::Device;

use super::case::check;
use super::machine::{Machine, dtypes};
use super::text::Text;
use crate::policy::Policy;
use crate::state::MultiState;
use crate::state::snapshot::Snapshot;

/// A state that was written out, read back and put on the device again goes on as the one that was
/// not, to the last bit, and so does a fork.
///
/// # Panics
///
/// When it does not hold, with the smallest shape.
pub fn a_saved_and_reloaded_state_continues_identically(policy: &Arc<dyn Policy>, device: &Device) {
    for dtype in dtypes(device) {
        check("a_saved_and_reloaded_state_continues_identically", policy, |case| {
            let text = Text::new(case, device, dtype);
            let mut kept = Machine::bounded(case, case.batch, policy, device, dtype);
            kept.scans(&text, 0..case.cut, case);
            kept.trace();

            let written = serde_json::to_string(&kept.state.snapshot()).map_err(|error| error.to_string())?;
            let read: Snapshot = serde_json::from_str(&written).map_err(|error| error.to_string())?;
            let state = MultiState::restore(read, &kept.compression, device).map_err(|error| error.to_string())?;
            let mut reloaded = kept.with_state(state);
            let mut original = kept.with_state(kept.state.clone());
            let mut forked = kept.with_state(kept.state.clone());

            let rest = |machine: &mut Machine| {
                machine.scans(&text, case.cut..case.tokens, case);
                (machine.trace(), machine.state.held())
            };
            let expected = rest(&mut original);
            if rest(&mut reloaded) != expected {
                return Err(format!("after {} tokens the reloaded state goes on differently, in {dtype:?}", case.cut));
            }
            if rest(&mut forked) != expected {
                return Err(format!("after {} tokens the fork goes on differently, in {dtype:?}", case.cut));
            }
            Ok(())
        });
    }
}
