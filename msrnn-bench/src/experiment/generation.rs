//! A prompt continued under a bounded or unbounded state, for experiments that look at text.

use msrnn_core::policy::Compression;
use msrnn_models::Model;
use msrnn_models::generate::{Stop, generate};
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::Sampling;
use serde::{Deserialize, Serialize};

use super::Watch;
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::numbers;

/// How a prompt is continued.
#[derive(Clone, Debug)]
pub struct Generation<'a> {
    /// How the state is bounded.
    pub compression: Compression,
    /// How positions are numbered.
    pub positions: Positions,
    /// How the prompt enters the state.
    pub protocol: Protocol,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens to draw, at most.
    pub max_new_tokens: usize,
    /// Texts that end the continuation and do not belong to it.
    pub stop: &'a [String],
}

/// A continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The text, without white space around it.
    pub text: String,
    /// Tokens that were drawn.
    pub tokens: usize,
    /// Why it ended.
    pub ended: Ended,
    /// What the states were seen to hold.
    #[serde(flatten)]
    pub observed: Observed,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The model said so.
    Eos,
    /// As many tokens as were allowed.
    Length,
    /// A stop text came.
    StopText,
}

impl Generation<'_> {
    /// Continues a prompt of ids; none when it was interrupted.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer or does not know an id of the prompt, or its logits make no distribution.
    pub fn write(&self, model: &Model, prompt: &[u32], watch: &Watch<'_>) -> Result<Option<Written>, BenchError> {
        let tokenizer = model.tokenizer()?;
        let recurrent = Recurrent::new(&model.decoder, self.compression.clone(), self.positions);
        let mut text = String::new();
        let mut stream = tokenizer.stream();
        let mut failed = None;
        let mut stopped = false;
        let mut passed = prompt.len();
        let emit = |token| {
            // The prompt is through when the first token comes.
            (watch.advance)(std::mem::replace(&mut passed, 1));
            match stream.push(token) {
                Ok(piece) => text.push_str(&piece),
                Err(error) => failed = Some(error),
            }
            stopped = self.stop.iter().any(|stop| text.contains(stop.as_str()));
            failed.is_none() && !stopped && !watch.interrupted()
        };
        let done = generate(model, &recurrent, prompt, self.protocol, self.sampling, self.max_new_tokens, emit)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let ended = match done.stop {
            Stop::Eos => Ended::Eos,
            Stop::Length => Ended::Length,
            Stop::Interrupted if stopped => Ended::StopText,
            Stop::Interrupted => return Ok(None),
        };
        let mut text = tokenizer.decode(&done.tokens)?;
        if let Some(end) = self.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(end);
        }
        if done.uniform {
            numbers::warn_of_uniform();
        }
        let mut observed = Observed::of(&done.states);
        observed.predict(&done.states, 0, done.predicting);
        Ok(Some(Written { text: text.trim().to_owned(), tokens: done.tokens.len(), ended, observed }))
    }
}
