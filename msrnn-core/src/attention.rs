//! Attention over a multi-state: append, attend, omit.
//!
//! Oren et al. 2024 (arXiv 2401.06104), equations 6, 7 and 9. The query of a step attends over all
//! rows, its own included, with the softmax over exactly those; then, if there are as many rows as the
//! policy's plan allows, it is cut back to k. The two protocols of the paper:
//!
//! - *strict*, [`Attention::step`] and [`Attention::scan`]: every token is such a step, the
//!   prompt's too;
//! - *prefill*, [`Attention::prefill`]: the prompt is one causal block with full attention, then
//!   the state is cut to k rows at once.
//!
//! All of them are one loop. Tokens that make no row go are attended as whole blocks, whatever the policy is
//! written in. A token at which rows go is a step that ends with a cut. Only where a row goes at *every* token
//! and the score is data are the decisions made inside blocks (`blocked.rs`, and a kernel on GPUs): see
//! [`Road`].

use std::sync::Arc;

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::blocked::Decision;
use crate::bound::Bound;
use crate::error::Error;
use crate::kernels::{self, product};
use crate::omission::{omitted, pooled_survivors, protected, survivors};
use crate::placement::Placement;
use crate::policy::Compression;
use crate::precision::{accumulation, is_finite, narrow, read, softmax};
use crate::road::Road;
use crate::state::{MultiState, StateShape};
use crate::tensors::{Latest, Rows, Tensors, View};

/// Tokens that are attended at once. Every token is matched against the whole block, so that a longer one
/// computes more logits for nothing, and a shorter one multiplies smaller matrices.
const BLOCK: usize = 32;

/// The shape of a layer's attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads; query heads `h·group .. (h+1)·group` read KV head `h`.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Factor before the softmax.
    pub scale: f64,
    /// Sliding window: rows that many or more positions before the query are masked, though still held. The
    /// positions are those in use: where a placement numbers rows anew, its numbers.
    pub window: Option<usize>,
    /// Positions numbered anew in every step; none keeps the original ones.
    pub placement: Option<Arc<dyn Placement>>,
}

/// `n` tokens of a block, from the `first` on, of query, key and value.
fn part(tokens: [&Tensor<4>; 3], first: usize, n: usize) -> [Tensor<4>; 3] {
    tokens.map(|x| x.clone().narrow(2, first, n))
}

/// What one token attends to.
pub(crate) struct Attended {
    /// `[batch, heads, head_dim]`
    pub(crate) output: Tensor<3>,
    /// `[batch, kv_heads, group, rows]`
    pub(crate) weights: Tensor<4>,
    /// The same before the softmax, where the rule looks at it.
    pub(crate) logits: Option<Tensor<4>>,
}

impl Attention {
    /// An empty state for a batch, of a layer of a stack of `layers`.
    pub fn initial_state(
        &self,
        batch: usize,
        layer: usize,
        layers: usize,
        compression: &Compression,
        dtype: DType,
        device: &Device,
    ) -> MultiState {
        let shape = StateShape { batch, kv_heads: self.kv_heads, head_dim: self.head_dim, layer, layers, dtype };
        MultiState::new(shape, compression, device)
    }

    /// One token of every batch row.
    ///
    /// # Shapes
    ///
    /// - query, output: `[batch, heads, head_dim]`
    /// - key, value: `[batch, kv_heads, head_dim]`
    pub fn step(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, state: &mut MultiState) -> Tensor<3> {
        let [batch, heads, head_dim] = query.dims();
        if state.is_ragged() {
            let [query, key, value] = [query, key, value].map(|x| x.unsqueeze_dim::<4>(2));
            return self.scan(query, key, value, state).reshape([batch, heads, head_dim]);
        }
        state.note_queries(&query.clone().reshape([batch, heads, 1, head_dim]));
        kernels::step(self, query, key, value, state)
    }

