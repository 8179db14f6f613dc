//! Policies as text: what is read, what it means, how it is written again, and what is said about what cannot be read.

mod refused;

use std::fmt::Debug;
use std::sync::Arc;

use msrnn_core::budget::{Budget, StateBytes};
use msrnn_core::merging::{Merging, Threshold, Weight};
use msrnn_core::packing::{Bits, Packing, Per};
use msrnn_core::placement::Positions;
use msrnn_core::policy::{Cut, Decides, Layer, Plan, Policy, Rule};
use msrnn_core::score::{
    Binary, Expr, Input, Score, Unary, max_weight, number, random, remembered, value_norm, weight,
};
use msrnn_policies::registry::{self, Registry};
use msrnn_policies::{
    AfterPrompt, Every, H2o, Merge, Packed, PerLayer, PolicySpec, Protect, Pyramid, Random, Renumbered, Scored,
    SpecError, Tova, Window,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

fn spec(text: &str) -> PolicySpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str) -> SpecError {
    match text.parse::<PolicySpec>() {
        Ok(spec) => panic!("{text:?} is read as {}", spec.name()),
        Err(error) => error,
    }
}

/// Plans of a small stack, as text.
fn plans(policy: &dyn Policy) -> Vec<String> {
    let plan = |index| policy.plan(&Layer { index, layers: 5, kv_heads: 2, states: 101 });
    (0..5).map(|index| format!("{:?}", plan(index))).collect()
}

fn plan(text: &str, states: usize) -> Plan {
    spec(text).policy().expect("a policy").plan(&Layer::only(states))
}

fn score(text: &str) -> Score {
    match plan(text, 8).rule {
        Rule::Score(score) => score,
        Rule::Tensors(_) => panic!("{text} has no score"),
    }
}

#[derive(Serialize, Deserialize)]
struct Table {
    policy: PolicySpec,
}

/// A text is the same after it was a spec, JSON and TOML, and so is its one form.
fn round_trips(text: &str) -> PolicySpec {
    let read = spec(text);
    assert_eq!(read.to_string(), text.trim());
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(json, serde_json::to_string(text.trim()).unwrap());
    let again: PolicySpec = serde_json::from_str(&json).unwrap();
    let table = toml::to_string(&Table { policy: read.clone() }).unwrap();
    let tabled = toml::from_str::<Table>(&table).unwrap().policy;
    for other in [&again, &tabled] {
        assert!(*other == read && other.to_string() == read.to_string(), "{other} is not {read}");
    }
    let name = read.name();
    let one_form = read.budget().map_or_else(|| name.clone(), |budget| format!("{name}@{budget}"));
    let canonical = spec(&one_form);
    assert_eq!(canonical, read, "{one_form} is not {text}");
    assert_eq!(canonical.name(), name);
    read
}

#[test]
fn every_registered_policy_round_trips_through_text_json_and_toml() {
    for entry in registry::entries() {
        for budget in ["", "@512", "@25%", "@64MiB"] {
            let text = format!("{}{budget}", entry.example);
            assert_eq!(round_trips(&text).name(), entry.example);
        }
    }
    round_trips("full");
}

