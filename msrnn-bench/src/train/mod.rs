//! Training of the bundled model: burn's autodiff on the story generator, seeded and resumable.

mod checkpoint;
mod config;
mod data;
mod initial;
pub(crate) mod log;
mod optimizer;
mod schedule;
pub(crate) mod tokenizer;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use msrnn_models::decoder::Decoder;
use msrnn_models::tokenizer::{TOKENIZER, Tokenizer};

use crate::claim::Claim;
use crate::error::BenchError;
use crate::experiment::run::Plan;
use crate::experiment::{Event, Unit, Watch};
use crate::stories::{Split, Stories};
use crate::trial;
pub use config::TrainConfig;
use data::Sequences;
use log::{Log, LogLine};
use tokenizer::BOS;

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
/// the same weights as one that was not. When it is interrupted the run stops, and the result is false.
///
/// # Errors
///
/// When the configuration is impossible or differs from that of the run in `directory`, or when
/// the directory cannot be written or another program is writing it.
pub(crate) fn train(
    config: &TrainConfig,
    directory: &Path,
    device: &Device,
    watch: Watch<'_>,
    mut report: impl FnMut(&LogLine),
) -> Result<bool, BenchError> {
    config.check()?;
    let _claim = Claim::take(directory)?;
    let tokenizer = prepare(config, directory)?;
    let first = checkpoint::latest(directory)?.unwrap_or(0);
    let mut training = Training::new(config, tokenizer, device);
    if first > 0 {
        training = training.at(directory, first)?;
    }
    let mut log = Log::resume(directory, first)?;
    let started = Instant::now();
    let mut losses = Vec::new();
    (watch.tell)(Event::Left(config.steps.saturating_sub(first), config.tokens(first..config.steps)));
    for step in first..config.steps {
        if watch.interrupted() {
            return Ok(false);
        }
        let done = step + 1;
        let unit = Unit { name: format!("step {done}"), ..Unit::default() };
        (watch.tell)(Event::Begins(&unit));
        losses.push(training.step(step)?);
        (watch.advance)(config.tokens(step..done));

        let save = done % config.save_every == 0 || done == config.steps;
        if done % LOG_EVERY == 0 || save {
            let valid = match save {
                // Before the checkpoint, so that none is written of weights that are not numbers.
                true => Some(finite(step, training.validate()?)?),
                false => None,
            };
            let line = LogLine {
                step: done,
                loss: losses.iter().sum::<f64>() / losses.len() as f64,
                learning_rate: config.learning_rate_at(step),
                valid: valid.map(|(full, _)| full),
                valid_short: valid.map(|(_, short)| short),
                seconds: started.elapsed().as_secs_f64(),
            };
            losses.clear();
            log.write(&line)?;
            report(&line);
        }
        if save {
            checkpoint::save(directory, done, &training.decoder, &training.optimizer)?;
        }
        (watch.tell)(Event::Ends(&unit));
    }
    checkpoint::finish(directory, &training.decoder)?;
    Ok(true)
}

/// A model between two steps.
struct Training<'c> {
    config: &'c TrainConfig,
    tokenizer: Tokenizer,
    device: Device,
    decoder: Decoder,
    optimizer: ModuleOptimizer,
}

impl<'c> Training<'c> {
    fn new(config: &'c TrainConfig, tokenizer: Tokenizer, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let decoder = initial::decoder(config, &device);
        let optimizer = optimizer::new(config, &decoder);
        Self { config, tokenizer, device, decoder, optimizer }
    }

    /// The same as it was after that many steps.
    fn at(self, directory: &Path, steps: usize) -> Result<Self, BenchError> {
        let (decoder, optimizer) = checkpoint::load(directory, steps, &self.device, self.optimizer)?;
        Ok(Self { decoder, optimizer, ..self })
    }

