//! `msrnn train`

use std::path::PathBuf;

use msrnn_bench::device::DeviceName;
use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::{Event, Watch};
use msrnn_bench::progress::Progress;
use msrnn_bench::train::{self, TrainConfig};

use super::interrupt::results_are_in_memory;
use super::{INTERRUPT, Outcome, plan, print};

/// The defaults are those of the bundled model.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the model, its log and its checkpoints go; a run that was stopped goes on there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    /// Optimiser steps
    #[arg(long, default_value_t = TrainConfig::default().steps)]
    steps: usize,
    /// Sequences in a step
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Tokens in a sequence
    #[arg(long, default_value_t = TrainConfig::default().context)]
    context: usize,
    /// Tokens in a sequence of the first steps, of which a step then has more; --context where that is less
    #[arg(long, default_value_t = TrainConfig::default().short_context)]
    short_context: usize,
    /// Steps with short sequences
    #[arg(long, default_value_t = TrainConfig::default().short_steps)]
    short_steps: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = TrainConfig::default().learning_rate)]
    learning_rate: f64,
    /// Steps over which the learning rate rises
    #[arg(long, default_value_t = TrainConfig::default().warmup)]
    warmup: usize,
    /// Layers
    #[arg(long, default_value_t = TrainConfig::default().layers)]
    layers: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = TrainConfig::default().hidden_size)]
    hidden_size: usize,
    /// Width of the feed-forward layer
    #[arg(long, default_value_t = TrainConfig::default().intermediate_size)]
    intermediate_size: usize,
    /// Query heads
    #[arg(long, default_value_t = TrainConfig::default().heads)]
    heads: usize,
    /// KV heads
    #[arg(long, default_value_t = TrainConfig::default().kv_heads)]
    kv_heads: usize,
    /// Width of a head
    #[arg(long, default_value_t = TrainConfig::default().head_dim)]
    head_dim: usize,
    /// Ids of the tokenizer
    #[arg(long, default_value_t = TrainConfig::default().vocab_size)]
    vocab_size: usize,
    /// Stories that the tokenizer is learnt from
    #[arg(long, default_value_t = TrainConfig::default().tokenizer_stories)]
    tokenizer_stories: usize,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = TrainConfig::default().save_every)]
    save_every: usize,
    /// Parts of a batch, each on a thread of its own
    #[arg(long, default_value_t = TrainConfig::default().threads)]
    threads: usize,
    /// Seed of weights and stories
    #[arg(long, default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Say what would be done, with tokens, bytes and the time that it takes, and end
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let config = TrainConfig {
        hidden_size: args.hidden_size,
        intermediate_size: args.intermediate_size,
        layers: args.layers,
        heads: args.heads,
        kv_heads: args.kv_heads,
        head_dim: args.head_dim,
        vocab_size: args.vocab_size,
        tokenizer_stories: args.tokenizer_stories,
        context: args.context,
        short_context: args.short_context,
        short_steps: args.short_steps,
        batch: args.batch,
        steps: args.steps,
        learning_rate: args.learning_rate,
        warmup: args.warmup,
        save_every: args.save_every,
        threads: args.threads,
        seed: args.seed,
        ..TrainConfig::default()
    };
    config.check()?;
    let progress = Progress::new("msrnn");
    if args.dry_run {
        let plan = train::plan(&config, &args.out)?;
        let device = args.device.open()?;
        let time = train::estimate(&config, &args.out, &device, plan.tokens, &INTERRUPT)?;
        progress.end();
        return plan::show(&plan, "in weights, gradients and what is kept for them", time, false);
    }
    let (parameters, tokens) = (config.model().parameters(), config.batch * config.context);
    // The log is a file; a terminal that went away does not end the run.
    let _ = print(&format!("training {parameters} parameters, {tokens} tokens a step\n"));
    let device = args.device.open()?;
    results_are_in_memory();
    let (advance, tell) = (|tokens| progress.advance(tokens), |event: Event<'_>| progress.tell(event));
    let watch = Watch { advance: &advance, tell: &tell, interrupt: &INTERRUPT };
    let complete = train::train(&config, &args.out, &device, watch, |line| {
        let valid = match (line.valid, line.valid_short) {
            (Some(full), Some(short)) => format!(", validation perplexity {full:.3} ({short:.3} on contexts of 64)"),
            _ => String::new(),
        };
        let _ = print(&format!("step {:>6}, loss {:.4}{valid}, {:.0} s\n", line.step, line.loss, line.seconds));
    })?;
    Ok(if complete { Outcome::Done } else { Outcome::Interrupted })
}
