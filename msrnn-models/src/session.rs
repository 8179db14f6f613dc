//! A text under way: what a model has read and written, and the states that this left.
//!
//! Reading and writing take turns: a prompt and its continuation, the turns of a conversation, a document and then a
//! question. A clone goes on by itself, and what it read is not read again.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use msrnn_core::state::MultiState;

use crate::captured::Captured;
use crate::error::ModelError;
use crate::generate::Stop;
use crate::model::Model;
use crate::protocol::Protocol;
use crate::recurrent::Recurrent;
use crate::sampling::{Sampler, is_uniform};
use crate::trouble::reason;

/// Tokens of a prompt that go through the layers at once.
pub const BLOCK: usize = 256;

/// What a model has read and written.
#[derive(Clone, Debug)]
pub struct Session<'m> {
    model: &'m Model,
    recurrent: &'m Recurrent<'m>,
    /// One per layer.
    states: Vec<MultiState>,
    /// Ids that the states have seen.
    seen: Vec<u32>,
    /// The last id that was drawn, which they have not.
    pending: Option<u32>,
    /// What follows the last id seen; none before the first.
    logits: Option<Vec<f32>>,
}

/// What is needed to take a session up again, beside its model and how it is bounded.
#[derive(Clone, Debug)]
pub struct Parts {
    /// One per layer.
    pub states: Vec<MultiState>,
    /// Ids that the states have seen.
    pub seen: Vec<u32>,
    /// The last id that was drawn, which they have not.
    pub pending: Option<u32>,
    /// What follows the last id seen; none before the first.
    pub logits: Option<Vec<f32>>,
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'l> {
    /// Its id.
    pub id: u32,
    /// The logits that it was drawn from, as they came from the model: `[vocab]`.
    pub logits: &'l [f32],
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Ids, without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Positions of the tokens whose logits were drawn from, the end token's included.
    pub predicting: Range<usize>,
    /// Whether the first logits told no token from another.
    pub uniform: bool,
}

impl<'m> Session<'m> {
    /// One that has read nothing.
    pub fn new(model: &'m Model, recurrent: &'m Recurrent<'m>) -> Self {
        let states = recurrent.initial_states(1);
        Self { model, recurrent, states, seen: Vec::new(), pending: None, logits: None }
    }

    /// One that goes on where another was when it was taken apart.
    ///
    /// # Errors
    ///
    /// When the parts are not of this model, or do not fit each other.
    pub fn of_parts(model: &'m Model, recurrent: &'m Recurrent<'m>, parts: Parts) -> Result<Self, ModelError> {
        let Parts { states, seen, pending, logits } = parts;
        let wrong = |what: &str| Err(ModelError::Session(what.to_owned()));
        if states.len() != model.decoder.layers.len() {
            return wrong("it has another number of layers than the model");
        }
        let empty = recurrent.initial_states(1);
        if states.iter().zip(&empty).any(|(state, empty)| state.shape() != empty.shape()) {
            return wrong("its states have another shape or precision than the model's");
        }
        if states.iter().any(|state| state.seen() != [seen.len()]) {
            return wrong("its states have seen another number of tokens than it says");
        }
        if logits.as_ref().map(Vec::len) != (!seen.is_empty()).then_some(model.decoder.config().vocab_size) {
            return wrong("it has no logits for the model's vocabulary");
        }
        model.check_ids(&seen)?;
        model.check_ids(pending.as_slice())?;
        Ok(Self { model, recurrent, states, seen, pending, logits })
    }

    /// Its parts.
    pub fn into_parts(self) -> Parts {
        let Self { states, seen, pending, logits, .. } = self;
        Parts { states, seen, pending, logits }
    }

    /// The states, one per layer.
    pub fn states(&self) -> &[MultiState] {
        &self.states
    }

    /// Ids that the states have seen, the oldest first.
    pub fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// The last id that was drawn, which the states have not seen: it is read before whatever comes next.
    pub fn pending(&self) -> Option<u32> {
        self.pending
    }

    /// All ids that were read and written.
    pub fn ids(&self) -> Vec<u32> {
        self.seen.iter().copied().chain(self.pending).collect()
    }

    /// Whether there is room for so many ids that are read and tokens that are drawn.
    ///
    /// # Errors
    ///
    /// As [`Recurrent::check_length`], and when an id has no embedding.
    pub fn check(&self, ids: &[u32], protocol: Protocol, max_new_tokens: usize) -> Result<(), ModelError> {
        self.model.check_ids(ids)?;
        let before = self.seen.len() + usize::from(self.pending.is_some());
        let all = before.saturating_add(ids.len()).saturating_add(max_new_tokens);
        // Whoever has read something has had a prompt.
        let block = if before == 0 { protocol.block(ids.len()) } else { 1 };
        self.recurrent.check_length(all, block)
    }

