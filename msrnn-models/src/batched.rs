//! Many generations side by side: a batch of rows, refilled from a queue.
//!
//! A row holds one request. In every round all rows take the same number of tokens at once: one, as
//! soon as a row is generating, or as many as every row's prompt still has. A row that is finished is
//! reset and takes the next request, while the others go on; rows have therefore seen different
//! numbers of tokens. Since the rows of a batch are independent, which is a law, every request ends
//! in the tokens that it would end in alone.

use std::collections::VecDeque;

use burn::tensor::{Int, IntDType, Tensor, TensorData};
use msrnn_core::state::MultiState;

use crate::captured::Captured;
use crate::error::ModelError;
use crate::generate::Stop;
use crate::model::Model;
use crate::recurrent::Recurrent;
use crate::sampling::{Sampler, Sampling, greedy};
use crate::trouble::{BadLogits, reason};

/// Most tokens of prompts that go through the layers at once.
const BLOCK: usize = 256;

/// Tokens that every row has to draw before a step is captured, which takes six steps and is done again whenever a row
/// begins anew.
const WORTH_CAPTURING: usize = 32;

/// What is to be continued, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// Ids, at least one.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens to draw, at least one.
    pub max_new_tokens: usize,
}

/// A request that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which request, in the order in which they came.
    pub request: usize,
    /// Ids, without the prompt and without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
}

/// A batch of generations under way.
#[derive(Debug)]
pub struct BatchedGeneration<'m> {
    model: &'m Model,
    recurrent: Recurrent<'m>,
    states: Vec<MultiState>,
    rows: Vec<Option<Row>>,
    queue: VecDeque<(usize, Request)>,
    requests: usize,
    /// Whether the device has refused to replay a step.
    never_replays: bool,
}

/// A request in its row.
#[derive(Debug)]
struct Row {
    request: usize,
    /// Tokens that the model has not seen: what is left of the prompt, or the last one drawn.
    pending: VecDeque<u32>,
    sampler: Sampler,
    greedy: bool,
    tokens: Vec<u32>,
    left: usize,
}

impl<'m> BatchedGeneration<'m> {
    /// Empty rows, `batch` of them.
    ///
    /// # Errors
    ///
    /// When there is no row.
    pub fn new(model: &'m Model, recurrent: Recurrent<'m>, batch: usize) -> Result<Self, ModelError> {
        if batch == 0 {
            return Err(ModelError::EmptyBatch);
        }
        let states = recurrent.initial_states(batch);
        let rows = (0..batch).map(|_| None).collect();
        Ok(Self { model, recurrent, states, rows, queue: VecDeque::new(), requests: 0, never_replays: false })
    }

    /// Puts a request into the queue, and returns its number, counted from 0.
    ///
    /// # Errors
    ///
    /// When the prompt is empty or has an id that the model does not know, the sampling parameters make no
    /// sense, no token is asked for, or there are no positions for so many.
    pub fn push(&mut self, request: Request) -> Result<usize, ModelError> {
        Sampler::new(request.sampling)?;
        if request.prompt.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if request.max_new_tokens == 0 {
            return Err(ModelError::NothingToGenerate);
        }
        self.model.check_ids(&request.prompt)?;
        self.recurrent.check_length(request.prompt.len().saturating_add(request.max_new_tokens), 0)?;
        let number = self.requests;
        self.queue.push_back((number, request));
        self.requests += 1;
        Ok(number)
    }

    /// States of all layers, one row of each per request under way.
    pub fn states(&self) -> &[MultiState] {
        &self.states
    }

    /// Requests that are in a row or in the queue.
    pub fn unfinished(&self) -> usize {
        self.queue.len() + self.rows.iter().flatten().count()
    }

    /// Goes on until every request is finished. `emit` is called with the request and every token as it
    /// is drawn; when it returns false that request ends. Completions in the order in which they end.
    ///
    /// # Errors
    ///
    /// As [`BatchedGeneration::round`].
    pub fn run(&mut self, mut emit: impl FnMut(usize, u32) -> bool) -> Result<Vec<Completion>, ModelError> {
        let mut completions = Vec::new();
        while self.unfinished() > 0 {
            completions.extend(self.round(&mut emit)?);
        }
        Ok(completions)
    }

