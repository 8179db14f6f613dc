//! Attention over a multi-state: append, attend, omit.
//!
//! Oren et al. 2024 (arXiv 2401.06104), equations 6, 7 and 9. The query of a step attends over all
//! rows, its own included, with the softmax over exactly those; then, if there are more than k,
//! the policy omits one. The two protocols of the paper:
//!
//! - *strict*, [`Attention::step`] and [`Attention::scan`]: every token is such a step, the
//!   prompt's too;
//! - *prefill*, [`Attention::prefill`]: the prompt is one causal block with full attention, then
//!   the state is cut to k rows at once.

use std::sync::Arc;

use burn::tensor::{Bool, DType, Device, Int, Tensor};

use crate::blocked::Rule;
use crate::error::Error;
use crate::kernels::{self, product};
use crate::omission::{omitted, survivors};
use crate::placement::Placement;
use crate::policy::{Compression, Policy, Rows, View};
use crate::precision::{is_finite, narrow, read, softmax};
use crate::state::{MultiState, StateShape};
use crate::vanilla;

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

/// How many of the next `n` tokens find an empty slot in every batch row.
fn room(state: &MultiState, n: usize) -> usize {
    let empty = |states: usize| state.seen.iter().map(|&seen| states.saturating_sub(seen)).min().unwrap_or(0);
    state.states().map_or(n, |states| empty(states).min(n))
}

impl Attention {
    /// An empty state for a batch.
    pub fn initial_state(
        &self,
        batch: usize,
        layer: usize,
        compression: &Compression,
        dtype: DType,
        device: &Device,
    ) -> MultiState {
        let shape = StateShape { batch, kv_heads: self.kv_heads, head_dim: self.head_dim, layer, dtype };
        MultiState::new(shape, compression, device)
    }

    /// One token of every batch row.
    ///
    /// # Shapes
    ///
    /// - query, output: `[batch, heads, head_dim]`
    /// - key, value: `[batch, kv_heads, head_dim]`
    pub fn step(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        state: &mut MultiState,
        compression: &Compression,
    ) -> Tensor<3> {
        kernels::step(self, query, key, value, state, compression)
    }

    /// `n` tokens of every batch row: equal to `n` steps.
    ///
    /// Where the policy can decide on the host, and where there is none, blocks of tokens are matrix
    /// products with a pass over scalars between (`blocked.rs`). Other policies are asked
    /// token by token, as soon as something has to be omitted.
    ///
    /// # Shapes
    ///
    /// - query, output: `[batch, heads, n, head_dim]`
    /// - key, value: `[batch, kv_heads, n, head_dim]`
    pub fn scan(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
        compression: &Compression,
    ) -> Tensor<4> {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Some(attended) = kernels::scan(self, [&query, &key, &value], state, compression, BLOCK) {
            return attended;
        }
        let n = query.dims()[2];
        if n == 1 {
            return self.scan_token([query, key, value], state, compression);
        }
        let tokens = [&query, &key, &value];
        // As many as surely stay, together.
        let room = room(state, n);
        if room > 1
            && let Some(attended) = kernels::block(self, part(tokens, 0, room).each_ref(), state)
        {
            if room == n {
                return attended;
            }
            let [query, key, value] = part(tokens, room, n - room);
            let rest = self.scan(query, key, value, state, compression);
            return Tensor::cat(vec![attended, rest], 2);
        }
        let last = state.seen.iter().max().map_or(0, |seen| seen + n - 1);
        match self.rule(compression, last) {
            Some(rule) if self.placement.is_none() => self.scan_in_blocks(tokens, state, rule),
            _ => self.scan_by_token(tokens, state, compression),
        }
    }

