//! Text generation with a bounded or unbounded state.

use std::ops::Range;

use msrnn_core::state::MultiState;

use crate::error::ModelError;
use crate::model::Model;
use crate::protocol::Protocol;
use crate::recurrent::Recurrent;
use crate::sampling::{Sampler, Sampling};
use crate::session::{Session, Written};

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
    let mut session = Session::new(model, recurrent);
    session.check(prompt, protocol, max_new_tokens)?;
    session.read(prompt, protocol, |_| true)?;
    sampler.note(prompt);
    let Written { tokens, stop, predicting, uniform } =
        session.write(&mut sampler, max_new_tokens, |drawn| emit(drawn.id))?;
    Ok(Generation { tokens, stop, states: session.into_parts().states, predicting, uniform })
}
