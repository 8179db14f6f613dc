//! Positions that are numbered anew at every step, for texts far beyond the trained context.
//!
//! Keys are held unrotated and rotated at every step by the numbers that the rows then have; the
//! query has the newest row's number. A model's sliding window looks at these numbers too.
//!
//! **Gap-compressed**: Oren et al. 2024 (arXiv 2401.06104, appendix on extrapolation). The text of
//! the paper gives ln(ln g) for gaps above 10, which cannot be used as written; this is the rule of
//! the authors' code: with T = 10, a gap x becomes x up to T and T + ln(ln(x − T + e)) above, rounded
//! up. Gaps 1 to 10 stay, 11 to 22 become 11, 23 to 1625 become 12, longer ones 13.
//!
//! **In-state**: Xiao et al. 2023 (StreamingLLM, arXiv 2309.17453, §3.2). Rows are numbered 0, 1, 2, ...
//! in the order of their original positions, whatever the gaps.

use burn::tensor::{Int, Tensor};
use msrnn_core::placement::{Placement, Positions};

use crate::rotary::Rotary;

/// The largest gap that stays as it is.
const T: f64 = 10.0;

/// What the longest gap is compressed to, up to as many tokens as a state counts.
pub(crate) const LONGEST_GAP: usize = 14;

/// New positions of rows by their original ones, `[sequences, rows]`; −1 is an empty slot.
type Rule = fn(Tensor<2, Int>) -> Tensor<2, Int>;

/// Numbers the held rows anew at every step; keys are held unrotated.
#[derive(Clone, Debug)]
pub struct Renumbered {
    rotary: Option<Rotary>,
    rule: Rule,
    /// The same on the host.
    on_host: fn(&[i64]) -> Vec<i64>,
}

impl Renumbered {
    /// That of a way to number rows, unless they keep their original positions.
    pub fn of(positions: Positions, rotary: Option<Rotary>) -> Option<Self> {
        match positions {
            Positions::Original => None,
            Positions::GapCompressed => Some(Self::gap_compressed(rotary)),
            Positions::InState => Some(Self::in_state(rotary)),
        }
    }

    /// Gaps between neighbouring rows compressed; positions are rotated by `rotary`, in a layer without one not at all:
    /// there the numbers are what a sliding window looks at.
    pub fn gap_compressed(rotary: Option<Rotary>) -> Self {
        Self { rotary, rule: compress, on_host: compress_on_host }
    }

    /// Rows counted within the state; positions are rotated by `rotary`, if there is one.
    pub fn in_state(rotary: Option<Rotary>) -> Self {
        Self { rotary, rule: count, on_host: count_on_host }
    }
}

impl Placement for Renumbered {
    fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int> {
        let [batch, groups, rows] = positions.dims();
        (self.rule)(positions.reshape([batch * groups, rows])).reshape([batch, groups, rows])
    }

    // Gaps of one stay what they are.
    fn numbers_as_they_come(&self) -> bool {
        true
    }

    fn is_relative(&self) -> bool {
        self.rotary.as_ref().is_none_or(Rotary::is_relative)
    }

    fn number_on_host(&self, positions: &[i64]) -> Option<Vec<i64>> {
        Some((self.on_host)(positions))
    }

    fn angles(&self, numbers: usize) -> Option<[Tensor<2>; 2]> {
        self.rotary.as_ref().map(|rotary| rotary.first(numbers).angles())
    }

    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, numbers: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>) {
        let Some(rotary) = &self.rotary else { return (query, keys) };
        let [batch, kv_heads, rows, head_dim] = keys.dims();
        let [_, heads, _, _] = query.dims();
        let places = numbers.reshape([batch * kv_heads, rows]);
        let keys = rotary.at(places.clone()).apply(keys.reshape([batch * kv_heads, 1, rows, head_dim]));
        let newest = rotary.at(places.max_dim(1));
        let query = newest.apply(query.reshape([batch * kv_heads, heads / kv_heads, 1, head_dim]));
        (query.reshape([batch, heads, 1, head_dim]), keys.reshape([batch, kv_heads, rows, head_dim]))
    }
}

/// Gaps compressed; an empty slot gets 0.
fn compress(positions: Tensor<2, Int>) -> Tensor<2, Int> {
    let [sequences, rows] = positions.dims();
    let (sorted, order) = positions.sort_with_indices(1);
    let sorted = sorted.clamp_min(0);
    let previous = match rows {
        1 => Tensor::zeros_like(&sorted),
        _ => {
            let first = Tensor::zeros([sequences, 1], &sorted.device());
            Tensor::cat(vec![first, sorted.clone().narrow(1, 0, rows - 1)], 1)
        }
    };
    let gaps = (sorted - previous).float();
    let long = gaps.clone().clamp_min(T).sub_scalar(T).add_scalar(std::f64::consts::E).log().log().add_scalar(T);
    let short = gaps.clone().lower_equal_elem(T);
    let compressed = long.ceil().mask_where(short, gaps).int().cumsum(1);
    // Back from sorted order to slots: the inverse permutation.
    compressed.gather(1, order.argsort(1))
}

