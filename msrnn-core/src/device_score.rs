//! Scores as data: for devices that cannot call a policy.
//!
//! A GPU that decides without asking the host needs to know how to score, and a policy is Rust code.
//! A policy whose scores are of a form below can say so ([`Policy::on_device`](crate::policy::Policy));
//! its steps and scans then run as kernels, with nothing read back. Every other policy works all the
//! same, through [`Policy::score`](crate::policy::Policy::score) on the device's tensors.

use burn::tensor::{Int, Tensor};

use crate::policy::{Memory, View};

/// A score by rule, with protected rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceScore {
    /// What is compared.
    pub rule: ScoreRule,
    /// Rows of the first that many tokens of the text score +∞.
    pub first: usize,
    /// The newest that many rows score +∞.
    pub newest: usize,
}

/// What is compared; the lowest goes, on equal scores the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreRule {
    /// Nothing: all scores are equal, so the oldest row goes.
    Age,
    /// The current query's mean weight on the row.
    Weight,
    /// The sum of those weights over all steps, kept in the policy's only memory channel.
    AccumulatedWeight,
    /// Pseudo-random: ((p + first)³ + now · step + second)³ mod modulus, p the row's position.
    Cubes {
        /// At most 46,340, so that its square has 31 bits.
        modulus: i32,
        /// Of the current position.
        step: i32,
        /// Added to the row's position.
        first: i32,
        /// Added to the current position.
        second: i32,
    },
}

impl ScoreRule {
    /// Whether it looks at attention weights.
    pub fn sees_weights(self) -> bool {
        matches!(self, ScoreRule::Weight | ScoreRule::AccumulatedWeight)
    }
}

impl DeviceScore {
    /// The scores as tensor operations: what the kernels compute. As
    /// [`Policy::score`](crate::policy::Policy::score).
    pub fn score(&self, view: &View, memory: &mut Memory) -> Tensor<3> {
        let mut scores = match self.rule {
            ScoreRule::Age => Tensor::zeros(view.positions().dims(), &view.positions().device()),
            ScoreRule::Weight => view.weights(),
            ScoreRule::AccumulatedWeight => memory.update(0, |sum| sum + view.weights()),
            ScoreRule::Cubes { modulus, step, first, second } => {
                let [modulus, step, first, second] = [modulus, step, first, second].map(i64::from);
                let cube = |x: Tensor<3, Int>| {
                    let square = (x.clone() * x.clone()).remainder_scalar(modulus);
                    (square * x).remainder_scalar(modulus)
                };
                let residue = |x: Tensor<3, Int>| x.remainder_scalar(modulus);
                let position = residue(residue(view.positions()).add_scalar(first));
                let now = residue(residue(view.now()).mul_scalar(step).add_scalar(second));
                let dims = position.dims();
                cube(residue(cube(position) + now.expand(dims))).float()
            }
        };
        if self.first > 0 {
            scores = scores.mask_fill(view.first(self.first), f32::INFINITY);
        }
        if self.newest > 0 {
            scores = scores.mask_fill(view.newest(self.newest), f32::INFINITY);
        }
        scores
    }
}
