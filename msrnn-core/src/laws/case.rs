//! One trial of a law: a random shape, and the loop that looks for one that breaks it.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner, contextualize_config};

use super::skips::reason;
use crate::needs::fewest_states;
use crate::policy::Policy;

/// Whether a law holds, or how it does not.
pub(super) type Verdict = Result<(), String>;

/// Trials of a law.
const CASES: u32 = 48;

/// Of one that goes through many forms.
pub(super) const FEW: u32 = 24;

/// Where the trials start, unless another seed is asked for.
const SEED: u64 = 2024;

/// The shape of a trial. Everything else about it follows from `seed`.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) batch: usize,
    pub(super) kv_heads: usize,
    /// Query heads per KV head.
    pub(super) group: usize,
    pub(super) head_dim: usize,
    /// Sliding window.
    pub(super) window: Option<usize>,
    /// k
    pub(super) states: usize,
    pub(super) tokens: usize,
    /// Sizes of the first chunks; what is left of a text is one more.
    pub(super) chunks: Vec<usize>,
    /// A token where something happens.
    pub(super) cut: usize,
    pub(super) seed: u64,
}

impl Case {
    /// The smallest shape under a policy.
    pub(super) fn smallest(policy: &Arc<dyn Policy>) -> Self {
        let states = enough(policy);
        Self {
            batch: 1,
            kv_heads: 1,
            group: 1,
            head_dim: 2,
            window: None,
            states,
            tokens: 1,
            chunks: Vec::new(),
            cut: 0,
            seed: 0,
        }
    }

    /// Chunk sizes that make up `n` tokens.
    pub(super) fn chunks(&self, n: usize) -> Vec<usize> {
        let mut left = n;
        let mut sizes = Vec::new();
        for &size in self.chunks.iter().chain([&n]) {
            sizes.push(size.min(left));
            left -= size.min(left);
        }
        sizes.retain(|&size| size > 0);
        sizes
    }
}

/// Shapes with at least `min_states` states.
fn cases(min_states: usize) -> impl Strategy<Value = Case> {
    let heads = (1..=3usize, 1..=3usize, 1..=3usize, 1..=4usize);
    let bounds = (option::of(1..=12usize), min_states..=min_states + 9);
    let text = (1..=40usize, vec(1..=12usize, 0..=8), 0..=40usize, 0..1u64 << 32);
    (heads, bounds, text).prop_map(
        |((batch, kv_heads, group, pairs), (window, states), (tokens, chunks, cut, seed))| Case {
            batch,
            kv_heads,
            group,
            head_dim: 2 * pairs,
            window,
            states,
            tokens,
            chunks,
            cut: (cut * tokens).div_ceil(40),
            seed,
        },
    )
}

/// Tries a law of a policy on random shapes.
///
/// # Panics
///
/// With the law, the policy, and the smallest shape that was found, when it does not hold.
pub(super) fn check(law: &str, policy: &Arc<dyn Policy>, holds: impl Fn(&Case) -> Verdict) {
    check_few(law, policy, CASES, holds);
}

/// The same with another number of trials. Of some policies some laws say nothing: see `skips.rs`.
pub(super) fn check_few(law: &str, policy: &Arc<dyn Policy>, cases: u32, holds: impl Fn(&Case) -> Verdict) {
    match reason(law, policy) {
        Some(reason) => eprintln!("law {law} skipped for policy {}: {reason}", policy.name()),
        None => check_cases(law, &format!("policy {}", policy.name()), (enough(policy), cases), holds),
    }
}

/// Fewest states of a policy.
fn enough(policy: &Arc<dyn Policy>) -> usize {
    fewest_states(policy.as_ref(), 0).expect("a policy under the laws can be given some number of states")
}

/// As [`check`], for something that may be no policy.
pub(super) fn check_shapes(law: &str, subject: &str, min_states: usize, holds: impl Fn(&Case) -> Verdict) {
    check_cases(law, subject, (min_states, CASES), holds);
}

fn check_cases(law: &str, subject: &str, (min_states, trials): (usize, u32), holds: impl Fn(&Case) -> Verdict) {
    let config = Config {
        cases: trials,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    // What the environment asks for goes before what is set here.
    let config = contextualize_config(config);
    let result = TestRunner::new(config).run(&cases(min_states), |case| holds(&case).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            panic!("law {law} does not hold for {subject}: {}\nsmallest shape: {case:?}", reason.message())
        }
        Err(TestError::Abort(reason)) => panic!("law {law} could not be tried on {subject}: {}", reason.message()),
    }
}
