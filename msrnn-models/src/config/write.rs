//! A configuration as Hugging Face writes it.

use serde_json::{Value, json};

use super::{Architecture, ModelConfig};

impl ModelConfig {
    /// The configuration as Hugging Face writes it, for a checkpoint of our own.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.to_json(),
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "sliding_window": self.sliding_window,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_ids,
            "torch_dtype": "float32",
        });
        match self.architecture {
            Architecture::LlamaForCausalLM | Architecture::MistralForCausalLM => {}
            // Its class has an id for padding, which must be one of the vocabulary.
            Architecture::Phi3ForCausalLM => json["pad_token_id"] = Value::Null,
            Architecture::Qwen2ForCausalLM | Architecture::Qwen3ForCausalLM => self.write_windows(&mut json),
            Architecture::SmolLM3ForCausalLM => {
                let rotated: Vec<u8> = self.rotated.list(self.layers).into_iter().map(u8::from).collect();
                json["no_rope_layers"] = rotated.into();
                json["pad_token_id"] = Value::Null;
                self.write_windows(&mut json);
            }
            Architecture::GraniteForCausalLM => {
                json["embedding_multiplier"] = self.scales.embedding.into();
                json["attention_multiplier"] = self.attention_scale().into();
                json["residual_multiplier"] = self.scales.residual.into();
                json["logits_scaling"] = self.scales.logits.into();
            }
        }
        json
    }

    /// Which layers have the window, in the words of classes where not all have it.
    fn write_windows(&self, json: &mut Value) {
        json["use_sliding_window"] = self.sliding_window.is_some().into();
        let name = |has: bool| if has { "sliding_attention" } else { "full_attention" };
        let types = (0..self.layers).map(|layer| name(self.window(layer).is_some()));
        json["layer_types"] = types.collect();
    }
}