    /// Fills empty rows from the queue, lets every row take as many tokens as all of them have, and
    /// draws the next token of the rows whose prompt is used up. One read-back. Returns what ended.
    ///
    /// Where a step can be captured ([`Captured::is_possible`]) and no row is near its end, it is replayed until one ends.
    ///
    /// # Errors
    ///
    /// When the logits of a request make no distribution; when a sampler cannot be made, which
    /// [`BatchedGeneration::push`] has ruled out.
    pub fn round(&mut self, emit: &mut dyn FnMut(usize, u32) -> bool) -> Result<Vec<Completion>, ModelError> {
        self.refill()?;
        let Some(n) = self.rows.iter().flatten().map(|row| row.pending.len()).min() else {
            return Ok(Vec::new());
        };
        let left = self.rows.iter().flatten().map(|row| row.left).min().unwrap_or(0);
        if n == 1
            && left >= WORTH_CAPTURING
            && !self.never_replays
            && Captured::is_possible(&self.recurrent, &self.states)
        {
            return self.replay(emit);
        }
        let n = n.min(BLOCK);
        let ids: Vec<i64> = self.take(n).into_iter().map(i64::from).collect();
        let ids = Tensor::from_data(TensorData::new(ids, [self.rows.len(), n]), &self.states[0].device());
        let logits = self.recurrent.scan(ids, &mut self.states);
        let draws = self.rows.iter().flatten().any(|row| row.pending.is_empty());
        if !draws {
            return Ok(Vec::new());
        }
        let [batch, _, vocab] = logits.dims();
        let logits = logits.narrow(1, n - 1, 1).reshape([batch, vocab]);
        let drawn = self.draw(logits).map_err(|bad| self.broken(bad))?;
        let ended = self.note(drawn, emit);
        Ok(self.release(ended))
    }

    /// A step of one token of every row, captured and replayed until a row ends.
    fn replay(&mut self, emit: &mut dyn FnMut(usize, u32) -> bool) -> Result<Vec<Completion>, ModelError> {
        let recurrent = self.recurrent.clone();
        let tokens = self.take(1);
        let (mut logits, mut captured) = Captured::step(&recurrent, std::mem::take(&mut self.states), &tokens);
        self.never_replays = captured.is_err();
        let ended = loop {
            let ended = match self.draw_on_host(&logits) {
                Ok(drawn) => self.note(drawn, emit),
                Err(bad) => break Err(bad),
            };
            match &mut captured {
                Ok(captured) if ended.is_empty() => logits = captured.replay(&self.take(1)),
                _ => break Ok(ended),
            }
        };
        self.states = captured.map_or_else(|states| states, Captured::into_states);
        ended.map(|ended| self.release(ended)).map_err(|bad| self.broken(bad))
    }

    /// Gives every row the token that it has drawn. Which rows end with it.
    fn note(&mut self, drawn: Vec<Option<u32>>, emit: &mut dyn FnMut(usize, u32) -> bool) -> Vec<(usize, Completion)> {
        let mut ended = Vec::new();
        for (index, (slot, token)) in self.rows.iter_mut().zip(drawn).enumerate() {
            let (Some(row), Some(token)) = (slot.as_mut(), token) else { continue };
            let stop = if self.model.eos_token_ids.contains(&token) {
                Some(Stop::Eos)
            } else {
                row.tokens.push(token);
                row.left -= 1;
                row.pending.push_back(token);
                match (emit(row.request, token), row.left) {
                    (false, _) => Some(Stop::Interrupted),
                    (true, 0) => Some(Stop::Length),
                    (true, _) => None,
                }
            };
            if let (Some(stop), Some(row)) = (stop, slot.take_if(|_| stop.is_some())) {
                ended.push((index, Completion { request: row.request, tokens: row.tokens, stop }));
            }
        }
        ended
    }

    /// Makes the states of rows that ended know nothing.
    fn release(&mut self, ended: Vec<(usize, Completion)>) -> Vec<Completion> {
        for (index, _) in &ended {
            self.states.iter_mut().for_each(|state| state.reset(*index));
        }
        ended.into_iter().map(|(_, completion)| completion).collect()
    }

