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
//! one read-back per block. Policies whose rule is a score that is data come this way, and blocks in which
//! nothing has to go; the laws hold all ways against each other.

use burn::tensor::{DType, Element, Tensor, TensorData};
use rayon::prelude::*;

use crate::attention::Attention;
use crate::kernels::read;
use crate::omission::{oldest_dead, protect};
use crate::precision::{narrow, widen};
use crate::score::{Columns, Op, Program, Registers};
use crate::simd::Real;
use crate::state::{Left, MultiState};

/// Who decides, if anyone.
#[derive(Clone, Copy)]
pub(crate) struct Decision<'p> {
    pub(crate) program: &'p Program,
    /// k; none where no row goes and the program is only shown the tokens.
    pub(crate) states: Option<usize>,
    /// Rows of the first tokens, and the newest, that never go.
    pub(crate) protected: [usize; 2],
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
        decision: Option<Decision<'_>>,
    ) -> Tensor<4> {
        match query.dtype() {
            DType::F64 => self.scan_as::<f64>(query, key, value, state, decision),
            _ => self.scan_as::<f32>(query, key, value, state, decision),
        }
    }

    fn scan_as<T: Real>(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        state: &mut MultiState,
        decision: Option<Decision<'_>>,
    ) -> Tensor<4> {
        let [batch, heads, n, head_dim] = query.dims();
        let (kv_heads, dtype) = (self.kv_heads, query.dtype());
        let group = heads / kv_heads;
        // The block's own rows as the state will give them back.
        let stored = |x: Tensor<4>| read(narrow(x, state.shape.dtype), dtype);
        let (key, value) = (stored(key), stored(value));
        let used = state.used();
        let query = query.mul_scalar(self.scale);
        let mut deciders = Decider::of(state, &key, &value, used);
        let decision = decision.filter(|decision| {
            let goes = |states: usize| state.held.iter().any(|held| held + n > states);
            self.placement.is_some() || state.remembers() || decision.states.is_some_and(goes)
        });
        let attended = match decision {
            Some(decision) => self.decided::<T>(query, [&key, &value], state, (decision, &mut deciders), used),
            None => {
                let query = query.reshape([batch, kv_heads, group * n, head_dim]);
                let attended = self.undecided::<T>(query, [&key, &value], state, &deciders, used);
                deciders.iter_mut().for_each(|decider| decider.hold_all(used));
                attended
            }
        };
        let left: Vec<Left<'_>> = deciders.iter().map(Decider::left).collect();
        state.take_in(key, value, &left, used);
        attended.reshape([batch, heads, n, head_dim])
    }

    /// A block in which rows may have to go: what is decided together is computed together.
    ///
    /// query: `[batch, heads, n, head_dim]`, result: `[batch, kv_heads, group · n, head_dim]`
    fn decided<T: Real>(
        &self,
        query: Tensor<4>,
        [key, value]: [&Tensor<4>; 2],
        state: &MultiState,
        (decision, deciders): (Decision<'_>, &mut [Decider]),
        used: usize,
    ) -> Tensor<4> {
        let ([batch, kv_heads, n, head_dim], [_, heads, _, _]) = (key.dims(), query.dims());
        let (dtype, device, rows) = (query.dtype(), query.device(), heads / kv_heads * n);
        let logits = |query: Tensor<4>, keys: Tensor<4>| {
            let query = query.reshape([batch, kv_heads, rows, head_dim]);
            host::<T, 4>(widen(query.matmul(keys.swap_dims(2, 3))))
        };
        let old = (used > 0).then(|| read(state.keys().narrow(2, 0, used), dtype));
        let (mut on_old, mut on_new) = match &self.placement {
            Some(_) => {
                let shifted = self.shifted(state).expect("other rows that are numbered anew go step by step");
                let positions: Vec<&[i64]> = deciders.iter().map(|decider| &decider.positions[..]).collect();
                let rotated = shifted.block(state, query, old, key.clone(), &positions);
                let mut on_old = rotated.old.map_or_else(Vec::new, |old| logits(rotated.query.clone(), old));
                let mut on_new = logits(rotated.query, rotated.new);
                if let Some(first) = rotated.first {
                    first.put(&logits(first.query.clone(), first.keys.clone()), &mut on_old, &mut on_new);
                }
                (on_old, on_new)
            }
            None => (old.map_or_else(Vec::new, |old| logits(query.clone(), old)), logits(query, key.clone())),
        };
        // Where rows are numbered anew the window hides none.
        let window = self.window.filter(|_| self.placement.is_none());

        let parts = deciders.len();
        let heads = batch * kv_heads * rows / n / parts;
        let blocks = split(&mut on_old, heads * n * used, parts)
            .into_par_iter()
            .zip(split(&mut on_new, heads * n * n, parts))
            .map(|(old, new)| Block { old, new, used, n, heads, window });
        deciders.par_iter_mut().zip(blocks).for_each(|(decider, block)| decider.run(block, decision));

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
    /// Which KV head decides.
    head: usize,
    /// −1 for a slot that holds no row.
    positions: Vec<i64>,
    alive: Vec<bool>,
    held: usize,
    /// What is carried with every candidate, by channel.
    channels: Vec<Vec<f64>>,
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

/// What a program is shown of the heads that share a decision; empty where it does not look.
struct Shown<T> {
    weights: Vec<T>,
    highest: Vec<T>,
    logits: Vec<T>,
}

impl<T: Real> Shown<T> {
    fn of(program: &Program, candidates: usize) -> Self {
        let room = |op| if program.uses(op) { vec![T::ZERO; candidates] } else { Vec::new() };
        Self { weights: room(Op::Weight), highest: room(Op::MaxWeight), logits: room(Op::Logit) }
    }

    fn clear(&mut self) {
        [&mut self.weights, &mut self.highest, &mut self.logits].into_iter().for_each(|x| x.fill(T::ZERO));
    }

    fn add_logits(&mut self, old: &[T], new: &[T]) {
        if !self.logits.is_empty() {
            let (sum_old, sum_new) = self.logits.split_at_mut(old.len());
            T::accumulate(sum_old, old);
            T::accumulate(sum_new, new);
        }
    }

    fn add_weights(&mut self, old: &[T], new: &[T]) {
        if !self.weights.is_empty() {
            let (sum_old, sum_new) = self.weights.split_at_mut(old.len());
            T::accumulate(sum_old, old);
            T::accumulate(sum_new, new);
        }
        if !self.highest.is_empty() {
            // A weight that is not a number stays seen.
            let higher =
                |(highest, &weight): (&mut T, &T)| *highest = if weight <= *highest { *highest } else { weight };
            self.highest.iter_mut().zip(old.iter().chain(new)).for_each(higher);
        }
    }
}

impl<T: Real> Block<'_, T> {
    /// Makes the logits of token i weights, in all heads, and collects what is `shown` of them.
    fn attend(&mut self, i: usize, now: i64, positions: &[i64], bias: &mut [T], mut shown: Option<&mut Shown<T>>) {
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
        if let Some(shown) = &mut shown {
            shown.clear();
        }
        for head in 0..heads {
            let old = &mut self.old[(head * n + i) * used..][..used];
            let (new, later) = self.new[(head * n + i) * n..][..n].split_at_mut(i + 1);
            if let Some(shown) = &mut shown {
                shown.add_logits(old, new);
            }
            T::softmax(old, new, &bias[..end]);
            later.fill(T::ZERO);
            if let Some(shown) = &mut shown {
                shown.add_weights(old, new);
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
    fn of(state: &MultiState, key: &Tensor<4>, value: &Tensor<4>, used: usize) -> Vec<Self> {
        let n = key.dims()[2];
        let positions = state.positions.to_data().convert::<i64>();
        let positions: &[i64] = positions.as_slice().expect("positions are integers");
        let numbers = |memory: &Option<Tensor<3>>| memory.as_ref().map_or_else(Vec::new, values);
        let (memory, initial) = (numbers(&state.memory), numbers(&state.initial(key, value)));
        let (groups, channels) = (state.groups(), state.channels().len());
        let deciders = state.shape.batch * groups;
        positions
            .chunks(state.slots)
            .enumerate()
            .map(|(index, slots)| {
                let (seen, head) = (state.seen[index / groups] as i64, state.first_head + index % groups);
                let positions: Vec<i64> = slots[..used].iter().copied().chain(seen..seen + n as i64).collect();
                let alive: Vec<bool> = slots[..used].iter().map(|&p| p >= 0).chain((0..n).map(|_| false)).collect();
                let channel = |channel: usize| {
                    let of = channel * deciders + index;
                    let (old, new) = (&memory[of * state.slots..][..used], &initial[of * n..][..n]);
                    old.iter().chain(new).copied().collect()
                };
                Self {
                    held: alive.iter().filter(|&&alive| alive).count(),
                    channels: (0..channels).map(channel).collect(),
                    omitted: Vec::with_capacity(n),
                    unscored: false,
                    head,
                    positions,
                    alive,
                }
            })
            .collect()
    }

    /// What it leaves.
    fn left(&self) -> Left<'_> {
        let Self { positions, alive, channels, omitted, unscored, .. } = self;
        Left { positions, alive, channels, omitted, unscored: *unscored }
    }

    /// Makes the decisions of a block, and its logits weights.
    fn run<T: Real>(&mut self, mut block: Block<'_, T>, decision: Decision<'_>) {
        let (used, n, program) = (block.used, block.n, decision.program);
        let mut bias = self.bias::<T>();
        let mut shown = Shown::<T>::of(program, used + n);
        let (mut mean, mut highest, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        let mut scores = vec![0.0; used + n];
        let mut registers = Registers::default();
        let share = T::from_f64(1.0 / block.heads as f64);
        let looks = program.remembers();
        for i in 0..n {
            let (now, end) = (self.positions[used + i], used + i + 1);
            self.alive[used + i] = true;
            self.held += 1;
            let goes = decision.states.is_some_and(|states| self.held > states);
            let asked = goes || looks;
            block.attend(i, now, &self.positions, &mut bias, asked.then_some(&mut shown));
            if !asked {
                self.omitted.push(None);
                continue;
            }
            let widen = |to: &mut Vec<f64>, from: &[T], share: T| {
                to.clear();
                to.extend(from.iter().take(end).map(|&x| (x * share).to_f64()));
            };
            widen(&mut mean, &shown.weights, share);
            widen(&mut highest, &shown.highest, T::from_f64(1.0));
            widen(&mut logits, &shown.logits, share);
            let columns = Columns {
                now,
                head: self.head,
                positions: &self.positions[..end],
                weights: &mean,
                max_weights: &highest,
                logits: &logits,
            };
            program.run(&columns, &mut self.channels, &mut scores[..end], &mut registers);
            if !goes {
                self.omitted.push(None);
                continue;
            }
            let dead = oldest_dead(self.rows(end), now, decision.window).map(|dead| (dead, true));
            let (gone, are_numbers) = dead.unwrap_or_else(|| {
                protect(&mut scores[..end], &self.positions, now, decision.protected);
                self.lowest(&scores[..end])
            });
            if !are_numbers {
                self.unscored = true;
                block.spoil(i);
            }
            self.alive[gone] = false;
            self.held -= 1;
            bias[gone] = T::bias(false);
            self.omitted.push(Some(self.positions[gone]));
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

/// All values of a tensor of numbers.
fn values(x: &Tensor<3>) -> Vec<f64> {
    x.to_data().convert::<f64>().try_into_vec().expect("a policy carries numbers")
}
