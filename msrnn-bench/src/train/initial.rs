//! The weights that a run begins with: random, but for a circuit that recalls.
//!
//! What a small model needs in order to recall a fact is an *induction head* (Olsson et al. 2022,
//! arXiv 2209.11895): a head of one layer that brings every token the one before it, and a head of the
//! next that looks for the place before which the current token stood, and copies what stands there.
//! Gradient descent finds the pair late, since neither half is of use without the other: the models of
//! that paper after billions of tokens, a model of this size not within the 12 million of an hour's
//! training. So the first KV head of the first two layers begins as that pair, roughly; training does
//! the rest, and is free to undo it. Everything else begins random.
//!
//! A matrix is written as a map between coordinates. The upper half of the residual stream is left to
//! the token; the first layer writes the token before into the lower half. Coordinate 0 is constant.

use std::convert::Infallible;

use burn::tensor::{DType, Device};
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;
use msrnn_models::weights::{self, Named};

use super::config::TrainConfig;

/// Of an embedding's constant coordinate, in deviations of the others.
const CONSTANT: f32 = 3.0;
/// Rotary pairs by which a head tells neighbours apart: the fastest.
const FAST_PAIRS: usize = 8;
/// Weight of query and key that attend to a distance: neighbours differ by about 5 nats.
const DISTANCE: f32 = 2.3;
/// Weight of query and key that attend to equal tokens.
const EQUALITY: f32 = 2.3;
/// What copies a token, in deviations of the embedding.
const COPY: f32 = 4.0;

/// A decoder before its first step.
///
/// Embeddings have the deviation 1/√d, what reads the residual stream 1/√inputs, and what writes to it
/// is zero, so that the stream at first holds the token and nothing else.
pub(super) fn decoder(config: &TrainConfig, device: &Device) -> Decoder {
    let model = config.model();
    let random = weights::random(&model, config.seed, DType::F32, &Device::flex());
    let circuit = Circuit::new(&model);
    let data = weights::named_data(&random).into_iter().map(|(named, mut data)| {
        let values = data.as_mut_slice::<f32>().expect("weights are drawn in f32");
        scale(&named, values);
        if let Some(circuit) = &circuit {
            circuit.write(&named, values);
        }
        Ok(data)
    });
    let begun: Result<Decoder, Infallible> = weights::decoder(&model, data, DType::F32.into(), device);
    begun.unwrap_or_else(|never| match never {})
}

/// From the deviations of [`weights::random`] to those of a run.
fn scale(named: &Named, values: &mut [f32]) {
    let [_, inputs] = named.shape[..] else { return };
    let writes = named.name.ends_with("o_proj.weight") || named.name.ends_with("down_proj.weight");
    let factor = if writes { 0.0 } else { 50.0 / (inputs as f32).sqrt() };
    values.iter_mut().for_each(|value| *value *= factor);
}

/// The induction head of a shape.
struct Circuit {
    hidden_size: usize,
    head_dim: usize,
    /// Query heads of the first KV head.
    queries: usize,
    /// Angles per token of the rotary pairs.
    angles: Vec<f64>,
    /// Positions of a context.
    context: usize,
}

/// A matrix, row by row, in which single weights are set.
struct Matrix<'a> {
    values: &'a mut [f32],
    columns: usize,
}

impl Matrix<'_> {
    fn clear(&mut self, rows: usize, columns: usize) {
        for row in self.values.chunks_mut(self.columns).take(rows) {
            row[..columns].fill(0.0);
        }
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
    }
}

impl Circuit {
    /// None for a shape without room for it.
    fn new(model: &ModelConfig) -> Option<Self> {
        let (hidden_size, head_dim) = (model.hidden_size, model.head_dim);
        let room = model.layers >= 2 && head_dim * 2 <= hidden_size && head_dim >= 2 * FAST_PAIRS;
        let pairs = head_dim / 2;
        let angles = (0..pairs).map(|pair| model.rope_theta.powf(-(pair as f64) / pairs as f64)).collect();
        let queries = model.heads / model.kv_heads;
        room.then_some(Self { hidden_size, head_dim, queries, angles, context: model.max_position_embeddings })
    }

    /// Coordinate of the residual stream in which dimension `i` of a head finds the token.
    fn token(&self, i: usize) -> usize {
        self.hidden_size - self.head_dim + i
    }

