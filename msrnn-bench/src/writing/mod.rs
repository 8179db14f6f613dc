//! Texts that a model writes: prompts continued, conversations, many at once, and what is remembered of them.

pub mod conversation;
pub mod remembered;
pub(crate) mod requests;
pub mod saved;
pub(crate) mod times;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use msrnn_models::generate::Stop;
use msrnn_models::logprobs::LogProbabilities;
use msrnn_models::sampling::Sampler;
use msrnn_models::session::Session;
use msrnn_models::stop::StopTexts;
use msrnn_models::tokenizer::Tokenizer;
use serde::Serialize;

use crate::error::BenchError;

/// How a text goes on.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// Tokens to draw, at most.
    pub max_new_tokens: usize,
    /// Texts that end it and do not belong to it.
    pub stop: &'a [String],
    /// How many of the most likely tokens are told beside every one that is drawn, with their probabilities; none for
    /// none at all.
    pub logprobs: Option<usize>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The model said so.
    Eos,
    /// As many tokens as were asked for.
    Length,
    /// A stop text came.
    StopText,
    /// The caller said so.
    Interrupted,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// What the new ids add to the text before them, up to a stop text.
    pub text: String,
    /// Ids that were drawn, without the end token; those of a stop text are among them.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub ended: Ended,
    /// Positions of the tokens whose logits were drawn from, the end token's included.
    pub predicting: Range<usize>,
    /// Whether the first logits told no token from another.
    pub uniform: bool,
    /// Of every token, if they were asked for.
    pub logprobs: Vec<LogProbabilities>,
}

impl Writing<'_> {
    /// Goes on with what a session has read. `show` is given text as soon as it is sure to belong to the result, and
    /// never a part of a stop text. `token` is told of every token.
    ///
    /// # Errors
    ///
    /// When a stop text is empty, `show` fails, or logits make no distribution.
    pub fn write(
        &self,
        session: &mut Session<'_>,
        tokenizer: &Tokenizer,
        sampler: &mut Sampler,
        interrupt: &AtomicBool,
        mut show: impl FnMut(&str) -> Result<(), BenchError>,
        mut token: impl FnMut(),
    ) -> Result<Written, BenchError> {
        let mut stops = StopTexts::new(self.stop)?;
        let mut stream = tokenizer.stream_behind(&session.ids())?;
        let mut text = String::new();
        let mut logprobs = Vec::new();
        let mut failed = None;
        let mut stopped = false;
        let written = session.write(sampler, self.max_new_tokens, |drawn| {
            token();
            if let Some(top) = self.logprobs {
                logprobs.push(LogProbabilities::of(drawn.logits, drawn.id, top));
            }
            let shown = stream.push(drawn.id).map_err(BenchError::from).and_then(|piece| {
                // Nothing that is held can change any more if this is the last token.
                let ahead = if self.stop.is_empty() { None } else { stream.held()? };
                let passed = stops.push(&piece, &ahead.unwrap_or_default());
                stopped = passed.stopped;
                text.push_str(&passed.text);
                show(&passed.text)
            });
            failed = shown.err();
            failed.is_none() && !stopped && !interrupt.load(Ordering::Relaxed)
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !stopped {
            let passed = stops.finish(&stream.finish()?);
            stopped = passed.stopped;
            text.push_str(&passed.text);
            show(&passed.text)?;
        }
        let ended = match written.stop {
            _ if stopped => Ended::StopText,
            Stop::Eos => Ended::Eos,
            Stop::Length => Ended::Length,
            Stop::Interrupted => Ended::Interrupted,
        };
        Ok(Written {
            text,
            ids: written.tokens,
            ended,
            predicting: written.predicting,
            uniform: written.uniform,
            logprobs,
        })
    }
}

/// A token with its text, as results tell of log-probabilities.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// Its id.
    pub id: u32,
    /// Its text by itself; part of a character shows as `�`.
    pub token: String,
    /// Natural logarithm of its probability under the model, before penalty, temperature and what else narrows a draw; none
    /// where that is 0.
    pub logprob: Option<f64>,
    /// The most likely tokens in its place, the most likely first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<Vec<Told>>,
}

impl Told {
    /// Of log-probabilities.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn of(logprobs: &LogProbabilities, tokenizer: &Tokenizer) -> Result<Self, BenchError> {
        let told = |id: u32, logprob: f64| -> Result<Told, BenchError> {
            let logprob = logprob.is_finite().then_some(logprob);
            Ok(Told { id, token: tokenizer.shown(id)?, logprob, top: None })
        };
        let top = logprobs.top.iter().map(|&(id, logprob)| told(id, logprob)).collect::<Result<_, _>>()?;
        Ok(Self { top: Some(top), ..told(logprobs.id, logprobs.logprob)? })
    }
}
