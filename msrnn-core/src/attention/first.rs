//! The first tokens of a text under a placement: while nothing has gone, rows have their positions as numbers, so that they are
//! rotated once and attended as any block is.

use burn::tensor::{Int, Tensor};

use super::Attention;
use crate::compression::Compression;
use crate::kernels::read;
use crate::placement::Placement;
use crate::precision::{accumulation, narrow};
use crate::state::{Left, MultiState};

impl Attention {
    /// The placement, if the next tokens are such.
    pub(super) fn numbers_first(&self, state: &MultiState) -> Option<&dyn Placement> {
        let placement = self.placement.as_deref().filter(|placement| placement.numbers_as_they_come())?;
        let empty = state.seen.iter().all(|&seen| seen == 0) && state.packed.is_none();
        // What is carried with rows is made of them token by token.
        (empty && state.channels().is_empty()).then_some(placement)
    }

    /// Tokens of which none makes a row go: equal to one after the other.
    pub(super) fn hold_first(
        &self,
        placement: &dyn Placement,
        [query, key, value]: [Tensor<4>; 3],
        state: &mut MultiState,
    ) -> Tensor<4> {
        state.note_queries(&query);
        let ([batch, _, n, _], dtype, device) = (query.dims(), query.dtype(), query.device());
        // As they are read from the state.
        let stored = |x: &Tensor<4>| read(narrow(x.clone(), state.shape.dtype), dtype);
        let plain = Self { placement: None, ..self.clone() };
        let wide = accumulation(dtype).into();
        let mut apart = plain.initial_state(batch, 0, 1, &Compression::Unbounded, wide, &device);
        let rotated = |x: Tensor<4>| {
            let heads = x.dims()[1];
            let numbers = Tensor::<1, Int>::arange(0..n as i64, &device).reshape([1, 1, n]).expand([batch, heads, n]);
            placement.rotate(x.clone().narrow(2, 0, 1), x, numbers).1
        };
        let attended = plain.hold([rotated(query), rotated(stored(&key)), stored(&value)], &mut apart);

        state.grow(n);
        let positions: Vec<i64> = (0..n as i64).collect();
        let alive = vec![true; n];
        let omitted = vec![None; n];
        let left = Left { positions: &positions, alive: &alive, channels: &[], omitted: &omitted, unscored: false };
        let of_each = vec![left; batch * state.groups()];
        state.take_in(key, value, &of_each, 0);
        attended
    }
}
