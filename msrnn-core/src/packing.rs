//! Rows in fewer bits: how a state holds keys and values, as data.
//!
//! Numbers that lie side by side are rounded to a grid of 2ᵇ points between the smallest and the largest of them: x
//! becomes low + n · scale with scale = (high − low) / (2ᵇ − 1) and n the nearest integer from 0 to 2ᵇ − 1, of two
//! equally near the even one. Held are n, in b bits, and scale and low once per group, in f16 (of states in f64 in f64).
//! Liu et al. 2024 (KIVI, arXiv 2402.02750, section 3.2).
//!
//! The newest rows are whole. Rows are packed at moments that follow from how many rows came, and some at once:
//! between two moments nothing changes, so that tokens run as blocks. Of `rows` rows the oldest
//! [`Side::packed`]`(rows)` are packed, ⌊(rows − recent) / every⌋ · every.
//!
//! - *Per token*, a group is neighbouring channels of one row, and rows are told by position: a row that goes frees its slot,
//!   whole or packed, and no other row changes.
//! - *Per channel*, a group is one channel of neighbouring rows, told by slot, oldest first: right where slots fill up in
//!   order. A cut of such a state rounds the rows that stay anew, in groups of what is left.

use std::fmt;

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

/// Bits of a packed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bits {
    /// 4 points.
    Two,
    /// 16 points.
    Four,
    /// 256 points.
    Eight,
}

impl Bits {
    /// How many.
    pub const fn number(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// That many, if a number can have them.
    pub const fn of(number: usize) -> Option<Self> {
        match number {
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }

    /// The highest n.
    pub(crate) const fn highest(self) -> u32 {
        (1 << self.number()) - 1
    }

    /// Numbers in a word of 32 bits.
    pub(crate) const fn per_word(self) -> usize {
        32 / self.number()
    }

    /// Words that hold so many numbers; the last one may be filled in part.
    pub(crate) const fn words(self, numbers: usize) -> usize {
        numbers.div_ceil(self.per_word())
    }
}

/// Which numbers share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Neighbouring channels of one row.
    Token,
    /// One channel of neighbouring rows.
    Channel,
}

/// How keys, or values, are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Which numbers share a scale.
    pub per: Per,
    /// The newest that many rows are always whole.
    pub recent: usize,
    /// So many rows are packed at once, at least 1.
    pub every: usize,
}

impl Side {
    /// Most rows that are whole.
    pub const fn whole(&self) -> usize {
        self.recent.saturating_add(self.every)
    }

    /// How many of the oldest of `rows` rows are packed.
    pub const fn packed(&self, rows: usize) -> usize {
        rows.saturating_sub(self.recent) / self.every * self.every
    }
}

/// How a state holds its rows, where it does not hold them as they were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Of a number.
    pub bits: Bits,
    /// Numbers that share a scale; the last group of a row may have fewer.
    pub group: usize,
    /// How keys are packed.
    pub keys: Side,
    /// How values are packed, which is per token.
    pub values: Side,
}

impl Packing {
    /// Numbers of a group where no number is named, as in KIVI.
    pub const GROUP: usize = 32;
    /// Newest rows that are whole where no number is named.
    pub const RECENT: usize = 32;

    /// Keys per token or per channel, values per token; `group` rows are packed at once.
    pub const fn new(bits: Bits, keys: Per, group: usize, recent: usize) -> Self {
        let values = Side { per: Per::Token, recent, every: group };
        Self { bits, group, keys: Side { per: keys, recent, every: group }, values }
    }

    /// KIVI: keys per channel, `residual` of them at once, which leaves none whole; values per token, one at every
    /// token, which leaves the newest `residual` whole.
    pub const fn kivi(bits: Bits, group: usize, residual: usize) -> Self {
        Self {
            bits,
            group,
            keys: Side { per: Per::Channel, recent: 0, every: residual },
            values: Side { per: Per::Token, recent: residual, every: 1 },
        }
    }

