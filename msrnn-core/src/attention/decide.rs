//! Who goes: what a rule is shown of a step, its scores, and the cut that follows from them.

use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::attention::blocked::Decision;
use crate::attention::{Attended, Attention};
use crate::kernels::product;
use crate::kernels::read;
use crate::omission::{omitted, pooled_survivors, protected, survivors};
use crate::placement::Placement;
use crate::precision::accumulation;
use crate::state::MultiState;
use crate::state::bound::Bound;
use crate::tensors::{Latest, Rows, View};

impl Attention {
    /// The sliding window, if it may hide rows of a state from all queries after that of position `now`.
    ///
    /// None where rows are numbered anew: which of them a later query sees then depends on which go.
    pub(crate) fn window_after(&self, now: usize) -> Option<i64> {
        let window = self.window.filter(|&window| self.placement.is_none() && now + 1 >= window);
        window.map(|window| window as i64)
    }

    /// How a program decides up to the token of position `last`; none where the rule is tensor code.
    pub(crate) fn decision<'b>(&self, bound: &'b Bound, last: usize, goes: bool) -> Option<Decision<'b>> {
        let protected = [bound.plan.first, bound.plan.newest];
        let states = goes.then_some(bound.states);
        bound.program().map(|program| Decision { program, states, protected, window: self.window_after(last) })
    }

    /// Lets the rule decide on tensors, and counts the token: what was attended, NaN where rows had to
    /// go by scores that are not numbers. So that is seen in the logits, and nothing has to be read back for it.
    pub(crate) fn decide(&self, attended: Attended, state: &mut MultiState, rows: usize) -> Tensor<3> {
        let goes = state.any_full();
        if !goes && !state.remembers() {
            state.advance_holding();
            return attended.output;
        }
        let (scores, view) = self.score(&attended, state, rows, state.seen[0]);
        if !goes {
            state.advance_holding();
            return attended.output;
        }
        let [batch, heads, head_dim] = attended.output.dims();
        let groups = state.groups();
        let unscored = match state.is_strict() {
            true => self.omit(scores, &view, state),
            false => {
                let full: Vec<bool> = (0..batch).map(|row| state.is_full(row)).collect();
                let unscored = self.cut(scores, &view, state, &full);
                if unscored.iter().all(Option::is_none) {
                    return attended.output;
                }
                let unscored: Vec<bool> = unscored.iter().map(Option::is_some).collect();
                Tensor::<1, Bool>::from_data(unscored.as_slice(), &state.device()).reshape([batch, groups, 1])
            }
        };
        state.note_unscored(unscored.clone());
        let unscored = unscored.reshape([batch, groups, 1, 1]).expand([batch, groups, heads / groups, head_dim]);
        attended.output.mask_fill(unscored.reshape([batch, heads, head_dim]), f32::NAN)
    }

    /// One row goes in every batch row that is full. Whether its scores were no numbers, `[batch, groups, 1]`.
    fn omit(&self, scores: Tensor<3>, view: &View, state: &mut MultiState) -> Tensor<3, Bool> {
        let nan = scores.clone().is_nan();
        let mut unscored = nan.clone().any_dim(2);
        let slot = omitted(scores.mask_fill(nan, f32::INFINITY), view);
        if let Some(dead) = view.dead() {
            // It goes whatever the scores.
            unscored = unscored.bool_and(dead.any_dim(2).bool_not());
        }
        let bound = state.bound.clone().expect("only a bounded state omits");
        if bound.plan.rewrites() {
            let full: Vec<bool> = (0..state.shape.batch).map(|row| state.is_full(row)).collect();
            rewrite(&bound, view, &slot, state, &full);
        }
        if !state.all_full() {
            // Elsewhere empty slots may score anything, and nothing goes.
            let full: Vec<bool> = (0..state.shape.batch).map(|row| state.is_full(row)).collect();
            let full = Tensor::<1, Bool>::from_data(full.as_slice(), &state.device()).reshape([full.len(), 1, 1]);
            unscored = unscored.clone().bool_and(full.expand(unscored.dims()));
        }
        state.advance_omitting(slot);
        unscored
    }

    /// Counts the token that was appended, and cuts the batch rows that are `full` back to k. For every batch row
    /// and group, the position of a row of those whose score is not a number. Reads the scores back.
    pub(crate) fn cut(
        &self,
        scores: Tensor<3>,
        view: &View,
        state: &mut MultiState,
        full: &[bool],
    ) -> Vec<Option<usize>> {
        let bound = state.bound.clone().expect("only a bounded state is cut");
        let [batch, groups, rows] = scores.dims();
        let host = |x: Tensor<3>| x.into_data().convert::<f64>().try_into_vec::<f64>().expect("scores are numbers");
        let scores = host(scores);
        let positions = view.positions.to_data().convert::<i64>();
        let positions: &[i64] = positions.as_slice().expect("positions are integers");
        let mut keep = Vec::with_capacity(batch);
        let mut unscored = vec![None; batch * groups];
        if let Some(safe) = bound.safe() {
            // From here on the heads are states of their own.
            for row in 0..batch {
                let (held, now) = (state.held[row] + 1, state.seen[row]);
                let of_groups = |values: &dyn Fn(usize) -> usize| (0..groups).map(values).collect::<Vec<_>>();
                let firsts = of_groups(&|group| (row * groups + group) * rows);
                let scores: Vec<Vec<f64>> = firsts.iter().map(|&of| scores[of..of + held].to_vec()).collect();
                let positions: Vec<Vec<i64>> = firsts.iter().map(|&of| positions[of..of + held].to_vec()).collect();
                for (group, (scores, positions)) in scores.iter().zip(&positions).enumerate().filter(|_| full[row]) {
                    let nan = scores.iter().position(|score| score.is_nan());
                    unscored[row * groups + group] = nan.map(|slot| positions[slot] as usize);
                }
                keep.push(match full[row] {
                    false => vec![(0..held).collect(); groups],
                    true => {
                        let budget = (bound.states * groups, safe);
                        pooled_survivors(&scores, &positions, now as i64, budget, self.window_after(now))
                    }
                });
            }
            if bound.plan.rewrites() {
                rewrite(&bound, view, &gone(&keep, state), state, full);
            }
            state.split();
            for (head, kept) in state.heads.iter_mut().zip(keep.into_iter().flatten()) {
                head.advance_cutting(&[vec![kept]]);
            }
            state.count_in_heads(1);
            return unscored;
        }
        for row in 0..batch {
            let (held, now) = (state.held[row] + 1, state.seen[row]);
            let of_group = |group: usize| {
                let of = (row * groups + group) * rows;
                let (scores, positions) = (&scores[of..of + held], &positions[of..of + held]);
                if !full[row] {
                    return ((0..held).collect(), None);
                }
                let nan = scores.iter().position(|score| score.is_nan()).map(|slot| positions[slot] as usize);
                let window = self.window_after(now);
                (survivors(scores, positions, now as i64, bound.states, window), nan)
            };
            let (kept, nan): (Vec<Vec<usize>>, Vec<Option<usize>>) = (0..groups).map(of_group).unzip();
            keep.push(kept);
            unscored[row * groups..(row + 1) * groups].copy_from_slice(&nan);
        }
        if bound.plan.rewrites() {
            rewrite(&bound, view, &gone(&keep, state), state, full);
        }
        state.advance_cutting(&keep);
        unscored
    }

    /// The rule's scores of the first `rows` slots, what is protected at +∞, its memory updated. `now` is the
    /// current token's position where all batch rows have seen equally many.
    pub(crate) fn score(
        &self,
        attended: &Attended,
        state: &mut MultiState,
        rows: usize,
        now: usize,
    ) -> (Tensor<3>, View) {
        let bound = state.bound.clone().expect("only a bounded state scores");
        let (batch, groups) = (state.shape.batch, state.groups());
        let (sees, is_level) = (bound.sees(), state.seen.iter().all(|&seen| seen == state.seen[0]));
        let last = if is_level { now } else { state.newest(0) };
        let view = View {
            decides: bound.decides(),
            states: bound.states,
            layer: state.shape.layer,
            first_head: state.first_head,
            window: self.window_after(last),
            wide: accumulation(attended.weights.dtype()),
            weights: sees.weights.then(|| attended.weights.clone()),
            logits: attended.logits.clone(),
            keys: sees.keys.then(|| self.keys_in_use(state, rows)),
            values: sees.values.then(|| state.values().narrow(2, 0, rows)),
            latest: (sees.queries > 0).then(|| self.latest(state, rows)),
            positions: state.positions().narrow(2, 0, rows),
            now: match is_level {
                true => Tensor::full([batch, groups, 1], now as i64, &state.device()),
                false => state.now(),
            },
        };
        let mut memory = state.lend_memory(rows);
        let scores = match (bound.program(), bound.tensors()) {
            (Some(program), _) => program.in_tensors(&view, &mut memory),
            (None, Some(tensors)) => tensors.score(&view, &mut memory),
            (None, None) => unreachable!("a rule is a program or tensor code"),
        };
        state.return_memory(memory, rows);
        (protected(scores, &view, [bound.plan.first, bound.plan.newest]), view)
    }

    /// What the latest queries make of the first `rows` slots.
    fn latest(&self, state: &MultiState, rows: usize) -> Latest {
        let query = state.latest.clone().expect("queries are noted for a rule that looks at them");
        let [batch, heads, n, head_dim] = query.dims();
        let (group, dtype, kv_heads) = (heads / self.kv_heads, query.dtype(), self.kv_heads);
        let keys = read(state.keys().narrow(2, 0, rows), dtype);
        let positions = state.positions().narrow(2, 0, rows);
        let numbers = self.placement.as_ref().map(|placement| placement.number(positions.clone()));
        let logits = match (&self.placement, &numbers) {
            (Some(placement), Some(numbers)) => {
                let each = (0..n).map(|i| {
                    let query = query.clone().narrow(2, i, 1);
                    self.placed(placement.as_ref(), query, keys.clone(), numbers.clone(), n - 1 - i)
                });
                Tensor::cat(each.collect(), 3)
            }
            _ => {
                let query = query.mul_scalar(self.scale).reshape([batch, kv_heads, group * n, head_dim]);
                product(query, keys.swap_dims(2, 3)).reshape([batch, kv_heads, group, n, rows])
            }
        };
        let groups = state.groups();
        let dims = [batch, groups, n, rows];
        let back = Tensor::<1, Int>::arange(1 - n as i64..1, &state.device()).reshape([1, 1, n, 1]).expand(dims);
        let ages = |of_rows: Tensor<3, Int>, now: Tensor<3, Int>| {
            let of_queries = now.reshape([batch, groups, 1, 1]).expand(dims) + back.clone();
            (of_queries.clone() - of_rows.reshape([batch, groups, 1, rows]).expand(dims), of_queries)
        };
        let (age, of_queries) = ages(positions.clone(), state.now());
        let empty = positions.lower_elem(0).reshape([batch, groups, 1, rows]).expand(dims);
        let mut hidden = age.clone().lower_elem(0).bool_or(empty).bool_or(of_queries.lower_elem(0));
        if let Some(window) = self.window {
            let distance = numbers.map_or(age, |numbers| ages(numbers.clone(), numbers.max_dim(2)).0);
            hidden = hidden.bool_or(distance.greater_equal_elem(window.min(i32::MAX as usize) as i64));
        }
        let hidden = hidden
            .reshape([batch, groups, 1, n, rows])
            .expand([batch, groups, heads / groups, n, rows])
            .reshape([batch, kv_heads, group, n, rows]);
        Latest { logits, hidden }
    }

    /// The keys of the first `rows` slots, rotated as they are attended: `[batch, kv_heads, rows, head_dim]`.
    fn keys_in_use(&self, state: &MultiState, rows: usize) -> Tensor<4> {
        let keys = state.keys().narrow(2, 0, rows);
        let Some(placement) = &self.placement else { return keys };
        let [batch, kv_heads, _, head_dim] = keys.dims();
        let dtype = keys.dtype();
        let numbers = placement.number(state.positions().narrow(2, 0, rows)).expand([batch, kv_heads, rows]);
        // Only the keys are asked for; a placement rotates them beside a query.
        let wide = accumulation(dtype).into();
        let query = Tensor::zeros([batch, self.heads, 1, head_dim], (&keys.device(), wide));
        placement.rotate(query, read(keys, wide), numbers).1
    }

    /// Logits of the query of `back` tokens ago where rows are numbered anew: `[batch, kv_heads, group, 1, rows]`. It is
    /// put where its own row is, if that is held, as by all rules that look at more than the current query.
    ///
    /// query: `[batch, heads, 1, head_dim]`
    fn placed(
        &self,
        placement: &dyn Placement,
        query: Tensor<4>,
        keys: Tensor<4>,
        numbers: Tensor<3, Int>,
        back: usize,
    ) -> Tensor<5> {
        let [batch, kv_heads, rows, head_dim] = keys.dims();
        let group = self.heads / kv_heads;
        let place = numbers.clone().max_dim(2).sub_scalar(back as i64).clamp_min(0).expand(numbers.dims());
        // A placement rotates a query that has the highest number. Rows behind it are hidden from it anyway.
        let numbers = numbers.clone().mask_where(numbers.greater(place.clone()), place);
        let (query, keys) = placement.rotate(query, keys, numbers.expand([batch, kv_heads, rows]));
        let query = query.mul_scalar(self.scale).reshape([batch, kv_heads, group, head_dim]);
        product(query, keys.swap_dims(2, 3)).reshape([batch, kv_heads, group, 1, rows])
    }
}

