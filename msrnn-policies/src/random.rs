//! Random: the seeded baseline that a rule has to beat.

use burn::tensor::{Int, Tensor};
use msrnn_core::device_score::{DeviceScore, ScoreRule};
use msrnn_core::policy::{Granularity, HostMemory, HostView, Memory, Policy, ScoreOnHost, View};
use serde::{Deserialize, Serialize};

use crate::registry::{Entry, number_after};

/// Omits a row chosen uniformly at random, one decision per layer.
///
/// The choice is a hash of seed, layer, step and position, so it is the same on every device, in
/// every batch and in every form of evaluation.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Random;
///
/// assert_eq!(Random::default().name(), "random");
/// assert_eq!(Random { seed: Some(0) }.name(), "random:0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// Seed; none where none was named, which draws as 0 does.
    pub seed: Option<u64>,
}

/// A prime p with p mod 3 = 2, so that cubing permutes the residues, and p² < 2³¹, so that nothing
/// overflows where a device's integers have 32 bits.
const P: i64 = 32_717;

impl Policy for Random {
    fn name(&self) -> String {
        match self.seed {
            None => "random".into(),
            Some(seed) => format!("random:{seed}"),
        }
    }

    fn granularity(&self) -> Granularity {
        Granularity::Layer
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let (first, second) = self.keys(view.layer());
        let position = view.positions().remainder_scalar(P).add_scalar(first).remainder_scalar(P);
        let now = view.now().remainder_scalar(P).mul_scalar(STEP).add_scalar(second).remainder_scalar(P);
        let dims = position.dims();
        // A permutation of the positions mod p that the step shifts between two cubings.
        cube((cube(position) + now.expand(dims)).remainder_scalar(P)).float()
    }

    fn on_host(&self) -> Option<&dyn ScoreOnHost> {
        Some(self)
    }

    fn on_device(&self, _states: usize, layer: usize) -> Option<DeviceScore> {
        let (first, second) = self.keys(layer);
        let [modulus, step, first, second] = [P, STEP, first, second].map(|number| number as i32);
        let rule = ScoreRule::Cubes { modulus, step, first, second };
        Some(DeviceScore { rule, first: 0, newest: 0 })
    }
}

impl ScoreOnHost for Random {
    fn score(&self, view: &HostView<'_>, _memory: &mut HostMemory, scores: &mut [f64]) {
        let (first, second) = self.keys(view.layer);
        let cube = |x: i64| x * x % P * x % P;
        let now = (view.now % P * STEP + second) % P;
        for (score, &position) in scores.iter_mut().zip(view.positions) {
            *score = cube((cube((position.rem_euclid(P) + first) % P) + now) % P) as f64;
        }
    }
}

impl Random {
    /// Two residues that differ from layer to layer.
    fn keys(&self, layer: usize) -> (i64, i64) {
        let key = mix(self.seed.unwrap_or(0) ^ (layer as u64) << 32);
        ((key % P as u64) as i64, (key >> 32) as i64 % P)
    }
}

/// Odd, and far from any simple fraction of p.
const STEP: i64 = 20_219;

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

pub(crate) const ENTRIES: &[Entry] = &[Entry {
    name: "random",
    example: "random",
    idea: "The baseline that a rule has to beat.",
    rule: "Omit any of the k + 1 rows with equal probability; one decision per layer. random:SEED chooses another sequence.",
    cost: "O(k) integer operations; no attention weights",
    citation: "A control, not a published method",
    differences: "The choice is a 15-bit hash of seed, layer, step and position: beyond 32,717 held rows, equal hashes let the older go.",
    parse: |text| match text {
        "random" => Some(Ok(std::sync::Arc::new(Random { seed: None }) as _)),
        _ => number_after(text, "random:")
            .map(|seed| seed.map(|seed| std::sync::Arc::new(Random { seed: Some(seed as u64) }) as _)),
    },
}];
