//! What an architecture's class in transformers 5.23 has where a key is absent.

use super::Architecture;

pub(super) struct Defaults {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    /// None: as many as query heads.
    pub(super) kv_heads: Option<usize>,
    /// None: the hidden size by the query heads.
    pub(super) head_dim: Option<usize>,
    pub(super) context: usize,
    pub(super) epsilon: f64,
    pub(super) theta: f64,
    pub(super) tied: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

const LLAMA: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    context: 2048,
    epsilon: 1e-6,
    theta: 10_000.0,
    tied: false,
    bos: Some(1),
    eos: Some(2),
};

impl Architecture {
    pub(super) fn defaults(self) -> Defaults {
        match self {
            Architecture::LlamaForCausalLM | Architecture::GraniteForCausalLM => LLAMA,
            Architecture::MistralForCausalLM => {
                Defaults { intermediate_size: 14_336, kv_heads: Some(8), context: 131_072, ..LLAMA }
            }
            Architecture::Qwen2ForCausalLM => Defaults {
                vocab_size: 151_936,
                intermediate_size: 22_016,
                kv_heads: Some(32),
                context: 32_768,
                bos: None,
                eos: None,
                ..LLAMA
            },
            Architecture::Qwen3ForCausalLM => {
                Defaults { head_dim: Some(128), ..Architecture::Qwen2ForCausalLM.defaults() }
            }
            Architecture::SmolLM3ForCausalLM => Defaults {
                vocab_size: 128_256,
                hidden_size: 2048,
                layers: 36,
                heads: 16,
                kv_heads: Some(4),
                context: 32_768,
                theta: 2_000_000.0,
                tied: true,
                bos: Some(128_000),
                eos: Some(128_001),
                ..LLAMA
            },
            Architecture::Phi3ForCausalLM => Defaults {
                vocab_size: 32_064,
                hidden_size: 3072,
                intermediate_size: 8192,
                context: 4096,
                epsilon: 1e-5,
                eos: Some(32_000),
                ..LLAMA
            },
        }
    }
}
