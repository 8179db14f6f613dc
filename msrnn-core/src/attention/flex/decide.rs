//! A program's decision in plain numbers, for every batch row and group.

use std::cell::Cell;

use crate::attention::blocked::Decision;
use crate::kernels::flex::number::Index;
use crate::kernels::flex::team::{each, is_worth_parts};
use crate::kernels::flex::wide;
use crate::omission::{oldest_dead, protect};
use crate::score::{Columns, Op, Registers};
use crate::simd::{Buffer, Real};

/// One decision to make.
pub(crate) struct Decider<'a, T, I> {
    /// `[heads, rows]`: of all heads that share the decision.
    pub(crate) weights: &'a [T],
    /// The same before the softmax; empty where the program does not look.
    pub(crate) logits: &'a [T],
    /// By slot.
    pub(crate) positions: &'a [I],
    pub(crate) now: i64,
    /// Which KV head decides.
    pub(crate) head: usize,
    /// By channel, by slot.
    pub(crate) memory: Vec<&'a mut [T]>,
    /// Whether a row has to go. Then no slot is empty.
    pub(crate) is_full: bool,
    /// The slot of the row that goes.
    pub(crate) omitted: &'a mut Option<usize>,
    /// Whether one had to go and some score was not a number.
    pub(crate) unscored: &'a mut bool,
}

/// Makes all decisions of a step.
pub(crate) fn decide<T: Real, I: Index>(mut deciders: Vec<Decider<'_, T, I>>, decision: Decision<'_>) {
    let values: usize = deciders.iter().map(|decider| size_of_val(decider.weights)).sum();
    match deciders.len() > 1 && is_worth_parts(values) {
        true => each(&mut deciders, |decider| decider.decide(decision)),
        false => deciders.iter_mut().for_each(|decider| decider.decide(decision)),
    }
}

/// Buffers of a decision, kept from step to step.
#[derive(Default)]
struct Buffers {
    positions: Vec<i64>,
    mean: Vec<f64>,
    highest: Vec<f64>,
    logits: Vec<f64>,
    scores: Vec<f64>,
    channels: Vec<Vec<f64>>,
    registers: Registers,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl<T: Real, I: Index> Decider<'_, T, I> {
    fn decide(&mut self, decision: Decision<'_>) {
        let (rows, program) = (self.positions.len(), decision.program);
        if !self.is_full && !program.remembers() {
            return;
        }
        let mut buffers = BUFFERS.take();
        let Buffers { positions, mean, highest, logits, scores, channels, registers } = &mut buffers;
        positions.clear();
        positions.extend(self.positions.iter().map(|position| position.get()));
        [&mut *mean, &mut *highest, &mut *logits].into_iter().for_each(Vec::clear);
        if program.uses(Op::Weight) {
            self.mean(self.weights, mean);
        }
        if program.uses(Op::Logit) {
            self.mean(self.logits, logits);
        }
        if program.uses(Op::MaxWeight) {
            self.highest(highest);
        }
        channels.resize(self.memory.len(), Vec::new());
        for (host, channel) in channels.iter_mut().zip(&self.memory) {
            host.clear();
            host.extend(channel.iter().map(|&value| value.to_f64()));
        }
        scores.resize(rows, 0.0);
        let columns =
            Columns { now: self.now, head: self.head, positions, weights: mean, max_weights: highest, logits };
        program.run(&columns, channels, scores, registers);
        for (host, channel) in channels.iter_mut().zip(&mut self.memory) {
            channel.iter_mut().zip(host).for_each(|(value, &mut host)| *value = T::from_f64(host));
        }
        if self.is_full {
            let rows = positions.iter().copied().enumerate();
            let dead = oldest_dead(rows, self.now, decision.window).map(|dead| (dead, true));
            let (gone, are_numbers) = dead.unwrap_or_else(|| {
                protect(scores, positions, self.now, decision.protected);
                lowest(scores, positions)
            });
            *self.unscored = !are_numbers;
            *self.omitted = Some(gone);
        }
        BUFFERS.set(buffers);
    }

    /// The mean over the heads of `[heads, rows]`.
    fn mean(&self, of_heads: &[T], mean: &mut Vec<f64>) {
        let rows = self.positions.len();
        let mut heads = of_heads.chunks_exact(rows);
        let share = T::from_f64(rows as f64 / of_heads.len() as f64);
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

    /// The highest weight over the heads.
    fn highest(&self, highest: &mut Vec<f64>) {
        highest.resize(self.positions.len(), 0.0);
        for weights in self.weights.chunks_exact(highest.len()) {
            for (highest, weight) in highest.iter_mut().zip(weights) {
                let weight = weight.to_f64();
                // A weight that is not a number stays seen.
                *highest = if weight <= *highest { *highest } else { weight };
            }
        }
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
