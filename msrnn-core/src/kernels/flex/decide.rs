//! A policy's decision in plain numbers, for every batch row and group.

use std::cell::Cell;

use rayon::prelude::*;

use super::number::Index;
use super::{is_worth_cores, wide};
use crate::blocked::Rule;
use crate::omission::oldest_dead;
use crate::policy::{HostMemory, HostView};
use crate::simd::{Buffer, Real};

/// One decision to make.
pub(super) struct Decider<'a, T, I> {
    /// `[heads, rows]`: of all heads that share the decision.
    pub(super) weights: &'a [T],
    /// By slot.
    pub(super) positions: &'a [I],
    pub(super) now: i64,
    /// Slot of the current token.
    pub(super) newest: usize,
    /// By channel, by slot.
    pub(super) memory: Vec<&'a mut [T]>,
    /// Whether a row has to go. Then no slot is empty.
    pub(super) is_full: bool,
    /// The slot of the row that goes.
    pub(super) omitted: &'a mut Option<usize>,
    /// Whether one had to go and some score was not a number.
    pub(super) unscored: &'a mut bool,
}

/// Makes all decisions of a step.
pub(super) fn decide<T: Real, I: Index>(deciders: Vec<Decider<'_, T, I>>, rule: Rule<'_>, layer: usize) {
    let values: usize = deciders.iter().map(|decider| size_of_val(decider.weights)).sum();
    match deciders.len() > 1 && is_worth_cores(values) {
        true => deciders.into_par_iter().for_each(|decider| decider.decide(rule, layer)),
        false => deciders.into_iter().for_each(|decider| decider.decide(rule, layer)),
    }
}

/// Buffers of a decision, kept from step to step.
#[derive(Default)]
struct Buffers {
    positions: Vec<i64>,
    mean: Vec<f64>,
    scores: Vec<f64>,
    memory: Option<HostMemory>,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl<T: Real, I: Index> Decider<'_, T, I> {
    fn decide(mut self, rule: Rule<'_>, layer: usize) {
        let rows = self.positions.len();
        // The policy is shown the current token's row last: it changes places with the last one.
        let (newest, last) = (self.newest, rows - 1);
        let mut buffers = BUFFERS.take();
        let Buffers { positions, mean, scores, memory } = &mut buffers;
        positions.clear();
        positions.extend(self.positions.iter().map(|position| position.get()));
        positions.swap(newest, last);
        mean.clear();
        if rule.sees_weights {
            self.mean(mean);
            mean.swap(newest, last);
        }
        let memory = memory.get_or_insert_with(|| HostMemory { channels: Vec::new() });
        memory.channels.resize(self.memory.len(), Vec::new());
        for (host, channel) in memory.channels.iter_mut().zip(&self.memory) {
            host.clear();
            host.extend(channel.iter().map(|&value| value.to_f64()));
            host.swap(newest, last);
        }
        scores.resize(rows, 0.0);
        let view = HostView { now: self.now, states: rule.states, layer, positions, weights: mean };
        rule.policy.score(&view, memory, scores);
        for (host, channel) in memory.channels.iter_mut().zip(&mut self.memory) {
            host.swap(newest, last);
            channel.iter_mut().zip(host).for_each(|(value, &mut host)| *value = T::from_f64(host));
        }
        if self.is_full {
            let rows = positions.iter().copied().enumerate();
            let dead = oldest_dead(rows, self.now, rule.window).map(|dead| (dead, true));
            let (gone, are_numbers) = dead.unwrap_or_else(|| lowest(scores, positions));
            *self.unscored = !are_numbers;
            *self.omitted = Some(match gone {
                _ if gone == last => newest,
                _ if gone == newest => last,
                _ => gone,
            });
        }
        BUFFERS.set(buffers);
    }

    /// The mean over the heads.
    fn mean(&self, mean: &mut Vec<f64>) {
        let rows = self.positions.len();
        let mut heads = self.weights.chunks_exact(rows);
        let share = T::from_f64(rows as f64 / self.weights.len() as f64);
        let first = heads.next().expect("a decision is about some heads");
        if heads.len() == 0 {
            mean.extend(first.iter().map(|&weight| weight.to_f64()));
            return;
        }
        let mut sum = T::buffer(Buffer::Sum).take();
        sum.clear();
        sum.extend_from_slice(first);
        heads.for_each(|weights| T::accumulate(&mut sum, weights));
        mean.extend(sum.iter().map(|&sum| (sum * share).to_f64()));
        T::buffer(Buffer::Sum).set(sum);
    }
}

/// The row with the lowest score, on equal scores the oldest; and whether all scores are numbers, without which
/// that is any row.
fn lowest(scores: &[f64], positions: &[i64]) -> (usize, bool) {
    let (lowest, are_numbers) = wide(
        #[inline(always)]
        || {
            let are_numbers = scores.iter().fold(true, |all, score| all & !score.is_nan());
            let mut lanes = [f64::INFINITY; 8];
            let chunks = scores.chunks_exact(8);
            let rest = chunks.remainder();
            for chunk in chunks {
                for lane in 0..8 {
                    lanes[lane] = if chunk[lane] < lanes[lane] { chunk[lane] } else { lanes[lane] };
                }
            }
            (lanes.iter().chain(rest).copied().fold(f64::INFINITY, f64::min), are_numbers)
        },
    );
    let equal = (0..scores.len()).filter(|&row| scores[row] == lowest);
    // No score equals the lowest where all are NaN: then the oldest goes.
    let oldest = |rows: &mut dyn Iterator<Item = usize>| rows.min_by_key(|&row| positions[row]);
    (oldest(&mut equal.into_iter()).or_else(|| oldest(&mut (0..scores.len()))).unwrap_or(0), are_numbers)
}
