//! A model by its shape, with random weights: what is timed does not depend on what was learnt.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use msrnn_models::Model;
use msrnn_models::config::{Architecture, Layers, ModelConfig, RopeScaling, Scales};
use msrnn_models::storage::Storage;

use crate::error::BenchError;
use crate::speed::random::random_model;

/// Layers, widths, heads and vocabulary of a Llama-architecture decoder with tied embeddings:
/// `LAYERSxHIDDENxHEADS[:KV_HEADS]xINTERMEDIATExVOCABULARY`.
///
/// ```
/// use msrnn_bench::speed::shape::Shape;
///
/// let shape: Shape = "12x768x12:4x2048x32000".parse()?;
/// assert_eq!((shape.layers, shape.heads, shape.kv_heads), (12, 12, 4));
/// assert_eq!("2x64x4x128x100".parse::<Shape>()?.kv_heads, 4);
/// # Ok::<(), msrnn_bench::error::BenchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of token ids.
    pub vocab_size: usize,
}

impl Shape {
    /// The configuration that it stands for.
    pub fn config(&self) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::LlamaForCausalLM,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.hidden_size / self.heads,
            vocab_size: self.vocab_size,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            tie_word_embeddings: true,
            attention_bias: false,
            output_bias: false,
            mlp_bias: false,
            head_norms: false,
            fused: false,
            sliding_window: None,
            windowed: Layers::All,
            rotated: Layers::All,
            scales: Scales::default(),
            bos_token_id: None,
            eos_token_ids: Vec::new(),
        }
    }

    /// A model of this shape with random weights. No tokenizer.
    pub fn model(&self, seed: u64, storage: impl Into<Storage>, device: &Device) -> Model {
        random_model(&self.config(), seed, storage, device)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, hidden_size, heads, kv_heads, intermediate_size, vocab_size } = self;
        write!(f, "{layers}x{hidden_size}x{heads}:{kv_heads}x{intermediate_size}x{vocab_size}")
    }
}

impl FromStr for Shape {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = |reason: String| {
            BenchError::Input(format!(
                "{text:?} is no shape: {reason}; write LAYERSxHIDDENxHEADS[:KV_HEADS]xINTERMEDIATExVOCABULARY, \
                 for example 12x768x12:4x2048x32000"
            ))
        };
        let number = |name: &str, part: &str| match part.parse::<usize>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(wrong(format!("{name} is {part:?}, not a positive number"))),
        };
        let parts: Vec<&str> = text.split('x').collect();
        let [layers, hidden, heads, intermediate, vocab] = parts[..] else {
            return Err(wrong(format!("it has {} parts, not 5", parts.len())));
        };
        let (heads, kv_heads) = heads.split_once(':').unwrap_or((heads, heads));
        let shape = Self {
            layers: number("LAYERS", layers)?,
            hidden_size: number("HIDDEN", hidden)?,
            heads: number("HEADS", heads)?,
            kv_heads: number("KV_HEADS", kv_heads)?,
            intermediate_size: number("INTERMEDIATE", intermediate)?,
            vocab_size: number("VOCABULARY", vocab)?,
        };
        let Self { hidden_size, heads, kv_heads, .. } = shape;
        if heads % kv_heads != 0 {
            return Err(wrong(format!("{heads} query heads are not a multiple of {kv_heads} KV heads")));
        }
        if hidden_size % (2 * heads) != 0 {
            return Err(wrong(format!("a width of {hidden_size} does not make {heads} heads of an even size")));
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["12x768x12:4x2048x32000", "1x8x2:1x16x5", "2x64x4:4x128x100"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_shape_is_a_configuration_that_a_checkpoint_could_have() {
        let shape: Shape = "2x64x4:2x128x100".parse().unwrap();
        let config = shape.config();
        assert_eq!(ModelConfig::parse(&config.to_json().to_string()).unwrap(), config);
        let model = shape.model(0, DType::F32, &Device::flex());
        assert_eq!(model.decoder.config(), &config);
    }

    #[test]
    fn errors_name_the_part_and_the_format() {
        let cases = [
            ("12x768", "2 parts"),
            ("", "1 parts"),
            ("ax768x12x2048x32000", "LAYERS"),
            ("12x768x12:x2048x32000", "KV_HEADS"),
            ("12x768x0x2048x32000", "HEADS"),
            ("12x768x12x2048x-5", "VOCABULARY"),
            ("12x768x12:5x2048x32000", "multiple"),
            ("12x770x12x2048x32000", "even"),
            ("12x36x12x2048x32000", "even"),
        ];
        for (text, word) in cases {
            let message = text.parse::<Shape>().unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("12x768x12:4x2048x32000"), "{message}");
        }
    }
}