/// Rows counted in the order of their positions; an empty slot gets 0.
fn count(positions: Tensor<2, Int>) -> Tensor<2, Int> {
    // Indices, counts and positions may be integers of different widths.
    let dtype = positions.dtype();
    let empty = positions.clone().lower_elem(0).int().sum_dim(1).cast(dtype);
    let rank = positions.argsort(1).argsort(1).cast(dtype);
    (rank - empty).clamp_min(0)
}

/// What `number` makes of a row, from the oldest to the newest, by its gap to the one before it (of the first: to the
/// beginning) and the number of that one; an empty slot gets 0.
fn in_order(positions: &[i64], number: impl Fn(i64, Option<i64>) -> i64) -> Vec<i64> {
    let mut slots: Vec<usize> = (0..positions.len()).filter(|&slot| positions[slot] >= 0).collect();
    slots.sort_unstable_by_key(|&slot| positions[slot]);
    let mut numbers = vec![0; positions.len()];
    let (mut previous, mut last) = (0, None);
    for slot in slots {
        numbers[slot] = number(positions[slot] - previous, last);
        (previous, last) = (positions[slot], Some(numbers[slot]));
    }
    numbers
}

/// As [`compress`].
fn compress_on_host(positions: &[i64]) -> Vec<i64> {
    in_order(positions, |gap, last| {
        let gap = match gap as f64 <= T {
            true => gap,
            // In the precision of the tensors.
            false => (((gap as f32 - T as f32 + std::f32::consts::E).ln().ln() + T as f32).ceil()) as i64,
        };
        last.unwrap_or(0) + gap
    })
}