#[test]
fn what_was_read_before_there_was_a_grammar_keeps_its_meaning() {
    let policies: [(&str, Arc<dyn Policy>); 9] = [
        ("window", Arc::new(Window { first: 0 })),
        ("window+4", Arc::new(Window { first: 4 })),
        ("h2o", Arc::new(H2o::head_wise())),
        ("h2o-layer", Arc::new(H2o::layer_wise())),
        ("tova", Arc::new(Tova::layer_wise())),
        ("tova-head", Arc::new(Tova::head_wise())),
        ("tova+4", Arc::new(Tova { first: 4, ..Tova::layer_wise() })),
        ("random", Arc::new(Random { seed: None })),
        ("random:7", Arc::new(Random { seed: Some(7) })),
    ];
    for (text, policy) in policies {
        let read = spec(&format!("{text}@512"));
        assert_eq!((read.name(), read.budget()), (text.to_owned(), Some(Budget::States(512))));
        assert_eq!(plans(read.policy().unwrap().as_ref()), plans(policy.as_ref()), "{text}");
    }
    assert!(spec("full").is_full());
    assert_eq!(spec("h2o@25%").budget(), Some(Budget::Percent(25.0)));
    assert_eq!(spec("tova@64MiB").budget(), Some(Budget::Bytes(64 << 20)));
    // And with a number of its own behind any name.
    assert_eq!(spec("h2o+4").name(), "protect(h2o, first=4)");
    assert_eq!(spec("window+0").name(), "window");
    assert_eq!(spec("h2o+0").name(), "h2o");
}

#[test]
fn specs_are_shown_as_written_and_equal_by_meaning() {
    for (one, other) in [
        (" tova @ 512 ", "tova@512"),
        ("window + 4@8", "window+4@8"),
        ("pyramid(tova)@9", "pyramid( tova , beta = 20 )@9"),
        ("protect(h2o, newest=0, first=2)", "h2o+2"),
        ("layers(*: tova, 0-1: full, 2-2: window)@8", "layers(0-1: full, 2: window, *: tova)@8"),
        ("layers(0: full, *: tova@25%)", "layers(0: full, *: tova)@25%"),
        ("heads(*: tova, 0-1: full, 2-2: window)@8", "heads(0-1: full, 2: window, *: tova)@8"),
        ("score(weight>0.5)", "score(0.5 < weight)"),
        ("score(keep (weight))", "score(weight; per layer; first 0)"),
        (
            "score(m=m+weight;keep m;per head;newest k/2,first 4)",
            "score(m = m + weight; keep m; first 4, newest k / 2; per head)",
        ),
    ] {
        let (a, b) = (spec(one), spec(other));
        assert_eq!(a, b, "{one} and {other}: {} and {}", a.name(), b.name());
        assert_eq!((a.to_string().as_str(), b.to_string().as_str()), (one.trim(), other.trim()));
    }
    assert_ne!(spec("tova@8"), spec("tova@9"));
    assert_ne!(spec("tova@8"), spec("tova"));
    assert_ne!(spec("score(weight - 1 - 2)"), spec("score(weight - (1 - 2))"));
}

#[test]
fn another_budget_stands_behind_what_was_written() {
    let with = |text: &str| spec(text).with_budget(Budget::States(7)).to_string();
    assert_eq!(with("window + 4"), "window + 4@7");
    assert_eq!(with("window + 4 @ 8"), "window + 4@7");
    assert_eq!(with("window + 4 @ 7"), "window + 4 @ 7");
    assert_eq!(with("layers(0: full, *:tova@8)"), "layers(0: full, *: tova)@7");
    assert_eq!(with("full"), "full");
}

