//! Training of the bundled model: burn's autodiff on the story generator, seeded and resumable.

mod checkpoint;
mod data;
pub mod tokenizer;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation::log_softmax};
use msrnn_models::config::{Architecture, ModelConfig, RopeScaling};
use msrnn_models::decoder::Decoder;
use msrnn_models::tokenizer::Tokenizer;
use msrnn_models::weights;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::stories::{Split, Stories};
use data::Sequences;
use tokenizer::{BOS, EOS};

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
    /// Ids of the tokenizer.
    pub vocab_size: usize,
    /// Stories that the tokenizer is learnt from.
    pub tokenizer_stories: usize,
    /// Tokens in a training sequence, BOS included.
    pub context: usize,
    /// Sequences in a step.
    pub batch: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Highest learning rate; it falls to a tenth along a cosine.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises from zero.
    pub warmup: usize,
    /// AdamW's decoupled weight decay.
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
            intermediate_size: 512,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            vocab_size: 1024,
            tokenizer_stories: 1000,
            context: 1024,
            batch: 4,
            steps: 3000,
            learning_rate: 3e-3,
            warmup: 100,
            weight_decay: 0.1,
            save_every: 100,
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
            head_dim: self.hidden_size / self.heads.max(1),
            vocab_size: self.vocab_size,
            max_position_embeddings: self.context,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            tie_word_embeddings: true,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: None,
            bos_token_id: Some(BOS.1),
            eos_token_ids: vec![EOS.1],
        }
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    ///
    /// Names what does not, and what would.
    pub fn check(&self) -> Result<(), BenchError> {
        ModelConfig::parse(&self.model().to_json().to_string()).map_err(BenchError::Train)?;
        let positive = [self.batch, self.steps, self.threads, self.tokenizer_stories, self.save_every];
        if positive.contains(&0) || self.context < 2 {
            return Err(BenchError::Train(
                "batch, steps, threads, save-every and tokenizer stories must be positive and the context at least 2"
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

    /// Linear warm-up, then a cosine down to a tenth.
    fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.learning_rate * (0.1 + 0.9 * cosine)
    }
}

/// One line of the training log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// Optimiser steps done.
    pub step: usize,
    /// Mean loss of the steps since the last line, in nats per token.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Validation perplexity with the full context, where it was measured.
    pub valid: Option<f64>,
    /// Validation perplexity of the same text on contexts of 64.
    pub valid_short: Option<f64>,
    /// Seconds since this process started.
    pub seconds: f64,
}

/// Longest context of a training sequence.
const MAX_CONTEXT: usize = 1 << 17;
/// Steps between two lines of the log.
const LOG_EVERY: usize = 10;
/// Stories of a validation.
const VALID_STORIES: usize = 8;
/// The short context of a validation.
const SHORT: usize = 64;

/// Trains, or goes on training, the model in `directory`.
///
/// The directory ends up as a Hugging Face checkpoint beside `train.json` (the configuration) and
/// `train.jsonl` (the log). A run that was stopped goes on from its last checkpoint and ends with
/// the same weights as one that was not. When `interrupt` becomes true the run stops, and the
/// result is false.
///
/// # Errors
///
/// When the configuration is impossible or differs from that of the run in `directory`, or when
/// the directory cannot be written.
pub fn train(
    config: &TrainConfig,
    directory: &Path,
    device: &Device,
    interrupt: &AtomicBool,
    mut report: impl FnMut(&LogLine),
) -> Result<bool, BenchError> {
    config.check()?;
    let tokenizer = prepare(config, directory)?;
    let training = device.clone().autodiff();
    let (mut decoder, mut optimizer, first) = match checkpoint::latest(directory)? {
        Some(step) => {
            let (decoder, optimizer) = checkpoint::load(directory, step, &training, new_optimizer(config))?;
            (decoder, optimizer, step)
        }
        None => (weights::random(&config.model(), config.seed, DType::F32, &training), new_optimizer(config), 0),
    };
    let mut log = Log::resume(directory, first)?;
    let mut sequences = Sequences::new(Split::Train, config.seed, first * config.batch, config.context, &tokenizer);
    let started = Instant::now();
    let mut losses = Vec::new();
    for step in first..config.steps {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let batch: Vec<Vec<u32>> = sequences.by_ref().take(config.batch).collect::<Result<_, _>>()?;
        let learning_rate = config.learning_rate_at(step);
        let (loss, gradients) = gradients(&decoder, &batch, config.threads, &training);
        if !loss.is_finite() {
            return Err(BenchError::Train(format!("the loss is {loss} at step {step}; use a lower --learning-rate")));
        }
        decoder = optimizer.step(learning_rate, decoder, gradients);
        losses.push(loss);

        let done = step + 1;
        let save = done % config.save_every == 0 || done == config.steps;
        if done % LOG_EVERY == 0 || save {
            let valid = match save {
                true => Some(validate(&decoder, config, &tokenizer, &training)?),
                false => None,
            };
            let line = LogLine {
                step: done,
                loss: losses.iter().sum::<f64>() / losses.len() as f64,
                learning_rate,
                valid: valid.map(|(full, _)| full),
                valid_short: valid.map(|(_, short)| short),
                seconds: started.elapsed().as_secs_f64(),
            };
            losses.clear();
            log.write(&line)?;
            report(&line);
        }
        if save {
            checkpoint::save(directory, done, &decoder, &optimizer)?;
        }
    }
    checkpoint::finish(directory, &decoder)?;
    Ok(true)
}

fn new_optimizer(config: &TrainConfig) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_beta_2(0.95)
        .with_weight_decay(config.weight_decay)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init()
}