    /// `n` tokens of every batch row: equal to `n` steps.
    ///
    /// # Shapes
    ///
    /// - query, output: `[batch, heads, n, head_dim]`
    /// - key, value: `[batch, kv_heads, n, head_dim]`
    pub fn scan(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, state: &mut MultiState) -> Tensor<4> {
        let (n, tokens) = (query.dims()[2], [&query, &key, &value]);
        let inside = matches!(self.road(state), Road::InBlocks | Road::InKernels);
        let mut attended = Vec::new();
        let mut done = 0;
        while done < n {
            let room = state.room(n - done);
            let (part, next) = match room {
                room if state.is_ragged() => {
                    let (m, cuts) = if room == 0 { (1, true) } else { (room, false) };
                    (self.in_heads(part(tokens, done, m), state, cuts), done + m)
                }
                // What remembers is shown every token on the way anyway.
                _ if n > 1 && inside && (state.remembers() || room <= 1) => {
                    (self.decide_inside(part(tokens, done, n - done), state, true), n)
                }
                0 => (self.scan_token(part(tokens, done, 1), state), done + 1),
                _ if n == 1 => (self.scan_token(part(tokens, done, 1), state), done + 1),
                room => (self.hold(part(tokens, done, room), state), done + room),
            };
            attended.push(part);
            done = next;
        }
        match attended.len() {
            1 => attended.remove(0),
            _ => Tensor::cat(attended, 2),
        }
    }

    /// The prefill protocol: `n` tokens with full causal attention, then a cut to k rows at once by
    /// the scores that the last of them gives. A policy with memory gathers it from all of them.
    ///
    /// Shapes as in [`Attention::scan`]. Reads the scores back, once.
    ///
    /// # Errors
    ///
    /// When the state has already seen tokens.
    pub fn prefill(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
    ) -> Result<Tensor<4>, Error> {
        if let Some(&seen) = state.seen.iter().find(|&&seen| seen > 0) {
            return Err(Error::PrefillNotFirst(seen));
        }
        let (n, tokens) = (query.dims()[2], [&query, &key, &value]);
        if state.states().is_none_or(|states| n <= states) {
            return Ok(self.scan(query, key, value, state));
        }
        state.grow(n + 1);
        let mut attended = Vec::new();
        if n > 1 {
            attended.push(self.hold(part(tokens, 0, n - 1), state));
        }
        let [query, key, value] = part(tokens, n - 1, 1);
        state.note_queries(&query);
        let [query, key, value] = [query, key, value].map(|x| x.squeeze_dim::<3>(2));
        let rows = state.rows_in_step();
        state.append(key, value);
        let last = self.attend(query, state, rows, 0);
        let (scores, view) = self.score(&last, state, rows, n - 1);
        let unscored = self.cut(scores, &view, state, &vec![true; state.shape.batch]);
        // What the model itself made no number of is seen in what it makes of it.
        if let Some((group, position)) = unscored.into_iter().enumerate().find_map(|(i, row)| Some((i, row?)))
            && is_finite(last.output.clone())
        {
            let bound = state.bound.as_ref().expect("only a bounded state is cut");
            return Err(Error::NoScore {
                policy: bound.policy.clone(),
                layer: state.shape.layer,
                position,
                token: n - 1,
                row: group / state.groups(),
            });
        }
        let [batch, heads, head_dim] = last.output.dims();
        attended.push(last.output.reshape([batch, heads, 1, head_dim]));
        Ok(Tensor::cat(attended, 2))
    }

    /// How tokens at which rows go are seen to.
    pub fn road(&self, state: &MultiState) -> Road {
        Road::of(self, state)
    }

    /// A block of one token as a step.
    fn scan_token(&self, token: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        let [query, key, value] = token.map(|x| x.squeeze_dim::<3>(2));
        let attended = self.step(query, key, value, state);
        let [batch, heads, head_dim] = attended.dims();
        attended.reshape([batch, heads, 1, head_dim])
    }