/// As [`count`].
fn count_on_host(positions: &[i64]) -> Vec<i64> {
    in_order(positions, |_, last| last.map_or(0, |last| last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use burn::tensor::{DType, Device, TensorData};
    use msrnn_core::attention::Attention;
    use msrnn_core::state::MultiState;
    use proptest::prelude::*;

    use crate::config::ModelConfig;

    fn renumbered(rule: Rule, positions: &[i64]) -> Vec<i64> {
        let device = Device::flex();
        let positions = Tensor::<1, Int>::from_data(positions, &device).reshape([1, positions.len()]);
        rule(positions).into_data().convert::<i64>().as_slice::<i64>().unwrap().to_vec()
    }

    proptest! {
        #[test]
        fn the_host_numbers_rows_as_tensors_do(
            gaps in proptest::collection::vec(prop_oneof![1..40i64, 1..3_000i64, 1..9_000_000i64], 1..40), empty in 0..5usize, seed in any::<u64>(),
        ) {
            let mut positions: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
            positions.extend(std::iter::repeat_n(-1, empty));
            // Some order.
            positions.sort_by_key(|&position| (position as u64).wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            prop_assert_eq!(count_on_host(&positions), renumbered(count, &positions));
            prop_assert_eq!(compress_on_host(&positions), renumbered(compress, &positions));
        }
    }

    /// A placement of which nothing is known beforehand: every token is a step, taken in tensor operations.
    #[derive(Debug)]
    struct Plainly(Renumbered);

    impl Placement for Plainly {
        fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int> {
            self.0.number(positions)
        }

        fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, numbers: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>) {
            self.0.rotate(query, keys, numbers)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        /// The first tokens are a block, and the kernel of the host rotates rows as it reads them. Decisions are compared in
        /// f64, where none is within rounding; in f32 and 16 bits those that rounding cannot change.
        #[test]
        fn tokens_over_rows_that_are_numbered_anew_equal_their_plain_twin(
            heads in (1..=2usize, 1..=3usize, 1..=2usize), half in 1..=20usize, states in 5..=12usize, tokens in 1..=40usize,
            window in proptest::option::of(1..=24usize), policy in 0..9usize, narrow in any::<bool>(), compressed in any::<bool>(),
            rotates in any::<bool>(), prompt in proptest::option::of(1..=40usize), again in any::<bool>(), seed in 0..u64::MAX,
        ) {
            let (batch, kv_heads, group) = heads;
            let head_dim = 2 * half;
            let device = Device::flex();
            let policies = [
                "window+2", "window", "protect(window+1, newest=3)", "int8(window+3, group=3, recent=2)", "tova", "tova-head", "h2o",
                "int8(tova-head, group=3, recent=2)", "every(4, snapkv(window=3))",
            ];
            let policy = policies[if narrow { policy % 3 } else { policy }];
            let (dtype, stored) = if narrow { (DType::F32, DType::F16) } else { (DType::F64, DType::F64) };
            let config = ModelConfig::parse(&serde_json::json!({
                "model_type": "llama", "hidden_size": head_dim, "intermediate_size": 4, "num_hidden_layers": 1,
                "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 8, "rms_norm_eps": 1e-5,
            }).to_string()).unwrap();
            let rotary = rotates.then(|| Rotary::new(&config, dtype, &device));
            let placement = if compressed { Renumbered::gap_compressed(rotary) } else { Renumbered::in_state(rotary) };
            let layer = |placement: Arc<dyn Placement>| Attention {
                heads: kv_heads * group, kv_heads, head_dim, scale: 0.4, window, placement: Some(placement),
            };
            let compression = msrnn_policies::registry::compression(policy, states).unwrap();
            let mut numbers = seed;
            let mut random = |heads: usize| {
                let values: Vec<f64> = (0..batch * heads * tokens * head_dim).map(|_| {
                    numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (numbers >> 33) as f64 / f64::from(1u32 << 30) - 1.0
                }).collect();
                let data = TensorData::new(values, [batch, heads, tokens, head_dim]).convert_dtype(dtype);
                Tensor::<4>::from_data(data, (&device, dtype))
            };
            let text = [random(kv_heads * group), random(kv_heads), random(kv_heads)];
            let run = |layer: Attention| {
                let mut state = layer.initial_state(batch, 0, 1, &compression, stored, &device);
                let prompt = prompt.unwrap_or(0).min(tokens);
                let part = |first, n| text.each_ref().map(|x| x.clone().narrow(2, first, n));
                let mut outputs = Vec::new();
                if prompt > 0 {
                    let [query, key, value] = part(0, prompt);
                    outputs.push(layer.prefill(query, key, value, &mut state).unwrap());
                }
                if prompt < tokens {
                    let [query, key, value] = part(prompt, tokens - prompt);
                    outputs.push(layer.scan(query, key, value, &mut state));
                }
                if again {
                    // Batch rows that have seen different numbers of tokens.
                    state.reset(0);
                    let [query, key, value] = part(0, tokens);
                    outputs.push(layer.scan(query, key, value, &mut state));
                }
                let output = Tensor::cat(outputs, 2);
                (output.into_data().convert::<f64>().try_into_vec::<f64>().unwrap(), state.held())
            };
            let (found, expected) = (run(layer(Arc::new(placement.clone()))), run(layer(Arc::new(Plainly(placement)))));
            prop_assert_eq!(found.1, expected.1);
            let bound = if narrow { 1e-4 } else { 1e-10 };
            for (found, expected) in found.0.into_iter().zip(expected.0) {
                prop_assert!((found - expected).abs() <= bound, "{} and not {}", found, expected);
            }
        }
    }

    fn places(positions: &[i64]) -> Vec<i64> {
        renumbered(compress, positions)
    }

    #[test]
    fn in_the_state_rows_are_counted_in_their_order() {
        assert_eq!(renumbered(count, &[0, 1, 2, 3]), [0, 1, 2, 3]);
        assert_eq!(renumbered(count, &[100, 0, 70_000, 101]), [1, 0, 3, 2]);
        assert_eq!(renumbered(count, &[5, -1, 3, -1]), [1, 0, 0, 0]);
        assert_eq!(renumbered(count, &[9]), [0]);
    }

    #[test]
    fn short_gaps_stay() {
        assert_eq!(places(&[0, 1, 2, 3]), [0, 1, 2, 3]);
        assert_eq!(places(&[0, 10, 20]), [0, 10, 20]);
    }

    #[test]
    fn long_gaps_shrink_as_in_the_authors_code() {
        const MOST: i64 = MultiState::MOST_TOKENS as i64;
        for (gap, expected) in
            [(11, 11), (22, 11), (23, 12), (1625, 12), (1626, 13), (60_000, 13), (MOST, LONGEST_GAP as i64)]
        {
            assert_eq!(places(&[0, gap])[1], expected, "gap {gap}");
        }
    }

    #[test]
    fn slots_may_stand_in_any_order_and_be_empty() {
        assert_eq!(places(&[100, 0, 1, 101]), [13, 0, 1, 14]);
        assert_eq!(places(&[5, -1, 3, -1]), [5, 0, 3, 0]);
    }
}
