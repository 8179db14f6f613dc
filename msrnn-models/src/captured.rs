//! Steps of a bounded state that is full, captured once and replayed.
//!
//! Such a step always has the same shape and works in the same buffers, so a GPU can be given all of
//! its launches at once ([`burn::tensor::capture`]). A captured step is held against a plain one before
//! it is trusted.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Graph, Int, Tensor, TensorData, capture};
use msrnn_core::kernels;
use msrnn_core::state::MultiState;

use crate::recurrent::Recurrent;

/// Whether steps are captured once and replayed, where the device and the policy allow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// They are launched one by one.
    #[default]
    Never,
    /// Where the device replays a graph in one launch.
    OnHardware,
    /// Everywhere: without a graph a replay launches everything again. It saves nothing, and shows on any GPU that a loop of
    /// replays does what a loop of steps does.
    Rehearsed,
}

impl Capture {
    /// On hardware, if it is allowed at all.
    pub fn when(allowed: bool) -> Self {
        if allowed { Self::OnHardware } else { Self::Never }
    }
}

/// What one step has computed: `[batch, 1, vocab]` logits.
type Step<'r> = Box<dyn FnMut() -> Tensor<3> + 'r>;

/// States whose steps are replayed.
pub struct Captured<'r> {
    token: Rc<RefCell<Tensor<2, Int>>>,
    states: Rc<RefCell<Vec<MultiState>>>,
    graph: Graph<Tensor<3>, Step<'r>>,
}

/// Most that a replayed logit may be off, in relation to its size: the same kernels on the same numbers.
const BOUND: f32 = 1e-3;

impl<'r> Captured<'r> {
    /// Whether the next steps of these states can be captured: all layers full, a device and a policy for which
    /// [`Attention::captures`](msrnn_core::attention::Attention::captures) is true.
    pub fn is_possible(recurrent: &Recurrent<'_>, states: &[MultiState]) -> bool {
        let mut layers = recurrent.attentions().iter().zip(states);
        recurrent.capture() != Capture::Never && layers.all(|(attention, state)| attention.captures(state))
    }

    /// Makes one step plainly and captures it, with a token of every batch row: its logits, row after row, and the
    /// states that go on from there. The states as they are after a plain step, where the device cannot capture or
    /// replays something else.
    ///
    /// The error is no failure: these are the states, which have seen the token all the same.
    #[allow(clippy::type_complexity)]
    pub fn step(
        recurrent: &'r Recurrent<'r>,
        states: Vec<MultiState>,
        tokens: &[u32],
    ) -> (Vec<f32>, Result<Self, Vec<MultiState>>) {
        let device = states[0].device();
        let before = states.clone();
        let mut plain = states.clone();
        let token = column(tokens, &device);
        let expected = host(recurrent.scan(token.clone(), &mut plain));

        let token = Rc::new(RefCell::new(token));
        let states = Rc::new(RefCell::new(states));
        let closure: Step<'r> = {
            let (token, states) = (token.clone(), states.clone());
            Box::new(move || recurrent.scan(token.borrow().clone(), &mut states.borrow_mut()))
        };
        let graph = capture(&device, closure);
        if !graph.is_hardware() && recurrent.capture() != Capture::Rehearsed {
            return (expected, Err(plain));
        }
        // The runs of the capture have fed the states; back to where they were, in the same buffers.
        states.borrow_mut().iter_mut().zip(&before).for_each(|(state, before)| state.overwrite(before));
        let mut captured = Self { token, states, graph };
        let found = captured.replay(tokens);
        let held = |states: &[MultiState]| states.iter().map(MultiState::held).collect::<Vec<_>>();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= BOUND * (1.0 + a.abs());
        let same = expected.len() == found.len() && expected.iter().zip(&found).all(near);
        match same && held(&plain) == held(&captured.states.borrow()) {
            true => (expected, Ok(captured)),
            false => (expected, Err(plain)),
        }
    }

    /// One more token of every batch row: their logits, row after row.
    pub fn replay(&mut self, tokens: &[u32]) -> Vec<f32> {
        {
            let mut token = self.token.borrow_mut();
            let device = token.device();
            kernels::overwrite(&mut token, &column(tokens, &device));
        }
        // SAFETY: the graph reads and writes weights, which the borrowed decoder keeps alive, and the
        // token and the states, which only this value holds and which stay in their buffers; nothing else
        // runs on them, since `self` is borrowed mutably until the logits are read below.
        let logits = unsafe { self.graph.replay() }.clone();
        if self.graph.is_hardware() {
            self.states.borrow_mut().iter_mut().for_each(MultiState::count_replayed);
        }
        host(logits)
    }

    /// The states, which go on without replaying.
    pub fn into_states(self) -> Vec<MultiState> {
        let Self { states, graph, .. } = self;
        drop(graph);
        Rc::try_unwrap(states).map_or_else(|states| states.borrow().clone(), RefCell::into_inner)
    }
}

/// `[batch, 1]`
fn column(tokens: &[u32], device: &burn::tensor::Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
    Tensor::from_data(TensorData::new(ids, [tokens.len(), 1]), device)
}

fn host(logits: Tensor<3>) -> Vec<f32> {
    logits.into_data().convert::<f32>().try_into_vec().expect("logits are numbers")
}