    /// The dtype of scales and lows of a state whose whole rows have a dtype.
    pub const fn scales(dtype: DType) -> DType {
        match dtype {
            DType::F64 => DType::F64,
            _ => DType::F16,
        }
    }

    /// Bytes of the keys and values of one head with that many slots: packed, and whole ones beside them.
    pub fn bytes(&self, slots: usize, head_dim: usize, dtype: DType) -> usize {
        let scale = 2 * Self::scales(dtype).size();
        let side = |side: &Side| {
            let words = slots.saturating_mul(self.bits.words(head_dim) * size_of::<u32>());
            let scales = match side.per {
                Per::Token => slots.saturating_mul(head_dim.div_ceil(self.group) * scale),
                Per::Channel => slots.div_ceil(self.group).saturating_mul(head_dim * scale),
            };
            words.saturating_add(scales).saturating_add(side.whole().saturating_mul(head_dim * dtype.size()))
        };
        side(&self.keys).saturating_add(side(&self.values))
    }

    /// Bytes of one head: of a slot, and beside all slots. The whole is never more than these say; as much, where
    /// keys are packed per token.
    pub fn bytes_per_slot(&self, head_dim: usize, dtype: DType) -> (usize, usize) {
        let table = |side: &Side| match side.per {
            Per::Token => 0,
            Per::Channel => 2 * head_dim * Self::scales(dtype).size(),
        };
        let tables = table(&self.keys) + table(&self.values);
        let none = self.bytes(0, head_dim, dtype);
        let whole_groups = self.bytes(self.group, head_dim, dtype) - none - tables;
        (whole_groups / self.group + tables.div_ceil(self.group), none + tables)
    }

    /// Fewest rows of which some are packed at one moment.
    pub(crate) fn every(&self) -> usize {
        self.keys.every.min(self.values.every)
    }
}

impl fmt::Display for Packing {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, group, keys, values } = self;
        let side = |side: &Side| {
            let per = match side.per {
                Per::Token => "token",
                Per::Channel => "channel",
            };
            let Side { recent, every, .. } = side;
            format!("per {per}, {every} rows at once, the newest {recent} to {} whole", recent + every - 1)
        };
        write!(f, "in {} bits, {group} numbers to a scale, ", bits.number())?;
        match keys == values {
            true => write!(f, "{}", side(keys)),
            false => write!(f, "keys {}; values {}", side(keys), side(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_rows_are_whole_and_as_many_more_as_are_packed_at_once(
            rows in 0..500usize, recent in 0..70usize, every in 1..70usize,
        ) {
            let side = Side { per: Per::Token, recent, every };
            let whole = rows - side.packed(rows);
            prop_assert!(whole >= recent.min(rows) && whole < side.whole(), "{} of {}", whole, rows);
            prop_assert!(side.packed(rows + 1) == side.packed(rows) || whole + 1 == side.whole());
        }

        #[test]
        fn bytes_by_slot_are_never_fewer_than_all_and_as_many_per_token(
            slots in 1..300usize, head_dim in 1..70usize, group in 1..40usize, recent in 0..40usize, channel in any::<bool>(),
        ) {
            let keys = if channel { Per::Channel } else { Per::Token };
            let packing = Packing::new(Bits::Four, keys, group, recent);
            let (each, beside) = packing.bytes_per_slot(head_dim, DType::F32);
            let (said, all) = (each * slots + beside, packing.bytes(slots, head_dim, DType::F32));
            prop_assert!(said >= all && (channel || said == all), "{} and {}", said, all);
        }
    }

    #[test]
    fn kivi_packs_keys_by_the_residual_and_values_one_by_one() {
        let kivi = Packing::kivi(Bits::Two, 4, 8);
        let packed = |rows| (kivi.keys.packed(rows), kivi.values.packed(rows));
        assert_eq!([7, 8, 9, 15, 16, 30].map(packed), [(0, 0), (8, 0), (8, 1), (8, 7), (16, 8), (24, 22)]);
    }
}
