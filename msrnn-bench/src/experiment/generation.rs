//! A prompt continued under a bounded or unbounded state, for experiments that look at text.

use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::sampling::{Sampler, Sampling};
use msrnn_models::session::Session;
use serde::{Deserialize, Serialize};

use super::Watch;
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::numbers;
use crate::room;
use crate::writing::{self, Writing};

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
    /// Continues a prompt of ids; none when it was interrupted. `asked`: ids that come after the prompt and that no cut
    /// after it has seen; none where the question is part of the prompt.
    ///
    /// # Errors
    ///
    /// When the model has no tokenizer or does not know an id of the prompt, or its logits make no distribution.
    pub fn write(
        &self,
        model: &Model,
        prompt: &[u32],
        asked: &[u32],
        watch: &Watch<'_>,
    ) -> Result<Option<Written>, BenchError> {
        let length = prompt.len().saturating_add(asked.len()).saturating_add(self.max_new_tokens);
        room::check(&model.decoder, &self.compression, length, 1)?;
        let recurrent = Recurrent::new(&model.decoder, self.compression.clone(), self.positions);
        let mut sampler = Sampler::new(self.sampling)?;
        let mut session = Session::new(model, &recurrent);
        let pass = |tokens| {
            (watch.advance)(tokens);
            !watch.interrupted()
        };
        for (ids, protocol) in [(prompt, self.protocol), (asked, Protocol::Strict)] {
            if !ids.is_empty() && !session.read(ids, protocol, pass)? {
                return Ok(None);
            }
            sampler.note(ids);
        }
        let writing = Writing { max_new_tokens: self.max_new_tokens, stop: self.stop, logprobs: None };
        let advance = || (watch.advance)(1);
        let tokenizer = model.tokenizer()?;
        let done = writing.write(&mut session, tokenizer, &mut sampler, watch.interrupt, |_| Ok(()), advance)?;
        let ended = match done.ended {
            writing::Ended::Eos => Ended::Eos,
            writing::Ended::Length => Ended::Length,
            writing::Ended::StopText => Ended::StopText,
            writing::Ended::Interrupted => return Ok(None),
        };
        if done.uniform {
            numbers::warn_of_uniform();
        }
        let mut observed = Observed::of(session.states());
        observed.predict(session.states(), 0, done.predicting);
        Ok(Some(Written { text: done.text.trim().to_owned(), tokens: done.ids.len(), ended, observed }))
    }
}