/// Writes the configuration and the tokenizer, or checks that they are those of the run.
fn prepare(config: &TrainConfig, directory: &Path) -> Result<Tokenizer, BenchError> {
    let write = |source| BenchError::Write { path: directory.into(), source };
    std::fs::create_dir_all(directory).map_err(write)?;
    let path = directory.join("train.json");
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(|source| BenchError::Read { path: path.clone(), source })?;
        let before: TrainConfig = serde_json::from_str(&text)
            .map_err(|e| BenchError::Train(format!("{}: {e}; choose another --out", path.display())))?;
        if before != *config {
            return Err(BenchError::Train(format!(
                "{} belongs to a run with other settings; give those, or choose another --out\nbefore: {before:?}\nnow:    {config:?}",
                directory.display()
            )));
        }
    }
    let learnt = directory.join(msrnn_models::tokenizer::TOKENIZER);
    if !learnt.exists() {
        let texts = Stories::new(Split::Train, config.seed).take(config.tokenizer_stories).map(|story| story.text);
        let json = tokenizer::learn(texts, config.vocab_size)?;
        msrnn_models::checkpoint::write_whole(&learnt, json.as_bytes())?;
    }
    let text = serde_json::to_string_pretty(config).expect("a configuration is JSON");
    msrnn_models::checkpoint::write_whole(&path, text.as_bytes())?;
    Ok(Tokenizer::read(directory, Some(BOS.1))?)
}

/// Mean loss and summed gradients of a batch, its parts computed side by side.
fn gradients(decoder: &Decoder, batch: &[Vec<u32>], threads: usize, device: &Device) -> (f64, GradientsParams) {
    let parts: Vec<(f64, GradientsParams)> = std::thread::scope(|scope| {
        let part = |sequences: &[Vec<u32>]| {
            let loss = mean_loss(decoder, sequences, device).div_scalar(threads as f64);
            let value = f64::from(loss.clone().inner().into_scalar::<f32>());
            (value, GradientsParams::from_grads(loss.backward(), decoder))
        };
        let handles: Vec<_> =
            batch.chunks(batch.len() / threads).map(|sequences| scope.spawn(move || part(sequences))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a training thread")).collect()
    });
    let mut accumulator = GradientsAccumulator::new();
    let mut loss = 0.0;
    for (value, gradients) in parts {
        loss += value;
        accumulator.accumulate(decoder, gradients);
    }
    (loss, accumulator.grads())
}

/// Mean negative log-likelihood of the predicted tokens of sequences of one length, in nats.
fn mean_loss(decoder: &Decoder, sequences: &[Vec<u32>], device: &Device) -> Tensor<1> {
    let (batch, n) = (sequences.len(), sequences[0].len());
    let ids: Vec<i64> = sequences.iter().flatten().map(|&id| i64::from(id)).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, n]), device);
    let logits = decoder.forward(tokens.clone().narrow(1, 0, n - 1));
    let log_probabilities = log_softmax(logits, 2);
    let targets = tokens.narrow(1, 1, n - 1).reshape([batch, n - 1, 1]);
    log_probabilities.gather(2, targets).mean().neg()
}

