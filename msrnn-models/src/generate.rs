//! Text generation with a bounded or unbounded state.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use msrnn_core::state::MultiState;

use crate::captured::Captured;
use crate::error::ModelError;
use crate::model::Model;
use crate::protocol::Protocol;
use crate::recurrent::Recurrent;
use crate::sampling::{Sampler, Sampling, is_uniform};
use crate::trouble::reason;

/// Tokens of a prompt that go through the layers at once.
const BLOCK: usize = 256;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model said so.
    Eos,
    /// As many tokens as were asked for.
    Length,
    /// The caller said so.
    Interrupted,
}

/// A generation and the states that it left.
#[derive(Debug)]
pub struct Generation {
    /// Ids, without the prompt and without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// One per layer.
    pub states: Vec<MultiState>,
    /// Positions of the tokens whose logits were drawn from, the end token's included.
    pub predicting: Range<usize>,
    /// Whether the first logits told no token from another.
    pub uniform: bool,
}

/// Feeds `prompt` and draws up to `max_new_tokens` tokens.
///
/// `emit` is called with every token as it is drawn; when it returns false the generation ends.
///
/// # Errors
///
/// When the prompt is empty or has an id that the model does not know, there are no positions for so many
/// tokens, or the sampling parameters make no sense; when logits make no distribution.
pub fn generate(
    model: &Model,
    recurrent: &Recurrent<'_>,
    prompt: &[u32],
    protocol: Protocol,
    sampling: Sampling,
    max_new_tokens: usize,
    mut emit: impl FnMut(u32) -> bool,
) -> Result<Generation, ModelError> {
    let mut sampler = Sampler::new(sampling)?;
    if prompt.is_empty() {
        return Err(ModelError::EmptyPrompt);
    }
    model.check_ids(prompt)?;
    let block = protocol.block(prompt.len());
    recurrent.check_length(prompt.len().saturating_add(max_new_tokens), block)?;
    let device = model.decoder.device();
    let ids = |ids: &[u32]| {
        let n = ids.len();
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), &device)
    };
    let mut states = recurrent.initial_states(1);
    states.iter_mut().for_each(|state| state.reserve(prompt.len()));
    let (block, rest) = prompt.split_at(block);
    let mut logits = None;
    if !block.is_empty() {
        logits = Some(recurrent.prefill(ids(block), &mut states)?);
    }
    for chunk in rest.chunks(BLOCK) {
        logits = Some(recurrent.scan(ids(chunk), &mut states));
    }
    let mut logits = last_row(logits.expect("the prompt is not empty"));

    let uniform = is_uniform(&logits);
    let first = prompt.len() - 1;
    let mut tokens = Vec::new();
    let mut stop = Stop::Length;
    let (mut captured, mut tried): (Option<Captured<'_>>, bool) = (None, false);
    while tokens.len() < max_new_tokens {
        let token = match sampler.next(&logits) {
            Ok(token) => token,
            Err(what) => {
                let states = captured.take().map_or(states, Captured::into_states);
                let place = format!("new token {}, after position {}", tokens.len(), first + tokens.len());
                let reason = reason(model.decoder.storage(), recurrent.compression(), &states, 0);
                return Err(ModelError::Logits { place, what, reason });
            }
        };
        if model.eos_token_ids.contains(&token) {
            stop = Stop::Eos;
            break;
        }
        tokens.push(token);
        if !emit(token) {
            stop = Stop::Interrupted;
            break;
        }
        if tokens.len() < max_new_tokens {
            logits = match &mut captured {
                Some(captured) => captured.replay(&[token]),
                None if tried || !Captured::is_possible(recurrent, &states) => {
                    last_row(recurrent.scan(ids(&[token]), &mut states))
                }
                None => {
                    tried = true;
                    let (logits, result) = Captured::step(recurrent, std::mem::take(&mut states), &[token]);
                    match result {
                        Ok(graph) => captured = Some(graph),
                        Err(plain) => states = plain,
                    }
                    logits
                }
            };
        }
    }
    if let Some(captured) = captured {
        states = captured.into_states();
    }
    let drawn = tokens.len() + usize::from(stop == Stop::Eos);
    Ok(Generation { tokens, stop, states, predicting: first..first + drawn, uniform })
}

/// Logits of the last token, on the host.
fn last_row(logits: Tensor<3>) -> Vec<f32> {
    let [_, n, vocab] = logits.dims();
    let data = logits.narrow(1, n - 1, 1).reshape([vocab]).into_data().convert::<f32>();
    data.as_slice().expect("logits are numbers").to_vec()
}
