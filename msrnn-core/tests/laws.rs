//! The laws on what this crate itself provides: the unbounded state, and policies of both levels
//! that use everything the contract offers.

mod policies {
    pub(crate) mod merging;
    pub(crate) mod norms;
}

use burn::tensor::Device;
use msrnn_core::{laws, policy_laws};
use policies::merging::Merging;
use policies::norms::Norms;

#[test]
fn unbounded_state_equals_vanilla_attention() {
    laws::unbounded_state_equals_vanilla_attention(&Device::default());
}

policy_laws!(norms, Norms);
policy_laws!(merging, Merging);