    /// Makes a step, and returns its loss.
    fn step(&mut self, step: usize) -> Result<f64, BenchError> {
        let Self { config, tokenizer, device, decoder, optimizer } = self;
        let batch = config.batch_at(step);
        let sequences = Sequences::new(Split::Train, config.seed, batch.first, batch.context, tokenizer);
        let batch: Vec<Vec<u32>> = sequences.take(batch.sequences).collect::<Result<_, _>>()?;
        let (loss, gradients) = gradients(decoder, &batch, config.threads, device);
        if !loss.is_finite() {
            return Err(BenchError::Train(format!("the loss is {loss} at step {step}; use a lower ‘learning_rate’")));
        }
        *decoder = optimizer.step(config.learning_rate_at(step), decoder.clone(), gradients);
        Ok(loss)
    }
}

/// What [`train`] does with that directory: a unit for the steps with short sequences that are left, and one for the
/// others. Nothing is written.
///
/// # Errors
///
/// As [`train`], before it works.
pub(crate) fn plan(config: &TrainConfig, directory: &Path) -> Result<Plan, BenchError> {
    config.check()?;
    check_before(config, directory)?;
    let first = if directory.is_dir() { checkpoint::latest(directory)?.unwrap_or(0) } else { 0 };
    let change = config.short_steps.clamp(first, config.steps.max(first));
    let unit = |steps: Range<usize>| Unit {
        name: format!(
            "steps {} to {}, contexts of {}",
            steps.start + 1,
            steps.end,
            config.batch_at(steps.start).context
        ),
        tokens: config.tokens(steps),
        state_bytes: config.bytes() as usize,
        ..Unit::default()
    };
    let parts = [first..change, change..config.steps];
    Ok(Plan::of(parts.into_iter().filter(|steps| !steps.is_empty()).map(unit).collect()))
}

/// How long so many tokens take, judged by a second of the first steps; none where that is too little to tell. Nothing is
/// written.
///
/// # Errors
///
/// When the tokenizer in `directory` cannot be read, or none can be learnt.
pub(crate) fn estimate(
    config: &TrainConfig,
    directory: &Path,
    device: &Device,
    tokens: usize,
    interrupt: &AtomicBool,
) -> Result<Option<Duration>, BenchError> {
    let tokenizer = match directory.join(TOKENIZER).exists() {
        true => Tokenizer::read(directory, Some(BOS.1))?,
        false => Tokenizer::from_bytes(learnt(config)?.as_bytes(), Some(BOS.1))?,
    };
    let training = Mutex::new(Training::new(config, tokenizer, device));
    let work = |advance: &(dyn Fn(usize) + Sync), enough: &AtomicBool| {
        let mut training = training.lock().unwrap_or_else(PoisonError::into_inner);
        for step in 0..config.steps {
            if enough.load(Ordering::Relaxed) || training.step(step).is_err() {
                break;
            }
            advance(config.tokens(step..step + 1));
        }
    };
    Ok(trial::estimate(tokens, 1, &work, interrupt))
}

/// Checks that the directory is that of no other run.
fn check_before(config: &TrainConfig, directory: &Path) -> Result<(), BenchError> {
    let path = directory.join("train.json");
    if path.exists() {
        let text = crate::input::read_text(&path)?;
        let before: TrainConfig = serde_json::from_str(&text)
            .map_err(|e| BenchError::Train(format!("{}: {e}; choose another ‘out’", path.display())))?;
        if before != *config {
            return Err(BenchError::Train(format!(
                "{} belongs to a run with other settings; give those, or choose another ‘out’\nbefore: {before:?}\nnow:    {config:?}",
                directory.display()
            )));
        }
    }
    Ok(())
}

/// A tokenizer, as the text of its file.
fn learnt(config: &TrainConfig) -> Result<String, BenchError> {
    let texts = Stories::new(Split::Train, config.seed).take(config.tokenizer_stories).map(|story| story.text);
    tokenizer::learn(texts, config.vocab_size)
}

/// Writes the configuration and the tokenizer, or checks that they are those of the run.
fn prepare(config: &TrainConfig, directory: &Path) -> Result<Tokenizer, BenchError> {
    check_before(config, directory)?;
    let file = directory.join(TOKENIZER);
    if !file.exists() {
        msrnn_models::checkpoint::write_whole(&file, learnt(config)?.as_bytes())?;
    }
    let text = serde_json::to_string_pretty(config).expect("a configuration is JSON");
    msrnn_models::checkpoint::write_whole(&directory.join("train.json"), text.as_bytes())?;
    Ok(Tokenizer::read(directory, Some(BOS.1))?)
}

