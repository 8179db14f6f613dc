//! Pseudo-random numbers that are the same on every device: a hash in integers of 31 bits.

use burn::tensor::{Int, Tensor};

/// A prime p with p mod 3 = 2, so that cubing permutes the residues, and p² < 2³¹, so that nothing
/// overflows where a device's integers have 32 bits.
pub(super) const P: i64 = 32_717;

/// Odd, and far from any simple fraction of p.
pub(super) const STEP: i64 = 20_219;

/// Modulus and step, for kernels.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) const RANDOM: [i64; 2] = [P, STEP];

/// Two residues of a seed that differ from layer to layer.
pub(super) fn keys(seed: u64, layer: usize) -> [i64; 2] {
    let key = mix(seed ^ (layer as u64) << 32);
    [(key % P as u64) as i64, (key >> 32) as i64 % P]
}

/// A permutation of the positions mod p that the step shifts between two cubings.
#[inline(always)]
pub(super) fn on_host([first, second]: [i64; 2], position: i64, now: i64) -> f64 {
    let cube = |x: i64| x * x % P * x % P;
    let shift = (now % P * STEP + second) % P;
    cube((cube((position.rem_euclid(P) + first) % P) + shift) % P) as f64
}

/// The same of tensors: `[.., rows]` and `[.., 1]`.
pub(super) fn in_tensors([first, second]: [i64; 2], positions: Tensor<3, Int>, now: Tensor<3, Int>) -> Tensor<3> {
    let position = positions.remainder_scalar(P).add_scalar(first).remainder_scalar(P);
    let now = now.remainder_scalar(P).mul_scalar(STEP).add_scalar(second).remainder_scalar(P);
    let dims = position.dims();
    cube((cube(position) + now.expand(dims)).remainder_scalar(P)).float()
}

/// x³ mod p
fn cube(x: Tensor<3, Int>) -> Tensor<3, Int> {
    let square = (x.clone() * x.clone()).remainder_scalar(P);
    (square * x).remainder_scalar(P)
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
