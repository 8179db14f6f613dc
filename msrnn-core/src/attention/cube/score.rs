//! A score's program inside a kernel: its operations unrolled, their results in registers.

use cubecl::prelude::*;

use crate::attention::blocked::Decision;
use crate::kernels::cube::reduce::{DEAD, PROTECTED};
use crate::score::{Binary, Initial, Op, Program, RANDOM, Unary};
use crate::state::MultiState;

/// An operation, known when the kernel is compiled; see [`Op`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// By its bits, so that kernels can be told apart.
    Number(u32),
    Weight,
    MaxWeight,
    Position,
    Age,
    Now,
    Head,
    /// Its residues are numbers of the launch, so that layers share a kernel.
    Random,
    Memory(usize),
    Neg(usize),
    Abs(usize),
    Exp(usize),
    Log(usize),
    Sqrt(usize),
    Floor(usize),
    Ceil(usize),
    Add(usize, usize),
    Sub(usize, usize),
    Mul(usize, usize),
    Div(usize, usize),
    Pow(usize, usize),
    Min(usize, usize),
    Max(usize, usize),
    Less(usize, usize),
    LessEqual(usize, usize),
    Equal(usize, usize),
    If(usize, usize, usize),
}

/// A program, known when the kernel is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Steps {
    ops: Vec<Step>,
    becomes: Vec<usize>,
    keep: usize,
    /// By channel, whether it is zero of a new row.
    from_zero: Vec<bool>,
    pub(crate) sees_weight: bool,
    pub(crate) sees_highest: bool,
    pub(crate) remembers: bool,
}

impl Steps {
    /// That of a program, if kernels can run it: they show no logits, draw one random number a row, and have no constants
    /// beyond f32.
    pub(crate) fn of(program: &Program) -> Option<Self> {
        let draws: Vec<&Op> = program.ops.iter().filter(|op| matches!(op, Op::Random(_))).collect();
        let ops: Option<Vec<Step>> = program.ops.iter().map(step).collect();
        (draws.len() <= 1).then_some(())?;
        Some(Self {
            ops: ops?,
            becomes: program.becomes.clone(),
            keep: program.keep,
            from_zero: program.channels.iter().map(|channel| *channel == Initial::Zero).collect(),
            sees_weight: program.uses(Op::Weight),
            sees_highest: program.uses(Op::MaxWeight),
            remembers: !program.channels.is_empty(),
        })
    }

    /// Nothing: all rows score alike.
    pub(crate) fn nothing() -> Self {
        Self {
            ops: vec![Step::Number(0)],
            becomes: Vec::new(),
            keep: 0,
            from_zero: Vec::new(),
            sees_weight: false,
            sees_highest: false,
            remembers: false,
        }
    }
}

fn step(op: &Op) -> Option<Step> {
    Some(match *op {
        // WGSL writes down no number that is not finite.
        Op::Number(value) => Step::Number(Some(value as f32).filter(|value| value.is_finite())?.to_bits()),
        Op::Weight => Step::Weight,
        Op::MaxWeight => Step::MaxWeight,
        Op::Logit => return None,
        Op::Position => Step::Position,
        Op::Age => Step::Age,
        Op::Now => Step::Now,
        Op::Head => Step::Head,
        Op::Random(_) => Step::Random,
        Op::Memory(channel) => Step::Memory(channel),
        Op::Unary(function, x) => match function {
            Unary::Neg => Step::Neg(x),
            Unary::Abs => Step::Abs(x),
            Unary::Exp => Step::Exp(x),
            Unary::Log => Step::Log(x),
            Unary::Sqrt => Step::Sqrt(x),
            Unary::Floor => Step::Floor(x),
            Unary::Ceil => Step::Ceil(x),
        },
        Op::Binary(function, a, b) => match function {
            Binary::Add => Step::Add(a, b),
            Binary::Sub => Step::Sub(a, b),
            Binary::Mul => Step::Mul(a, b),
            Binary::Div => Step::Div(a, b),
            Binary::Pow => Step::Pow(a, b),
            Binary::Min => Step::Min(a, b),
            Binary::Max => Step::Max(a, b),
            Binary::Less => Step::Less(a, b),
            Binary::LessEqual => Step::LessEqual(a, b),
            Binary::Equal => Step::Equal(a, b),
        },
        Op::If(condition, yes, no) => Step::If(condition, yes, no),
    })
}

/// The numbers of a decision.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Numbers {
    first: i32,
    newest: i32,
    add_first: i32,
    add_second: i32,
    /// The model's sliding window.
    window: i32,
    /// The first KV head, and decisions of a batch row.
    first_head: i32,
    groups: i32,
}