    /// Coordinate that holds dimension `i` of the token before.
    fn before(&self, i: usize) -> usize {
        self.hidden_size - 2 * self.head_dim + i
    }

    fn write(&self, named: &Named, values: &mut [f32]) {
        let columns = named.shape.last().copied().unwrap_or(1);
        let mut matrix = Matrix { values, columns };
        let (d, width) = (self.hidden_size, self.head_dim);
        let embedding = (d as f32).sqrt().recip();
        match named.name.as_str() {
            "model.embed_tokens.weight" => {
                (0..named.shape[0]).for_each(|token| matrix.set(token, 0, CONSTANT * embedding));
            }
            "model.layers.0.self_attn.q_proj.weight" => {
                matrix.clear(self.queries * width, d);
                // The first head looks one token back, the second two, and so on.
                for head in 0..self.queries {
                    for pair in 0..FAST_PAIRS {
                        let back = ((head + 1) as f64 * self.angles[pair]) as f32;
                        matrix.set(head * width + pair, 0, DISTANCE * back.cos());
                        matrix.set(head * width + width / 2 + pair, 0, -DISTANCE * back.sin());
                    }
                }
            }
            "model.layers.0.self_attn.k_proj.weight" => {
                matrix.clear(width, d);
                (0..FAST_PAIRS).for_each(|pair| matrix.set(pair, 0, DISTANCE));
            }
            "model.layers.0.self_attn.v_proj.weight" | "model.layers.1.self_attn.v_proj.weight" => {
                matrix.clear(width, d);
                (0..width).for_each(|i| matrix.set(i, self.token(i), 1.0));
            }
            "model.layers.0.self_attn.o_proj.weight" => {
                (0..width).for_each(|i| matrix.set(self.before(i), i, embedding));
            }
            "model.layers.1.self_attn.q_proj.weight" => {
                matrix.clear(width, d);
                self.lasting().for_each(|i| matrix.set(i, self.token(i), EQUALITY));
            }
            "model.layers.1.self_attn.k_proj.weight" => {
                matrix.clear(width, d);
                self.lasting().for_each(|i| matrix.set(i, self.before(i), EQUALITY));
            }
            "model.layers.1.self_attn.o_proj.weight" => {
                (0..width).for_each(|i| matrix.set(self.token(i), i, COPY * embedding));
            }
            _ => {}
        }
    }

    /// Dimensions that turn by less than a radian over half a context, and are not the constant.
    fn lasting(&self) -> impl Iterator<Item = usize> {
        let slow = |i: usize| self.angles[i % (self.head_dim / 2)] * ((self.context / 2) as f64) < 1.0;
        (0..self.head_dim).filter(move |&i| slow(i) && self.before(i) != 0)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, Tensor, TensorData};

    use super::*;

    #[test]
    fn before_its_first_step_a_model_copies_what_followed_a_token_before() {
        const PERIOD: usize = 40;
        let device = Device::flex();
        let decoder = decoder(&TrainConfig::default(), &device);
        // Different tokens, twice, from anywhere in the vocabulary.
        let ids: Vec<i64> = (0..2 * PERIOD).map(|i| (2 + (i % PERIOD) * 37) as i64).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids.clone(), [1, ids.len()]), &device);
        let likeliest = decoder.forward(tokens).argmax(2).into_data().convert::<i64>();
        let likeliest: &[i64] = likeliest.as_slice().unwrap();
        let copied = |range: std::ops::Range<usize>| range.filter(|&i| likeliest[i] == ids[i + 1]).count();
        // The first time round there is nothing to copy.
        assert!(copied(0..PERIOD - 1) <= 2, "{}", copied(0..PERIOD - 1));
        assert!(copied(PERIOD..2 * PERIOD - 1) > PERIOD / 2, "{}", copied(PERIOD..2 * PERIOD - 1));
    }

    #[test]
    fn a_shape_without_room_begins_random() {
        let narrow = TrainConfig { hidden_size: 32, head_dim: 32, ..TrainConfig::default() };
        assert!(Circuit::new(&narrow.model()).is_none());
        let single = TrainConfig { layers: 1, ..TrainConfig::default() };
        assert!(Circuit::new(&single.model()).is_none());
        assert!(Circuit::new(&TrainConfig::default().model()).is_some());
    }
}
