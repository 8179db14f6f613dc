//! The names of tensors in GGUF files and on Hugging Face, and in which order rows are there.

use crate::config::ModelConfig;
use crate::weights::{EMBEDDING, HEAD};

/// Frequencies of the rotary embedding are divided by these; see `frequencies`.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Factors of the frequencies of longrope, for long texts and short ones.
pub(super) const LONG_FACTORS: [&str; 2] = ["rope_factors_long.weight", "rope_factors_short.weight"];

/// What is the same in every layer: here, and there.
const LAYER: [(&str, &str); 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// What `ffn_up` is where gate and up are in one tensor, in this order.
const FUSED_UP: (&str, &str) = ("ffn_up", "mlp.gate_up_proj");

const OTHERS: [(&str, &str); 3] =
    [("token_embd.weight", EMBEDDING), ("output_norm.weight", "model.norm.weight"), ("output.weight", HEAD)];

/// In which order the rows of a tensor are, compared with Hugging Face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// The same.
    Same,
    /// Channels of a head that are rotated together stand side by side; Hugging Face has them half a head apart.
    Pairs {
        /// Channels of a head.
        head_dim: usize,
    },
}

impl RowOrder {
    /// Which row of the file is row `row` on Hugging Face.
    pub(crate) fn source(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Pairs { head_dim } => {
                let (head, channel, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + channel % half * 2 + channel / half
            }
        }
    }

    /// Which row on Hugging Face is row `row` of the file.
    pub(crate) fn target(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Pairs { head_dim } => {
                let (head, channel, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + channel % 2 * half + channel / 2
            }
        }
    }
}

/// The name on Hugging Face; `fused`: where gate and up are in one tensor.
pub(super) fn on_hugging_face(name: &str, fused: bool) -> Option<String> {
    if let Some((_, other)) = OTHERS.iter().find(|(here, _)| *here == name) {
        return Some((*other).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, ending) = rest.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, other) = Some(&FUSED_UP).filter(|_| fused).into_iter().chain(&LAYER).find(|(here, _)| *here == part)?;
    matches!(ending, "weight" | "bias").then(|| format!("model.layers.{layer}.{other}.{ending}"))
}

/// The name in GGUF files.
pub(crate) fn in_gguf(name: &str) -> Option<String> {
    if let Some((here, _)) = OTHERS.iter().find(|(_, other)| *other == name) {
        return Some((*here).to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, ending) = rest.rsplit_once('.')?;
    let (here, _) = LAYER.iter().chain([&FUSED_UP]).find(|(_, other)| *other == part)?;
    Some(format!("blk.{layer}.{here}.{ending}"))
}

/// The order of the rows of a tensor of that name on Hugging Face.
pub(crate) fn order(name: &str, config: &ModelConfig) -> RowOrder {
    let is_rotated = name.contains(".self_attn.q_proj.") || name.contains(".self_attn.k_proj.");
    match is_rotated && config.architecture.is_paired_in_gguf() {
        true => RowOrder::Pairs { head_dim: config.head_dim },
        false => RowOrder::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back() {
        for (here, there) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output.weight", "lm_head.weight"),
            ("blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"),
            ("blk.0.attn_output.bias", "model.layers.0.self_attn.o_proj.bias"),
            ("blk.3.ffn_norm.weight", "model.layers.3.post_attention_layernorm.weight"),
            ("blk.3.ffn_up.weight", "model.layers.3.mlp.up_proj.weight"),
            ("blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm.weight"),
        ] {
            assert_eq!(on_hugging_face(here, false).as_deref(), Some(there));
            assert_eq!(in_gguf(there).as_deref(), Some(here));
        }
        for (here, there) in [
            ("blk.3.ffn_up.weight", "model.layers.3.mlp.gate_up_proj.weight"),
            ("blk.3.attn_qkv.weight", "model.layers.3.self_attn.qkv_proj.weight"),
            ("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight"),
        ] {
            assert_eq!(on_hugging_face(here, true).as_deref(), Some(there));
            assert_eq!(in_gguf(there).as_deref(), Some(here));
        }
        for other in [FACTORS, "blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "blk.0.attn_q.scale"] {
            assert_eq!(on_hugging_face(other, false), None, "{other}");
        }
    }

    #[test]
    fn rows_are_where_they_came_from() {
        let order = RowOrder::Pairs { head_dim: 6 };
        let sources: Vec<usize> = (0..12).map(|row| order.source(row)).collect();
        assert_eq!(sources, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert!((0..12).all(|row| order.target(order.source(row)) == row && RowOrder::Same.source(row) == row));
    }
}
