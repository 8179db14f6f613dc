//! `testdata/goldens/field.json`: problems of one layer, and what the rules of the field do to them.
//!
//! `testdata/README.md` says what is in the file, and `testdata/reference_field.py` made it.

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_core::placement::Placement;
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Goldens {
    pub(crate) uniform: Uniform,
    pub(crate) runs: Vec<Run>,
    pub(crate) kivi: Vec<Kivi>,
}

/// Rows that are rounded, and what is attended to over them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kivi {
    pub(crate) problem: Problem,
    #[serde(rename = "policy")]
    _policy: String,
    pub(crate) parameters: Grid,
    /// Tokens that are attended before anything is rounded.
    pub(crate) prompt: usize,
    /// Rows that are rounded at the end.
    pub(crate) key_rows: usize,
    pub(crate) value_rows: usize,
    /// By KV head and row: a digit per channel.
    pub(crate) key_codes: Vec<Vec<String>>,
    pub(crate) value_codes: Vec<Vec<String>>,
    /// By token and KV head, as held at the end.
    pub(crate) keys: Vec<Vec<Vec<f64>>>,
    pub(crate) values: Vec<Vec<Vec<f64>>>,
    pub(crate) output_steps: Vec<usize>,
    pub(crate) outputs: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grid {
    pub(crate) bits: usize,
    pub(crate) group: usize,
    pub(crate) residual: usize,
}

/// The first numbers of a seed.
#[derive(Deserialize)]
pub(crate) struct Uniform {
    pub(crate) seed: u64,
    pub(crate) first: Vec<f64>,
}

/// A policy on a problem.
#[derive(Deserialize)]
pub(crate) struct Run {
    pub(crate) problem: Problem,
    pub(crate) policy: String,
    pub(crate) parameters: Parameters,
    pub(crate) k: usize,
    /// None where nothing goes after the prompt.
    pub(crate) every: Option<usize>,
    pub(crate) prompt: usize,
    /// Step, KV head or none for the layer, position.
    pub(crate) omitted: Vec<(usize, Option<usize>, i64)>,
    /// Step, KV head, position that goes, position of the row that takes it up.
    #[serde(default)]
    pub(crate) merged: Vec<(usize, usize, usize, Option<usize>)>,
    pub(crate) output_steps: Vec<usize>,
    pub(crate) outputs: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(crate) sinks: Option<usize>,
    pub(crate) window: Option<usize>,
    pub(crate) kernel: Option<usize>,
    pub(crate) pool: Option<String>,
    pub(crate) last: Option<usize>,
    pub(crate) lambda: Option<f64>,
    pub(crate) similar: Option<f64>,
    pub(crate) lag: Option<usize>,
    pub(crate) when: Option<String>,
    pub(crate) how: Option<String>,
    pub(crate) threshold: Option<f64>,
    pub(crate) share: Option<f64>,
    pub(crate) safeguard: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problem {
    seed: u64,
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    grid: Option<f64>,
    repeat: Option<usize>,
    repeat_values: Option<usize>,
    pub(crate) theta: Option<f64>,
}

pub(crate) fn goldens() -> Goldens {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens/field.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Numbers in [−1, 1) of SplitMix64 from a seed, by their upper 53 bits.
pub(crate) fn uniform(seed: u64) -> impl Iterator<Item = f64> {
    (1..).map(move |i: u64| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    })
}

/// Numbers of a problem by token, head and channel.
#[derive(Clone)]
pub(crate) struct Vectors {
    heads: usize,
    head_dim: usize,
    pub(crate) numbers: Vec<f64>,
}

impl Vectors {
    pub(crate) fn of(&self, token: usize, head: usize) -> &[f64] {
        &self.numbers[(token * self.heads + head) * self.head_dim..][..self.head_dim]
    }

    fn floored(&mut self, grid: f64) {
        self.numbers.iter_mut().for_each(|x| *x = (*x / grid).floor() * grid);
    }

    /// Token t's are those of t mod `period`.
    fn repeated(&mut self, period: usize) {
        let row = self.heads * self.head_dim;
        let first = self.numbers[..period * row].to_vec();
        self.numbers.chunks_mut(row).enumerate().for_each(|(t, token)| {
            token.copy_from_slice(&first[t % period * row..][..row]);
        });
    }

