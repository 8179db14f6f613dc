//! A program in tensor operations: what defines it on a device that has no kernel for it.

use burn::tensor::{Bool, Tensor};

use super::expr::{Binary, Unary};
use super::program::{Initial, Op, Program};
use super::random;
use crate::kernels::read;
use crate::precision::accumulation;
use crate::tensors::{Memory, Sees, Tensors, View};

/// A program as a rule in tensor code: what a policy that changes rows asks, since norms of keys and values,
/// which states else carry, are then taken from the rows as they are.
#[derive(Clone, Debug)]
pub struct InTensors(pub Program);

impl Tensors for InTensors {
    fn sees(&self) -> Sees {
        let carries = |norm| self.0.channels.contains(&norm);
        Sees { keys: carries(Initial::KeyNorm), values: carries(Initial::ValueNorm), ..self.0.sees() }
    }

    fn memory(&self) -> usize {
        self.0.channels.len()
    }

    fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        for (channel, initial) in self.0.channels.iter().enumerate() {
            let rows = match initial {
                Initial::Zero => continue,
                Initial::KeyNorm => view.keys(),
                Initial::ValueNorm => view.values(),
            };
            let rows = read(rows.clone(), accumulation(rows.dtype()).into());
            let norms = (rows.clone() * rows).sum_dim(3).sqrt();
            let [batch, kv_heads, slots, _] = norms.dims();
            let groups = view.positions.dims()[1];
            let norms = norms.reshape([batch, groups, kv_heads / groups, slots]).mean_dim(2);
            memory.update(channel, |_| norms.reshape([batch, groups, slots]));
        }
        self.0.in_tensors(view, memory)
    }
}

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
                Op::Head => wide(view.head().expand(dims).float()),
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
    let truth = |holds: Tensor<3, Bool>| holds.float().cast(accumulation(dtype));
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
