//! A state's tensors, to be read and written as slices.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::packed::whole;
use crate::kernels::flex::access::{close, close_int, open, open_int};
use crate::state::MultiState;

/// Whether positions, free slots and counters are in a dtype that the kernels read.
pub(crate) fn has_known_integers(state: &MultiState) -> bool {
    let found = [state.positions.dtype(), state.free.dtype(), state.next.dtype()];
    found == [DType::I32; 3] || found == [DType::I64; 3]
}

/// The tensors of a state, opened to be written.
pub(crate) struct Opened {
    pub(crate) keys: FlexTensor,
    pub(crate) values: FlexTensor,
    pub(crate) positions: FlexTensor,
    pub(crate) free: FlexTensor,
    pub(crate) next: FlexTensor,
    /// `[channels, batch · groups, slots]`
    pub(crate) memory: Option<FlexTensor>,
    /// `[batch, units, mergings]`
    pub(crate) thresholds: Option<FlexTensor>,
}

impl Opened {
    /// Takes them out of the state, which is not usable until they are back.
    pub(crate) fn take(state: &mut MultiState) -> Self {
        // Whole buffers, so that a slot's index is its place in memory.
        Self {
            keys: whole(open(state.keys.extract())),
            values: whole(open(state.values.extract())),
            positions: whole(open_int(state.positions.extract())),
            free: whole(open_int(state.free.extract())),
            next: whole(open_int(state.next.extract())),
            memory: state.memory.as_mut().map(|memory| whole(open(memory.extract()))),
            thresholds: state.thresholds.as_mut().map(|thresholds| whole(open(thresholds.extract()))),
        }
    }

    pub(crate) fn put_back(self, state: &mut MultiState) {
        state.keys = close(self.keys);
        state.values = close(self.values);
        state.positions = close_int(self.positions);
        state.free = close_int(self.free);
        state.next = close_int(self.next);
        if let (Some(memory), Some(opened)) = (&mut state.memory, self.memory) {
            *memory = close(opened);
        }
        if let (Some(thresholds), Some(opened)) = (&mut state.thresholds, self.thresholds) {
            *thresholds = close(opened);
        }
    }
}
