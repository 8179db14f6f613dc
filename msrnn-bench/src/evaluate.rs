//! Scoring contexts through a bounded or unbounded state.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use msrnn_core::compression::Compression;
use msrnn_core::kernels::log_likelihood;
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use msrnn_models::protocol::Protocol;
use msrnn_models::recurrent::{Positions, Recurrent};
use serde::{Deserialize, Serialize};

use crate::contexts::{BLOCK, Context};
use crate::error::BenchError;
use crate::numbers;
use crate::roads;
use crate::room;
use crate::statistics::perplexity_of;

/// In which order layers and tokens are computed. The result is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Every token through all layers before the next token.
    Step,
    /// A block of tokens through one layer before the next layer. Exact, since the state of a layer
    /// depends on that layer's inputs alone.
    #[default]
    Layer,
}

/// How contexts are scored.
#[derive(Clone, Debug)]
pub struct Scoring {
    /// How the state is bounded.
    pub compression: Compression,
    /// How positions are numbered.
    pub positions: Positions,
    /// How the first tokens enter the state.
    pub protocol: Protocol,
    /// In which order layers and tokens are computed.
    pub form: Form,
    /// Contexts side by side, where neighbours have equal length.
    pub batch: usize,
}

impl Scoring {
    /// One context after the other, strict, in the layer form.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            positions: Positions::default(),
            protocol: Protocol::default(),
            form: Form::default(),
            batch: 1,
        }
    }
}

/// What a scoring found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Negative log-likelihood and number of predicted tokens of every context, in nats.
    pub contexts: Vec<ContextScore>,
    /// What the states were seen to hold.
    #[serde(flatten)]
    pub observed: Observed,
    /// Wall-clock time.
    pub seconds: f64,
    /// False when it was interrupted: the contexts are those that were finished.
    pub complete: bool,
}

/// What states really held, read from them rather than derived from a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Omissions: one per layer, deciding group and row.
    pub omitted: usize,
    /// Most rows that a layer carried from one token to the next.
    pub max_rows: usize,
    /// Bytes allocated by the states of all layers, of one context, at their largest between two blocks: of a prompt that is
    /// cut at once, after the cut.
    pub state_bytes: usize,
    /// Predictions that were looked at: scored or drawn from.
    #[serde(default)]
    pub predicted: usize,
    /// Those of them before which some layer had omitted a row. The others are the full state's.
    #[serde(default)]
    pub under_bound: usize,
}

impl Observed {
    /// Looks at the states of all layers.
    pub fn of(states: &[MultiState]) -> Self {
        let mut observed = Self::default();
        for state in states {
            for (row, groups) in state.held().iter().enumerate() {
                for held in groups {
                    observed.omitted += state.seen()[row] - held.len();
                    observed.max_rows = observed.max_rows.max(held.len());
                }
            }
            observed.max_rows = observed.max_rows.max(state.max_rows());
        }
        observed.state_bytes = states.iter().map(|state| state.bytes() / state.shape().batch).sum();
        observed
    }

    /// Counts the predictions that a batch row's tokens at these positions made. A token's own omission comes after
    /// its prediction.
    pub fn predict(&mut self, states: &[MultiState], row: usize, by: Range<usize>) {
        let first = states.iter().filter_map(|state| state.first_omission()[row]).min();
        self.predicted += by.len();
        self.under_bound += first.map_or(0, |first| by.end.saturating_sub(by.start.max(first + 1)));
    }

    /// Whether predictions were made and none of them after an omission: they are the full state's.
    pub fn is_of_full_state(&self) -> bool {
        self.predicted > 0 && self.under_bound == 0
    }

    /// Takes in what was seen elsewhere: omissions and predictions add up, of the rest the largest counts.
    pub fn add(&mut self, other: Self) {
        self.predicted += other.predicted;
        self.under_bound += other.under_bound;
        self.omitted += other.omitted;
        self.max_rows = self.max_rows.max(other.max_rows);
        self.state_bytes = self.state_bytes.max(other.state_bytes);
    }
}

/// The score of one context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextScore {
    /// Sum over the predicted tokens, natural logarithm.
    pub nll: f64,
    /// Predicted tokens: all but the first, or what an overlap leaves.
    pub tokens: usize,
    /// UTF-8 bytes of the text that these tokens stand for; none where that is not known, as for ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Bits of all predicted tokens over the UTF-8 bytes of the text that they stand for, Σ nll / ln 2 / Σ bytes. What is
/// not predicted counts on neither side. None where some of the bytes are not known, or there are none.
pub fn bits_per_byte(contexts: &[ContextScore]) -> Option<f64> {
    let bytes: u64 = contexts.iter().map(|context| context.bytes).sum::<Option<u64>>()?;
    let nll: f64 = contexts.iter().map(|context| context.nll).sum();
    (bytes > 0).then(|| nll / std::f64::consts::LN_2 / bytes as f64)
}

impl Evaluation {
    /// Sum over all predicted tokens, natural logarithm.
    pub fn nll(&self) -> f64 {
        self.contexts.iter().map(|context| context.nll).sum()
    }