    /// Reads ids. The first that are read enter as `protocol` says, later ones token by token. `pass` is told how many
    /// went through; when it returns false the reading ends, and what is left is not read.
    ///
    /// Returns whether all was read.
    ///
    /// # Errors
    ///
    /// As [`Session::check`].
    pub fn read(
        &mut self,
        ids: &[u32],
        protocol: Protocol,
        mut pass: impl FnMut(usize) -> bool,
    ) -> Result<bool, ModelError> {
        self.check(ids, protocol, 0)?;
        let ids: Vec<u32> = self.pending.take().into_iter().chain(ids.iter().copied()).collect();
        let block = if self.seen.is_empty() { protocol.block(ids.len()) } else { 0 };
        if self.seen.is_empty() {
            self.states.iter_mut().for_each(|state| state.reserve(ids.len()));
        }
        let (block, rest) = ids.split_at(block);
        let all = self.seen.len() + ids.len();
        for (chunk, whole) in std::iter::once((block, true)).chain(rest.chunks(BLOCK).map(|chunk| (chunk, false))) {
            if chunk.is_empty() {
                continue;
            }
            let tokens = self.tensor(chunk);
            let logits = match whole {
                true => self.recurrent.prefill(tokens, &mut self.states)?,
                false => self.recurrent.scan(tokens, &mut self.states),
            };
            self.logits = Some(last_row(logits));
            self.seen.extend_from_slice(chunk);
            if !pass(chunk.len()) && self.seen.len() < all {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Draws up to `max_new_tokens` tokens. `emit` is called with every token as it is drawn; when it returns false the
    /// writing ends. The end token is not read, and neither is the last token before whatever comes next.
    ///
    /// # Errors
    ///
    /// When nothing was read, there are no positions for so many tokens, or logits make no distribution.
    pub fn write(
        &mut self,
        sampler: &mut Sampler,
        max_new_tokens: usize,
        mut emit: impl FnMut(Drawn<'_>) -> bool,
    ) -> Result<Written, ModelError> {
        self.check(&[], Protocol::Strict, max_new_tokens)?;
        if let Some(token) = self.pending.take() {
            self.feed(token);
        }
        let mut logits = self.logits.take().ok_or(ModelError::EmptyPrompt)?;
        let uniform = is_uniform(&logits);
        let first = self.seen.len() - 1;
        let mut tokens = Vec::new();
        let mut stop = Stop::Length;
        let recurrent = self.recurrent;
        let (mut captured, mut tried): (Option<Captured<'_>>, bool) = (None, false);
        while tokens.len() < max_new_tokens {
            let token = match sampler.next(&logits) {
                Ok(token) => token,
                Err(what) => {
                    if let Some(captured) = captured.take() {
                        self.states = captured.into_states();
                    }
                    let place = format!("new token {}, after position {}", tokens.len(), first + tokens.len());
                    let reason = reason(self.model.decoder.storage(), recurrent.compression(), &self.states, 0);
                    return Err(ModelError::Logits { place, what, reason });
                }
            };
            if self.model.eos_token_ids.contains(&token) {
                stop = Stop::Eos;
                break;
            }
            tokens.push(token);
            if !emit(Drawn { id: token, logits: &logits }) {
                stop = Stop::Interrupted;
            }
            if stop == Stop::Interrupted || tokens.len() == max_new_tokens {
                self.pending = Some(token);
                break;
            }
            logits = match &mut captured {
                Some(captured) => captured.replay(&[token]),
                None if tried || !Captured::is_possible(recurrent, &self.states) => {
                    last_row(recurrent.scan(self.tensor(&[token]), &mut self.states))
                }
                None => {
                    tried = true;
                    let (logits, result) = Captured::step(recurrent, std::mem::take(&mut self.states), &[token]);
                    match result {
                        Ok(graph) => captured = Some(graph),
                        Err(plain) => self.states = plain,
                    }
                    logits
                }
            };
            self.seen.push(token);
        }
        if let Some(captured) = captured {
            self.states = captured.into_states();
        }
        self.logits = Some(logits);
        let drawn = tokens.len() + usize::from(stop == Stop::Eos);
        Ok(Written { tokens, stop, predicting: first..first + drawn, uniform })
    }

    /// Reads one token.
    fn feed(&mut self, token: u32) {
        let logits = self.recurrent.scan(self.tensor(&[token]), &mut self.states);
        self.logits = Some(last_row(logits));
        self.seen.push(token);
    }

    fn tensor(&self, ids: &[u32]) -> Tensor<2, Int> {
        let n = ids.len();
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Tensor::from_data(TensorData::new(ids, [1, n]), &self.model.decoder.device())
    }
}

/// Logits of the last token, on the host.
fn last_row(logits: Tensor<3>) -> Vec<f32> {
    let [_, n, vocab] = logits.dims();
    let data = logits.narrow(1, n - 1, 1).reshape([vocab]).into_data().convert::<f32>();
    data.as_slice().expect("logits are numbers").to_vec()
}