    /// Tokens of which none makes a row go.
    fn hold(&self, tokens: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        let tensors = state.bound.as_ref().is_some_and(|bound| bound.tensors().is_some());
        if self.placement.is_some() || (tensors && state.remembers()) {
            let each: Vec<_> = (0..n).map(|t| self.show(part(tokens.each_ref(), t, 1), state)).collect();
            return Tensor::cat(each, 2);
        }
        if state.remembers() {
            return self.decide_inside(tokens, state, false);
        }
        state.note_queries(&tokens[0]);
        state.grow(state.held.iter().max().map_or(n, |held| held + n));
        if let Some(attended) = kernels::block(self, tokens.each_ref(), state) {
            return attended;
        }
        self.in_blocks(tokens, state, |attention, [query, key, value], state| {
            attention.scan_blocked(query, key, value, state, None)
        })
    }

    /// Tokens that a program decides about, or is only shown where no row `goes`.
    fn decide_inside(&self, tokens: [Tensor<4>; 3], state: &mut MultiState, goes: bool) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        state.note_queries(&tokens[0]);
        if !goes {
            state.grow(state.held.iter().max().map_or(n, |held| held + n));
        }
        let bound = state.bound.clone().expect("what decides has a bound");
        let last = state.newest(n - 1);
        let decision = self.decision(&bound, last, goes).expect("what decides inside blocks is a program");
        self.in_blocks(tokens, state, |attention, tokens, state| {
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            if let Some(attended) = kernels::decide(attention, tokens.each_ref(), state, Some(decision)) {
                return attended;
            }
            let [query, key, value] = tokens;
            attention.scan_blocked(query, key, value, state, Some(decision))
        })
    }

    fn in_blocks(
        &self,
        tokens: [Tensor<4>; 3],
        state: &mut MultiState,
        block: impl Fn(&Self, [Tensor<4>; 3], &mut MultiState) -> Tensor<4>,
    ) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        let blocks =
            (0..n).step_by(BLOCK).map(|first| block(self, part(tokens.each_ref(), first, BLOCK.min(n - first)), state));
        Tensor::cat(blocks.collect(), 2)
    }

    /// One token that makes no row go, in burn's operations; a rule that remembers is shown it.
    fn show(&self, token: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        state.note_queries(&token[0]);
        let [query, key, value] = token.map(|x| x.squeeze_dim::<3>(2));
        state.grow(state.held.iter().max().map_or(1, |held| held + 1));
        let rows = state.rows_in_step();
        state.append(key, value);
        let attended = self.attend(query, state, rows, 0);
        if state.remembers() {
            self.score(&attended, state, rows, state.seen[0]);
        }
        state.advance_holding();
        let [batch, heads, head_dim] = attended.output.dims();
        attended.output.reshape([batch, heads, 1, head_dim])
    }

    /// Attends over the first `rows` slots. The query comes `ahead` tokens after those counted as seen.
    pub(crate) fn attend(&self, query: Tensor<3>, state: &MultiState, rows: usize, ahead: usize) -> Attended {
        let [batch, heads, head_dim] = query.dims();
        let (group, dtype) = (heads / self.kv_heads, query.dtype());
        let mut keys = read(state.keys().narrow(2, 0, rows), dtype);
        let mut query = query.reshape([batch, heads, 1, head_dim]);
        let numbers = self.placement.as_ref().map(|placement| placement.number(state.positions().narrow(2, 0, rows)));
        if let (Some(placement), Some(numbers)) = (&self.placement, &numbers) {
            let of_heads = numbers.clone().expand([batch, self.kv_heads, rows]);
            (query, keys) = placement.rotate(query, keys, of_heads);
        }
        let query = query.mul_scalar(self.scale).reshape([batch, self.kv_heads, group, head_dim]);
        let mut logits = product(query, keys.swap_dims(2, 3));
        let shown = state.bound.as_ref().is_some_and(|bound| bound.sees().logits);
        let before = shown.then(|| logits.clone().cast(accumulation(dtype)));
        if let Some(hidden) = self.hidden(state, rows, ahead, numbers) {
            let groups = hidden.dims()[1];
            let hidden = hidden.reshape([batch, groups, 1, rows]).expand([batch, self.kv_heads, group, rows]);
            logits = logits.mask_fill(hidden, f32::NEG_INFINITY);
        }
        let weights = softmax(logits);
        let attended = product(narrow(weights.clone(), dtype), read(state.values().narrow(2, 0, rows), dtype));
        Attended { output: attended.reshape([batch, heads, head_dim]), weights, logits: before }
    }

    /// Slots that the current query does not see: empty ones, and those outside the sliding window, by
    /// their `numbers` where rows are numbered anew. None when it sees them all, as in the steady state of a
    /// bounded layer.
    fn hidden(
        &self,
        state: &MultiState,
        rows: usize,
        ahead: usize,
        numbers: Option<Tensor<3, Int>>,
    ) -> Option<Tensor<3, Bool>> {
        let newest = state.newest(ahead);
        let empty = state.held.iter().any(|&held| held + ahead + 1 < rows).then(|| state.empty(rows));
        // A row cannot be older than the number of tokens seen.
        let outside = self.window.filter(|&window| numbers.is_some() || newest >= window).map(|window| {
            let (rows, now) = match numbers {
                Some(numbers) => (numbers.clone(), numbers.max_dim(2)),
                None => (state.positions().narrow(2, 0, rows), state.now().add_scalar(ahead as i64)),
            };
            let now = now.expand(rows.dims());
            (now - rows).greater_equal_elem(window.min(i32::MAX as usize) as i64)
        });
        match (empty, outside) {
            (Some(empty), Some(outside)) => Some(empty.bool_or(outside)),
            (empty, outside) => empty.or(outside),
        }
    }
}

