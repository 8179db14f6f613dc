//! What laws say nothing of, and why: asked before a law is tried, so that what is skipped can be listed without trying any.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LAWS;
use super::case::Case;
use super::packed::packing;
use super::scorer::{Scorer, bound};
use crate::packing::Per;
use crate::policy::Policy;
use crate::score::Initial;
use crate::tensors::Tensors;

/// Why a law says nothing of a policy; none where it is tried.
pub(super) fn reason(law: &str, policy: &Arc<dyn Policy>) -> Option<&'static str> {
    let smallest = || Case::smallest(policy);
    let bound = || bound(policy, &smallest());
    match law {
        "a_mask_simulation_equals_physical_omission" => {
            let scorer = Scorer(bound());
            match () {
                () if scorer.plan().rewrites() => Some("it rewrites rows, and hidden rows have no part in that"),
                () if scorer.plan().packing.is_some() => {
                    Some("the simulation rounds no rows; see the law of packed states")
                }
                () if scorer.sees().queries > 0 => Some("the simulation keeps no queries"),
                () => None,
            }
        }
        "memory_starts_at_zero_and_stays_with_its_row" => {
            // Norms of keys and values are carried as well, and do not start at zero.
            (!bound().channels().contains(&Initial::Zero)).then_some("it remembers nothing")
        }
        "mean_steps_kept_does_not_depend_on_the_policy" => {
            (!bound().is_strict()).then_some("it does not cut at every token")
        }
        "a_budget_of_all_that_the_window_shows_equals_unbounded" => match packing(policy, &smallest()) {
            _ if bound().plan.rewrites() => Some("it rewrites rows"),
            Some(packing) if packing.keys.per == Per::Channel => Some("a cut rounds rows anew, in other groups"),
            _ => None,
        },
        "a_packed_state_equals_the_plain_state_over_rounded_rows" => {
            packing(policy, &smallest()).is_none().then_some("it packs no rows")
        }
        _ => None,
    }
}

/// What [`LAWS`] skip of some policies, by law and reason; behind them how many trials of a law are skipped of how many. A
/// suite holds it against a text that is committed, so that no law stops being tried unseen.
pub fn skipped(policies: impl IntoIterator<Item = Arc<dyn Policy>>) -> String {
    let mut by_reason: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let (mut all, mut none) = (0, 0);
    for policy in policies {
        for (law, _) in LAWS {
            all += 1;
            if let Some(reason) = reason(law, &policy) {
                none += 1;
                by_reason.entry((law, reason)).or_default().push(policy.name());
            }
        }
    }
    let mut text = String::new();
    for ((law, reason), policies) in by_reason {
        text += &format!("{law}: {reason}\n");
        policies.iter().for_each(|policy| text += &format!("  {policy}\n"));
    }
    text + &format!("{none} of {all} are skipped\n")
}

/// Holds what is skipped against what is written down.
///
/// # Panics
///
/// Where they differ, with what to write down.
pub fn skips_are_written_down(policies: impl IntoIterator<Item = Arc<dyn Policy>>, written: &str) {
    let found = skipped(policies);
    print!("{found}");
    assert!(
        found == written,
        "laws are skipped of which that is not written down, or that are tried; if it is meant, write:\n{found}"
    );
}