    /// `[1, heads, tokens, head_dim]`
    pub(crate) fn tensor(&self, device: &Device) -> Tensor<4> {
        let tokens = self.numbers.len() / (self.heads * self.head_dim);
        let data = TensorData::new(self.numbers.clone(), [1, tokens, self.heads, self.head_dim]);
        Tensor::<4>::from_data(data, (device, DType::F64)).swap_dims(1, 2)
    }
}

impl Problem {
    /// Queries, keys and values.
    pub(crate) fn vectors(&self) -> [Vectors; 3] {
        let mut numbers = uniform(self.seed);
        let mut take = |heads: usize| {
            let numbers = numbers.by_ref().take(self.tokens * heads * self.head_dim).collect();
            Vectors { heads, head_dim: self.head_dim, numbers }
        };
        let [mut queries, mut keys, mut values] = [self.heads, self.kv_heads, self.kv_heads].map(&mut take);
        queries.numbers.iter_mut().for_each(|x| *x *= 3.0);
        for key in keys.numbers.chunks_mut(self.head_dim) {
            key[..self.head_dim / 2].iter_mut().for_each(|x| *x += 0.5);
        }
        if let Some(grid) = self.grid {
            [&mut queries, &mut keys, &mut values].into_iter().for_each(|x| x.floored(grid));
        }
        if let Some(period) = self.repeat {
            keys.repeated(period);
        }
        if let Some(period) = self.repeat_values {
            values.repeated(period);
        }
        [queries, keys, values]
    }
}

/// Rows counted in the state, oldest first, with rotary frequencies theta^(−2f/d): on the host, in f64.
#[derive(Debug)]
pub(crate) struct InState {
    pub(crate) theta: f64,
}

impl Placement for InState {
    fn number(&self, positions: Tensor<3, Int>) -> Tensor<3, Int> {
        let (dims, device) = (positions.dims(), positions.device());
        let positions = positions.into_data().convert::<i64>();
        let rank = |rows: &[i64]| -> Vec<i64> {
            let older = |row: &i64| rows.iter().filter(|other| (0..*row).contains(*other)).count() as i64;
            rows.iter().map(older).collect()
        };
        let numbers: Vec<i64> = positions.as_slice::<i64>().unwrap().chunks(dims[2]).flat_map(rank).collect();
        Tensor::from_data(TensorData::new(numbers, dims), &device)
    }

    fn rotate(&self, query: Tensor<4>, keys: Tensor<4>, numbers: Tensor<3, Int>) -> (Tensor<4>, Tensor<4>) {
        let newest = numbers.clone().max();
        let [_, heads, _, _] = query.dims();
        let newest = newest.reshape([1, 1, 1]).expand([1, heads, 1]);
        (self.turned(query, newest), self.turned(keys, numbers))
    }
}

impl InState {
    /// By numbers `[1, heads, rows]`.
    fn turned(&self, x: Tensor<4>, numbers: Tensor<3, Int>) -> Tensor<4> {
        let (dims, device) = (x.dims(), x.device());
        let numbers = numbers.into_data().convert::<i64>();
        let data = x.into_data().convert::<f64>();
        let half = dims[3] / 2;
        let turn = |(row, &number): (&[f64], &i64)| -> Vec<f64> {
            let (a, b) = row.split_at(half);
            let angle = |f: usize| number as f64 * self.theta.powf(-(f as f64) / half as f64);
            let low = (0..half).map(|f| a[f] * angle(f).cos() - b[f] * angle(f).sin());
            let high = (0..half).map(|f| b[f] * angle(f).cos() + a[f] * angle(f).sin());
            low.chain(high).collect()
        };
        let rows = data.as_slice::<f64>().unwrap().chunks(dims[3]).zip(numbers.as_slice::<i64>().unwrap());
        let turned: Vec<f64> = rows.flat_map(turn).collect();
        Tensor::from_data(TensorData::new(turned, dims), (&device, DType::F64))
    }
}