/// Who goes.
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
        if let Some(tensors) = bound.tensors().filter(|tensors| tensors.rewrites()) {
            let full: Vec<bool> = (0..state.shape.batch).map(|row| state.is_full(row)).collect();
            rewrite(tensors, view, &slot, state, &full);
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
    fn cut(&self, scores: Tensor<3>, view: &View, state: &mut MultiState, full: &[bool]) -> Vec<Option<usize>> {
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
                let of_groups =
                    |values: &dyn Fn(usize) -> usize| (0..groups).map(|group| values(group)).collect::<Vec<_>>();
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
            if let Some(tensors) = bound.tensors().filter(|tensors| tensors.rewrites()) {
                rewrite(tensors, view, &gone(&keep, state), state, full);
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
        if let Some(tensors) = bound.tensors().filter(|tensors| tensors.rewrites()) {
            rewrite(tensors, view, &gone(&keep, state), state, full);
        }
        state.advance_cutting(&keep);
        unscored
    }

    /// Tokens of a state whose heads are states of their own; if one `cuts`, it is one, and the heads of the batch rows
    /// that are full compete for what stays. Shapes as in [`Attention::scan`].
    fn in_heads(&self, tokens: [Tensor<4>; 3], state: &mut MultiState, cuts: bool) -> Tensor<4> {
        let [batch, heads, n, head_dim] = tokens[0].dims();
        let (kv_heads, group) = (self.kv_heads, heads / self.kv_heads);
        let single = Attention { heads: group, kv_heads: 1, ..self.clone() };
        let full: Vec<bool> = (0..batch).map(|row| state.is_full(row)).collect();
        let bound = state.bound.clone().expect("heads that compete have a bound");
        let part = |index: usize| {
            let (row, head) = (index / kv_heads, index % kv_heads);
            let own = |x: &Tensor<4>, heads: usize| {
                x.clone().slice([row..row + 1, head * heads..(head + 1) * heads, 0..n, 0..head_dim])
            };
            [own(&tokens[0], group), own(&tokens[1], 1), own(&tokens[2], 1)]
        };
        let outputs: Vec<Tensor<4>> = if cuts {
            let looks: Vec<_> =
                state.heads.iter_mut().enumerate().map(|(i, head)| single.look(part(i), head)).collect();
            let mut outputs = Vec::with_capacity(looks.len());
            for row in 0..batch {
                let of_row = row * kv_heads..(row + 1) * kv_heads;
                let now = state.seen[row];
                let scores: Vec<Vec<f64>> = looks[of_row.clone()].iter().map(|look| look.scores.clone()).collect();
                let positions: Vec<Vec<i64>> =
                    looks[of_row.clone()].iter().map(|look| look.positions.clone()).collect();
                let budget = (bound.states * kv_heads, bound.safe().unwrap_or(0));
                let keep = match full[row] {
                    true => pooled_survivors(&scores, &positions, now as i64, budget, self.window_after(now)),
                    false => scores.iter().map(|scores| (0..scores.len()).collect()).collect(),
                };
                for ((head, look), kept) in state.heads[of_row.clone()].iter_mut().zip(&looks[of_row]).zip(keep) {
                    let keep = [vec![kept]];
                    if let Some(tensors) = bound.tensors().filter(|tensors| full[row] && tensors.rewrites()) {
                        let rows = Rows { keys: head.keys(), values: head.values() };
                        let mut rows = rows;
                        tensors.rewrite(&look.view, &gone(&keep, head), &mut rows);
                        head.set_rows(rows);
                    }
                    head.advance_cutting(&keep);
                    let broken = full[row] && look.scores.iter().any(|score| score.is_nan());
                    if broken {
                        head.note_unscored_by(&[true]);
                    }
                    outputs.push(match broken {
                        true => look.output.clone().mul_scalar(f32::NAN),
                        false => look.output.clone(),
                    });
                }
            }
            outputs
        } else {
            let hold = |(index, head): (usize, &mut MultiState)| single.hold(part(index), head);
            match batch * kv_heads > 1 && n > 1 {
                true => state.heads.par_iter_mut().enumerate().map(hold).collect(),
                false => state.heads.iter_mut().enumerate().map(hold).collect(),
            }
        };
        state.count_in_heads(n);
        Tensor::cat(outputs, 1).reshape([batch, heads, n, head_dim])
    }

    /// Attends one token of a head that is a state of its own, and scores its rows.
    fn look(&self, token: [Tensor<4>; 3], head: &mut MultiState) -> Look {
        head.note_queries(&token[0]);
        let [query, key, value] = token.map(|x| x.squeeze_dim::<3>(2));
        head.grow(head.held[0] + 1);
        let rows = head.rows_in_step();
        head.append(key, value);
        let attended = self.attend(query, head, rows, 0);
        let (scores, view) = self.score(&attended, head, rows, head.seen[0]);
        let scores = scores.into_data().convert::<f64>().try_into_vec().expect("scores are numbers");
        let positions = view.positions.to_data().convert::<i64>().try_into_vec().expect("positions are integers");
        Look { output: attended.output.unsqueeze_dim(2), scores, positions, view }
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
            window: self.window_after(last),
            wide: accumulation(attended.weights.dtype()),
            weights: sees.weights.then(|| attended.weights.clone()),
            logits: attended.logits.clone(),
            keys: sees.keys.then(|| state.keys().narrow(2, 0, rows)),
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

/// What a head made of a token at which it may be cut.
struct Look {
    /// `[1, group, 1, head_dim]`
    output: Tensor<4>,
    scores: Vec<f64>,
    positions: Vec<i64>,
    view: View,
}

/// Slots of the rows that go, `[batch, groups, n]`, −1 where fewer do, given those that stay of all that are held
/// and the new one.
fn gone(keep: &[Vec<Vec<usize>>], state: &MultiState) -> Tensor<3, Int> {
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

/// Lets a rule change keys and values, in the batch rows that are `full`: those of which rows go.
fn rewrite(tensors: &dyn Tensors, view: &View, omitted: &Tensor<3, Int>, state: &mut MultiState, full: &[bool]) {
    let before = full.contains(&false).then(|| (state.keys(), state.values()));
    let mut rows = Rows { keys: state.keys(), values: state.values() };
    tensors.rewrite(view, omitted, &mut rows);
    if let Some((keys, values)) = before {
        let dims = keys.dims();
        let full = Tensor::<1, Bool>::from_data(full, &state.device()).reshape([dims[0], 1, 1, 1]);
        let full = full.expand(dims);
        rows = Rows { keys: keys.mask_where(full.clone(), rows.keys), values: values.mask_where(full, rows.values) };
    }
    state.set_rows(rows);
}
