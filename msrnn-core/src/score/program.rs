//! A score compiled for one layer: operations on columns, each written once.

use super::expr::{Binary, Channel, Expr, Input, Score, Unary};
use super::random::keys;
use crate::error::Error;
use crate::layer::Layer;
use crate::tensors::Sees;

/// Index of an operation, whose result is referred to by it.
pub(crate) type Register = usize;

/// One number for every row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    Number(f64),
    Weight,
    MaxWeight,
    Logit,
    Position,
    Age,
    Now,
    Head,
    /// By its two residues.
    Random([i64; 2]),
    /// What is in a channel before the step.
    Memory(usize),
    Unary(Unary, Register),
    Binary(Binary, Register, Register),
    If(Register, Register, Register),
}

/// What a channel holds of a row that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// 0
    Zero,
    /// The norm of its key.
    KeyNorm,
    /// The norm of its value.
    ValueNorm,
}

/// A [`Score`] for one layer, whose k and place are known.
///
/// Norms of keys and values are carried as channels beside what the score remembers, so that rows that are held
/// are never read for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) channels: Vec<Initial>,
    /// The new value of every channel.
    pub(crate) becomes: Vec<Register>,
    /// The score.
    pub(crate) keep: Register,
}

impl Program {
    /// Compiles a score.
    ///
    /// # Errors
    ///
    /// When it refers to something that it does not remember, or remembers two things under one name.
    pub fn new(score: &Score, layer: &Layer) -> Result<Self, Error> {
        let mut compiler =
            Compiler { layer, ops: Vec::new(), channels: Vec::new(), names: Vec::new(), norms: [None; 2] };
        for Channel { name, .. } in &score.remembers {
            if compiler.names.iter().any(|(known, _)| known == name) {
                return Err(Error::RememberedTwice(name.clone()));
            }
            compiler.channels.push(Initial::Zero);
            let before = compiler.op(Op::Memory(compiler.channels.len() - 1));
            compiler.names.push((name.clone(), before));
        }
        for (index, Channel { becomes, .. }) in score.remembers.iter().enumerate() {
            compiler.names[index].1 = compiler.compile(becomes)?;
        }
        let keep = compiler.compile(&score.keep)?;
        let mut becomes: Vec<Register> = compiler.names.iter().map(|(_, register)| *register).collect();
        // Norms stay what they are.
        for channel in becomes.len()..compiler.channels.len() {
            becomes.push(compiler.op(Op::Memory(channel)));
        }
        let Compiler { ops, channels, .. } = compiler;
        Ok(Self { ops, channels, becomes, keep })
    }

    /// Numbers that are carried with every row.
    pub fn memory(&self) -> usize {
        self.channels.len()
    }

    /// Whether anything carried ever changes, so that every token has to be looked at.
    pub(crate) fn remembers(&self) -> bool {
        self.becomes.iter().enumerate().any(|(channel, &register)| self.ops[register] != Op::Memory(channel))
    }

    pub(crate) fn uses(&self, op: Op) -> bool {
        self.ops.contains(&op)
    }

    /// What it is shown as tensors.
    pub(crate) fn sees(&self) -> Sees {
        Sees {
            weights: self.uses(Op::Weight) || self.uses(Op::MaxWeight),
            logits: self.uses(Op::Logit),
            ..Sees::NOTHING
        }
    }

    /// Whether it looks at what the current query makes of the rows.
    #[cfg(feature = "laws")]
    pub(crate) fn sees_attention(&self) -> bool {
        [Op::Weight, Op::MaxWeight, Op::Logit].into_iter().any(|op| self.uses(op))
    }

    /// Whether the oldest goes, whatever the rows are.
    pub(crate) fn omits_the_oldest(&self) -> bool {
        self.channels.is_empty()
            && match self.ops[self.keep] {
                Op::Number(score) => !score.is_nan(),
                op => op == Op::Position,
            }
    }

    /// Whether the score is the weight itself.
    pub(crate) fn is_weight(&self) -> bool {
        self.channels.is_empty() && self.ops[self.keep] == Op::Weight
    }
}

struct Compiler<'l> {
    layer: &'l Layer,
    ops: Vec<Op>,
    channels: Vec<Initial>,
    /// What is remembered, and in which register it now is.
    names: Vec<(String, Register)>,
    /// Registers of the norms of keys and values.
    norms: [Option<Register>; 2],
}

impl Compiler<'_> {
    /// The register of an operation, a new one unless it is there already.
    fn op(&mut self, op: Op) -> Register {
        let same = |known: &Op| match (known, op) {
            // Zeros have signs.
            (Op::Number(a), Op::Number(b)) => a.to_bits() == b.to_bits(),
            (known, op) => *known == op,
        };
        self.ops.iter().position(same).unwrap_or_else(|| {
            self.ops.push(op);
            self.ops.len() - 1
        })
    }

    fn number(&self, register: Register) -> Option<f64> {
        match self.ops[register] {
            Op::Number(value) => Some(value),
            _ => None,
        }
    }

    fn compile(&mut self, expr: &Expr) -> Result<Register, Error> {
        let op = match expr {
            Expr::Number(value) => Op::Number(*value),
            Expr::Input(input) => return Ok(self.input(*input)),
            Expr::Remembered(name) => {
                let known = self.names.iter().find(|(known, _)| known == name);
                return known.map(|(_, register)| *register).ok_or_else(|| Error::NotRemembered(name.clone()));
            }
            Expr::Random(seed) => Op::Random(keys(*seed, self.layer.index)),
            Expr::Unary(function, x) => {
                let x = self.compile(x)?;
                match self.number(x) {
                    Some(x) => Op::Number(function.of(x)),
                    None => Op::Unary(*function, x),
                }
            }
            Expr::Binary(function, a, b) => {
                let (a, b) = (self.compile(a)?, self.compile(b)?);
                match (self.number(a), self.number(b)) {
                    (Some(a), Some(b)) => Op::Number(function.of(a, b)),
                    _ => Op::Binary(*function, a, b),
                }
            }
            Expr::If(condition, yes, no) => {
                let condition = self.compile(condition)?;
                match self.number(condition) {
                    Some(0.0) => return self.compile(no),
                    Some(_) => return self.compile(yes),
                    None => Op::If(condition, self.compile(yes)?, self.compile(no)?),
                }
            }
        };
        Ok(self.op(op))
    }

    fn input(&mut self, input: Input) -> Register {
        let op = match input {
            Input::Weight => Op::Weight,
            Input::MaxWeight => Op::MaxWeight,
            Input::Logit => Op::Logit,
            Input::KeyNorm => return self.norm(0, Initial::KeyNorm),
            Input::ValueNorm => return self.norm(1, Initial::ValueNorm),
            Input::Position => Op::Position,
            Input::Age => Op::Age,
            Input::Now => Op::Now,
            Input::States => Op::Number(self.layer.states as f64),
            Input::Layer => Op::Number(self.layer.index as f64),
            Input::Layers => Op::Number(self.layer.layers as f64),
            Input::Head => Op::Head,
        };
        self.op(op)
    }

    /// The channel that carries a norm, made when it is first asked for.
    fn norm(&mut self, which: usize, initial: Initial) -> Register {
        if let Some(register) = self.norms[which] {
            return register;
        }
        self.channels.push(initial);
        let register = self.op(Op::Memory(self.channels.len() - 1));
        self.norms[which] = Some(register);
        register
    }
}
