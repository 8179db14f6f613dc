//! Policies that break the contract, each caught by a law that names it.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Int, Tensor};
use msrnn_core::laws;
use msrnn_core::policy::{Layer, Memory, Plan, Policy, Sees, Tensors, View};

/// What a rule makes of a view.
type Rule = fn(&View) -> Tensor<3>;

/// A policy that is one function.
#[derive(Clone, Copy, Debug)]
struct Broken(Rule);

impl Policy for Broken {
    fn name(&self) -> String {
        "broken".into()
    }

    fn plan(&self, layer: &Layer) -> Plan {
        Plan::by_tensors(layer, *self)
    }
}

impl Tensors for Broken {
    fn sees(&self) -> Sees {
        Sees::WEIGHTS
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        (self.0)(view)
    }
}

/// The message of a law that does not hold.
fn message(law: fn(&Arc<dyn Policy>, &Device), rule: Rule) -> String {
    let run = || law(&(Arc::new(Broken(rule)) as Arc<dyn Policy>), &Device::default());
    let panic = catch_unwind(run).expect_err("the law should not hold");
    *panic.downcast::<String>().expect("a law fails with a message")
}

#[test]
fn a_failure_names_law_policy_and_shape() {
    let message =
        message(laws::the_lowest_score_goes_and_on_ties_the_oldest, |view| view.weights().mul_scalar(f32::NAN));
    for part in ["the_lowest_score_goes_and_on_ties_the_oldest", "policy broken", "not a number", "Case { batch: 1"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

#[test]
fn a_skip_that_is_not_written_down_is_a_failure() {
    let policy = || Arc::new(Broken(|view| view.weights())) as Arc<dyn Policy>;
    let found = laws::skipped([policy()]);
    let held = |written: &str| catch_unwind(|| laws::skips_are_written_down([policy()], written)).is_ok();
    assert!(
        found.contains("memory_starts_at_zero_and_stays_with_its_row: it remembers nothing\n  broken\n"),
        "{found}"
    );
    assert!(held(&found));
    assert!(!held(&found.replace("  broken\n", "")));
}

#[test]
fn a_rule_that_goes_by_slots_instead_of_positions_is_caught() {
    let first_slot: Rule = |view| {
        let dims = view.positions().dims();
        Tensor::<1, Int>::arange(0..dims[2] as i64, &view.positions().device())
            .reshape([1, 1, dims[2]])
            .expand(dims)
            .float()
    };
    message(laws::a_mask_simulation_equals_physical_omission, first_slot);
}

#[test]
fn a_rule_that_mixes_batch_rows_is_caught() {
    let mean_of_batch: Rule = |view| view.weights().mean_dim(0).expand(view.positions().dims());
    message(laws::a_batch_equals_its_rows_alone, mean_of_batch);
}

#[test]
fn a_rule_that_remembers_outside_its_memory_is_caught() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let by_call: Rule = |view| {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        view.positions().add_scalar(call as i64).remainder_scalar(7).float()
    };
    message(laws::chunks_equal_single_tokens, by_call);
    message(laws::a_saved_and_reloaded_state_continues_identically, by_call);
}
