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

/// What holds for the kernels of the device holds for their plain twins.
#[test]
fn the_plain_twins_too() {
    use msrnn_core::kernels::{SWITCH, only_plain};
    if only_plain() {
        return;
    }
    let this = std::env::current_exe().expect("a test is a program");
    let run = std::process::Command::new(this).env(SWITCH, "plain").output().expect("a program can be run again");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}
