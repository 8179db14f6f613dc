//! `msrnn convert`

use std::path::PathBuf;

use msrnn_bench::error::BenchError;
use msrnn_bench::open;
use msrnn_models::convert::{WrittenAs, convert};

use super::{DOWNLOADS, Outcome, print};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A GGUF file becomes a directory for transformers and msrnn, a directory a GGUF file for llama.cpp. \
Blocks of few bits are taken out of a GGUF file exactly, so that both forms give the same logits."
)]
pub(super) struct Args {
    /// A Hugging Face model directory, a GGUF file, org/name[@revision] on the hub, or org/name[@revision]/file.gguf
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// What is written: a GGUF file if it ends in .gguf, else a Hugging Face directory
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Matrices as f32, f16 or bf16, in GGUF files also q8_0
    #[arg(long, default_value_t)]
    dtype: WrittenAs,
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let converted = convert(&open::files(&args.model, &DOWNLOADS)?, &args.out, args.dtype)?;
    for note in &converted.notes {
        tracing::warn!("{note}");
    }
    let files: String = converted.files.iter().map(|file| format!("{}\n", file.display())).collect();
    print(&format!("{} parameters as {}\n{files}", converted.parameters, args.dtype))?;
    Ok(Outcome::Done)
}
