//! A decoder as a multi-state RNN: the same weights, with a state instead of a context.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use msrnn_core::attention::Attention;
use msrnn_core::budget::StateBytes;
use msrnn_core::compression::Compression;
use msrnn_core::kernels;
use msrnn_core::packing::Packing;
use msrnn_core::placement::Placement;
pub use msrnn_core::placement::Positions;
use msrnn_core::policy::{Layer, Policy};
use msrnn_core::rnn::MultiStateRnn;
use msrnn_core::state::MultiState;

use crate::captured::Capture;
use crate::config::ModelConfig;
use crate::decoder::{Decoder, DecoderLayer};
use crate::error::ModelError;
use crate::length::Length;
use crate::placement::Renumbered;
use crate::rotary::Rotation;

/// A decoder under a compression.
#[derive(Clone, Debug)]
pub struct Recurrent<'m> {
    decoder: &'m Decoder,
    compression: Compression,
    /// Where a policy says nothing of them.
    asked: Positions,
    /// Layer by layer.
    positions: Vec<Positions>,
    attentions: Vec<Attention>,
    capture: Capture,
}

/// Bytes of weights from which on the pool of threads is entered for every token.
const WORTH_WAKING: usize = 1 << 24;

/// One layer of a [`Recurrent`], which is a multi-state RNN by itself; so a slice of them is one.
#[derive(Clone, Debug)]
pub struct RecurrentLayer<'m, 'r> {
    layer: &'m DecoderLayer,
    index: usize,
    recurrent: &'r Recurrent<'m>,
    /// The latest rotation, for the other layers of the stack, through which the same tokens run.
    latest: Rc<RefCell<Option<(Tokens, Rotation)>>>,
}

/// Which tokens a rotation is of.
#[derive(Clone, Debug, PartialEq)]
struct Tokens {
    /// How many came before, by batch row.
    seen: Vec<usize>,
    n: usize,
    /// Whether they are one block.
    is_block: bool,
}

impl<'m> Recurrent<'m> {
    /// The decoder's weights as a multi-state RNN. `positions`: how rows are numbered in layers of which the policy does
    /// not say it.
    pub fn new(decoder: &'m Decoder, compression: Compression, positions: Positions) -> Self {
        let config = decoder.config();
        let of_layers = positions_of_layers(config, &compression, positions);
        let attention = |layer: usize| {
            let (window, rotated) = (config.window(layer), config.rotated.has(layer));
            let rotary = rotated.then(|| decoder.rotary.clone());
            // Rows that nothing looks at the numbers of need none.
            let numbered = rotated || window.is_some();
            let placement = numbered.then(|| Renumbered::of(of_layers[layer], rotary)).flatten();
            Attention {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale(),
                window,
                placement: placement.map(|placement| Arc::new(placement) as Arc<dyn Placement>),
            }
        };
        let attentions = (0..config.layers).map(attention).collect();
        Self { decoder, asked: positions, positions: of_layers, attentions, capture: Capture::Never, compression }
    }

    /// Lets generation capture a step once and replay it.
    #[must_use]
    pub fn with_capture(self, capture: Capture) -> Self {
        Self { capture, ..self }
    }

    /// Whether steps are captured.
    pub fn capture(&self) -> Capture {
        self.capture
    }

    /// How the state is bounded.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// The attention of its layers, from the first to the last.
    pub fn attentions(&self) -> &[Attention] {
        &self.attentions
    }

