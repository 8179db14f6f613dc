//! A policy in tensor code, for what no score says of a row alone; and the whole command with it:
//! `cargo run --release -p msrnn-examples --example tensor_policy -- explain average-value`.

use std::process::ExitCode;

use burn::tensor::Tensor;
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Sees, Tensors, View};
use msrnn_policies::registry::{Entry, Registry};

// The whole policy: begin.
/// Omits, head by head, the row whose value is nearest to the mean of all values held.
#[derive(Clone, Copy, Debug)]
struct AverageValue;

impl Policy for AverageValue {
    fn name(&self) -> String {
        "average-value".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self).per_head()
    }
}

impl Tensors for AverageValue {
    fn sees(&self) -> Sees {
        Sees::VALUES
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let values = view.values();
        let [batch, heads, rows, _] = values.dims();
        // Where batch rows have seen different numbers of tokens, some slots may be empty.
        let empty = view.empty().reshape([batch, heads, rows, 1]);
        let held = empty.clone().bool_not().float().cast(values.dtype()).sum_dim(2);
        let sum = values.clone().mask_fill(empty.expand(values.dims()), 0.0).sum_dim(2);
        let away = values.clone() - (sum / held).expand(values.dims());
        away.powf_scalar(2.0).sum_dim(3).sqrt().reshape([batch, heads, rows])
    }
}
// The whole policy: end.

#[cfg(test)]
msrnn_core::policy_laws!(average_value, AverageValue);

fn main() -> ExitCode {
    let entry =
        Entry { idea: "What is like all the others is missed least.", ..Entry::new("average-value", AverageValue) };
    msrnn_bench::main_with(Registry::default().with(entry))
}