/// Mean loss and summed gradients of a batch, its parts computed side by side.
fn gradients(decoder: &Decoder, batch: &[Vec<u32>], threads: usize, device: &Device) -> (f64, GradientsParams) {
    let parts: Vec<(f64, GradientsParams)> = std::thread::scope(|scope| {
        let part = |sequences: &[Vec<u32>]| {
            // Parameters of a graph of their own: graphs of several threads that share some are merged while they grow,
            // and burn-autodiff 0.22.1 loses nodes then.
            let decoder = decoder.clone().fork(device);
            let loss = mean_loss(&decoder, sequences, device).div_scalar(threads as f64);
            let value = f64::from(loss.clone().inner().into_scalar::<f32>());
            (value, GradientsParams::from_grads(loss.backward(), &decoder))
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

/// Both perplexities, if they are numbers.
fn finite(step: usize, valid: (f64, f64)) -> Result<(f64, f64), BenchError> {
    match valid.0.is_finite() && valid.1.is_finite() {
        true => Ok(valid),
        false => Err(BenchError::Train(format!(
            "the validation perplexity is {} ({} on short contexts) after step {step}: some weight is not a number, or \
             nearly so; use a lower ‘learning_rate’",
            valid.0, valid.1
        ))),
    }
}

impl Training<'_> {
    /// Validation perplexity with the full context and on contexts of [`SHORT`].
    fn validate(&self) -> Result<(f64, f64), BenchError> {
        let Self { config, tokenizer, device, decoder, .. } = self;
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn tiny() -> TrainConfig {
        TrainConfig {
            hidden_size: 16,
            intermediate_size: 32,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            vocab_size: 300,
            tokenizer_stories: 4,
            context: 280,
            batch: 2,
            short_context: 140,
            short_steps: 2,
            steps: 6,
            warmup: 2,
            save_every: 3,
            ..TrainConfig::default()
        }
    }

    fn watch(interrupt: &AtomicBool) -> Watch<'_> {
        Watch { advance: &|_| (), tell: &|_| (), interrupt }
    }

    #[test]
    fn a_plan_has_the_tokens_that_are_gone_through_and_a_trial_writes_nothing() {
        let (place, never) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let (directory, device) = (place.path().join("run"), Device::flex());
        let planned = plan(&tiny(), &directory).unwrap();
        let names: Vec<&str> = planned.units.iter().map(|unit| unit.name.as_str()).collect();
        assert_eq!(names, ["steps 1 to 2, contexts of 140", "steps 3 to 6, contexts of 280"]);
        assert!(planned.state_bytes > 4 * 4 * tiny().model().parameters());
        assert!(estimate(&tiny(), &directory, &device, planned.tokens, &never).unwrap().is_some());
        assert!(!directory.exists());

        let (gone, units, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let advance = |tokens: usize| _ = gone.fetch_add(tokens, Ordering::Relaxed);
        let tell = |event: Event<'_>| {
            if let Event::Left(_, tokens) = event {
                assert_eq!(tokens, plan(&tiny(), &directory).unwrap().tokens);
            }
            units.fetch_add(usize::from(matches!(event, Event::Ends(_))), Ordering::Relaxed);
        };
        let counted = |interrupt| Watch { advance: &advance, tell: &tell, interrupt };
        let stop_at_3 = |line: &LogLine| stop.store(line.step >= 3, Ordering::Relaxed);
        assert!(!train(&tiny(), &directory, &device, counted(&stop), stop_at_3).unwrap());
        // What is left is what is planned.
        let left = plan(&tiny(), &directory).unwrap();
        assert_eq!(left.units[0].name, "steps 4 to 6, contexts of 280");
        assert_eq!(left.tokens + gone.load(Ordering::Relaxed), planned.tokens);
        assert!(train(&tiny(), &directory, &device, counted(&never), |_| ()).unwrap());
        assert_eq!((gone.into_inner(), units.into_inner()), (planned.tokens, tiny().steps));
        assert!(
            plan(&TrainConfig { seed: 9, ..tiny() }, &directory).unwrap_err().to_string().contains("other settings")
        );
    }

    #[test]
    fn a_stopped_and_resumed_run_ends_with_the_same_weights_and_the_same_log() {
        let device = Device::flex();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let never = AtomicBool::new(false);
        assert!(train(&tiny(), whole.path(), &device, watch(&never), |_| ()).unwrap());

        let interrupt = AtomicBool::new(false);
        let stop_at_3 = |line: &LogLine| interrupt.store(line.step >= 3, Ordering::Relaxed);
        assert!(!train(&tiny(), stopped.path(), &device, watch(&interrupt), stop_at_3).unwrap());
        assert!(!stopped.path().join("model.safetensors").exists(), "an unfinished run leaves no model");
        assert!(train(&tiny(), stopped.path(), &device, watch(&never), |_| ()).unwrap());

        let weights = |directory: &Path| std::fs::read(directory.join("model.safetensors")).unwrap();
        assert_eq!(weights(whole.path()), weights(stopped.path()));
        let log = |directory: &Path| -> Vec<(usize, f64, Option<f64>)> {
            let text = std::fs::read_to_string(directory.join("train.jsonl")).unwrap();
            let line = |line| serde_json::from_str::<LogLine>(line).map(|line| (line.step, line.loss, line.valid));
            text.lines().map(|text| line(text).unwrap()).collect()
        };
        assert_eq!(log(whole.path()), log(stopped.path()));
    }

    /// Many times, since threads that shared a graph went wrong now and then.
    #[test]
    fn gradients_of_several_threads_are_those_of_one() {
        let config = TrainConfig { layers: 2, ..tiny() };
        let device = Device::flex().autodiff();
        let decoder = initial::decoder(&config, &device);
        let batch: Vec<Vec<u32>> = (0..4).map(|i| (0..6).map(|t| (7 * i + 5 * t) % 300).collect()).collect();
        let of = |threads: usize| {
            let (loss, mut gradients) = gradients(&decoder, &batch, threads, &device);
            // Behind all layers, which write nothing yet when a training begins.
            let weight = &decoder.norm.weight;
            let gradient = gradients.remove::<1>(weight.id).expect("a gradient of each weight");
            (loss, gradient.into_data().convert::<f64>().try_into_vec::<f64>().unwrap())
        };
        let (loss, alone) = of(1);
        assert!(alone.iter().any(|x| x.abs() > 1e-4));
        for _ in 0..100 {
            let (found, together) = of(4);
            assert!((found - loss).abs() < 1e-6, "{found} instead of {loss}");
            let off = alone.iter().zip(&together).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-6, "a gradient is off by {off}");
        }
    }

    #[test]
    fn training_lowers_the_loss() {
        let directory = tempfile::tempdir().unwrap();
        let mut losses = Vec::new();
        let config = TrainConfig { steps: 30, warmup: 5, ..tiny() };
        train(&config, directory.path(), &Device::flex(), watch(&false.into()), |line| losses.push(line.loss)).unwrap();
        assert!(losses[losses.len() - 1] < losses[0] - 0.3, "{losses:?}");
    }

    #[test]
    fn impossible_settings_are_refused_with_the_reason() {
        let refused = |config: TrainConfig| {
            let directory = tempfile::tempdir().unwrap();
            train(&config, directory.path(), &Device::flex(), watch(&false.into()), |_| ()).unwrap_err().to_string()
        };
        assert!(refused(TrainConfig { batch: 3, threads: 2, ..tiny() }).contains("multiple"));
        assert!(refused(TrainConfig { heads: 3, kv_heads: 2, ..tiny() }).contains("num_key_value_heads"));
        assert!(refused(TrainConfig { vocab_size: 100, ..tiny() }).contains("258"));
        assert!(refused(TrainConfig { steps: 0, ..tiny() }).contains("positive"));
        assert!(refused(TrainConfig { short_context: 0, ..tiny() }).contains("at least 2"));
    }
}
