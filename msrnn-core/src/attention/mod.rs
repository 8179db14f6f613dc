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

mod blocked;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
pub(crate) mod decide;
mod first;
#[cfg(feature = "flex")]
mod flex;
mod heads;
mod road;
mod shifted;
mod step;

use std::sync::Arc;

use burn::tensor::{Bool, DType, Device, Int, Tensor};

use crate::compression::Compression;
use crate::error::Error;
use crate::kernels::product;
use crate::kernels::read;
use crate::placement::Placement;
use crate::precision::{accumulation, is_finite, narrow, softmax};
use crate::state::{MultiState, StateShape};

pub use road::Road;

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
        step::step(self, query, key, value, state)
    }

    /// `n` tokens of every batch row: equal to `n` steps.
    ///
    /// # Shapes
    ///
    /// - query, output: `[batch, heads, n, head_dim]`
    /// - key, value: `[batch, kv_heads, n, head_dim]`
    pub fn scan(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, state: &mut MultiState) -> Tensor<4> {
        if state.is_by_head() {
            if let Some(attended) = step::heads(&self.of_one_head(), [&query, &key, &value], state) {
                return attended;
            }
            let scan = |single: &Self, [query, key, value]: [Tensor<4>; 3], head: &mut MultiState| {
                Ok(single.scan(query, key, value, head))
            };
            return self.each_head([query, key, value], state, scan).expect("a scan cannot fail");
        }
        let (n, tokens) = (query.dims()[2], [&query, &key, &value]);
        let inside = matches!(Road::deciding(self, state), Road::InBlocks | Road::InKernels);
        // Anew, and no more as they came.
        let numbered = |state: &MultiState| self.placement.is_some() && self.numbers_first(state).is_none();
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
                _ if n > 1 && inside && (state.remembers() || room <= 1 || numbered(state)) => {
                    (self.decide_inside(part(tokens, done, n - done), state, true), n)
                }
                0 => (self.scan_token(part(tokens, done, 1), state), done + 1),
                _ if n == 1 || numbered(state) => (self.scan_token(part(tokens, done, 1), state), done + 1),
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
    /// the scores that the last of them gives. A policy with memory gathers it from all of them. Of a packed state rows
    /// are packed once the prompt was attended.
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
        if state.is_by_head() {
            let prefill = |single: &Self, [query, key, value]: [Tensor<4>; 3], head: &mut MultiState| {
                single.prefill(query, key, value, head)
            };
            return self.each_head([query, key, value], state, prefill);
        }
        if state.packing().is_none() {
            return self.prefill_whole([query, key, value], state);
        }
        // A prompt is attended as it was computed, and its rows are packed afterwards.
        state.unpack();
        let attended = self.prefill_whole([query, key, value], state);
        state.pack();
        attended
    }

    fn prefill_whole(&self, [query, key, value]: [Tensor<4>; 3], state: &mut MultiState) -> Result<Tensor<4>, Error> {
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

    /// Whether steps of a bounded state that is full can be captured and replayed
    /// ([`burn::tensor::capture`]): on a device with kernels, of a policy whose score is data and that makes a row go
    /// at every token, since such a step always works in the same buffers and asks the host for nothing.
    pub fn captures(&self, state: &MultiState) -> bool {
        !state.is_by_head() && self.road(state) == Road::InKernels && state.is_steady() && state.omitted.is_none()
    }

    /// A block of one token as a step.
    fn scan_token(&self, token: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        let [query, key, value] = token.map(|x| x.squeeze_dim::<3>(2));
        let attended = self.step(query, key, value, state);
        let [batch, heads, head_dim] = attended.dims();
        attended.reshape([batch, heads, 1, head_dim])
    }

    /// Tokens of which none makes a row go.
    pub(crate) fn hold(&self, tokens: [Tensor<4>; 3], state: &mut MultiState) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        if let Some(placement) = self.numbers_first(state) {
            return self.hold_first(placement, tokens, state);
        }
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
        if let Some(attended) = step::block(self, tokens.each_ref(), state) {
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
            if let Some(attended) = step::decide(attention, tokens.each_ref(), state, Some(decision)) {
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
        let (mut blocks, mut first) = (Vec::new(), 0);
        while first < n {
            // Inside a block no row is packed.
            let m = BLOCK.min(n - first).min(state.until_packed());
            blocks.push(block(self, part(tokens.each_ref(), first, m), state));
            first += m;
        }
        Tensor::cat(blocks, 2)
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
