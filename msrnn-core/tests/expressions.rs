//! Laws of the evaluator: what holds of every score holds of scores drawn at random, on the road that production
//! takes, whatever the expression.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Device;
use msrnn_core::laws;
use msrnn_core::policy::{Cut, Decides, Layer, Plan, Policy};
use msrnn_core::score::{Binary, Expr, Input, Score, Unary, number, remembered};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Scores that are tried.
const SCORES: usize = 16;

/// An expression none of whose values is no number, over what is known of a row and what is remembered as m and n.
fn expression() -> impl Strategy<Value = Expr> {
    let known = prop::sample::select(Input::ALL.to_vec()).prop_map(Expr::Input);
    let leaf = prop_oneof![
        3 => known,
        1 => (-3i8..=3).prop_map(|value| number(f64::from(value) / 2.0)),
        1 => prop_oneof![Just("m"), Just("n")].prop_map(remembered),
        1 => (0..9u64).prop_map(|seed| Expr::Random(seed) / number(32_717.0)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let positive = |x: Expr| x.then(Unary::Abs) + number(1.0);
        let unary = prop::sample::select(Unary::ALL.to_vec());
        let binary = prop::sample::select(Binary::ALL.to_vec());
        prop_oneof![
            (unary, inner.clone()).prop_map(move |(function, x)| match function {
                // What would overflow, or be no number, is kept away from it.
                Unary::Exp => (-x.then(Unary::Abs)).then(function),
                Unary::Log | Unary::Sqrt => positive(x).then(function),
                _ => x.then(function),
            }),
            (binary, inner.clone(), inner.clone()).prop_map(move |(function, a, b)| match function {
                Binary::Div => a / positive(b),
                Binary::Pow => positive(a).with(function, number(0.5)),
                _ => a.with(function, b),
            }),
            (inner.clone(), inner.clone(), inner).prop_map(|(condition, yes, no)| condition.choose(yes, no)),
        ]
    })
}

/// A policy by a score that was drawn.
#[derive(Clone)]
struct Drawn {
    score: Score,
    decides: Decides,
    cut: Cut,
    protected: [usize; 2],
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Policy for Drawn {
    fn name(&self) -> String {
        format!("{:?} {:?} {:?}: {}", self.decides, self.cut, self.protected, self.score)
    }

    fn plan(&self, layer: &Layer) -> Plan {
        let [first, newest] = self.protected;
        let plan = Plan::by_rule(layer, self.score.clone().into()).cut(self.cut).protecting(first, newest);
        Plan { decides: self.decides, ..plan }
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let score = (expression(), expression(), expression()).prop_map(|(keep, m, n)| {
        // What is remembered fades, so that it stays in bounds.
        let fading = |name: &str, by: Expr| number(0.5) * remembered(name) + by;
        Score::of(keep).remember("m", fading("m", m)).remember("n", fading("n", n))
    });
    let decides = prop_oneof![Just(Decides::Layer), Just(Decides::KvHead)];
    (score, decides, 1..=3usize, [0..=2usize, 0..=2usize]).prop_map(|(score, decides, every, protected)| Drawn {
        decides: if score.to_string().contains("head") { Decides::KvHead } else { decides },
        score,
        cut: Cut::Every(every),
        protected,
    })
}

#[test]
fn laws_hold_of_scores_drawn_at_random() {
    let config = Config { rng_seed: RngSeed::Fixed(2024), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    for _ in 0..SCORES {
        let policy: Arc<dyn Policy> = Arc::new(drawn().new_tree(&mut runner).expect("a score").current());
        laws::chunks_equal_single_tokens(&policy, &Device::default());
        laws::a_mask_simulation_equals_physical_omission(&policy, &Device::default());
        laws::a_batch_equals_its_rows_alone(&policy, &Device::default());
    }
}
