//! A model by name or shape.

use std::fmt;
use std::str::FromStr;

use msrnn_models::config::ModelConfig;

use crate::error::BenchError;
use crate::speed::shape::Shape;

/// `llama-2-7b`, or a shape as [`Shape`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThroughputShape {
    /// The paper's model: 6.7 billion parameters, every query head with a KV head of its own.
    Llama2With7B,
    /// Any other.
    Shape(Shape),
}

const LLAMA_2_7B: &str = "llama-2-7b";

impl ThroughputShape {
    /// Whether a configuration has the shape of the paper's model, as far as a state's size depends on it.
    pub(crate) fn is_papers(config: &ModelConfig) -> bool {
        let of = |config: &ModelConfig| [config.layers, config.hidden_size, config.kv_heads, config.head_dim];
        of(config) == of(&Self::Llama2With7B.config())
    }

    /// The configuration that it stands for.
    pub(crate) fn config(&self) -> ModelConfig {
        match self {
            Self::Shape(shape) => shape.config(),
            Self::Llama2With7B => {
                let shape = Shape {
                    layers: 32,
                    hidden_size: 4096,
                    heads: 32,
                    kv_heads: 32,
                    intermediate_size: 11_008,
                    vocab_size: 32_000,
                };
                ModelConfig { tie_word_embeddings: false, rms_norm_eps: 1e-5, ..shape.config() }
            }
        }
    }
}

impl fmt::Display for ThroughputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Llama2With7B => f.write_str(LLAMA_2_7B),
            Self::Shape(shape) => shape.fmt(f),
        }
    }
}

impl FromStr for ThroughputShape {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        match text {
            LLAMA_2_7B => Ok(Self::Llama2With7B),
            _ => text.parse().map(Self::Shape).map_err(|e| BenchError::Input(format!("{e}, or {LLAMA_2_7B}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_shapes_are_read_back() {
        for text in [LLAMA_2_7B, "2x24x4:2x32x50"] {
            assert_eq!(text.parse::<ThroughputShape>().unwrap().to_string(), text);
        }
        let error = "llama-7b".parse::<ThroughputShape>().unwrap_err().to_string();
        assert!(error.contains(LLAMA_2_7B) && error.contains("12x768"), "{error}");
        let parameters = ThroughputShape::Llama2With7B.config().parameters();
        assert_eq!(parameters, 6_738_415_616);
    }
}
