//! A program on the host: operation by operation over columns of plain numbers.

use std::cell::RefCell;

use super::program::{Op, Program};
use super::random;
use crate::simd::wide;

/// Rows that are computed at once: all registers of a program stay in the nearest cache.
const CHUNK: usize = 128;

/// What is known of the rows of one decision, by row.
pub(crate) struct Columns<'a> {
    /// Position of the current token.
    pub(crate) now: i64,
    /// Which KV head decides.
    pub(crate) head: usize,
    pub(crate) positions: &'a [i64],
    /// Empty unless the program uses them, like the next two.
    pub(crate) weights: &'a [f64],
    pub(crate) max_weights: &'a [f64],
    pub(crate) logits: &'a [f64],
}

/// Room for what is computed, kept from step to step.
#[derive(Default)]
pub(crate) struct Registers(Vec<f64>);

thread_local! {
    static REGISTERS: RefCell<Registers> = RefCell::default();
}

impl Program {
    /// Scores rows by their weights alone, a row after the other, as the host does: for benchmarks.
    #[doc(hidden)]
    pub fn score_on_host(&self, positions: &[i64], weights: &[f64], memory: &mut [Vec<f64>], scores: &mut [f64]) {
        let now = positions.iter().copied().max().unwrap_or(0);
        let columns = Columns { now, head: 0, positions, weights, max_weights: weights, logits: weights };
        REGISTERS.with_borrow_mut(|registers| self.run(&columns, memory, scores, registers));
    }

    /// Scores the rows of one decision and brings its memory up to date: `memory[channel][row]`.
    pub(crate) fn run<M: AsMut<[f64]>>(
        &self,
        columns: &Columns<'_>,
        memory: &mut [M],
        scores: &mut [f64],
        registers: &mut Registers,
    ) {
        if self.is_weight() {
            scores.copy_from_slice(columns.weights);
            return;
        }
        if let Op::Number(score) = self.ops[self.keep]
            && self.channels.is_empty()
        {
            scores.fill(score);
            return;
        }
        registers.0.resize(self.ops.len() * CHUNK, 0.0);
        wide(
            #[inline(always)]
            || {
                for first in (0..scores.len()).step_by(CHUNK) {
                    let n = CHUNK.min(scores.len() - first);
                    self.chunk(columns, memory, first, n, &mut registers.0);
                    let register = |register: usize| &registers.0[register * CHUNK..][..n];
                    scores[first..first + n].copy_from_slice(register(self.keep));
                    for (channel, &becomes) in memory.iter_mut().zip(&self.becomes) {
                        channel.as_mut()[first..first + n].copy_from_slice(register(becomes));
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn chunk<M: AsMut<[f64]>>(
        &self,
        columns: &Columns<'_>,
        memory: &mut [M],
        first: usize,
        n: usize,
        registers: &mut [f64],
    ) {
        let positions = &columns.positions[first..first + n];
        for (index, op) in self.ops.iter().enumerate() {
            let (before, rest) = registers.split_at_mut(index * CHUNK);
            let to = &mut rest[..n];
            let of = |register: usize| &before[register * CHUNK..][..n];
            match *op {
                Op::Number(value) => to.fill(value),
                Op::Weight => to.copy_from_slice(&columns.weights[first..first + n]),
                Op::MaxWeight => to.copy_from_slice(&columns.max_weights[first..first + n]),
                Op::Logit => to.copy_from_slice(&columns.logits[first..first + n]),
                Op::Position => to.iter_mut().zip(positions).for_each(|(to, &position)| *to = position as f64),
                Op::Age => {
                    to.iter_mut().zip(positions).for_each(|(to, &position)| *to = (columns.now - position) as f64);
                }
                Op::Now => to.fill(columns.now as f64),
                Op::Head => to.fill(columns.head as f64),
                Op::Random(keys) => to
                    .iter_mut()
                    .zip(positions)
                    .for_each(|(to, &position)| *to = random::on_host(keys, position, columns.now)),
                Op::Memory(channel) => to.copy_from_slice(&memory[channel].as_mut()[first..first + n]),
                Op::Unary(function, x) => unary(function, of(x), to),
                Op::Binary(function, a, b) => binary(function, of(a), of(b), to),
                Op::If(condition, yes, no) => {
                    let values = of(condition).iter().zip(of(yes)).zip(of(no));
                    to.iter_mut().zip(values).for_each(|(to, ((&c, &yes), &no))| *to = if c != 0.0 { yes } else { no });
                }
            }
        }
    }
}

/// One loop for every function, so that each is compiled for itself.
macro_rules! each {
    ($enum:path, $function:expr, [$($name:ident),*], |$known:ident| $loop:expr) => {{
        use $enum as Functions;
        match $function {
            $(Functions::$name => { let $known = Functions::$name; $loop })*
        }
    }};
}

#[inline(always)]
fn unary(function: super::Unary, x: &[f64], to: &mut [f64]) {
    each!(super::Unary, function, [Neg, Abs, Exp, Log, Sqrt, Floor, Ceil], |known| {
        to.iter_mut().zip(x).for_each(|(to, &x)| *to = known.of(x))
    });
}

#[inline(always)]
fn binary(function: super::Binary, a: &[f64], b: &[f64], to: &mut [f64]) {
    each!(super::Binary, function, [Add, Sub, Mul, Div, Pow, Min, Max, Less, LessEqual, Equal], |known| {
        to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (&a, &b))| *to = known.of(a, b))
    });
}