/// A decision's numbers as a kernel's argument; without one nothing is protected.
pub(crate) fn numbers(decision: Option<Decision<'_>>, window: Option<usize>, state: &MultiState) -> NumbersLaunch {
    let limit = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let [first, newest] = decision.map_or([0, 0], |decision| decision.protected);
    let drawn = decision.into_iter().flat_map(|decision| &decision.program.ops).find_map(|op| match op {
        Op::Random(residues) => Some(residues.map(|residue| residue as i32)),
        _ => None,
    });
    let [add_first, add_second] = drawn.unwrap_or([0, 0]);
    let window = limit(window.unwrap_or(usize::MAX));
    let [first_head, groups] = [state.first_head, state.groups()].map(limit);
    NumbersLaunch::new(limit(first), limit(newest), add_first, add_second, window, first_head, groups)
}

/// The score of a row, what is carried with it brought up to date. Channel c is at `memory[place + c · stride]`;
/// where the row is new, channels that begin at zero are not read. Below every score is a row that no later
/// query sees, as in [`omission`](crate::omission).
#[cube]
pub(crate) fn score(
    position: i32,
    now: i32,
    weight: f32,
    highest: f32,
    decider: u32,
    memory: &mut [f32],
    place: u32,
    stride: u32,
    is_new: bool,
    numbers: &Numbers,
    #[comptime] program: Steps,
) -> f32 {
    let mut registers = Sequence::<f32>::new();
    #[unroll]
    for index in 0..program.ops.len() {
        let op = comptime![program.ops[index].clone()];
        let value = match op {
            Step::Number(bits) => comptime![f32::from_bits(bits)].runtime(),
            Step::Weight => weight,
            Step::MaxWeight => highest,
            Step::Position => f32::cast_from(position),
            Step::Age => f32::cast_from(now - position),
            Step::Now => f32::cast_from(now),
            Step::Head => f32::cast_from(numbers.first_head + i32::cast_from(decider) % numbers.groups),
            Step::Random => draw(position, now, numbers),
            Step::Memory(channel) => {
                let carried = comptime![!program.from_zero[channel]].runtime();
                let mut before = 0.0f32;
                if carried || !is_new {
                    before = memory[(place + comptime![channel as u32] * stride) as usize];
                }
                before
            }
            Step::Neg(x) => -registers[x],
            Step::Abs(x) => registers[x].abs(),
            Step::Exp(x) => registers[x].exp(),
            Step::Log(x) => registers[x].ln(),
            Step::Sqrt(x) => registers[x].sqrt(),
            Step::Floor(x) => registers[x].floor(),
            Step::Ceil(x) => registers[x].ceil(),
            Step::Add(a, b) => registers[a] + registers[b],
            Step::Sub(a, b) => registers[a] - registers[b],
            Step::Mul(a, b) => registers[a] * registers[b],
            Step::Div(a, b) => registers[a] / registers[b],
            Step::Pow(a, b) => registers[a].powf(registers[b]),
            Step::Min(a, b) => select(registers[a] < registers[b], registers[a], registers[b]),
            Step::Max(a, b) => select(registers[a] > registers[b], registers[a], registers[b]),
            Step::Less(a, b) => select(registers[a] < registers[b], 1.0f32, 0.0f32),
            Step::LessEqual(a, b) => select(registers[a] <= registers[b], 1.0f32, 0.0f32),
            Step::Equal(a, b) => select(registers[a] == registers[b], 1.0f32, 0.0f32),
            Step::If(condition, yes, no) => select(registers[condition] != 0.0f32, registers[yes], registers[no]),
        };
        registers.push(value);
    }
    #[unroll]
    for channel in 0..program.becomes.len() {
        let register = comptime![program.becomes[channel]];
        memory[(place + comptime![channel as u32] * stride) as usize] = registers[register];
    }
    let keep = comptime![program.keep];
    let mut score = registers[keep];
    if score > PROTECTED || position < numbers.first || now - position < numbers.newest {
        score = PROTECTED.runtime();
    }
    if now + 1 - position >= numbers.window {
        score = DEAD.runtime();
    }
    score
}

/// The pseudo-random number of a row; see the score's own.
#[cube]
fn draw(position: i32, now: i32, numbers: &Numbers) -> f32 {
    let modulus = comptime![RANDOM[0] as i32].runtime();
    let inner = (position % modulus + numbers.add_first) % modulus;
    let shift = ((now % modulus) * comptime![RANDOM[1] as i32] + numbers.add_second) % modulus;
    let outer = (cube_of(inner, modulus) + shift) % modulus;
    f32::cast_from(cube_of(outer, modulus))
}

/// x³ mod `modulus`
#[cube]
fn cube_of(x: i32, modulus: i32) -> i32 {
    x * x % modulus * x % modulus
}
