//! The laws on what this crate itself provides: the unbounded state, and policies of both levels
//! that use everything the contract offers.

#[path = "policies/merging.rs"]
mod merging_policy;
#[path = "policies/norms.rs"]
mod norms_policy;

use burn::tensor::Device;
use merging_policy::Merging;
use msrnn_core::{laws, policy_laws};
use norms_policy::Norms;

#[test]
fn unbounded_state_equals_vanilla_attention() {
    under_law(());
    laws::unbounded_state_equals_vanilla_attention(&Device::default());
}

/// `laws_plain.rs` includes this file to put the plain twins of the kernels through the laws.
fn under_law<P>(policy: P) -> P {
    if module_path!().starts_with("laws_plain") {
        msrnn_core::kernels::only_plain();
    }
    policy
}

policy_laws!(norms, under_law(Norms));
policy_laws!(merging, under_law(Merging));