    /// Predicted tokens.
    pub fn tokens(&self) -> usize {
        self.contexts.iter().map(|context| context.tokens).sum()
    }

    /// exp(nll / tokens): every predicted token weighs the same, in whichever context it is. None where nothing was
    /// predicted, or where it is beyond a 64-bit number.
    pub fn perplexity(&self) -> Option<f64> {
        perplexity_of(self.nll() / self.tokens() as f64)
    }

    /// Bits per UTF-8 byte of what was predicted; see [`bits_per_byte`].
    pub fn bits_per_byte(&self) -> Option<f64> {
        bits_per_byte(&self.contexts)
    }

    /// Predicted tokens per second; 0 where no time passed.
    pub fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens() as f64 / self.seconds } else { 0.0 }
    }
}

/// One block of tokens that was just scored, for who wants more than its likelihood.
#[derive(Debug)]
pub struct Block<'a> {
    /// Index of the context in every batch row.
    pub contexts: std::ops::Range<usize>,
    /// Position of the block's first token in its context.
    pub start: usize,
    /// `[batch, n, vocab]`
    pub logits: &'a Tensor<3>,
    /// One per layer.
    pub states: &'a mut [MultiState],
}

/// Looks on while contexts are scored.
pub trait Observer {
    /// Called once per batch of contexts, before its first block.
    fn start(&mut self, _states: &mut [MultiState]) {}

    /// Called after every block, in the order of the text.
    ///
    /// # Errors
    ///
    /// When what was seen cannot be kept; the scoring ends.
    fn block(&mut self, _block: Block<'_>) -> Result<(), BenchError> {
        Ok(())
    }

    /// Called with the number of tokens of every block.
    fn advance(&mut self, _tokens: usize) {}
}

/// Sees nothing.
impl Observer for () {}

/// Passes on how many tokens were gone through, and sees nothing else.
pub struct Advance<'a>(pub &'a (dyn Fn(usize) + Sync));

impl Observer for Advance<'_> {
    fn advance(&mut self, tokens: usize) {
        (self.0)(tokens);
    }
}

/// Sees what the observer behind it sees.
impl<O: Observer> Observer for &mut O {
    fn start(&mut self, states: &mut [MultiState]) {
        (**self).start(states);
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        (**self).block(block)
    }

    fn advance(&mut self, tokens: usize) {
        (**self).advance(tokens);
    }
}

/// Both see, one after the other.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn start(&mut self, states: &mut [MultiState]) {
        self.0.start(states);
        self.1.start(states);
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        let Block { contexts, start, logits, states } = block;
        self.0.block(Block { contexts: contexts.clone(), start, logits, states: &mut *states })?;
        self.1.block(Block { contexts, start, logits, states })
    }

    fn advance(&mut self, tokens: usize) {
        self.0.advance(tokens);
        self.1.advance(tokens);
    }
}

/// Sees what the observer within sees, if there is one.
impl<O: Observer> Observer for Option<O> {
    fn start(&mut self, states: &mut [MultiState]) {
        if let Some(observer) = self {
            observer.start(states);
        }
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        self.as_mut().map_or(Ok(()), |observer| observer.block(block))
    }

    fn advance(&mut self, tokens: usize) {
        if let Some(observer) = self {
            observer.advance(tokens);
        }
    }
}

