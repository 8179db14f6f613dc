//! Decode, prefill and first token of a Llama checkpoint with candle, for `compare.py`.
//!
//! `candle-peer DIR decode DEPTH TOKENS`, `candle-peer DIR prefill TOKENS` or `candle-peer DIR first`; prints tokens
//! per second, and for `first` nothing but the end of the program.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};

/// Tokens of a prompt that go through the model at once.
const BLOCK: usize = 512;

struct Peer {
    model: Llama,
    cache: Cache,
    seen: usize,
    vocab_size: u32,
    last: u32,
}

impl Peer {
    fn feed(&mut self, n: usize) -> Result<()> {
        let ids: Vec<u32> = (0..n)
            .map(|_| {
                // Any cheap sequence does: the time does not depend on the ids.
                self.last = self.last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (self.last >> 8) % self.vocab_size
            })
            .collect();
        let tokens = Tensor::from_vec(ids, (1, n), &Device::Cpu)?;
        self.model.forward(&tokens, self.seen, &mut self.cache)?.to_vec2::<f32>()?;
        self.seen += n;
        Ok(())
    }

    fn fill(&mut self, n: usize) -> Result<()> {
        for first in (0..n).step_by(BLOCK) {
            self.feed(BLOCK.min(n - first))?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (directory, test) = words.split_first().ok_or_else(|| Error::Msg("give a model directory".into()))?;
    let directory = PathBuf::from(directory);
    let text = std::fs::read_to_string(directory.join("config.json"))?;
    let config: LlamaConfig = serde_json::from_str(&text).map_err(|e| Error::Msg(e.to_string()))?;
    let mut config = config.into_config(false);
    config.max_position_embeddings = 16_384;
    // SAFETY: nobody changes the file while it is mapped.
    let weights = unsafe {
        VarBuilder::from_mmaped_safetensors(&[directory.join("model.safetensors")], DType::F32, &Device::Cpu)?
    };
    let vocab_size = config.vocab_size as u32;
    let cache = Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    let mut peer = Peer { model: Llama::load(weights, &config)?, cache, seen: 0, vocab_size, last: 0 };
    let number = |text: &str| text.parse::<usize>().map_err(|e| Error::Msg(e.to_string()));
    match test {
        ["first"] => peer.feed(1)?,
        ["prefill", tokens] => {
            let n = number(tokens)?;
            let started = Instant::now();
            peer.feed(n)?;
            println!("{}", n as f64 / started.elapsed().as_secs_f64());
        }
        ["decode", depth, tokens] => {
            let n = number(tokens)?;
            peer.fill(number(depth)?)?;
            peer.feed(1)?;
            let started = Instant::now();
            (0..n).try_for_each(|_| peer.feed(1))?;
            println!("{}", n as f64 / started.elapsed().as_secs_f64());
        }
        _ => return Err(Error::Msg("tests are: decode DEPTH TOKENS, prefill TOKENS, first".into())),
    }
    Ok(())
}
