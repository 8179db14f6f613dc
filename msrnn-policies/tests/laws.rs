//! Every policy of the registry put through every law.

use std::path::Path;
use std::sync::Arc;

use msrnn_core::policy::Policy;
use msrnn_core::policy_laws;
use msrnn_policies::PolicySpec;
use msrnn_policies::registry::{self, Registry};

/// Puts policies through the laws, and keeps a list of their names.
macro_rules! under_law {
    ($($module:ident: $name:literal),* $(,)?) => {
        const UNDER_LAW: &[&str] = &[$($name),*];
        $(policy_laws!($module, under_law($name));)*
    };
}

/// `laws_plain.rs` includes this file to put the plain twins of the kernels through the laws.
fn under_law(name: &str) -> Arc<dyn Policy> {
    if module_path!().starts_with("laws_plain") {
        msrnn_core::kernels::only_plain();
    }
    registry::policy(name).expect("the policy can be read")
}

under_law! {
    window: "window",
    window_plus: "window+2",
    h2o: "h2o",
    h2o_layer: "h2o-layer",
    tova: "tova",
    tova_head: "tova-head",
    tova_plus: "tova+2",
    random: "random",
    every: "every(3, tova)",
    protect: "protect(h2o, first=2, newest=1)",
    after_prompt: "after-prompt(tova)",
    layers: "layers(0: tova, *: full)",
    pyramid: "pyramid(h2o-layer)",
    knorm: "knorm",
    keydiff: "keydiff",
    snapkv: "snapkv(window=3, pool=max3)",
    snapkv_every: "every(3, snapkv(window=2, pool=avg3))",
    lagkv: "lagkv(first=1, lag=3)",
    rkv: "rkv(buffer=4, window=2, lambda=0.1)",
    merge: "merge(h2o)",
    merge_every: "every(3, merge(tova))",
    merge_by_a_moving_threshold: "merge(h2o, threshold=ema0.5)",
    merge_every_by_exponentials: "every(3, merge(tova-head, threshold=ema0.7, weight=exp))",
    merge_of_heads_that_compete: "merge(pooled(every(3, h2o), floor=0.3), threshold=ema0.3)",
    int8: "int8(tova, group=3, recent=1)",
    int2_channel: "every(4, int2(tova-head, keys=channel, group=2, recent=1))",
    typed_tova: "score(weight)",
    typed_by_head: "score(m = 0.5 * m + weight; keep if(head == 1, m, age * (head - 1)); per head)",
    typed_by_heads_that_compete: "pooled(every(3, score(weight / (1 + head); per head)), floor=0.3)",
    typed: "score(m = 0.9 * m + weight; keep m * value_norm / (1 + age); first 1, newest ceil(k / 3); per head)",
}

/// A test for each; the other laws are told of two of these above.
macro_rules! packed {
    ($($module:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $module() {
            let law = msrnn_core::laws::a_packed_state_equals_the_plain_state_over_rounded_rows;
            law(&under_law($name), &burn::tensor::Device::default());
        })*
    };
}

packed! {
    packed_heads: "int4(h2o+1, group=2, recent=0)",
    packed_between_cuts: "every(3, int4(tova, group=3, recent=5))",
    packed_per_channel_after_the_prompt: "after-prompt(int8(tova, keys=channel, group=3, recent=0))",
    packed_pooled: "pooled(every(3, int4(tova-head, group=2, recent=1)), floor=0.3)",
    packed_pooled_per_channel: "int4(pooled(every(3, h2o), floor=0.3), keys=channel, group=2, recent=1)",
    packed_merged: "int8(merge(h2o), group=2, recent=1)",
    packed_merged_by_a_moving_threshold: "int8(merge(h2o, threshold=ema0.5, weight=exp), group=2, recent=1)",
    packed_by_latest_queries: "protect(int2(snapkv(window=3, pool=max3), group=2, recent=1), first=1)",
}

/// A test for each: what heads do by themselves is under the other laws above.
macro_rules! by_head {
    ($($module:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $module() {
            let law = msrnn_core::laws::heads_with_plans_of_their_own_equal_layers_of_one_head;
            law(&under_law($name), &burn::tensor::Device::default());
        })*
    };
}

by_head! {
    heads_of_retrieval_and_of_a_window: "heads(0: full, *: window+1)",
    heads_of_every_kind: "heads(0: tova, 1: every(3, h2o), *: merge(tova))",
    heads_that_merge_by_moving_thresholds: "heads(0: merge(tova, threshold=ema0.5), *: merge(every(3, h2o), threshold=ema0.2, weight=exp))",
    heads_that_are_cut_after_the_prompt: "heads(0-1: after-prompt(snapkv(window=2, pool=max3)), *: window)",
    heads_of_which_some_are_packed: "heads(0: int8(full, group=2, recent=1), 1: int4(tova, group=2, recent=0), *: h2o)",
    heads_under_other_combinators: "protect(every(2, heads(0: full, *: tova)), first=1)",
}

#[test]
fn what_the_laws_skip_is_written_down() {
    let policies = UNDER_LAW.iter().map(|name| registry::policy(name).expect("the policy can be read"));
    msrnn_core::laws::skips_are_written_down(policies, include_str!("laws_skipped.txt"));
}

/// Ceilings know what comes, which no law allows; they are held against weights of the full model in msrnn-bench.
const CEILINGS: [&str; 2] = ["oracle", "oracle-head"];

#[test]
fn every_entry_of_the_registry_is_complete_and_tested() {
    Registry::default().check().expect("every entry can be written");
    for entry in registry::entries() {
        let name = entry.name;
        for (what, text) in [
            ("idea", entry.idea),
            ("rule", entry.rule),
            ("cost", entry.cost),
            ("citation", entry.citation),
            ("differences", entry.differences),
        ] {
            assert!(!text.trim().is_empty() && text != "Not said.", "{name} has no {what}");
        }
        let of = |text: &str| registry::entry(text).map(|entry| entry.name);
        assert_eq!(of(entry.example), Some(name), "another entry parses the example of {name} too");
        let is_ceiling = entry.policy().foresight().is_some();
        assert_eq!(is_ceiling, CEILINGS.contains(&name), "{name} is a ceiling or not");
        if is_ceiling {
            continue;
        }
        assert!(
            UNDER_LAW.iter().any(|policy| of(policy) == Some(name)),
            "{name} is not put through the laws: add it to tests/laws.rs"
        );
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/policies/{name}.toml"));
        let case =
            std::fs::read_to_string(&case).unwrap_or_else(|error| panic!("no case at {}: {error}", case.display()));
        let case: toml::Table = case.parse().unwrap_or_else(|error| panic!("the case of {name}: {error}"));
        let spec: PolicySpec =
            case["policy"].as_str().and_then(|spec| spec.parse().ok()).expect("a case names its policy");
        assert_eq!(of(&spec.name()), Some(name), "the case {name}.toml is one of {spec}");
    }
}