#[test]
fn an_expression_is_read_as_it_is_calculated() {
    let k = || Expr::Input(Input::States);
    let of = |text: &str| score(&format!("score({text})")).keep;
    for (text, expected) in [
        ("weight * value_norm / 2", weight() * value_norm() / number(2.0)),
        ("1 - weight - 2 * k", number(1.0) - weight() - number(2.0) * k()),
        ("1 - (weight - 2) * k", number(1.0) - (weight() - number(2.0)) * k()),
        ("-weight * -2", -weight() * number(-2.0)),
        ("-(-2)", -number(-2.0)),
        ("- - weight", -(-weight())),
        ("weight + 1 <= 2 * k", (weight() + number(1.0)).with(Binary::LessEqual, number(2.0) * k())),
        ("weight >= k", k().with(Binary::LessEqual, weight())),
        ("weight > k", k().with(Binary::Less, weight())),
        ("weight != k", number(1.0) - weight().with(Binary::Equal, k())),
        (
            "max(weight, if(weight == 0, inf, -inf))",
            weight().with(
                Binary::Max,
                weight().with(Binary::Equal, number(0.0)).choose(number(f64::INFINITY), number(f64::NEG_INFINITY)),
            ),
        ),
        (
            "pow(max_weight, .5) + 1e-3 + 2.5E+2",
            max_weight().with(Binary::Pow, number(0.5)) + number(1e-3) + number(250.0),
        ),
        (
            "floor(sqrt(abs(log(exp(ceil(random(18446744073709551615)))))))",
            [Unary::Ceil, Unary::Exp, Unary::Log, Unary::Abs, Unary::Sqrt, Unary::Floor]
                .into_iter()
                .fold(random(u64::MAX), Expr::then),
        ),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
    let remembered = Score::of(remembered("b"))
        .remember("a", number(0.5) * remembered("a") + remembered("b"))
        .remember("b", remembered("a") + weight());
    assert_eq!(score("score(a = .5*a + b; b = a + weight; keep b)"), remembered);
}

#[test]
fn what_a_typed_score_protects_follows_from_k() {
    let protected = |text: &str, k| {
        let plan = plan(text, k);
        (plan.first, plan.newest)
    };
    let text = "score(weight; first 4, newest ceil(k / 2))";
    assert_eq!([protected(text, 9), protected(text, 10)], [(4, 5), (4, 5)]);
    assert_eq!(protected("score(weight; newest 2.9)", 8), (0, 2));
    // Fewer than none is none.
    let text = "score(weight; newest k - 32)";
    assert_eq!([protected(text, 8), protected(text, 40)], [(0, 0), (0, 8)]);
    assert_eq!(plan("score(weight; per head)", 8).decides, Decides::KvHead);
    assert_eq!(plan("score(weight; per layer)", 8).decides, Decides::Layer);
    // h2o, written out.
    let typed = spec("score(m = m + weight; keep m; newest k - floor(k / 2); per head)");
    assert_eq!(plans(typed.policy().unwrap().as_ref()), plans(&H2o::head_wise()));
}

#[test]
fn combinations_that_change_nothing_are_the_policy_itself() {
    for entry in registry::entries() {
        let p = entry.example;
        let of = |text: &str| plans(spec(text).policy().unwrap().as_ref());
        let is_strict = plan(p, 101).cut == Cut::EVERY_TOKEN;
        let every = if is_strict { format!("every(1, {p})") } else { p.to_owned() };
        for text in [
            every,
            format!("protect({p}, first=0, newest=0)"),
            format!("layers(*: {p})"),
            format!("pyramid({p}, beta=1)"),
        ] {
            assert_eq!(of(&text), of(p), "{text}");
        }
    }
}

#[test]
fn a_score_that_remembers_something_as_head_means_that() {
    let head = || Expr::Input(Input::Head);
    let own = || Expr::Remembered("head".into());
    assert_eq!(score("score(head - 1; per head)").keep, head() - number(1.0));
    let remembers = score("score(a = if(head, 1, -head); keep a; per head)").remembers;
    assert_eq!(remembers[0].becomes, head().choose(number(1.0), -head()));
    let fading = score("score(a = head; head = 0.5 * head + weight; keep head)");
    assert_eq!(fading.keep, own());
    assert_eq!(fading.remembers[0].becomes, own(), "wherever the update stands");
}

#[test]
fn combinations_change_what_they_say() {
    assert_eq!(plan("every(128, tova)", 9).cut, Cut::Every(128));
    assert_eq!(plan("after-prompt(tova)", 9).cut, Cut::AfterPrompt);
    assert_eq!(plan("every(2, in-state(tova))", 9).positions, Some(Positions::InState));
    assert_eq!(plan("original(gap-compressed(tova))", 9).positions, Some(Positions::Original), "the outermost says it");
    assert_eq!(plan("tova", 9).positions, None);
    assert_eq!(spec("streaming(first=2)@9").name(), "in-state(window+2)");
    assert_eq!(spec("streaming").name(), "in-state(window+4)");
    assert_eq!(spec("streaming").protecting(9).unwrap().name(), "protect(in-state(window+4), first=9)");
    assert_eq!(spec("int4(full)").protecting(9).unwrap(), spec("int4(full)"));
    let merging = plan("merge(every(2, merge(tova, threshold=0.25)), threshold=0.75)", 9).merging;
    let thresholds = [0.25, 0.75].map(Threshold::Fixed);
    assert_eq!(merging.iter().map(|merging| merging.threshold).collect::<Vec<_>>(), thresholds);
    let moving = Merging { threshold: Threshold::Moving(0.7), weight: Weight::Exp };
    assert_eq!(plan("merge(h2o, weight=exp, threshold=ema0.7)", 9).merging, [moving]);
    assert_eq!(spec("merge(h2o, weight=mean)").name(), "merge(h2o, threshold=0.5)");
    let plan = plan("protect(window+4, first=2, newest=3)", 9);
    assert_eq!((plan.first, plan.newest), (4, 3), "the more is protected of both");
    let layers = spec("layers(0-1: full, 3: window+1, *: tova)").policy().unwrap();
    let at = |index| layers.plan(&Layer { index, layers: 6, kv_heads: 1, states: 9 });
    let states: Vec<Option<usize>> = (0..6).map(|index| at(index).states).collect();
    assert_eq!(states, [None, None, Some(9), Some(9), Some(9), Some(9)]);
    assert_eq!((at(2).first, at(3).first), (0, 1));
    let one_in_one_out = |text: &str| spec(text).is_one_in_one_out();
    assert!(one_in_one_out("protect(h2o, first=40)") && one_in_one_out("pyramid(tova, beta=1)"));
    for text in ["every(2, tova)", "after-prompt(tova)", "layers(9: full, *: tova)", "pyramid(tova)", "full"] {
        assert!(!one_in_one_out(text), "{text}");
    }
}

#[test]
fn how_rows_are_held_is_read_and_written() {
    let packing = |text: &str| plan(text, 100).packing;
    let four = |per, group, recent| Some(Packing::new(Bits::Four, per, group, recent));
    assert_eq!(packing("tova"), None);
    assert_eq!(packing("int4(tova)@512"), four(Per::Token, 32, 32));
    assert_eq!(packing("int4(h2o+4, recent=5, group=64)@25%"), four(Per::Token, 64, 5));
    assert_eq!(packing("int8(tova)@64MiB"), Some(Packing::new(Bits::Eight, Per::Token, 32, 32)));
    assert_eq!(packing("every(64, int4(tova, keys=channel))@9"), four(Per::Channel, 32, 32));
    assert_eq!(packing("merge(int4(h2o))@9"), four(Per::Token, 32, 32));
    assert_eq!(packing("pyramid(pooled(every(8, int4(h2o))))@9"), four(Per::Token, 32, 32));
    assert_eq!(packing("kivi"), Some(Packing::kivi(Bits::Two, 32, 128)));
    assert_eq!(packing("kivi(bits=4, group=8, recent=16)"), Some(Packing::kivi(Bits::Four, 8, 16)));
    assert_eq!(plan("int4(full)", 7).states, None);
    assert_eq!(plan("int4(every(64, tova))@9", 9).cut, Cut::Every(64));
    for text in [
        "int8(tova)@512",
        "int4(h2o+4, recent=32)@25%",
        "int4(full)",
        "kivi(bits=2, group=32, recent=128)",
        "int4(tova, recent=32)@64MiB",
        "layers(0-1: int8(full), *: int4(tova))@512",
        "int4(heads(0: full, *: every(64, tova)), keys=channel)@512",
        "after-prompt( int2(snapkv , keys = channel))@512",
    ] {
        let read = round_trips(text);
        assert_eq!(read.keeps_all(), read.budget().is_none(), "{text}");
        let compression = read.compression(4096, |_| StateBytes { each: 16 << 10, beside: 1 << 20 }).unwrap();
        assert_eq!(compression.states().is_none(), read.keeps_all(), "{text}");
    }
    assert_eq!(spec("int2( full,recent=7 )").name(), "int2(full, group=32, recent=7)");
    assert_eq!(spec("kivi").name(), "kivi(bits=2, group=32, recent=128)");
    // One that keeps all takes no budget from outside either.
    assert_eq!(spec("int4(full)").with_budget(Budget::States(5)).to_string(), "int4(full)");
}

/// Whole rows beside the packed ones count.
#[test]
fn a_budget_in_bytes_pays_for_whole_rows_first() {
    let states = |beside| {
        let bytes = |_: &dyn Policy| StateBytes { each: 100, beside };
        spec("int8(tova)@1KiB").compression(4096, bytes).map(|compression| compression.states())
    };
    assert_eq!(states(0).unwrap(), Some(9));
    assert_eq!(states(300).unwrap(), Some(6));
    assert!(states(1000).unwrap_err().to_string().contains("1KiB"));
}

#[test]
fn a_seed_that_is_named_stays_whatever_is_given_beside_it() {
    let seeded = |text: &str, seed| spec(text).seeded(seed).to_string();
    for (text, seed, expected) in [
        ("random:0@8", 7, "random:0@8"),
        ("random:3@8", 7, "random:3@8"),
        ("random@8", 7, "random:7@8"),
        ("random@8", 0, "random@8"),
        ("tova @ 8", 7, "tova @ 8"),
        ("every( 3, random )@8", 7, "every( 3, random:7 )@8"),
        ("layers(0: random:1, *: random@8)", 7, "layers(0: random:1, *: random:7@8)"),
        ("score(random(3))", 7, "score(random(3))"),
        ("full", 7, "full"),
    ] {
        assert_eq!(seeded(text, seed), expected, "{text} --seed {seed}");
        assert_eq!(spec(text).seeded(seed), spec(expected));
    }
    assert_eq!(spec("random + 1").seeded(7).with_budget(Budget::States(8)).to_string(), "random:7 + 1@8");
}

#[test]
fn a_registry_holds_policies_of_ones_own() {
    #[derive(Debug)]
    struct Own {
        pool: String,
        window: usize,
        first: usize,
    }
    impl Policy for Own {
        fn name(&self) -> String {
            let first = if self.first > 0 { format!("+{}", self.first) } else { String::new() };
            format!("own(window={}, pool={}){first}", self.window, self.pool)
        }
        fn plan(&self, layer: &Layer) -> Plan {
            Plan::by_score(layer, weight()).protecting(self.first, self.window)
        }
    }
    let make = |arguments: &msrnn_policies::Arguments<'_>| -> Result<Arc<dyn Policy>, SpecError> {
        let window = arguments.get("window")?.unwrap_or(32);
        if window == 13 {
            return Err(arguments.refuse("window", "13 brings bad luck; give 12"));
        }
        let pool = arguments.get::<String>("pool")?.unwrap_or_else(|| "max7".into());
        Ok(Arc::new(Own { pool, window, first: arguments.first() }))
    };
    let entry = |name| registry::Entry::with_arguments(name, "own(window=32, pool=max7)", make);
    let registry = Registry::default().with(entry("own"));
    registry.check().unwrap();
    let read = |text: &str| registry.spec(text);
    assert_eq!(read("every(3, own(pool=avg5))@25%").unwrap().name(), "every(3, own(window=32, pool=avg5))");
    assert_eq!(read("own+4").unwrap().name(), "protect(own(window=32, pool=max7), first=4)");
    let sinks = registry.clone().with(registry::Entry { example: "own(window=32, pool=max7)+4", ..entry("own+i") });
    sinks.check().unwrap();
    assert_eq!(sinks.spec("own+4").unwrap().name(), "own(window=32, pool=max7)+4");
    for (text, marked, says) in [
        ("own(window=x)", 11..12, "invalid digit"),
        ("own(window=13)", 11..13, "give 12"),
        ("own(size=3)", 4..8, "it takes window, pool"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.place().unwrap().characters(), marked, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(registry.explain("own").unwrap().contains("Not said."));
    assert!(registry.table().lines().any(|line| line.starts_with("own ")));
    assert!(read("own@8").unwrap().compression(100, |_| 1).unwrap_err().to_string().contains("@32"));
    assert!("own".parse::<PolicySpec>().is_err(), "the registry of the process has none of that name");
    for (name, example, says) in [
        ("layers", "layers", "means something already"),
        ("my own", "my own", "begins with a letter"),
        ("mine", "own", "is not read"),
        ("mine", "mine", "let them be the same"),
    ] {
        let own = registry::Entry { example, ..entry(name) };
        let error = Registry::default().with(own).check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn names_that_policies_have_elsewhere_are_read_and_written_as_here() {
    for name in ["streaming-llm", "streamingllm", "sink", "sinks"] {
        let spec: PolicySpec = format!("{name}@32").parse().unwrap();
        assert_eq!((spec.name(), spec.to_string()), ("window+4".into(), format!("{name}@32")));
        assert_eq!(registry::explain(name), registry::explain("window+4"));
        let composed: PolicySpec = format!("every(8, {name})@32").parse().unwrap();
        assert_eq!(composed.name(), "every(8, window+4)");
    }
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_what_was_meant() {
    for (name, meant) in [
        ("tvoa", Some("tova")),
        ("TOVA", Some("tova")),
        ("H2O-Layer", Some("h2o-layer")),
        ("windows", Some("window")),
        ("evry(8, tova)", Some("every")),
        ("AdaKV", Some("pooled(snapkv, floor=0.2)")),
        ("pyramidkv", Some("pyramid(snapkv)")),
        ("nothing-like-it", None),
    ] {
        let error = name.parse::<PolicySpec>().unwrap_err().to_string();
        let said = meant.map(|meant| format!("did you mean {meant}? There are full, "));
        assert_eq!(error.contains("did you mean"), said.is_some(), "{error}");
        assert!(error.contains(&said.unwrap_or("; there are full, ".into())), "{error}");
    }
}

#[test]
fn explain_tells_of_an_entry_with_its_budget() {
    let said = registry::explain("tova@512").unwrap();
    assert!(said.starts_with(&registry::explain("tova").unwrap()) && said.contains("k = 512 rows"), "{said}");
    assert!(registry::explain("window+4@25%").unwrap().contains("25%"));
    assert!(registry::explain("window+4@3").is_err());
}

#[test]
fn explain_tells_of_what_is_composed_and_typed() {
    let told = |text: &str, parts: &[&str]| {
        let said = registry::explain(text).unwrap();
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in what is said of {text}:\n{said}");
        }
    };
    told("every(128, tova)@64", &["every(128, tova)", "k + 128", "current query's weights", "once per layer"]);
    told(
        "score(m=m+weight; keep m*value_norm; newest k/2; per head)",
        &[
            "m = m + weight; keep m * value_norm",
            "norms of values",
            "once per KV head",
            "the newest 256 rows",
            "8 bytes per state",
        ],
    );
    told(
        "layers(0: full, *: heads(0: full, 3: tova, *: window+4))",
        &[
            "layer         0",
            "layers        from 1 on",
            "head          0",
            "heads         1 to 2",
            "head          3",
            "current query's weights",
            "heads         from 4 on",
            "the first 4 tokens",
        ],
    );
    told("in-state(heads(0: full, *: tova))", &["positions     in-state, in all heads", "decides       by itself"]);
    told(
        "layers(0-1: full, 4: window+4, *: after-prompt(tova))",
        &[
            "layers        0 to 1",
            "nothing goes",
            "layers        2 to 3",
            "the first 4 tokens",
            "layers        from 5 on",
            "then the state grows",
            "k ≥ 5",
        ],
    );
    told(
        "int4(tova, recent=5)@64",
        &["in 4 bits, 32 numbers to a scale", "the newest 5 to 36 whole", "after every token"],
    );
    told("kivi", &["nothing goes", "keys per channel, 128 rows at once", "values per token, 1 rows at once"]);
    told("pyramid(tova, beta=20)@101", &["of 8 with k = 101: 196, 169, 142, 115, 87, 60, 33, 6"]);
    assert!(registry::explain("full").unwrap().contains("vanilla"));
    assert!(registry::explain("tovaa").is_err());
}

/// A policy as text with its own spacing, and the same by hand.
fn policies() -> impl Strategy<Value = (String, Arc<dyn Policy>)> {
    fn shared(policy: impl Policy + 'static) -> Arc<dyn Policy> {
        Arc::new(policy)
    }
    let leaf = prop_oneof![
        (0..9_usize).prop_map(|i| (format!("window+{i}"), shared(Window { first: i }))),
        Just(("h2o".to_owned(), shared(H2o::head_wise()))),
        Just(("tova-head".to_owned(), shared(Tova::head_wise()))),
        any::<u64>().prop_map(|n| (format!("random:{n}"), shared(Random { seed: Some(n) }))),
        (scores(), 0..9_u32, any::<bool>()).prop_map(|(score, newest, per_head)| {
            let per_head = per_head || looks_at_the_head(&score);
            let decides = if per_head { Decides::KvHead } else { Decides::Layer };
            let per = if per_head { ";per head" } else { "" };
            let text = format!("score( {score};newest {newest} {per})");
            (text, shared(Scored { newest: number(newest.into()), decides, ..Scored::by(score) }))
        }),
        (0..90_usize, 1..90_usize).prop_map(|(recent, group)| {
            let packing = Packing::new(Bits::Four, Per::Token, group, recent);
            let policy = Some(shared(H2o::head_wise()));
            (format!("int4(h2o ,recent={recent},group= {group})"), shared(Packed { policy, packing }))
        }),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let range = (0..200_usize, 0..50_usize);
        prop_oneof![
            (inner.clone(), 0..9_usize, 0..9_usize).prop_map(|((text, policy), first, newest)| {
                (format!("protect({text},newest={newest} , first={first})"), shared(Protect { policy, first, newest }))
            }),
            (inner.clone(), 1..500_usize).prop_map(|((text, policy), tokens)| {
                (format!("every( {tokens},{text})"), shared(Every { tokens, policy }))
            }),
            inner.clone().prop_map(|(text, policy)| (format!("after-prompt({text} )"), shared(AfterPrompt { policy }))),
            (inner.clone(), any::<bool>()).prop_map(|((text, policy), counted)| {
                let positions = if counted { Positions::InState } else { Positions::GapCompressed };
                (format!("{positions}( {text})"), shared(Renumbered { positions, policy }))
            }),
            (inner.clone(), -1.0..1.0_f64).prop_map(|((text, policy), cosine)| {
                let threshold = Threshold::Fixed(cosine);
                (format!("merge({text},threshold ={cosine})"), shared(Merge { threshold, ..Merge::of(policy) }))
            }),
            (inner.clone(), 0.0..1.0_f64).prop_map(|((text, policy), share)| {
                let merge = Merge { threshold: Threshold::Moving(share), weight: Weight::Exp, policy };
                (format!("merge({text}, weight = exp ,threshold=ema{share})"), shared(merge))
            }),
            (inner.clone(), 1..40_usize).prop_map(|((text, policy), beta)| {
                (format!("pyramid({text}, beta={beta})"), shared(Pyramid::new(policy, beta).unwrap()))
            }),
            (inner.clone(), inner, range, any::<bool>()).prop_map(|((a, one), (b, other), (first, more), full)| {
                let last = first + more;
                let (a, one) = if full { ("full".to_owned(), None) } else { (a, Some(one)) };
                (
                    format!("layers(*:{b} , {first} - {last}:{a})"),
                    shared(PerLayer::all(Some(other)).but(first..=last, one).unwrap()),
                )
            }),
        ]
    })
}

/// Expressions over what is known of a row and what is remembered, as they are when they were read.
fn expressions() -> impl Strategy<Value = Expr> {
    let numbers = prop_oneof![
        (-9..9_i32).prop_map(f64::from),
        -1e3..1e3_f64,
        prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e-7), Just(-0.0), Just(1e21)],
    ];
    let leaf = prop_oneof![
        numbers.prop_map(Expr::Number),
        proptest::sample::select(Input::ALL.to_vec()).prop_map(Expr::Input),
        proptest::sample::select(vec!["m", "n_2"]).prop_map(|name| Expr::Remembered(name.into())),
        any::<u64>().prop_map(Expr::Random),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        prop_oneof![
            (proptest::sample::select(Unary::ALL.to_vec()), inner.clone()).prop_map(|(function, x)| {
                match (function, x) {
                    // A number with a sign is a number.
                    (Unary::Neg, Expr::Number(x)) if x.is_sign_positive() => Expr::Number(-x),
                    (function, x) => x.then(function),
                }
            }),
            (proptest::sample::select(Binary::ALL.to_vec()), inner.clone(), inner.clone())
                .prop_map(|(function, a, b)| a.with(function, b)),
            (inner.clone(), inner.clone(), inner).prop_map(|(condition, yes, no)| condition.choose(yes, no)),
        ]
    })
}