    /// Whether there are positions for `tokens` tokens, the first `block` of which enter as one block, and a prompt
    /// where the policy needs one.
    ///
    /// # Errors
    ///
    /// As [`Length::check`]; when a layer's plan cannot be carried out ([`Plan::check`](msrnn_core::policy::Plan::check)), or names layers or
    /// heads that the model has not;
    /// when nothing enters as a block and the policy cuts after the prompt only; and when the policy is a ceiling that has not
    /// been told what comes.
    pub fn check_length(&self, tokens: usize, block: usize) -> Result<(), ModelError> {
        self.compression.check_no_foresight()?;
        self.compression.check_named(self.decoder.layers.len(), self.decoder.config().kv_heads)?;
        if let Some((policy, states)) = self.compression.planned() {
            let (layers, kv_heads) = (self.decoder.layers.len(), self.decoder.config().kv_heads);
            for index in 0..layers {
                let layer = Layer { index, layers, kv_heads, states };
                let plan = policy.plan(&layer);
                plan.check(policy, &layer)?;
                let (scales, device) =
                    (plan.packs().then(|| Packing::scales(self.decoder.storage.states)), self.decoder.device());
                if scales.is_some_and(|dtype| !device.supports_dtype(dtype)) {
                    return Err(ModelError::PackedScales(policy.name()));
                }
                if let Some(said) = plan.positions.filter(|&said| ![said, Positions::Original].contains(&self.asked)) {
                    return Err(ModelError::PositionsTwice { policy: policy.name(), said, asked: self.asked });
                }
                if block == 0 && plan.cuts_after_prompt() {
                    return Err(ModelError::NoPrompt(policy.name()));
                }
            }
        }
        self.length(tokens, block).check()
    }

    /// A text of so many tokens, the first `block` of which enter as one block, as the layer has it that uses most positions.
    pub fn length(&self, tokens: usize, block: usize) -> Length {
        let of = |positions| Length { tokens, block, states: self.compression.states(), positions };
        self.positions
            .iter()
            .map(|&positions| of(positions))
            .max_by_key(Length::in_use)
            .unwrap_or_else(|| of(self.asked))
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<RecurrentLayer<'m, '_>> {
        let latest = Rc::default();
        let layers = self.decoder.layers.iter().enumerate();
        layers
            .map(|(index, layer)| RecurrentLayer { layer, index, recurrent: self, latest: Rc::clone(&latest) })
            .collect()
    }

    /// Empty states of all layers for a batch.
    pub fn initial_states(&self, batch: usize) -> Vec<MultiState> {
        self.layers().initial_state(batch, &self.decoder.device())
    }

    /// One token of every batch row. `[batch]` ids to `[batch, vocab]` logits
    pub fn step(&self, tokens: Tensor<1, Int>, states: &mut Vec<MultiState>) -> Tensor<2> {
        let [batch] = tokens.dims();
        self.scan(tokens.reshape([batch, 1]), states).reshape([batch, self.decoder.config().vocab_size])
    }

    /// `n` tokens of every batch row, layer by layer: equal to `n` steps. `[batch, n]` ids to
    /// `[batch, n, vocab]` logits
    pub fn scan(&self, tokens: Tensor<2, Int>, states: &mut Vec<MultiState>) -> Tensor<3> {
        self.awake(tokens.dims() == [1, 1], || {
            self.decoder.logits(self.layers().scan(self.decoder.embed(tokens), states))
        })
    }

    /// As [`Recurrent::scan`], without the logits: what leaves the last layer, `[batch, n, d]`.
    pub fn hidden(&self, tokens: Tensor<2, Int>, states: &mut Vec<MultiState>) -> Tensor<3> {
        self.awake(tokens.dims() == [1, 1], || self.layers().scan(self.decoder.embed(tokens), states))
    }

    /// Where the model is.
    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// `n` tokens with full causal attention, after which every layer is cut to its bound at once.
    ///
    /// # Errors
    ///
    /// When the states have already seen tokens.
    pub fn prefill(&self, tokens: Tensor<2, Int>, states: &mut Vec<MultiState>) -> Result<Tensor<3>, ModelError> {
        let go = || Ok(self.decoder.logits(self.layers().prefill(self.decoder.embed(tokens), states)?));
        self.awake(false, go)
    }

    /// Runs `f` inside the pool of threads if the model is large enough: there it costs little to share work, while a thread
    /// outside has to wake the pool every time. Where it `is_token`, one of one text, cores wait for parts of it; products of
    /// more rows are shared with the pool, which they would be in the way of.
    fn awake<R: Send>(&self, is_token: bool, f: impl FnOnce() -> R + Send) -> R {
        match self.decoder.config().parameters() * self.decoder.storage.bytes_per_weight() >= WORTH_WAKING {
            true if is_token => kernels::together(&self.device(), f),
            true => rayon::scope(|_| f()),
            false => f(),
        }
    }
}

/// How rows are numbered in every layer: as the policy says, or else as asked.
pub fn positions_of_layers(config: &ModelConfig, compression: &Compression, asked: Positions) -> Vec<Positions> {
    let said = |index: usize| {
        let (policy, states) = compression.planned()?;
        policy.plan(&Layer { index, layers: config.layers, kv_heads: config.kv_heads, states }).positions
    };
    (0..config.layers).map(|layer| said(layer).unwrap_or(asked)).collect()
}

/// Bytes that one state takes in all layers, key, value, position and the policy's memory.
pub fn bytes_per_state(decoder: &Decoder, policy: &dyn Policy) -> StateBytes {
    let int = Tensor::<1, Int>::zeros([1], &decoder.device()).dtype().size();
    decoder.storage.bytes_per_state(decoder.config(), Some(policy), int)
}

/// Bytes of one sequence's states in all layers after `tokens` tokens; see
/// [`Storage::state_bytes`](crate::storage::Storage::state_bytes).
pub fn state_bytes(decoder: &Decoder, compression: &Compression, tokens: usize) -> usize {
    let int = Tensor::<1, Int>::zeros([1], &decoder.device()).dtype().size();
    decoder.storage.state_bytes(decoder.config(), compression.planned(), tokens, int)
}

impl RecurrentLayer<'_, '_> {
    fn attention(&self) -> &Attention {
        &self.recurrent.attentions[self.index]
    }

