//! A block of tokens through a bounded layer: matrix products, and one pass over scalars between.
//!
//! Within a layer only the decisions are sequential, and they need weights, not values. For n tokens
//! the candidates are the rows in the slots and the n new ones:
//!
//! 1. logits of all queries on all candidates: matrix products;
//! 2. token by token, on the host: softmax over the rows still held, the mean that the policy is
//!    shown, its scores, the omission;
//! 3. outputs: weights times values, matrix products again, since a row that is not held has
//!    weight zero;
//! 4. the new rows that are left go into the slots of the old ones that are not.
//!
//! The result is that of n steps: the same omissions, and outputs that differ by rounding. It takes
//! one read-back per block. Policies that score on the host ([`ScoreOnHost`]) come this way, and the
//! unbounded state; the laws hold both ways against each other.

use burn::tensor::{DType, Element, IndexingUpdateOp, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::attention::Attention;
use crate::omission::oldest_dead;
use crate::policy::{Granularity, HostMemory, HostView, ScoreOnHost};
use crate::precision::{narrow, read, widen};
use crate::simd::Real;
use crate::state::{MultiState, StateShape};

/// Who decides, if anyone.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'p> {
    pub(crate) policy: &'p dyn ScoreOnHost,
    pub(crate) sees_weights: bool,
    pub(crate) states: usize,
    /// The model's sliding window, where it may pass rows for good.
    pub(crate) window: Option<i64>,
}

impl Attention {
    /// `n` tokens of every batch row; shapes as in [`Attention::scan`].
    pub(crate) fn scan_blocked(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
        rule: Option<Rule<'_>>,
    ) -> Tensor<4> {
        match query.dtype() {
            DType::F64 => self.scan_as::<f64>(query, key, value, state, rule),
            _ => self.scan_as::<f32>(query, key, value, state, rule),
        }
    }

    fn scan_as<T: Real>(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
        rule: Option<Rule<'_>>,
    ) -> Tensor<4> {
        let [batch, heads, n, head_dim] = query.dims();
        let (kv_heads, dtype) = (self.kv_heads, query.dtype());
        let group = heads / kv_heads;
        // The block's own rows as the state will give them back.
        let stored = |x: Tensor<4>| read(narrow(x, state.shape.dtype), dtype);
        let (key, value) = (stored(key), stored(value));
        if state.states.is_none() {
            state.grow(state.seen.iter().max().map_or(n, |seen| seen + n));
        }
        let used = (0..batch).map(|row| if state.is_full(row) { state.slots } else { state.seen[row] });
        let used = used.max().unwrap_or(0);

        let query = query.mul_scalar(self.scale).reshape([batch, kv_heads, group * n, head_dim]);
        let mut deciders = Decider::of(state, used, n);
        let rule = rule.filter(|rule| !state.memory.is_empty() || state.seen.iter().any(|seen| seen + n > rule.states));
        let attended = match rule {
            Some(rule) => self.decided::<T>(query, [&key, &value], state, (rule, &mut deciders), used),
            None => {
                let attended = self.undecided::<T>(query, [&key, &value], state, &deciders, used);
                deciders.iter_mut().for_each(|decider| decider.hold_all(used));
                attended
            }
        };
        state.take_in(key, value, &deciders, used);
        attended.reshape([batch, heads, n, head_dim])
    }

