//! An ordinary RNN is a multi-state RNN with g(t) = 1: `cargo run --release -p msrnn-examples --example plain_rnn`
//!
//! A network with hand-set weights tells whether it has seen an odd number of ones. Its whole
//! memory of the past is one row of two values, however long the input is.

use burn::tensor::{Device, Tensor};
use msrnn_core::rnn::MultiStateRnn;

/// h' = σ(V σ(W [x, h] + b) + c), with a steep σ so that values are close to 0 or 1.
struct Parity;

/// A steep logistic function of how far `x` is above `threshold`.
fn above(x: Tensor<2>, threshold: f64) -> Tensor<2> {
    burn::tensor::activation::sigmoid(x.sub_scalar(threshold).mul_scalar(40.0))
}

impl MultiStateRnn for Parity {
    type State = Tensor<2>;

    /// One row: even so far.
    fn initial_state(&self, batch: usize, device: &Device) -> Tensor<2> {
        Tensor::zeros([batch, 1], device)
    }

    /// Exclusive or: at least one of bit and state, but not both.
    fn step(&self, bit: Tensor<2>, odd: &mut Tensor<2>) -> Tensor<2> {
        let sum = bit + odd.clone();
        *odd = above(sum.clone(), 0.5) - above(sum, 1.5);
        odd.clone()
    }
}

fn main() {
    let device = Device::default();
    let bits = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    let mut state = Parity.initial_state(1, &device);
    let inputs = Tensor::<1>::from_floats(bits, &device).reshape([1, bits.len(), 1]);
    let outputs = Parity.scan(inputs, &mut state).into_data().convert::<f32>();
    let mut ones = 0;
    for (bit, &odd) in bits.iter().zip(outputs.as_slice::<f32>().expect("floats")) {
        ones += usize::from(*bit == 1.0);
        println!("saw {bit}: odd = {odd:.3}");
        assert_eq!(odd.round() as usize, ones % 2);
    }
    println!("the state after {} tokens has shape {:?}", bits.len(), state.dims());
}