fn scores() -> impl Strategy<Value = Score> {
    (expressions(), expressions(), expressions())
        .prop_map(|(keep, m, n)| Score::of(keep).remember("m", m).remember("n_2", n))
        .prop_filter("a text has a limit", |score| score.to_string().len() < 900)
}

fn looks_at_the_head(score: &Score) -> bool {
    score.to_string().contains("head")
}

/// What a failure is shown by.
fn same<T: PartialEq + Debug>(a: T, b: T) -> Result<(), TestCaseError> {
    prop_assert_eq!(a, b);
    Ok(())
}

proptest! {
    #[test]
    fn text_to_policy_to_text_is_the_identity_over_random_compositions(
        (text, policy) in policies().prop_filter("a text has a limit", |(text, _)| text.len() < 4000)
    ) {
        let read = round_trips(&format!(" {text}@77 "));
        let parsed = read.policy().unwrap();
        same(read.name(), policy.name())?;
        same(plans(parsed.as_ref()), plans(policy.as_ref()))?;
    }

    #[test]
    fn text_to_expression_to_text_is_the_identity_over_random_expressions(score in scores()) {
        let per = if looks_at_the_head(&score) { "; per head" } else { "" };
        let text = format!("score({score}{per})");
        let read = self::score(&text);
        same(read.to_string(), score.to_string())?;
        same(format!("{read:?}"), format!("{score:?}"))?;
        round_trips(&text);
    }

    #[test]
    fn no_text_panics_and_every_error_is_shown((text, _) in policies(), at in any::<proptest::sample::Index>(), with in "[ -~ä]{0,3}") {
        let mut signs: Vec<char> = text.chars().take(3000).collect();
        let at = at.index(signs.len() + 1);
        signs.splice(at..(at + 1).min(signs.len()), with.chars());
        let text: String = signs.into_iter().collect();
        if let Err(error) = text.parse::<PolicySpec>() {
            prop_assert!(!error.to_string().is_empty() && !error.one_line().contains('\n'));
        }
    }
}