    /// Gives empty rows the next requests, with states that know nothing.
    fn refill(&mut self) -> Result<(), ModelError> {
        for (index, slot) in self.rows.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
            let Some((request, Request { prompt, sampling, max_new_tokens })) = self.queue.pop_front() else { break };
            for state in &mut self.states {
                if state.seen()[index] > 0 {
                    state.reset(index);
                }
            }
            let mut sampler = Sampler::new(sampling)?;
            sampler.note(&prompt);
            *slot = Some(Row {
                request,
                pending: prompt.into(),
                sampler,
                greedy: sampling.is_greedy(),
                tokens: Vec::new(),
                left: max_new_tokens,
            });
        }
        Ok(())
    }

    /// The next `n` tokens of every row, `[batch, n]`. A row without a request is fed token 0: what it
    /// makes of it is thrown away.
    fn take(&mut self, n: usize) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.rows.len() * n);
        for row in &mut self.rows {
            match row {
                Some(row) => ids.extend(row.pending.drain(..n)),
                None => ids.extend(std::iter::repeat_n(0, n)),
            }
        }
        ids
    }

    /// The next token of every row whose prompt is used up, or which row has logits that make no distribution.
    /// `[batch, vocab]` logits stay on the device as long as all rows take the most likely token.
    fn draw(&mut self, logits: Tensor<2>) -> Result<Vec<Option<u32>>, (usize, BadLogits)> {
        if self.rows.iter().flatten().all(|row| row.greedy) {
            let [_, vocab] = logits.dims();
            let ids = likeliest(logits.clone()).into_data().convert::<i64>();
            let ids = ids.as_slice::<i64>().expect("ids are integers").iter();
            let next = |(index, (row, &id)): (usize, (&Option<Row>, &i64))| match row {
                Some(row) if row.pending.is_empty() && id < vocab as i64 => Ok(Some(id as u32)),
                // Looked at on the host, where it is told what is wrong.
                Some(row) if row.pending.is_empty() => {
                    let data = logits.clone().narrow(0, index, 1).into_data().convert::<f32>();
                    let logits: &[f32] = data.as_slice().expect("logits are floats");
                    greedy(logits).map(Some).map_err(|what| (index, what))
                }
                _ => Ok(None),
            };
            return self.rows.iter().zip(ids).enumerate().map(next).collect();
        }
        let data = logits.into_data().convert::<f32>();
        self.draw_on_host(data.as_slice().expect("logits are numbers"))
    }

    /// As [`BatchedGeneration::draw`], from the logits of one row after another.
    fn draw_on_host(&mut self, logits: &[f32]) -> Result<Vec<Option<u32>>, (usize, BadLogits)> {
        let vocab = logits.len() / self.rows.len();
        let next = |(index, (row, logits)): (usize, (&mut Option<Row>, &[f32]))| match row {
            Some(row) if row.pending.is_empty() => row.sampler.next(logits).map(Some).map_err(|what| (index, what)),
            _ => Ok(None),
        };
        // Every sampler draws, whatever becomes of the others.
        let drawn: Vec<_> = self.rows.iter_mut().zip(logits.chunks(vocab)).enumerate().map(next).collect();
        drawn.into_iter().collect()
    }

    /// Why a request cannot go on, of which row.
    fn broken(&self, (index, what): (usize, BadLogits)) -> ModelError {
        let row = self.rows[index].as_ref();
        let (request, token) = row.map_or((0, 0), |row| (row.request, row.tokens.len()));
        let reason = reason(self.model.decoder.storage(), self.recurrent.compression(), &self.states, index);
        ModelError::Logits { place: format!("request {request}, new token {token}"), what, reason }
    }
}

/// The most likely token, the first of equals, of every row: `[batch, vocab]` to `[batch]`. No id, `vocab`, where a
/// logit is NaN or infinite.
fn likeliest(logits: Tensor<2>) -> Tensor<1, Int> {
    let [batch, vocab] = logits.dims();
    let device = logits.device();
    let lower = logits.clone().lower(logits.clone().max_dim(1).expand([batch, vocab]));
    let ids = Tensor::<1, Int>::arange(0..vocab as i64, &device);
    let int: IntDType = ids.dtype().into();
    let ids = ids.reshape([1, vocab]).expand([batch, vocab]);
    // One pass that finds what is not finite, since a sum with it is not either.
    let odd = logits.sum_dim(1).is_finite().bool_not().reshape([batch]);
    // Backends differ in the integer type of what they reduce to.
    let ids = ids.mask_fill(lower, vocab as i64).min_dim(1).reshape([batch]).cast(int);
    ids.mask_fill(odd, vocab as i64)
}