/// Slots of the rows that go, `[batch, groups, n]`, −1 where fewer do, given those that stay of all that are held
/// and the new one.
pub(crate) fn gone(keep: &[Vec<Vec<usize>>], state: &MultiState) -> Tensor<3, Int> {
    let gone = keep.iter().zip(&state.held).flat_map(|(groups, &held)| {
        let of_group = move |kept: &Vec<usize>| (0..=held).filter(|slot| kept.binary_search(slot).is_err()).collect();
        groups.iter().map(of_group)
    });
    let gone: Vec<Vec<usize>> = gone.collect();
    let most = gone.iter().map(Vec::len).max().unwrap_or(0);
    let slots = gone.iter().flat_map(|slots| (0..most).map(|i| slots.get(i).map_or(-1, |&slot| slot as i64)));
    let dims = [keep.len(), gone.len() / keep.len(), most];
    Tensor::from_data(TensorData::new(slots.collect::<Vec<i64>>(), dims), &state.device())
}

/// Lets the rule change keys and values and merges rows, in the batch rows that are `full`: those of which rows go.
pub(crate) fn rewrite(bound: &Bound, view: &View, omitted: &Tensor<3, Int>, state: &mut MultiState, full: &[bool]) {
    let before = full.contains(&false).then(|| (state.keys(), state.values()));
    let mut rows = Rows { keys: state.keys(), values: state.values() };
    if let Some(tensors) = bound.tensors() {
        tensors.rewrite(view, omitted, &mut rows);
    }
    let unmoved = state.thresholds.clone();
    for (index, merging) in bound.plan.merging.iter().enumerate() {
        let mut of_merging = state.thresholds.as_ref().map(|all| all.clone().narrow(2, index, 1));
        merging.in_tensors(view, omitted, &mut rows, of_merging.as_mut());
        if let (Some(all), Some(moved)) = (&mut state.thresholds, of_merging) {
            let [batch, units, _] = all.dims();
            all.inplace(|all| all.slice_assign([0..batch, 0..units, index..index + 1], moved));
        }
    }
    if let Some((keys, values)) = before {
        let dims = keys.dims();
        let full = Tensor::<1, Bool>::from_data(full, &state.device()).reshape([dims[0], 1, 1, 1]);
        if let (Some(thresholds), Some(unmoved)) = (&mut state.thresholds, unmoved) {
            let full = full.clone().reshape([dims[0], 1, 1]).expand(unmoved.dims());
            thresholds.inplace(|moved| unmoved.mask_where(full, moved));
        }
        let full = full.expand(dims);
        rows = Rows { keys: keys.mask_where(full.clone(), rows.keys), values: values.mask_where(full, rows.values) };
    }
    state.set_rows(rows);
}
