//! Rows that are numbered anew, of which the oldest always goes: StreamingLLM (Xiao et al. 2023, arXiv 2309.17453, §3.2).
//!
//! What is held are the first i tokens of a text and the newest ones, so that the numbers jump in one place at most. Of the
//! newest rows a query is as far as it is in the text. Of the first ones it is as far as its own number says, which is known
//! before anything is decided. So a block of tokens rotates the keys once, by the text, and its queries twice.

use burn::tensor::{Int, Tensor, TensorData};

use super::Attention;
use crate::kernels;
use crate::placement::Placement;
use crate::state::MultiState;

/// How such rows are numbered.
#[derive(Clone, Copy)]
pub(super) struct Shifted<'p> {
    placement: &'p dyn Placement,
    /// i: rows of the first tokens, which never go.
    first: usize,
    /// k
    states: usize,
}

/// Queries and keys of a block, each rotated.
pub(super) struct Rotated {
    /// `[batch, heads, n, head_dim]`
    pub(super) query: Tensor<4>,
    /// `[batch, kv_heads, used, head_dim]`; none where no slot is in use.
    pub(super) old: Option<Tensor<4>>,
    /// `[batch, kv_heads, n, head_dim]`
    pub(super) new: Tensor<4>,
    /// What some queries make of the first rows instead.
    pub(super) first: Option<First>,
}

/// The first rows, as queries behind a gap see them.
pub(super) struct First {
    /// `[batch, heads, n, head_dim]`
    pub(super) query: Tensor<4>,
    /// `[batch, kv_heads, i, head_dim]`
    pub(super) keys: Tensor<4>,
    /// By batch row and group, where row s is among the candidates: old ones, then new ones.
    places: Vec<Vec<usize>>,
    /// By batch row, the first token of the block behind a gap; the number of tokens, if there is none.
    from: Vec<usize>,
}

impl Attention {
    /// How rows are numbered, if they are numbered anew and always the oldest goes, at every token.
    pub(super) fn shifted(&self, state: &MultiState) -> Option<Shifted<'_>> {
        let bound = state.bound.as_ref().filter(|bound| bound.is_strict() && !bound.merges())?;
        let placement = self.placement.as_deref().filter(|placement| {
            placement.is_relative() && placement.numbers_as_they_come() && placement.number_on_host(&[]).is_some()
        })?;
        bound.program().filter(|program| program.omits_the_oldest())?;
        let shifted = Shifted { placement, first: bound.plan.first, states: bound.states };
        // A window that no row in use is as far as hides nothing.
        let farthest = shifted.number(MultiState::MOST_TOKENS);
        self.window.is_none_or(|window| farthest < window as i64).then_some(shifted)
    }
}

