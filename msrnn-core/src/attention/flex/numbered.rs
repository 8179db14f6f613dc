//! Rows that are numbered anew at every step, rotated as they are read. The plain twin is [`Placement::rotate`].

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use crate::kernels::flex::access::open;
use crate::kernels::flex::number::{Index, Stored};
use crate::kernels::flex::rows::{Rows, Scratch};
use crate::kernels::flex::tile::Tile;
use crate::placement::Placement;
use crate::simd::{Real, wide};
use crate::state::flex::whole;

/// Whether a placement tells the host its numbers, and rotates by tables in that dtype.
pub(super) fn is_on_host(placement: &dyn Placement, dtype: DType) -> bool {
    let in_dtype = |[cos, sin]: [burn::tensor::Tensor<2>; 2]| cos.dtype() == dtype && sin.dtype() == dtype;
    placement.number_on_host(&[]).is_some() && placement.angles(1).is_none_or(in_dtype)
}

/// The numbers of all rows of a step.
pub(super) struct Numbered {
    /// By decision, `[rows]` each.
    numbers: Vec<Vec<i64>>,
    /// Cosines and sines by number; none where nothing is rotated.
    angles: Option<[FlexTensor; 2]>,
}

impl Numbered {
    /// positions: `[decisions, slots]`, of which the first `rows` may hold rows.
    pub(super) fn of<I: Index>(placement: &dyn Placement, positions: &[I], slots: usize, rows: usize) -> Self {
        let of_decision = |slots: &[I]| {
            let positions: Vec<i64> = slots[..rows].iter().map(|position| position.get()).collect();
            placement.number_on_host(&positions).expect("the placement tells the host its numbers")
        };
        let numbers: Vec<Vec<i64>> = positions.chunks_exact(slots).map(of_decision).collect();
        let highest = numbers.iter().flatten().max().map_or(0, |&highest| highest as usize);
        let angles = placement.angles(highest + 1).map(|angles| angles.map(|table| whole(open(table))));
        Self { numbers, angles }
    }

    /// Of the rows of a decision.
    pub(super) fn numbers(&self, decision: usize) -> &[i64] {
        &self.numbers[decision]
    }

    /// Of the rows of a decision; none where nothing is rotated.
    pub(super) fn angles<T: Real + Stored<T>>(&self, decision: usize) -> Option<Angles<'_, T>> {
        let [cos, sin] = self.angles.as_ref()?.each_ref().map(|table| T::of(table));
        Some(Angles { numbers: &self.numbers[decision], cos, sin })
    }
}

/// How rows are rotated.
#[derive(Clone, Copy)]
pub(super) struct Angles<'a, T> {
    /// By slot.
    numbers: &'a [i64],
    /// `[numbers, head_dim/2]`
    cos: &'a [T],
    sin: &'a [T],
}

impl<T: Real> Angles<'_, T> {
    /// Rotates a key, or a query, to the number of a slot.
    #[inline(always)]
    pub(super) fn rotate(&self, slot: usize, x: &mut [T]) {
        let half = x.len() / 2;
        // An empty slot may have any number, and is hidden.
        let first = self.numbers[slot].max(0) as usize * half;
        let (low, high) = x.split_at_mut(half);
        let angles = self.cos[first..first + half].iter().zip(&self.sin[first..first + half]);
        for ((low, high), (&cos, &sin)) in low.iter_mut().zip(high).zip(angles) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}

/// The keys of one head, rotated.
pub(super) struct Rotated<'a, T> {
    pub(super) keys: &'a dyn Rows<T>,
    pub(super) angles: Angles<'a, T>,
    pub(super) d: usize,
}

impl<T: Tile> Rows<T> for Rotated<'_, T> {
    fn read<'a>(&'a self, first: usize, n: usize, scratch: &'a mut Scratch<T>) -> &'a [T] {
        let mut rotated = std::mem::take(&mut scratch.rotated);
        rotated.clear();
        rotated.extend_from_slice(self.keys.read(first, n, scratch));
        wide(
            #[inline(always)]
            || {
                for (row, key) in rotated.chunks_exact_mut(self.d).enumerate() {
                    self.angles.rotate(first + row, key);
                }
            },
        );
        scratch.rotated = rotated;
        &scratch.rotated
    }
}