/// Scores `contexts`, each from an empty state.
///
/// `interrupt`: when it becomes true, the scoring ends with the contexts finished so far.
///
/// # Errors
///
/// When there are no positions or no memory for a context, the observer fails, or a prefill does; when logits are not numbers, or a
/// token has no probability.
pub fn evaluate(
    model: &Model,
    contexts: &[Context],
    scoring: &Scoring,
    observer: &mut dyn Observer,
    interrupt: &AtomicBool,
) -> Result<Evaluation, BenchError> {
    let started = Instant::now();
    let under = |compression| Recurrent::new(&model.decoder, compression, scoring.positions);
    let mut recurrent = under(told(&scoring.compression).map_or_else(|| scoring.compression.clone(), |[_, then]| then));
    for ids in contexts {
        recurrent.check_length(ids.len(), scoring.protocol.block(ids.len()))?;
    }
    let device = model.decoder.device();
    roads::warn_where_packing_costs(&model.decoder, &scoring.compression);
    let mut evaluation = Evaluation {
        contexts: Vec::with_capacity(contexts.len()),
        observed: Observed::default(),
        seconds: 0.0,
        complete: true,
    };
    let mut uniform = true;
    let mut first = 0;
    while first < contexts.len() {
        let length = contexts[first].len();
        let alike = contexts[first..].iter().take(scoring.batch.max(1)).take_while(|ids| ids.len() == length);
        let range = first..first + alike.count();
        let batch = &contexts[range.clone()];
        room::check(&model.decoder, &scoring.compression, length, batch.len())?;
        if let Some([first, then]) = told(&scoring.compression) {
            room::check_foresight(&model.decoder, &then, length, batch.len())?;
            foresee(&under(first), batch, interrupt);
            recurrent = under(then);
        }
        let mut states = recurrent.initial_states(batch.len());
        roads::warn_where_slow(&recurrent, &states);
        // Where all rows stay, room for them at once instead of copies as they come.
        states.iter_mut().for_each(|state| state.reserve(length));
        observer.start(&mut states);
        let mut nll = vec![0.0; batch.len()];
        for (start, end) in blocks(length, scoring) {
            if interrupt.load(Ordering::Relaxed) {
                evaluation.complete = false;
                evaluation.seconds = started.elapsed().as_secs_f64();
                return Ok(evaluation);
            }
            let tokens = tokens(batch, start, end, &device);
            let logits = match start == 0 && scoring.protocol.block(length) > 0 {
                true => {
                    recurrent.prefill(tokens, &mut states).map_err(|e| numbers::in_context(e.into(), range.start))?
                }
                false => recurrent.scan(tokens, &mut states),
            };
            let predicted = token_nll(batch, start, &logits);
            numbers::Scored { contexts: batch, first: range.start, start, logits: &logits, nll: &predicted }.check(
                model.decoder.storage(),
                &scoring.compression,
                &states,
            )?;
            uniform = uniform && numbers::is_uniform(&logits, &predicted);
            let rows = predicted.chunks((predicted.len() / batch.len()).max(1));
            for ((nll, row), context) in nll.iter_mut().zip(rows).zip(batch) {
                // The first of the row predicts the id at `start + 1`; what overlaps was scored before.
                let scored = context.scored_from().saturating_sub(start + 1).min(row.len());
                *nll += row[scored..].iter().sum::<f64>();
            }
            observer.block(Block { contexts: range.clone(), start, logits: &logits, states: &mut states })?;
            observer.advance((end - start) * batch.len());
        }
        let mut observed = Observed::of(&states);
        for (row, context) in batch.iter().enumerate() {
            // The token before the first scored one predicts it.
            observed.predict(&states, row, context.scored_from() - 1..length - 1);
        }
        evaluation.observed.add(observed);
        evaluation.contexts.extend(nll.into_iter().zip(batch).map(|(nll, context)| ContextScore {
            nll,
            tokens: context.predicted(),
            bytes: context.predicted_bytes(),
        }));
        first = range.end;
    }
    if uniform && evaluation.tokens() > 0 {
        numbers::warn_of_uniform();
    }
    evaluation.seconds = started.elapsed().as_secs_f64();
    Ok(evaluation)
}

/// Of a ceiling the two runs, for one batch of contexts; see [`Policy::foresight`](msrnn_core::policy::Policy::foresight).
fn told(compression: &Compression) -> Option<[Compression; 2]> {
    let told = compression.policy()?.foresight()?;
    Some([compression.by(told.first), compression.by(told.then)])
}

/// Lets a ceiling see the whole of its contexts.
fn foresee(first: &Recurrent<'_>, batch: &[Context], interrupt: &AtomicBool) {
    let (length, device) = (batch[0].len(), first.device());
    let mut states = first.initial_states(batch.len());
    for start in (0..length).step_by(BLOCK) {
        if interrupt.load(Ordering::Relaxed) {
            return;
        }
        first.hidden(tokens(batch, start, length.min(start + BLOCK), &device), &mut states);
    }
}

/// Where the blocks of a context of `n` tokens begin and end: the prefill first, if there is one.
fn blocks(n: usize, scoring: &Scoring) -> Vec<(usize, usize)> {
    let size = match scoring.form {
        Form::Step => 1,
        Form::Layer => BLOCK,
    };
    let prefill = scoring.protocol.block(n);
    let mut blocks = Vec::new();
    if prefill > 0 {
        blocks.push((0, prefill));
    }
    blocks.extend((prefill..n).step_by(size).map(|start| (start, n.min(start + size))));
    blocks
}

fn tokens(batch: &[impl AsRef<[u32]>], start: usize, end: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = batch.iter().flat_map(|ids| &ids.as_ref()[start..end]).map(|&id| i64::from(id)).collect();
    Tensor::from_data(TensorData::new(ids, [batch.len(), end - start]), device)
}

/// −ln p of every token that logits `[batch, n, vocab]` of the tokens `start..start + n` predict: one
/// batch row after the other.
pub(crate) fn token_nll(batch: &[impl AsRef<[u32]>], start: usize, logits: &Tensor<3>) -> Vec<f64> {
    let [rows, n, vocab] = logits.dims();
    // The last token of a context predicts nothing that is known.
    let n = n.min(batch[0].as_ref().len() - 1 - start);
    if n == 0 {
        return Vec::new();
    }
    let targets = tokens(batch, start + 1, start + 1 + n, &logits.device());
    let logits = logits.clone().narrow(1, 0, n).reshape([rows * n, vocab]);
    let data = log_likelihood(logits, targets.reshape([rows * n])).into_data().convert::<f64>();
    let values: &[f64] = data.as_slice().expect("log probabilities are numbers");
    values.iter().map(|value| -value).collect()
}
