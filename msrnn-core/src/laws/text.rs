//! Queries, keys and values of a trial, made up from a seed.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::case::Case;

/// What a layer is given, token by token: `[batch, heads, tokens, head_dim]`.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) query: Tensor<4>,
    pub(super) key: Tensor<4>,
    pub(super) value: Tensor<4>,
}

impl Text {
    /// The text of a trial.
    pub(super) fn new(case: &Case, device: &Device, dtype: DType) -> Self {
        Self::seeded(case, device, dtype, |_| case.seed)
    }

    /// A text that may take another course from some token on.
    pub(super) fn seeded(case: &Case, device: &Device, dtype: DType, seed: impl Fn(usize) -> u64) -> Self {
        let Case { batch, kv_heads, group, head_dim, tokens, .. } = *case;
        let part = |part: u64, heads: usize| {
            let mut values = Vec::with_capacity(batch * heads * tokens * head_dim);
            for row in 0..batch {
                for head in 0..heads {
                    for token in 0..tokens {
                        let place = [seed(token), part, row as u64, head as u64, token as u64];
                        values.extend((0..head_dim).map(|channel| bell(&place, channel as u64)));
                    }
                }
            }
            Tensor::from_data(TensorData::new(values, [batch, heads, tokens, head_dim]), (device, dtype))
        };
        Self { query: part(0, kv_heads * group), key: part(1, kv_heads), value: part(2, kv_heads) }
    }

    /// One batch row.
    pub(super) fn row(&self, row: usize) -> Self {
        self.each(|x| x.clone().narrow(0, row, 1))
    }

    /// Tokens `first .. first + n`.
    pub(super) fn part(&self, first: usize, n: usize) -> Self {
        self.each(|x| x.clone().narrow(2, first, n))
    }

    fn each(&self, f: impl Fn(&Tensor<4>) -> Tensor<4>) -> Self {
        Self { query: f(&self.query), key: f(&self.key), value: f(&self.value) }
    }
}

/// A bell-shaped number of mean 0 and variance 1 that depends on its place alone: when a shape
/// shrinks, what remains of it keeps its numbers. An f32, so that both dtypes hold the same.
fn bell(place: &[u64], channel: u64) -> f64 {
    let bits = place.iter().chain([&channel]).fold(0, |hash, &part| mix(hash ^ part));
    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
    f64::from(((sum as f64 / 65_536.0 - 2.0) * 3f64.sqrt()) as f32)
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
