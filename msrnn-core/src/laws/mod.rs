//! What every policy must satisfy, as properties: one line puts a policy through all of them.
//!
//! ```no_run
//! use msrnn_core::policy::{Layer, Plan, Policy};
//! use msrnn_core::score::age;
//!
//! /// Omits the oldest row.
//! #[derive(Debug)]
//! struct Fifo;
//!
//! impl Policy for Fifo {
//!     fn name(&self) -> String {
//!         "fifo".into()
//!     }
//!
//!     fn plan(&self, layer: &Layer) -> Plan {
//!         Plan::by_score(layer, -age())
//!     }
//! }
//!
//! msrnn_core::policy_laws!(fifo, Fifo);
//! ```
//!
//! Every law is also a plain function of a policy and a device, so that a suite can run the same
//! laws on any backend. A law that fails panics with its name, the policy, and the smallest shape
//! for which it fails. The trials are the same in every run; `PROPTEST_RNG_SEED` draws others and
//! `PROPTEST_CASES` more of them.
//!
//! A policy is tried on the road that production takes. Beside it an observed twin goes token by token, with every call
//! of the rule written down, and tells which decisions are within rounding. What a law cannot say of a policy it says
//! on stderr, with the reason; [`skips_are_written_down`] holds all of that against a text, which a suite commits.
//!
//! What holds of every multi-state RNN, whatever its state, are functions of a [`MultiStateRnn`] and some inputs, such as
//! [`a_scan_of_any_chunks_equals_steps`]: a plain network, the layers of a model under a policy, a stack of anything.
//!
//! # Rounding
//!
//! Two ways to compute the same thing differ by rounding, and when the two lowest scores of a step
//! lie closer together than that, they may rightly omit different rows and part for ever. The laws
//! that compare decisions therefore run in the widest dtype of the device, f64 if it has one, where
//! that practically never happens; and they stop comparing at the first decision that is closer
//! than rounding, which is what makes them usable where f32 is all there is. Values are compared in
//! f64 to 1e-12 and in f32 to 1e-5. [`two_devices_agree`] also goes through f16 and bf16, to four
//! of their roundings: 2⁻⁹ and 2⁻⁶.

mod batches;
mod case;
mod chunks;
mod decisions;
mod devices;
mod heads;
mod machine;
mod masks;
mod memory;
mod packed;
mod prefill;
mod recurrent;
mod saved;
mod scorer;
mod simulation;
mod skips;
mod spy;
mod states;
mod text;
mod unbounded;
mod unseen;

use std::sync::Arc;

pub use burn::tensor::Device;

pub use batches::a_batch_equals_its_rows_alone;
pub use chunks::{
    chunks_equal_single_tokens, every_road_decides_as_tensor_operations_do, what_comes_later_changes_nothing_before,
};
pub use decisions::{protected_rows_survive, the_lowest_score_goes_and_on_ties_the_oldest};
pub use devices::two_devices_agree;
pub use heads::heads_with_plans_of_their_own_equal_layers_of_one_head;
pub use masks::a_mask_simulation_equals_physical_omission;
pub use memory::memory_starts_at_zero_and_stays_with_its_row;
pub use packed::a_packed_state_equals_the_plain_state_over_rounded_rows;
pub use prefill::{
    after_a_prefill_chunks_equal_single_tokens, prefill_cut_keeps_k_highest, prefill_equals_strict_when_nothing_must_go,
};
pub use recurrent::{
    a_batch_of_states_equals_its_rows_alone, a_fork_goes_on_by_itself, a_scan_of_any_chunks_equals_steps,
    later_tokens_change_no_earlier_output,
};
pub use saved::a_saved_and_reloaded_state_continues_identically;
pub use skips::{skipped, skips_are_written_down};
pub use states::{
    at_most_k_states_after_a_cut_and_the_plans_slack_before_it, mean_steps_kept_does_not_depend_on_the_policy,
    positions_count_tokens_seen,
};
pub use unbounded::{a_budget_of_at_least_the_length_equals_unbounded, unbounded_state_equals_vanilla_attention};
pub use unseen::{
    a_budget_of_all_that_the_window_shows_equals_unbounded,
    a_row_that_no_later_query_can_see_goes_before_any_that_one_can,
};

use crate::policy::Policy;
#[cfg(doc)]
use crate::rnn::MultiStateRnn;

/// What can be put through the laws: a policy, or one that is shared already.
pub trait IntoShared {
    /// The policy, shared.
    fn into_shared(self) -> Arc<dyn Policy>;
}

impl<P: Policy + 'static> IntoShared for P {
    fn into_shared(self) -> Arc<dyn Policy> {
        Arc::new(self)
    }
}

impl IntoShared for Arc<dyn Policy> {
    fn into_shared(self) -> Arc<dyn Policy> {
        self
    }
}

/// A module of tests, one for every law of a policy; see [`laws`](crate::laws).
///
/// `policy_laws!(module, policy)` or `policy_laws!(module, policy, device)`: `policy` is an
/// expression that makes a [`Policy`] or an `Arc<dyn Policy>`, and the device is the default one
/// where none is given.
#[macro_export]
macro_rules! policy_laws {
    ($module:ident, $policy:expr) => {
        $crate::policy_laws!($module, $policy, $crate::laws::Device::default());
    };
    ($module:ident, $policy:expr, $device:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__with_every_law! { [$crate::policy_laws!] @each $policy, $device, }
        }
    };
    (@each $policy:expr, $device:expr, $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::laws::$law(&$crate::laws::IntoShared::into_shared($policy), &$device);
            }
        )*
    };
    (@list $($law:ident)*) => {
        &[$((stringify!($law), $law)),*]
    };
}

/// Calls a macro with the names of all laws behind its other arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_every_law {
    ([$($call:tt)*] $($before:tt)*) => {
        $($call)* {
            $($before)*
            a_budget_of_at_least_the_length_equals_unbounded
            at_most_k_states_after_a_cut_and_the_plans_slack_before_it
            positions_count_tokens_seen
            mean_steps_kept_does_not_depend_on_the_policy
            memory_starts_at_zero_and_stays_with_its_row
            protected_rows_survive
            the_lowest_score_goes_and_on_ties_the_oldest
            a_row_that_no_later_query_can_see_goes_before_any_that_one_can
            a_budget_of_all_that_the_window_shows_equals_unbounded
            chunks_equal_single_tokens
            every_road_decides_as_tensor_operations_do
            what_comes_later_changes_nothing_before
            a_batch_equals_its_rows_alone
            a_saved_and_reloaded_state_continues_identically
            a_mask_simulation_equals_physical_omission
            prefill_equals_strict_when_nothing_must_go
            prefill_cut_keeps_k_highest
            after_a_prefill_chunks_equal_single_tokens
            a_packed_state_equals_the_plain_state_over_rounded_rows
        }
    };
}

/// A law of policies.
pub type Law = fn(&Arc<dyn Policy>, &Device);

/// Every law that [`policy_laws!`](crate::policy_laws) makes a test of, by name: for a suite that
/// is put together at run time.
pub const LAWS: &[(&str, Law)] = crate::__with_every_law! { [crate::policy_laws!] @list };