    /// For policies that decide on the host, and for none.
    fn scan_in_blocks(&self, tokens: [&Tensor<4>; 3], state: &mut MultiState, rule: Option<Rule<'_>>) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        let blocks = (0..n).step_by(BLOCK).map(|first| {
            let [query, key, value] = part(tokens, first, BLOCK.min(n - first));
            self.scan_blocked(query, key, value, state, rule)
        });
        Tensor::cat(blocks.collect(), 2)
    }

    /// For all other policies, and for positions that are numbered anew at every step: blocks as long as
    /// nothing has to be omitted, then single tokens.
    fn scan_by_token(&self, tokens: [&Tensor<4>; 3], state: &mut MultiState, compression: &Compression) -> Tensor<4> {
        let n = tokens[0].dims()[2];
        let room = if state.is_level() { room(state, n) } else { 0 };
        let policy = compression.policy().filter(|policy| policy.memory() > 0);
        let mut attended = Vec::new();
        for first in (0..room).step_by(BLOCK) {
            let [query, key, value] = part(tokens, first, BLOCK.min(room - first));
            attended.push(self.block(query, key, value, state, policy, false).0);
        }
        attended.extend((room..n).map(|t| self.scan_token(part(tokens, t, 1), state, compression)));
        Tensor::cat(attended, 2)
    }

    /// A block of one token as a step.
    fn scan_token(&self, token: [Tensor<4>; 3], state: &mut MultiState, compression: &Compression) -> Tensor<4> {
        let [query, key, value] = token.map(|x| {
            let [batch, heads, _, head_dim] = x.dims();
            x.reshape([batch, heads, head_dim])
        });
        let attended = self.step(query, key, value, state, compression);
        let [batch, heads, head_dim] = attended.dims();
        attended.reshape([batch, heads, 1, head_dim])
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
        compression: &Compression,
    ) -> Result<Tensor<4>, Error> {
        if let Some(&seen) = state.seen.iter().find(|&&seen| seen > 0) {
            return Err(Error::PrefillNotFirst(seen));
        }
        let n = query.dims()[2];
        let (policy, states) = match compression {
            Compression::Bounded { policy, states } if n > *states => (policy, *states),
            _ => return Ok(self.scan(query, key, value, state, compression)),
        };
        state.grow(n + 1);
        let mut attended = Vec::new();
        let mut scores = None;
        for first in (0..n).step_by(BLOCK) {
            let m = BLOCK.min(n - first);
            let [query, key, value] = part([&query, &key, &value], first, m);
            let (out, last_scores) = self.block(query, key, value, state, Some(policy), first + m == n);
            attended.push(out);
            scores = last_scores;
        }
        let scores = scores.expect("the last block scores its last token");
        let [batch, groups, rows] = scores.dims();
        let data = scores.into_data().convert::<f64>();
        let data: &[f64] = data.as_slice().expect("scores have a float dtype");
        let broken = data.iter().position(|score| score.is_nan());
        // What the model itself made no number of is seen in what it makes of it.
        if let Some(index) = broken.filter(|_| attended.last().is_some_and(|last| is_finite(last.clone()))) {
            return Err(Error::NoScore {
                policy: policy.name(),
                layer: state.shape.layer,
                position: index % rows,
                token: n - 1,
                row: index / (groups * rows),
            });
        }
        let keep: Vec<Vec<Vec<usize>>> = (0..batch)
            .map(|row| {
                let group = |group: usize| &data[(row * groups + group) * rows..][..rows];
                (0..groups).map(|i| survivors(group(i), states, self.window_after(n - 1))).collect()
            })
            .collect();
        state.cut(&keep, states);
        Ok(Tensor::cat(attended, 2))
    }

    /// Appends a block that fits into the empty slots, and attends causally. The policy, if any, is
    /// shown every token in order, as it would have been step by step, or the last one only if it
    /// remembers nothing and `score_last` asks for that.
    fn block(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
        policy: Option<&Arc<dyn Policy>>,
        score_last: bool,
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        let [batch, heads, n, head_dim] = query.dims();
        let (group, before) = (heads / self.kv_heads, state.seen[0]);
        let rows = before + n;
        state.grow(rows);
        state.append_block(key, value);

        // [batch, kv_heads, group, n, rows]
        let (attended, weights) = if self.placement.is_some() {
            let tokens = (0..n).map(|t| {
                let query = query.clone().narrow(2, t, 1).reshape([batch, heads, head_dim]);
                let (attended, weights) = self.attend(query, state, before + t + 1, t);
                let later =
                    Tensor::zeros([batch, self.kv_heads, group, n - t - 1], (&weights.device(), weights.dtype()));
                let weights = Tensor::cat(vec![weights, later], 3);
                (attended.reshape([batch, heads, 1, head_dim]), weights.reshape([batch, self.kv_heads, group, 1, rows]))
            });
            let (attended, weights): (Vec<_>, Vec<_>) = tokens.unzip();
            (Tensor::cat(attended, 2), Tensor::cat(weights, 3))
        } else {
            let (dtype, device) = (query.dtype(), query.device());
            let keys = read(state.keys().narrow(2, 0, rows), dtype);
            let query = query.mul_scalar(self.scale).reshape([batch, self.kv_heads, group * n, head_dim]);
            let logits = product(query, keys.swap_dims(2, 3)).reshape([batch, self.kv_heads, group, n, rows]);
            let positions = Tensor::<1, Int>::arange(0..rows as i64, &device);
            let hidden = vanilla::hidden(positions.clone().narrow(0, before, n), positions, self.window)
                .reshape([1, 1, 1, n, rows])
                .expand([batch, self.kv_heads, group, n, rows]);
            let weights = softmax(logits.mask_fill(hidden, f32::NEG_INFINITY));
            let of_rows = narrow(weights.clone(), dtype).reshape([batch, self.kv_heads, group * n, rows]);
            let attended = product(of_rows, read(state.values().narrow(2, 0, rows), dtype));
            (attended.reshape([batch, heads, n, head_dim]), weights)
        };

        let mut scores = None;
        if let Some(policy) = policy {
            let first = match (policy.memory() > 0, score_last) {
                (true, _) => 0,
                (false, true) => n - 1,
                (false, false) => n,
            };
            for t in first..n {
                let rows = before + t + 1;
                let weights = weights.clone().narrow(3, t, 1).narrow(4, 0, rows);
                let weights = weights.reshape([batch, self.kv_heads, group, rows]);
                scores = Some(self.score(policy.as_ref(), weights, state, rows, before + t).0);
            }
        }
        state.advance_block(n);
        (attended, scores)
    }

    /// Attends over the first `rows` slots: output `[batch, heads, head_dim]` and weights
    /// `[batch, kv_heads, group, rows]`. The query comes `ahead` tokens after those counted as seen.
    pub(crate) fn attend(
        &self,
        query: Tensor<3>,
        state: &MultiState,
        rows: usize,
        ahead: usize,
    ) -> (Tensor<3>, Tensor<4>) {
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
        if let Some(hidden) = self.hidden(state, rows, ahead, numbers) {
            let groups = hidden.dims()[1];
            let hidden = hidden.reshape([batch, groups, 1, rows]).expand([batch, self.kv_heads, group, rows]);
            logits = logits.mask_fill(hidden, f32::NEG_INFINITY);
        }
        let weights = softmax(logits);
        let attended = product(narrow(weights.clone(), dtype), read(state.values().narrow(2, 0, rows), dtype));
        (attended.reshape([batch, heads, head_dim]), weights)
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
        let newest = state.seen.iter().max().map_or(0, |seen| seen + ahead);
        let empty = state.seen.iter().any(|&seen| seen + ahead + 1 < rows).then(|| state.empty(rows));
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

/// Which row goes, `[batch, groups, 1]` each.
pub(crate) struct Omission {
    /// Its slot.
    pub(crate) slot: Tensor<3, Int>,
    /// Whether it had to go by its score and some score was not a number, so that there is no lowest.
    pub(crate) unscored: Tensor<3, Bool>,
}

/// Who goes.
impl Attention {
    /// The sliding window, if it may hide rows of a state from all queries after that of position `now`.
    ///
    /// None where rows are numbered anew: which of them a later query sees then depends on which go.
    fn window_after(&self, now: usize) -> Option<i64> {
        let window = self.window.filter(|&window| self.placement.is_none() && now + 1 >= window);
        window.map(|window| window as i64)
    }

    /// How rows are omitted on the host up to the token of position `last`; none when the policy cannot
    /// decide there.
    pub(crate) fn rule<'c>(&self, compression: &'c Compression, last: usize) -> Option<Option<Rule<'c>>> {
        let Compression::Bounded { policy, states } = compression else { return Some(None) };
        let sees = policy.sees();
        let possible = !(sees.keys || sees.values || policy.rewrites());
        let policy = policy.on_host().filter(|_| possible)?;
        Some(Some(Rule { policy, sees_weights: sees.weights, states: *states, window: self.window_after(last) }))
    }

    /// Lets the policy look at the step, and returns what to omit if some batch row is full.
    pub(crate) fn omit(
        &self,
        weights: Tensor<4>,
        state: &mut MultiState,
        compression: &Compression,
        rows: usize,
    ) -> Option<Omission> {
        let policy = compression.policy()?;
        let must_omit = state.any_full();
        if !must_omit && policy.memory() == 0 {
            return None;
        }
        let (scores, view) = self.score(policy.as_ref(), weights, state, rows, state.seen[0]);
        if !must_omit {
            return None;
        }
        let nan = scores.clone().is_nan();
        let mut unscored = nan.clone().any_dim(2);
        let slot = omitted(scores.mask_fill(nan, f32::INFINITY), &view);
        if let Some(dead) = view.dead() {
            // It goes whatever the scores.
            unscored = unscored.bool_and(dead.any_dim(2).bool_not());
        }
        if policy.rewrites() {
            rewrite(policy.as_ref(), &view, &slot, state);
        }
        if !state.all_full() {
            // Elsewhere empty slots may score anything, and nothing goes.
            let full: Vec<bool> = (0..state.shape().batch).map(|row| state.is_full(row)).collect();
            let full = Tensor::<1, Bool>::from_data(full.as_slice(), &state.device()).reshape([full.len(), 1, 1]);
            unscored = unscored.clone().bool_and(full.expand(unscored.dims()));
        }
        Some(Omission { slot, unscored })
    }

    /// The policy's scores of the first `rows` slots, its memory updated. `now` is the current token's
    /// position where all batch rows have seen equally many.
    pub(crate) fn score(
        &self,
        policy: &dyn Policy,
        weights: Tensor<4>,
        state: &mut MultiState,
        rows: usize,
        now: usize,
    ) -> (Tensor<3>, View) {
        let (batch, groups) = (state.shape().batch, state.groups());
        let (sees, is_level) = (policy.sees(), state.is_level());
        let last = if is_level { now } else { state.seen.iter().max().copied().unwrap_or(now) };
        let view = View {
            granularity: policy.granularity(),
            states: state.states().unwrap_or(usize::MAX),
            layer: state.shape().layer,
            window: self.window_after(last),
            weights: sees.weights.then_some(weights),
            keys: sees.keys.then(|| state.keys().narrow(2, 0, rows)),
            values: sees.values.then(|| state.values().narrow(2, 0, rows)),
            positions: state.positions().narrow(2, 0, rows),
            now: match is_level {
                true => Tensor::full([batch, groups, 1], now as i64, &state.device()),
                false => state.now(),
            },
        };
        let mut memory = state.lend_memory(rows);
        let scores = policy.score(&view, &mut memory);
        state.return_memory(memory, rows);
        (scores, view)
    }
}

/// Lets the policy change keys and values, in the batch rows that are full.
fn rewrite(policy: &dyn Policy, view: &View, omitted: &Tensor<3, Int>, state: &mut MultiState) {
    let all_full = state.all_full();
    let before = (!all_full).then(|| (state.keys(), state.values()));
    let mut rows = Rows { keys: state.keys(), values: state.values() };
    policy.rewrite(view, omitted, &mut rows);
    if let Some((keys, values)) = before {
        let dims = keys.dims();
        let full: Vec<bool> = (0..dims[0]).map(|row| state.is_full(row)).collect();
        let full = Tensor::<1, Bool>::from_data(full.as_slice(), &state.device()).reshape([dims[0], 1, 1, 1]);
        let full = full.expand(dims);
        rows = Rows { keys: keys.mask_where(full.clone(), rows.keys), values: values.mask_where(full, rows.values) };
    }
    state.set_rows(rows);
}
