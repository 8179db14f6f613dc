//! Networks of all kinds as multi-state RNNs, and stacks of them.

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::laws::{
    a_batch_of_states_equals_its_rows_alone, a_fork_goes_on_by_itself, a_scan_of_any_chunks_equals_steps,
    later_tokens_change_no_earlier_output,
};
use msrnn_core::rnn::MultiStateRnn;

/// h' = tanh(W x + U h): one row.
struct Elman {
    w: Tensor<2>,
    u: Tensor<2>,
}

impl Elman {
    fn random(width: usize, device: &Device) -> Self {
        let map = || random([width, width], device).mul_scalar(1.0 / (width as f64).sqrt());
        Self { w: map(), u: map() }
    }
}

impl MultiStateRnn for Elman {
    type State = Tensor<2>;

    fn initial_state(&self, batch: usize, device: &Device) -> Tensor<2> {
        Tensor::zeros([batch, self.u.dims()[0]], (device, DType::F64))
    }

    fn step(&self, x: Tensor<2>, h: &mut Tensor<2>) -> Tensor<2> {
        *h = (x.matmul(self.w.clone()) + h.clone().matmul(self.u.clone())).tanh();
        h.clone()
    }
}

fn random<const D: usize>(dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), (device, DType::F64))
}

#[test]
fn a_stack_of_plain_networks_satisfies_the_laws_of_multi_state_rnns() {
    let device = Device::default();
    let stack: Vec<Elman> = (0..3).map(|_| Elman::random(5, &device)).collect();
    let xs = random([3, 9, 5], &device);
    for layers in [&stack[..1], &stack[..]] {
        a_scan_of_any_chunks_equals_steps(layers, &xs, 1e-12);
        later_tokens_change_no_earlier_output(layers, &xs, 1e-12);
        a_batch_of_states_equals_its_rows_alone(layers, &xs, 1e-12);
        a_fork_goes_on_by_itself(layers, &xs, 1e-12);
    }
}

/// Remembers how many tokens every batch row has seen, wrongly in a scan.
struct Miscounts;

impl MultiStateRnn for Miscounts {
    type State = Tensor<2>;

    fn initial_state(&self, batch: usize, device: &Device) -> Tensor<2> {
        Tensor::zeros([batch, 1], (device, DType::F64))
    }

    fn step(&self, x: Tensor<2>, seen: &mut Tensor<2>) -> Tensor<2> {
        *seen = seen.clone() + 1.0;
        x * seen.clone()
    }

    fn scan(&self, xs: Tensor<3>, seen: &mut Tensor<2>) -> Tensor<3> {
        *seen = seen.clone() + 1.0;
        xs * seen.clone().unsqueeze_dim::<3>(1)
    }
}

#[test]
#[should_panic(expected = "a_scan_of_any_chunks_equals_steps")]
fn a_scan_that_is_not_its_steps_is_caught() {
    a_scan_of_any_chunks_equals_steps(&Miscounts, &random([1, 4, 1], &Device::default()), 1e-12);
}

/// Looks at the last token of what it is given.
struct Foresees;

impl MultiStateRnn for Foresees {
    type State = ();

    fn initial_state(&self, _: usize, _: &Device) {}

    fn step(&self, x: Tensor<2>, (): &mut ()) -> Tensor<2> {
        x
    }

    fn scan(&self, xs: Tensor<3>, (): &mut ()) -> Tensor<3> {
        let [_, n, _] = xs.dims();
        xs.clone() + xs.narrow(1, n - 1, 1)
    }
}

#[test]
#[should_panic(expected = "later_tokens_change_no_earlier_output")]
fn one_that_looks_ahead_is_caught() {
    later_tokens_change_no_earlier_output(&Foresees, &random([1, 4, 1], &Device::default()), 1e-12);
}

/// Mixes batch rows.
struct Mixes;

impl MultiStateRnn for Mixes {
    type State = ();

    fn initial_state(&self, _: usize, _: &Device) {}

    fn step(&self, x: Tensor<2>, (): &mut ()) -> Tensor<2> {
        let dims = x.dims();
        x.clone() + x.mean_dim(0).expand(dims)
    }
}

#[test]
#[should_panic(expected = "a_batch_of_states_equals_its_rows_alone")]
fn one_that_mixes_rows_is_caught() {
    a_batch_of_states_equals_its_rows_alone(&Mixes, &random([2, 4, 1], &Device::default()), 1e-12);
}
