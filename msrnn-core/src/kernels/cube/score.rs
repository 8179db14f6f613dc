//! A [`DeviceScore`] inside a kernel.

use cubecl::prelude::*;

use super::reduce::{DEAD, PROTECTED};
use crate::device_score::{DeviceScore, ScoreRule};

/// The rule of a score, known when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Age,
    Weight,
    AccumulatedWeight,
    Cubes,
}

/// The numbers of a score.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Numbers {
    first: i32,
    newest: i32,
    modulus: i32,
    step: i32,
    add_first: i32,
    add_second: i32,
    /// The model's sliding window.
    window: i32,
}

impl Rule {
    pub(super) fn of(score: &DeviceScore) -> Self {
        match score.rule {
            ScoreRule::Age => Self::Age,
            ScoreRule::Weight => Self::Weight,
            ScoreRule::AccumulatedWeight => Self::AccumulatedWeight,
            ScoreRule::Cubes { .. } => Self::Cubes,
        }
    }
}

/// A score's numbers, and the model's sliding window, as a kernel's argument.
pub(super) fn numbers(score: &DeviceScore, window: Option<usize>) -> NumbersLaunch {
    let (modulus, step, first, second) = match score.rule {
        ScoreRule::Cubes { modulus, step, first, second } => (modulus, step, first, second),
        _ => (1, 0, 0, 0),
    };
    let limit = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let window = limit(window.unwrap_or(usize::MAX));
    NumbersLaunch::new(limit(score.first), limit(score.newest), modulus, step, first, second, window)
}

/// The score of the row of a position, whose weight now is `weight`, and over all steps `sum`. Below every
/// score is a row that no later query sees, as in [`omission`](crate::omission).
#[cube]
pub(super) fn score(position: i32, now: i32, weight: f32, sum: f32, numbers: &Numbers, #[comptime] rule: Rule) -> f32 {
    let mut score = 0.0f32;
    if comptime!(rule == Rule::Weight) {
        score = weight;
    } else if comptime!(rule == Rule::AccumulatedWeight) {
        score = sum;
    } else if comptime!(rule == Rule::Cubes) {
        let modulus = numbers.modulus;
        let inner = (position % modulus + numbers.add_first) % modulus;
        let shift = ((now % modulus) * numbers.step + numbers.add_second) % modulus;
        let outer = (cube_of(inner, modulus) + shift) % modulus;
        score = f32::cast_from(cube_of(outer, modulus));
    }
    if position < numbers.first || now - position < numbers.newest {
        score = PROTECTED;
    }
    if now + 1 - position >= numbers.window {
        score = DEAD;
    }
    score
}

/// x³ mod `modulus`
#[cube]
fn cube_of(x: i32, modulus: i32) -> i32 {
    x * x % modulus * x % modulus
}