    /// A block in which rows may have to go: what is decided together is computed together.
    ///
    /// query, result: `[batch, kv_heads, group · n, head_dim]`
    fn decided<T: Real>(
        &self,
        query: Tensor<4>,
        [key, value]: [&Tensor<4>; 2],
        state: &MultiState,
        (rule, deciders): (Rule<'_>, &mut [Decider]),
        used: usize,
    ) -> Tensor<4> {
        let [batch, kv_heads, n, _] = key.dims();
        let [_, _, rows, _] = query.dims();
        let (dtype, device) = (query.dtype(), query.device());
        let logits = |keys: Tensor<4>| host::<T, 4>(widen(query.clone().matmul(keys.swap_dims(2, 3))));
        let mut on_old = if used > 0 { logits(read(state.keys().narrow(2, 0, used), dtype)) } else { Vec::new() };
        let mut on_new = logits(key.clone());

        let parts = deciders.len();
        let heads = batch * kv_heads * rows / n / parts;
        let blocks = split(&mut on_old, heads * n * used, parts)
            .into_par_iter()
            .zip(split(&mut on_new, heads * n * n, parts))
            .map(|(old, new)| Block { old, new, used, n, heads, window: self.window });
        deciders.par_iter_mut().zip(blocks).for_each(|(decider, block)| decider.run(block, rule, state.shape.layer));

        let weights = |values: Vec<T>, on: usize| {
            let data = TensorData::new(values, [batch, kv_heads, rows, on]);
            narrow(Tensor::<4>::from_data(data, (&device, T::dtype())), dtype)
        };
        let attended = weights(on_new, n).matmul(value.clone());
        match used {
            0 => attended,
            _ => attended + weights(on_old, used).matmul(read(state.values().narrow(2, 0, used), dtype)),
        }
    }

    /// A block in which every row stays: each KV head by itself, so that its logits stay in the cache
    /// of the core that computes them.
    ///
    /// query, result: `[batch, kv_heads, group · n, head_dim]`
    fn undecided<T: Real>(
        &self,
        query: Tensor<4>,
        [key, value]: [&Tensor<4>; 2],
        state: &MultiState,
        deciders: &[Decider],
        used: usize,
    ) -> Tensor<4> {
        let [batch, kv_heads, n, head_dim] = key.dims();
        let [_, _, rows, _] = query.dims();
        let (dtype, device) = (query.dtype(), query.device());
        let (keys, values) = (state.keys(), state.values());
        let attended = (0..batch * kv_heads).into_par_iter().map(|index| {
            let (row, head) = (index / kv_heads, index % kv_heads);
            let own = |x: &Tensor<4>, rows: usize| {
                x.clone().slice([row..row + 1, head..head + 1, 0..rows, 0..head_dim]).reshape([rows, head_dim])
            };
            let query = own(&query, rows);
            let logits = |keys: Tensor<2>| host::<T, 2>(widen(query.clone().matmul(keys.transpose())));
            let mut on_old = if used > 0 { logits(read(own(&keys, used), dtype)) } else { Vec::new() };
            let mut on_new = logits(own(key, n));
            let block = Block { old: &mut on_old, new: &mut on_new, used, n, heads: rows / n, window: self.window };
            deciders[index * deciders.len() / (batch * kv_heads)].attend(block);

            let weights = |values: Vec<T>, on: usize| {
                let data = TensorData::new(values, [rows, on]);
                narrow(Tensor::<2>::from_data(data, (&device, T::dtype())), dtype)
            };
            let attended = weights(on_new, n).matmul(own(value, n));
            match used {
                0 => attended,
                _ => attended + weights(on_old, used).matmul(read(own(&values, used), dtype)),
            }
        });
        let attended: Vec<Tensor<2>> = attended.collect();
        Tensor::cat(attended, 0).reshape([batch, kv_heads, rows, head_dim])
    }
}

/// A float tensor's values on the host.
fn host<T: Element, const D: usize>(tensor: Tensor<D>) -> Vec<T> {
    tensor.into_data().try_into_vec::<T>().expect("logits are in their accumulation type")
}

/// `parts` equal parts of a buffer, all empty if it is.
fn split<T>(buffer: &mut [T], size: usize, parts: usize) -> Vec<&mut [T]> {
    match buffer.is_empty() {
        true => (0..parts).map(|_| Default::default()).collect(),
        false => buffer.chunks_mut(size).collect(),
    }
}

/// The candidates of one decision, of one batch row: old rows by slot, then new ones.
struct Decider {
    /// −1 for a slot that holds no row.
    positions: Vec<i64>,
    alive: Vec<bool>,
    held: usize,
    memory: HostMemory,
    /// By token of the block: position omitted.
    omitted: Vec<Option<i64>>,
    /// Whether some decision had to be made on scores that are not numbers.
    unscored: bool,
}

/// Logits of one decider's heads, `[heads, n, used]` and `[heads, n, n]`; weights after the run.
struct Block<'a, T> {
    old: &'a mut [T],
    new: &'a mut [T],
    used: usize,
    n: usize,
    heads: usize,
    window: Option<usize>,
}

impl<T: Real> Block<'_, T> {
    /// Makes the logits of token i weights, in all heads, and adds them up in `sum`.
    fn attend(&mut self, i: usize, now: i64, positions: &[i64], bias: &mut [T], mut sum: Option<&mut [T]>) {
        let &mut Self { used, n, heads, window, .. } = self;
        let end = used + i + 1;
        bias[used + i] = T::ZERO;
        if let Some(window) = window {
            // Once outside, always outside.
            for (bias, &position) in bias[..end].iter_mut().zip(positions) {
                if now - position >= window as i64 {
                    *bias = T::bias(false);
                }
            }
        }
        if let Some(sum) = &mut sum {
            sum.fill(T::ZERO);
        }
        for head in 0..heads {
            let old = &mut self.old[(head * n + i) * used..][..used];
            let (new, later) = self.new[(head * n + i) * n..][..n].split_at_mut(i + 1);
            T::softmax(old, new, &bias[..end]);
            later.fill(T::ZERO);
            if let Some(sum) = &mut sum {
                let (sum_old, sum_new) = sum.split_at_mut(used);
                T::accumulate(sum_old, old);
                T::accumulate(sum_new, new);
            }
        }
    }
}