impl Shifted<'_> {
    /// Whether something has gone before the query of a position attends, and the oldest row but the first ones which it
    /// then attends to.
    fn gap(&self, position: usize) -> Option<usize> {
        (position > self.states).then(|| position - (self.states - self.first))
    }

    /// That of the newest row, of a position.
    fn number(&self, position: usize) -> i64 {
        let Some(oldest) = self.gap(position) else { return position as i64 };
        let rows: Vec<i64> = (0..self.first).chain([oldest]).map(|position| position as i64).collect();
        let numbers = self.placement.number_on_host(&rows).expect("the placement tells the host its numbers");
        numbers[self.first] + (position - oldest) as i64
    }

    /// Rotates by numbers: x: `[sequences, heads, rows, head_dim]`, numbers: `[rows]` for each of them.
    fn rotate(&self, x: Tensor<4>, numbers: &[Vec<i64>]) -> Tensor<4> {
        let highest = numbers.iter().flatten().max().copied().unwrap_or(0);
        let Some(angles) = self.placement.angles(highest as usize + 1) else { return x };
        let ([_, _, rows, _], device) = (x.dims(), x.device());
        let all = TensorData::new(numbers.concat(), [numbers.len() * rows]);
        let all = Tensor::<1, Int>::from_data(all, &device);
        let [cos, sin] = angles.map(|table| {
            let half = table.dims()[1];
            table.select(0, all.clone()).reshape([numbers.len(), rows, half])
        });
        kernels::rotate(x, cos, sin)
    }

    /// A block's queries, keys in the slots in use, and its own; shapes as they come out. positions: of all candidates, by
    /// batch row and group.
    pub(super) fn block(
        &self,
        state: &MultiState,
        query: Tensor<4>,
        old: Option<Tensor<4>>,
        new: Tensor<4>,
        positions: &[&[i64]],
    ) -> Rotated {
        let [batch, kv_heads, n, head_dim] = new.dims();
        let (groups, used) = (state.groups(), old.as_ref().map_or(0, |old| old.dims()[2]));
        // Where numbers begin, so that they stay small however long the text: at the oldest row of which a query is as
        // far as in the text.
        let begin: Vec<i64> = state.seen.iter().map(|&seen| self.gap(seen).unwrap_or(0) as i64).collect();
        let of_keys: Vec<Vec<i64>> = positions
            .iter()
            .enumerate()
            .map(|(index, of)| of.iter().map(|position| (position - begin[index / groups]).max(0)).collect())
            .collect();
        let part = |from: usize, to: usize| of_keys.iter().map(|of| of[from..to].to_vec()).collect::<Vec<_>>();
        // A group is a sequence of its own: its rows may lie in other slots.
        let by_group = |x: Tensor<4>| match (groups, x.dims()[2]) {
            (1, _) => x,
            (_, rows) => x.reshape([batch * groups, kv_heads / groups, rows, head_dim]),
        };
        let by_head = |x: Tensor<4>| match (groups, x.dims()[2]) {
            (1, _) => x,
            (_, rows) => x.reshape([batch, kv_heads, rows, head_dim]),
        };
        let of_tokens = |number: &dyn Fn(usize, usize) -> i64| -> Vec<Vec<i64>> {
            let of_row =
                |(row, &seen): (usize, &usize)| (seen..seen + n).map(|position| number(row, position)).collect();
            state.seen.iter().enumerate().map(of_row).collect()
        };
        let from: Vec<usize> = state.seen.iter().map(|&seen| (self.states + 1).saturating_sub(seen).min(n)).collect();
        let first = (self.first > 0 && from.iter().any(|&from| from < n)).then(|| {
            let places: Vec<Vec<usize>> = positions
                .iter()
                .map(|of| {
                    let place = |row: i64| of.iter().position(|&position| position == row);
                    (0..self.first as i64).map_while(place).collect()
                })
                .collect();
            // Rows that have not come yet are seen by no such query.
            let index: Vec<i64> = places
                .iter()
                .flat_map(|places| (0..self.first).map(|row| places.get(row).map_or(0, |&place| place as i64)))
                .collect();
            let candidates = match &old {
                Some(old) if index.iter().all(|&place| place < used as i64) => old.clone(),
                Some(old) => Tensor::cat(vec![old.clone(), new.clone()], 2),
                None => new.clone(),
            };
            let index = TensorData::new(index, [batch * groups, 1, self.first, 1]);
            let index = Tensor::<4, Int>::from_data(index, &new.device());
            let index = index.expand([batch * groups, kv_heads / groups, self.first, head_dim]);
            let numbers = vec![(0..self.first as i64).collect(); batch * groups];
            First {
                query: self.rotate(query.clone(), &of_tokens(&|_, position| self.number(position))),
                keys: by_head(self.rotate(by_group(candidates).gather(2, index), &numbers)),
                places,
                from,
            }
        });
        Rotated {
            query: self.rotate(query, &of_tokens(&|row, position| position as i64 - begin[row])),
            old: old.map(|old| by_head(self.rotate(by_group(old), &part(0, used)))),
            new: by_head(self.rotate(by_group(new), &part(used, used + n))),
            first,
        }
    }
}

impl First {
    /// Puts its logits, `[batch, heads, n, i]`, in place of those of the candidates, `[batch, heads, n, used]` and
    /// `[batch, heads, n, n]`.
    pub(super) fn put<T: Copy>(&self, logits: &[T], old: &mut [T], new: &mut [T]) {
        let ([batch, heads, n, _], [_, kv_heads, first, _]) = (self.query.dims(), self.keys.dims());
        let (used, groups) = (old.len() / (batch * heads * n), self.places.len() / batch);
        for (index, logits) in logits.chunks_exact(first).enumerate() {
            let (line, token) = (index / n, index % n);
            let (row, head) = (line / heads, line % heads);
            if token < self.from[row] {
                continue;
            }
            let group = if groups == 1 { 0 } else { head / (heads / kv_heads) };
            for (&place, &logit) in self.places[row * groups + group].iter().zip(logits) {
                match place.checked_sub(used) {
                    None => old[index * used + place] = logit,
                    Some(place) => new[index * n + place] = logit,
                }
            }
        }
    }
}