    /// Query, key and value; rotated here unless the layer rotates none, or a placement rotates them at every step.
    fn project(&self, x: Tensor<3>, state: &MultiState, is_block: bool) -> [Tensor<4>; 3] {
        let (config, n) = (self.recurrent.decoder.config(), x.dims()[1]);
        let (query, key, value) = self.layer.project(x, config);
        match self.recurrent.positions[self.index] == Positions::Original && config.rotated.has(self.index) {
            true => {
                let rotation = self.rotation(state, n, is_block);
                [rotation.apply(query), rotation.apply(key), value]
            }
            false => [query, key, value],
        }
    }

    /// The rotation of the next `n` tokens, by the tokens seen, which the layers of a stack make once.
    fn rotation(&self, state: &MultiState, n: usize, is_block: bool) -> Rotation {
        let tokens = Tokens { seen: state.seen().to_vec(), n, is_block };
        let mut latest = self.latest.borrow_mut();
        match &*latest {
            Some((of, rotation)) if *of == tokens => rotation.clone(),
            _ => {
                let (rotary, ahead) = (&self.recurrent.decoder.rotary, state.ahead(n));
                let rotation = if is_block { rotary.block(ahead, n) } else { rotary.at(ahead) };
                *latest = Some((tokens, rotation.clone()));
                rotation
            }
        }
    }

    fn finish(&self, x: Tensor<3>, attended: Tensor<4>) -> Tensor<3> {
        self.layer.finish(x, attended, self.recurrent.decoder.config())
    }
}

impl MultiStateRnn for RecurrentLayer<'_, '_> {
    type State = MultiState;

    fn initial_state(&self, batch: usize, device: &Device) -> MultiState {
        let Recurrent { compression, decoder, .. } = self.recurrent;
        let layers = decoder.layers.len();
        self.attention().initial_state(batch, self.index, layers, compression, decoder.storage.states, device)
    }

    fn step(&self, x: Tensor<2>, state: &mut MultiState) -> Tensor<2> {
        let [batch, d] = x.dims();
        self.scan(x.reshape([batch, 1, d]), state).reshape([batch, d])
    }

    fn scan(&self, xs: Tensor<3>, state: &mut MultiState) -> Tensor<3> {
        let [query, key, value] = self.project(xs.clone(), state, false);
        let attended = self.attention().scan(query, key, value, state);
        self.finish(xs, attended)
    }

    fn prefill(&self, xs: Tensor<3>, state: &mut MultiState) -> Result<Tensor<3>, msrnn_core::Error> {
        let [query, key, value] = self.project(xs.clone(), state, true);
        let attended = self.attention().prefill(query, key, value, state)?;
        Ok(self.finish(xs, attended))
    }
}