impl<T: Real> Block<'_, T> {
    /// Makes what token i attends to NaN. Where no score was lowest any row may have gone: so it is seen in the
    /// logits.
    fn spoil(&mut self, i: usize) {
        (0..self.heads).for_each(|head| self.new[(head * self.n + i) * self.n] = T::from_f64(f64::NAN));
    }
}

impl Decider {
    /// One for every batch row and group, in that order.
    fn of(state: &MultiState, used: usize, n: usize) -> Vec<Self> {
        let positions = state.positions.to_data().convert::<i64>();
        let positions: &[i64] = positions.as_slice().expect("positions are integers");
        let memory: Vec<Vec<f64>> = state.memory.iter().map(values).collect();
        let groups = state.groups();
        positions
            .chunks(state.slots)
            .enumerate()
            .map(|(index, slots)| {
                let seen = state.seen[index / groups] as i64;
                let positions: Vec<i64> = slots[..used].iter().copied().chain(seen..seen + n as i64).collect();
                let alive: Vec<bool> = slots[..used].iter().map(|&p| p >= 0).chain((0..n).map(|_| false)).collect();
                let channel = |channel: &Vec<f64>| {
                    let old = &channel[index * state.slots..][..used];
                    old.iter().copied().chain((0..n).map(|_| 0.0)).collect()
                };
                Self {
                    held: alive.iter().filter(|&&alive| alive).count(),
                    memory: HostMemory { channels: memory.iter().map(channel).collect() },
                    omitted: Vec::with_capacity(n),
                    unscored: false,
                    positions,
                    alive,
                }
            })
            .collect()
    }

    /// Makes the decisions of a block, and its logits weights.
    fn run<T: Real>(&mut self, mut block: Block<'_, T>, rule: Rule<'_>, layer: usize) {
        let (used, n) = (block.used, block.n);
        let mut bias = self.bias::<T>();
        let mut sum = vec![T::ZERO; used + n];
        let mut mean = vec![0.0; used + n];
        let mut scores = vec![0.0; used + n];
        let share = T::from_f64(1.0 / block.heads as f64);
        for i in 0..n {
            let (now, end) = (self.positions[used + i], used + i + 1);
            self.alive[used + i] = true;
            self.held += 1;
            let scored = self.held > rule.states || !self.memory.channels.is_empty();
            let shown = (scored && rule.sees_weights).then_some(&mut sum[..end]);
            block.attend(i, now, &self.positions, &mut bias, shown);
            if !scored {
                self.omitted.push(None);
                continue;
            }
            if rule.sees_weights {
                mean[..end].iter_mut().zip(&sum).for_each(|(mean, &sum)| *mean = (sum * share).to_f64());
            }
            let view = HostView {
                now,
                states: rule.states,
                layer,
                positions: &self.positions[..end],
                weights: if rule.sees_weights { &mean[..end] } else { &[] },
            };
            rule.policy.score(&view, &mut self.memory, &mut scores[..end]);
            let dead = || oldest_dead(self.rows(end), now, rule.window).map(|dead| (dead, true));
            let gone = (self.held > rule.states).then(|| dead().unwrap_or_else(|| self.lowest(&scores[..end])));
            if let Some((gone, are_numbers)) = gone {
                if !are_numbers {
                    self.unscored = true;
                    block.spoil(i);
                }
                self.alive[gone] = false;
                self.held -= 1;
                bias[gone] = T::bias(false);
            }
            self.omitted.push(gone.map(|(gone, _)| self.positions[gone]));
        }
    }

    /// Makes the logits of a block weights, where nothing is omitted.
    fn attend<T: Real>(&self, mut block: Block<'_, T>) {
        let mut bias = self.bias::<T>();
        for i in 0..block.n {
            block.attend(i, self.positions[block.used + i], &self.positions, &mut bias, None);
        }
    }

    /// Takes note that all new rows are held.
    fn hold_all(&mut self, used: usize) {
        self.alive[used..].fill(true);
        self.omitted.resize(self.alive.len() - used, None);
    }

    /// What is added to a logit: nothing, or −∞ for a row that is not attended, as new ones are not yet.
    fn bias<T: Real>(&self) -> Vec<T> {
        self.alive.iter().map(|&alive| T::bias(alive)).collect()
    }

    /// Index and position of those of the first candidates that are alive.
    fn rows(&self, end: usize) -> impl Iterator<Item = (usize, i64)> {
        let rows = self.positions[..end].iter().copied().enumerate().zip(&self.alive);
        rows.filter_map(|(row, &alive)| alive.then_some(row))
    }

