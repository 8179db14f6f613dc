//! A program in tensor operations: what defines it on a device that has no kernel for it.

use burn::tensor::{Bool, Tensor};

use super::expr::{Binary, Unary};
use super::program::{Op, Program};
use super::random;
use crate::policy::{Memory, View};

impl Program {
    /// Scores the rows of a view and brings the memory up to date. `[batch, groups, rows]`
    pub(crate) fn in_tensors(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let dims = view.positions.dims();
        let device = view.positions.device();
        let wide = |x: Tensor<3>| x.cast(view.wide);
        let mut registers: Vec<Tensor<3>> = Vec::with_capacity(self.ops.len());
        for op in &self.ops {
            let of = |register: usize| registers[register].clone();
            let value = match *op {
                Op::Number(value) => Tensor::full(dims, value, (&device, burn::tensor::DType::from(view.wide))),
                Op::Weight => view.weights(),
                Op::MaxWeight => view.max_weights(),
                Op::Logit => view.logits(),
                Op::Position => wide(view.positions().float()),
                Op::Age => wide(view.age().float()),
                Op::Now => wide(view.now().expand(dims).float()),
                Op::Random(keys) => wide(random::in_tensors(keys, view.positions(), view.now())),
                Op::Memory(channel) => memory.get(channel),
                Op::Unary(function, x) => unary(function, of(x)),
                Op::Binary(function, a, b) => binary(function, of(a), of(b)),
                Op::If(condition, yes, no) => of(no).mask_where(of(condition).not_equal_elem(0.0), of(yes)),
            };
            registers.push(value);
        }
        for (channel, &becomes) in self.becomes.iter().enumerate() {
            memory.update(channel, |_| registers[becomes].clone());
        }
        registers.swap_remove(self.keep)
    }
}

fn unary(function: Unary, x: Tensor<3>) -> Tensor<3> {
    match function {
        Unary::Neg => x.neg(),
        Unary::Abs => x.abs(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
    }
}

fn binary(function: Binary, a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
    let dtype = a.dtype();
    let truth = |holds: Tensor<3, Bool>| holds.float().cast(crate::precision::accumulation(dtype));
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => b.clone().mask_where(a.clone().lower(b), a),
        Binary::Max => b.clone().mask_where(a.clone().greater(b), a),
        Binary::Less => truth(a.lower(b)),
        Binary::LessEqual => truth(a.lower_equal(b)),
        Binary::Equal => truth(a.equal(b)),
    }
}
