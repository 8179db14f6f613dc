//! States in the memory of burn's CPU backend: their tensors as slices, and packed rows.

mod coded;
mod opened;
mod pack;
mod packed;

pub(crate) use coded::OfCode;
pub(crate) use opened::{Opened, has_known_integers};
pub(crate) use pack::{pack, packs};
pub(crate) use packed::{OpenedCodes, PackedRows, whole};
