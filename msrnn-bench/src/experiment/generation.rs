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
use crate::room;

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
        let mut ending = Ending::new(self.stop)?;
        let length = prompt.len().saturating_add(self.max_new_tokens);
        room::check(&model.decoder, &self.compression, length, 1)?;
        let recurrent = Recurrent::new(&model.decoder, self.compression.clone(), self.positions);
        let mut text = String::new();
        let mut stream = model.tokenizer()?.stream_behind(prompt)?;
        let mut failed = None;
        let mut stopped = false;
        let mut passed = prompt.len();
        let emit = |token| {
            // The prompt is through when the first token comes.
            (watch.advance)(std::mem::replace(&mut passed, 1));
            let shown = stream.push(token).and_then(|piece| {
                text.push_str(&piece);
                // Nothing that is held can change any more if this is the last token.
                stream.held()
            });
            match shown {
                Ok(held) => stopped = ending.reached(&text, &held.unwrap_or_default()),
                Err(error) => failed = Some(error),
            }
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
        text.push_str(&stream.finish()?);
        text.truncate(ending.of(&text));
        if done.uniform {
            numbers::warn_of_uniform();
        }
        let mut observed = Observed::of(&done.states);
        observed.predict(&done.states, 0, done.predicting);
        Ok(Some(Written { text: text.trim().to_owned(), tokens: done.tokens.len(), ended, observed }))
    }
}

/// Looks for stop texts in a text that grows.
struct Ending<'a> {
    stop: &'a [String],
    /// Bytes that were looked through.
    searched: usize,
}

impl<'a> Ending<'a> {
    fn new(stop: &'a [String]) -> Result<Self, BenchError> {
        match stop.iter().any(String::is_empty) {
            true => Err(BenchError::Input("a stop text is empty; give it a character, or leave it out".into())),
            false => Ok(Self { stop, searched: 0 }),
        }
    }

    /// Whether one has come, in the text or with what is held behind it.
    fn reached(&mut self, text: &str, held: &str) -> bool {
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = text.floor_char_boundary(self.searched.saturating_sub(longest));
        self.searched = text.len();
        let new = format!("{}{held}", &text[from..]);
        self.stop.iter().any(|stop| new.contains(stop.as_str()))
    }

    /// Where the text ends: before the first of them.
    fn of(&self, text: &str) -> usize {
        self.stop.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_is_found_as_soon_as_it_is_there_however_it_comes() {
        let stop = ["\n\n".to_owned(), "END".to_owned()];
        let whole = "one\né two\n three EN four END five\n\n";
        for size in 1..7 {
            let mut ending = Ending::new(&stop).unwrap();
            let mut at = 0;
            let mut found = None;
            while found.is_none() && at < whole.len() {
                let next = whole.ceil_char_boundary((at + size).min(whole.len()));
                let held = whole.ceil_char_boundary((next + size / 2).min(whole.len()));
                at = next;
                if ending.reached(&whole[..next], &whole[next..held]) {
                    found = Some(held);
                }
            }
            let end = whole.find("END").unwrap() + 3;
            assert!((end..end + 2 * size).contains(&found.unwrap()), "{size}: {found:?}");
            assert_eq!(ending.of(whole), end - 3);
        }
        assert!(Ending::new(&[String::new()]).is_err());
    }
}