    /// The candidate with the lowest score among those alive, on equal scores the oldest; and whether all their
    /// scores are numbers, without which that is any of them.
    fn lowest(&self, scores: &[f64]) -> (usize, bool) {
        let (mut lowest, mut are_numbers) = (usize::MAX, true);
        for (index, (&score, _)) in scores.iter().zip(&self.alive).enumerate().filter(|(_, (_, alive))| **alive) {
            are_numbers &= !score.is_nan();
            let better = lowest == usize::MAX
                || score < scores[lowest]
                || (score == scores[lowest] && self.positions[index] < self.positions[lowest]);
            if better {
                lowest = index;
            }
        }
        (lowest, are_numbers)
    }
}

/// All values of a memory channel.
fn values(channel: &Tensor<2>) -> Vec<f64> {
    channel.to_data().convert::<f64>().try_into_vec().expect("a policy remembers numbers")
}

impl MultiState {
    /// Writes the new rows that are left into slots that hold none, and takes over what the deciders
    /// know. `[batch, kv_heads, n, head_dim]`
    fn take_in(&mut self, key: Tensor<4>, value: Tensor<4>, deciders: &[Decider], used: usize) {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (groups, slots, n, device) = (self.groups(), self.slots, key.dims()[2], self.device());
        let mut positions = vec![-1i64; batch * groups * slots];
        let mut memory = vec![vec![0.0; batch * groups * slots]; self.memory.len()];
        let mut free = Vec::with_capacity(batch * groups);
        // Which new row goes where, per decider: (index in the block, slot).
        let mut moves: Vec<Vec<(usize, usize)>> = Vec::with_capacity(deciders.len());
        for (index, decider) in deciders.iter().enumerate() {
            let of = index * slots;
            let mut empty = (0..slots).filter(|&slot| slot >= used || !decider.alive[slot]);
            let mut place = |slot: usize, candidate: usize| {
                positions[of + slot] = decider.positions[candidate];
                for (memory, channel) in memory.iter_mut().zip(&decider.memory.channels) {
                    memory[of + slot] = channel[candidate];
                }
            };
            (0..used).filter(|&slot| decider.alive[slot]).for_each(|slot| place(slot, slot));
            let survivors = (0..n).filter(|&i| decider.alive[used + i]);
            let moved: Vec<(usize, usize)> = survivors.zip(empty.by_ref()).collect();
            moved.iter().for_each(|&(i, slot)| place(slot, used + i));
            moves.push(moved);
            free.push(empty.next().map_or(slots as i64, |slot| slot as i64));
        }

        let (mut from, mut to) = (Vec::new(), Vec::new());
        for row in 0..batch {
            for head in 0..kv_heads {
                let group = if self.granularity == Granularity::Layer { 0 } else { head };
                let of = row * kv_heads + head;
                for &(i, slot) in &moves[row * groups + group] {
                    from.push((of * n + i) as i64);
                    to.push((of * slots + slot) as i64);
                }
            }
        }
        if !from.is_empty() {
            let index = |rows: Vec<i64>| {
                let n = rows.len();
                Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &device)
            };
            let (from, to) = (index(from), index(to));
            let assign = IndexingUpdateOp::Assign;
            let rows = |x: Tensor<4>| {
                narrow(x.reshape([batch * kv_heads * n, head_dim]).select(0, from.clone()), self.shape.dtype)
            };
            let (key, value) = (rows(key), rows(value));
            self.keys.inplace(|keys| keys.select_assign(0, to.clone(), key, assign));
            self.values.inplace(|values| values.select_assign(0, to, value, assign));
        }
        let integers =
            |values: Vec<i64>, dims: [usize; 2]| Tensor::<2, Int>::from_data(TensorData::new(values, dims), &device);
        self.positions = integers(positions, [batch * groups, slots]);
        self.free = integers(free, [batch * groups, 1]);
        for (channel, values) in self.memory.iter_mut().zip(memory) {
            let dtype = channel.dtype();
            let data = TensorData::new(values, [batch * groups, slots]).convert_dtype(dtype);
            *channel = Tensor::from_data(data, (&device, dtype));
        }
        self.next.inplace(|next| next.add_scalar(n as i64));
        for (index, decider) in deciders.iter().enumerate() {
            let row = index / groups;
            if let Some(first) = decider.omitted.iter().position(Option::is_some) {
                self.omits(row, self.seen[row] + first);
            }
        }
        if deciders.iter().any(|decider| decider.unscored) {
            self.note_unscored_by(&deciders.iter().map(|decider| decider.unscored).collect::<Vec<_>>());
        }
        if let Some(log) = &mut self.omitted {
            log.extend((0..n).map(|i| {
                let gone: Vec<i64> = deciders.iter().map(|decider| decider.omitted[i].unwrap_or(-1)).collect();
                let any = gone.iter().any(|&position| position >= 0);
                any.then(|| Tensor::<3, Int>::from_data(TensorData::new(gone, [batch, groups, 1]), &device))
            }));
        }
        self.count(n);
    }
}
