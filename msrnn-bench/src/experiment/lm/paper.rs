//! The paper's Table 3: perplexity of LLaMA-2-7B on PG-19's test split, contexts of 4,096 tokens, bf16.
//!
//! Oren et al. 2024, arXiv 2401.06104v2.

use msrnn_models::config::{Architecture, ModelConfig, RopeScaling};

/// Columns of the table.
pub(crate) const TABLE_3_STATES: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

/// Rows of the table, under the names of this project. The policies' rows at 4,096 states are those
/// of the full state. The row of h2o-layer equals that of window+1 as printed.
pub(crate) const fn table_3() -> [(&'static str, [f64; 7]); 10] {
    [
        ("baseline", [17.65, 12.97, 10.39, 8.92, 8.04, 7.50, 7.16]),
        ("window", [4812.27, 4025.01, 3275.58, 2184.62, 1001.29, 240.17, 7.16]),
        ("window+1", [10.20, 8.97, 8.22, 7.76, 7.50, 7.33, 7.16]),
        ("window+4", [10.28, 8.98, 8.19, 7.73, 7.46, 7.30, 7.16]),
        ("h2o", [10.22, 8.97, 8.21, 7.75, 7.49, 7.32, 7.16]),
        ("h2o-layer", [10.20, 8.97, 8.22, 7.76, 7.50, 7.33, 7.16]),
        ("tova-head", [11.13, 9.55, 8.69, 7.90, 7.52, 7.27, 7.16]),
        ("tova", [9.53, 8.32, 7.71, 7.41, 7.25, 7.17, 7.16]),
        ("tova+1", [9.53, 8.31, 7.71, 7.41, 7.25, 7.17, 7.16]),
        ("tova+4", [9.63, 8.33, 7.72, 7.41, 7.25, 7.17, 7.16]),
    ]
}

/// Whether a configuration is that of LLaMA-2-7B. A model that was tuned from it, such as the chat
/// model, has the same.
pub(crate) fn is_llama_2_7b(config: &ModelConfig) -> bool {
    config.architecture == Architecture::LlamaForCausalLM
        && (config.hidden_size, config.intermediate_size, config.layers) == (4096, 11_008, 32)
        && (config.heads, config.kv_heads, config.head_dim) == (32, 32, 128)
        && (config.vocab_size, config.max_position_embeddings) == (32_000, 4096)
        && (config.rope_theta, config.rope_scaling) == (10_000.0, RopeScaling::None)
        && !config.tie_word_embeddings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA_2_7B: &str = r#"{"architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false, "vocab_size": 32000}"#;

    #[test]
    fn the_model_is_known_by_its_configuration() {
        assert!(is_llama_2_7b(&ModelConfig::parse(LLAMA_2_7B).unwrap()));
        // LLaMA 1, Yi, and a longer context.
        for (key, other) in [
            ("\"max_position_embeddings\": 4096", "\"max_position_embeddings\": 2048"),
            ("\"num_key_value_heads\": 32", "\"num_key_value_heads\": 4"),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"),
        ] {
            let config = LLAMA_2_7B.replace(key, other);
            assert!(config != LLAMA_2_7B && !is_llama_2_7b(&ModelConfig::parse(&config).unwrap()), "{other}");
        }
    }

    #[test]
    fn at_4096_states_nothing_is_omitted_so_all_rows_meet() {
        assert!(table_3().iter().all(|(_, row)| row[6] == 7.16));
    }
}