/// Validation perplexity with the full context and on contexts of [`SHORT`].
fn validate(
    decoder: &Decoder,
    config: &TrainConfig,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<(f64, f64), BenchError> {
    let sequences: Vec<Vec<u32>> = Sequences::new(Split::Valid, config.seed, 0, config.context, tokenizer)
        .take(VALID_STORIES)
        .collect::<Result<_, _>>()?;
    let perplexity = |sequences: &[Vec<u32>]| {
        let losses: Vec<f64> = sequences
            .chunks(4)
            .map(|chunk| f64::from(mean_loss(decoder, chunk, device).into_scalar::<f32>()) * chunk.len() as f64)
            .collect();
        (losses.iter().sum::<f64>() / sequences.len() as f64).exp()
    };
    let short: Vec<Vec<u32>> = sequences
        .iter()
        .flat_map(|ids| ids[1..].chunks_exact(SHORT - 1))
        .map(|ids| std::iter::once(BOS.1).chain(ids.iter().copied()).collect())
        .collect();
    Ok((perplexity(&sequences), perplexity(&short)))
}

/// `train.jsonl`.
struct Log {
    path: PathBuf,
    file: std::fs::File,
}

impl Log {
    /// Opens the log and drops the lines after `step`, which the resumed run will write again.
    fn resume(directory: &Path, step: usize) -> Result<Self, BenchError> {
        let path = directory.join("train.jsonl");
        let kept: String = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .filter(|line| serde_json::from_str::<LogLine>(line).is_ok_and(|line| line.step <= step))
            .map(|line| format!("{line}\n"))
            .collect();
        msrnn_models::checkpoint::write_whole(&path, kept.as_bytes())?;
        let file = std::fs::OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| BenchError::Write { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    fn write(&mut self, line: &LogLine) -> Result<(), BenchError> {
        let text = serde_json::to_string(line).expect("a log line is JSON");
        writeln!(self.file, "{text}").map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> TrainConfig {
        TrainConfig {
            hidden_size: 16,
            intermediate_size: 32,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            vocab_size: 300,
            tokenizer_stories: 4,
            context: 280,
            batch: 2,
            steps: 6,
            warmup: 2,
            save_every: 3,
            ..TrainConfig::default()
        }
    }

    #[test]
    fn a_stopped_and_resumed_run_ends_with_the_same_weights_and_the_same_log() {
        let device = Device::flex();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let never = AtomicBool::new(false);
        assert!(train(&tiny(), whole.path(), &device, &never, |_| ()).unwrap());

        let interrupt = AtomicBool::new(false);
        let stop_at_3 = |line: &LogLine| interrupt.store(line.step >= 3, Ordering::Relaxed);
        assert!(!train(&tiny(), stopped.path(), &device, &interrupt, stop_at_3).unwrap());
        assert!(!stopped.path().join("model.safetensors").exists(), "an unfinished run leaves no model");
        assert!(train(&tiny(), stopped.path(), &device, &never, |_| ()).unwrap());

        let weights = |directory: &Path| std::fs::read(directory.join("model.safetensors")).unwrap();
        assert_eq!(weights(whole.path()), weights(stopped.path()));
        let log = |directory: &Path| -> Vec<(usize, f64, Option<f64>)> {
            let text = std::fs::read_to_string(directory.join("train.jsonl")).unwrap();
            let line = |line| serde_json::from_str::<LogLine>(line).map(|line| (line.step, line.loss, line.valid));
            text.lines().map(|text| line(text).unwrap()).collect()
        };
        assert_eq!(log(whole.path()), log(stopped.path()));
    }

    #[test]
    fn training_lowers_the_loss() {
        let directory = tempfile::tempdir().unwrap();
        let mut losses = Vec::new();
        let config = TrainConfig { steps: 30, warmup: 5, ..tiny() };
        train(&config, directory.path(), &Device::flex(), &false.into(), |line| losses.push(line.loss)).unwrap();
        assert!(losses[losses.len() - 1] < losses[0] - 0.3, "{losses:?}");
    }

    #[test]
    fn impossible_settings_are_refused_with_the_reason() {
        let refused = |config: TrainConfig| {
            let directory = tempfile::tempdir().unwrap();
            train(&config, directory.path(), &Device::flex(), &false.into(), |_| ()).unwrap_err().to_string()
        };
        assert!(refused(TrainConfig { batch: 3, threads: 2, ..tiny() }).contains("multiple"));
        assert!(refused(TrainConfig { heads: 3, kv_heads: 2, ..tiny() }).contains("num_key_value_heads"));
        assert!(refused(TrainConfig { vocab_size: 100, ..tiny() }).contains("258"));
        assert!(refused(TrainConfig { steps: 0, ..tiny() }).contains("positive"));
    }
}
