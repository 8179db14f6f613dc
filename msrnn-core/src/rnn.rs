//! The abstract step x', H' = f(x, H).

use burn::tensor::{Device, Tensor};

use crate::error::Error;

/// A multi-state RNN: one layer, or a stack of them.
///
/// Oren et al. 2024 (arXiv 2401.06104), section 3: a layer maps the input of token t and the state
/// after token t − 1 to an output and a new state. The state H_t is a matrix of g(t) rows:
///
/// | layer | state | g(t) |
/// |---|---|---|
/// | RNN | one vector | 1 |
/// | transformer decoder | all keys and values so far | t |
/// | bounded multi-state RNN | k of them, by a policy | min(t, k) |
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use msrnn_core::rnn::MultiStateRnn;
///
/// /// Elman's network, h' = tanh(W x + U h): a multi-state of one row.
/// struct Elman {
///     w: Tensor<2>,
///     u: Tensor<2>,
/// }
///
/// impl MultiStateRnn for Elman {
///     type State = Tensor<2>;
///
///     fn initial_state(&self, batch: usize, device: &Device) -> Tensor<2> {
///         Tensor::zeros([batch, self.u.dims()[0]], device)
///     }
///
///     fn step(&self, x: Tensor<2>, h: &mut Tensor<2>) -> Tensor<2> {
///         *h = (x.matmul(self.w.clone()) + h.clone().matmul(self.u.clone())).tanh();
///         h.clone()
///     }
/// }
///
/// let device = Device::flex();
/// let rnn = Elman { w: Tensor::eye(2, &device), u: Tensor::eye(2, &device) };
/// let mut h = rnn.initial_state(1, &device);
/// let once = rnn.step(Tensor::ones([1, 2], &device), &mut h);
/// let twice = rnn.scan(Tensor::ones([1, 3, 2], &device), &mut h);
/// assert_eq!(once.dims(), [1, 2]);
/// assert_eq!(twice.dims(), [1, 3, 2]);
/// ```
pub trait MultiStateRnn {
    /// H: everything that one token leaves for the next.
    type State;

    /// H_0 of a batch.
    fn initial_state(&self, batch: usize, device: &Device) -> Self::State;

    /// One token: x', H' = f(x, H), with H' written over H. `[batch, d]` to `[batch, d]`
    fn step(&self, x: Tensor<2>, state: &mut Self::State) -> Tensor<2>;

    /// `n` tokens, by law equal to `n` steps. `[batch, n, d]` to `[batch, n, d]`
    fn scan(&self, xs: Tensor<3>, state: &mut Self::State) -> Tensor<3> {
        let [batch, n, d] = xs.dims();
        let token = |t| xs.clone().narrow(1, t, 1).reshape([batch, d]);
        let outputs: Vec<Tensor<2>> = (0..n).map(|t| self.step(token(t), state)).collect();
        Tensor::stack(outputs, 1)
    }

    /// The first `n` tokens of a text, as one block that may see itself whole: a transformer attends causally to all of
    /// it, and only then is its state bounded. Where a network has no such thing, which is the default, a scan.
    /// `[batch, n, d]` to `[batch, n, d]`
    ///
    /// # Errors
    ///
    /// When the state has already seen tokens, or cannot be bounded.
    fn prefill(&self, xs: Tensor<3>, state: &mut Self::State) -> Result<Tensor<3>, Error> {
        Ok(self.scan(xs, state))
    }
}

/// A stack of multi-state RNNs is one: its state is the list of theirs.
///
/// `scan` folds the layers over the whole block, one layer after the other. That is exact, since
/// the state of a layer depends on that layer's inputs alone.
impl<L: MultiStateRnn> MultiStateRnn for [L] {
    type State = Vec<L::State>;

    fn initial_state(&self, batch: usize, device: &Device) -> Self::State {
        self.iter().map(|layer| layer.initial_state(batch, device)).collect()
    }

    fn step(&self, x: Tensor<2>, states: &mut Self::State) -> Tensor<2> {
        self.iter().zip(states).fold(x, |x, (layer, state)| layer.step(x, state))
    }

    fn scan(&self, xs: Tensor<3>, states: &mut Self::State) -> Tensor<3> {
        self.iter().zip(states).fold(xs, |xs, (layer, state)| layer.scan(xs, state))
    }

    fn prefill(&self, xs: Tensor<3>, states: &mut Self::State) -> Result<Tensor<3>, Error> {
        self.iter().zip(states).try_fold(xs, |xs, (layer, state)| layer.prefill(xs, state))
    }
}
