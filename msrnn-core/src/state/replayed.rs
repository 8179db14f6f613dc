//! A step that was captured once and is replayed, on devices that can: it works in the buffers that it was captured with.

use super::MultiState;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernels::cube;

impl MultiState {
    /// Takes over the values of another state of the same shape, in this one's own buffers where the
    /// device has kernels.
    pub fn overwrite(&mut self, other: &MultiState) {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if self.packed.is_none() && cube::is_here(&self.keys) {
            cube::overwrite(&self.keys, &other.keys);
            cube::overwrite(&self.values, &other.values);
            cube::overwrite_int(&self.positions, &other.positions);
            cube::overwrite_int(&self.free, &other.free);
            cube::overwrite_int(&self.next, &other.next);
            if let (Some(memory), Some(other)) = (&self.memory, &other.memory) {
                cube::overwrite(memory, other);
            }
            self.seen.clone_from(&other.seen);
            self.held.clone_from(&other.held);
            self.max_rows = other.max_rows;
            self.latest.clone_from(&other.latest);
            self.thresholds.clone_from(&other.thresholds);
            self.omitted.clone_from(&other.omitted);
            self.first_omission.clone_from(&other.first_omission);
            self.unscored.clone_from(&other.unscored);
            return;
        }
        self.clone_from(other);
    }

    /// Counts a token that a replayed step has seen to on the device.
    pub fn count_replayed(&mut self) {
        self.omit_where_full(1);
        self.count_omitting(1);
    }
}
