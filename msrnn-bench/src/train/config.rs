//! What a training run depends on.

use msrnn_models::config::{Architecture, Layers, ModelConfig, RopeScaling, Scales};
use serde::{Deserialize, Serialize};

use super::tokenizer::{BOS, EOS};
use crate::error::BenchError;
use crate::memory;
use crate::room;

/// Longest context of a training sequence.
const MAX_CONTEXT: usize = 1 << 17;

/// Weights, gradients and two averages.
const COPIES: usize = 4;

/// Everything that a training run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Ids of the tokenizer.
    pub vocab_size: usize,
    /// Stories that the tokenizer is learnt from.
    pub tokenizer_stories: usize,
    /// Tokens in a training sequence, BOS included.
    pub context: usize,
    /// Sequences in a step.
    pub batch: usize,
    /// Tokens in a sequence of the first steps, BOS included; `context` where that is less.
    pub short_context: usize,
    /// Steps with short sequences.
    pub short_steps: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Highest learning rate; it falls to a tenth along a cosine.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises from zero.
    pub warmup: usize,
    /// Decoupled weight decay of the matrices of the layers.
    pub weight_decay: f32,
    /// Steps between two checkpoints, each with a validation.
    pub save_every: usize,
    /// Parts that a step's batch is cut into, each on a thread of its own.
    pub threads: usize,
    /// Seed of weights, tokenizer texts and stories.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 256,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            vocab_size: 2048,
            tokenizer_stories: 1000,
            context: 1024,
            batch: 2,
            short_context: 512,
            short_steps: 250,
            steps: 400,
            learning_rate: 5e-3,
            warmup: 50,
            weight_decay: 0.1,
            save_every: 50,
            threads: 2,
            seed: 1,
        }
    }
}

impl TrainConfig {
    /// The shape of the model that is trained.
    pub fn model(&self) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::LlamaForCausalLM,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab_size: self.vocab_size,
            max_position_embeddings: self.context,
            rms_norm_eps: 1e-5,
            // Turns half of a head's dimensions so slowly that equal tokens are found at any distance.
            rope_theta: 1e6,
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
            bos_token_id: Some(BOS.1),
            eos_token_ids: vec![EOS.1],
        }
    }

    /// Bytes of what a layer keeps of a batch for the way back, at least, and of its logits.
    fn way_back(&self) -> u64 {
        let token = self.layers.saturating_mul(self.hidden_size).saturating_add(self.vocab_size);
        memory::product(&[self.batch, self.context, token, size_of::<f32>()])
    }

    /// Bytes that a step holds, at least: weights, gradients, two averages, and what it keeps for the way back.
    pub(super) fn bytes(&self) -> u64 {
        let weights = memory::product(&[self.model().parameters(), COPIES, size_of::<f32>()]);
        weights.saturating_add(self.way_back())
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    ///
    /// Names what does not, and what would.
    pub fn check(&self) -> Result<(), BenchError> {
        ModelConfig::parse(&self.model().to_json().to_string()).map_err(BenchError::Train)?;
        room::check_weights(&self.model(), COPIES)?;
        memory::check(
            self.way_back(),
            &format!("a batch of {} texts", self.batch),
            "give a smaller ‘batch’ or ‘context’",
        )?;
        let positive = [self.batch, self.steps, self.threads, self.tokenizer_stories, self.save_every];
        if positive.contains(&0) || self.context < 2 || self.short_context < 2 {
            return Err(BenchError::Train(
                "batch, steps, threads, save-every and tokenizer stories must be positive and contexts at least 2"
                    .into(),
            ));
        }
        if !self.batch.is_multiple_of(self.threads) {
            return Err(BenchError::Train(format!(
                "a batch of {} cannot be cut into {} equal parts; make it a multiple",
                self.batch, self.threads
            )));
        }
        if self.context > MAX_CONTEXT {
            return Err(BenchError::Train(format!(
                "a context of {} tokens is too long; give at most {MAX_CONTEXT}",
                self.context
            )));
        }
        if self.vocab_size < 258 {
            return Err(BenchError::Train("a byte-level vocabulary needs at least 258 ids".into()));
        }
        Ok(())
    }
}
