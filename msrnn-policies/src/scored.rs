//! The policy of a score that was typed.

use msrnn_core::policy::{Decides, Layer, Plan, Policy};
use msrnn_core::score::{Expr, Input, Score, number};
use serde::{Deserialize, Serialize};

/// Omits the row with the lowest value of an expression.
///
/// ```
/// use msrnn_core::policy::{Decides, Layer, Policy};
/// use msrnn_core::score::{Binary, Expr, Input, Score, Unary, number, value_norm, weight};
/// use msrnn_policies::Scored;
///
/// let half = (Expr::Input(Input::States) / number(2.0)).then(Unary::Ceil);
/// let scored = Scored {
///     first: number(4.0),
///     newest: half,
///     decides: Decides::KvHead,
///     ..Scored::by(Score::of(weight() * value_norm()))
/// };
/// assert_eq!(scored.name(), "score(weight * value_norm; first 4, newest ceil(k / 2); per head)");
/// let plan = scored.plan(&Layer::only(101));
/// assert_eq!((plan.first, plan.newest), (4, 51));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// What rows are worth.
    pub score: Score,
    /// Of how many of the first tokens no row goes: over k and constants, rounded down. What is below zero or not a
    /// number is none.
    pub first: Expr,
    /// How many of the newest rows do not go, in the same way.
    pub newest: Expr,
    /// Who decides.
    pub decides: Decides,
}

impl Scored {
    /// One decision for the layer, nothing protected.
    pub fn by(score: Score) -> Self {
        Self { score, first: number(0.0), newest: number(0.0), decides: Decides::Layer }
    }
}

impl Policy for Scored {
    fn name(&self) -> String {
        let mut name = format!("score({}", self.score);
        let none = number(0.0);
        let protected: Vec<String> = [("first", &self.first), ("newest", &self.newest)]
            .into_iter()
            .filter(|(_, rows)| **rows != none)
            .map(|(what, rows)| format!("{what} {rows}"))
            .collect();
        if !protected.is_empty() {
            name += "; ";
            name += &protected.join(", ");
        }
        if self.decides == Decides::KvHead {
            name += "; per head";
        }
        name + ")"
    }

    fn plan(&self, layer: &Layer) -> Plan {
        // A cast takes NaN and what is below zero to 0.
        let rows = |of: &Expr| value(of, layer.states).floor() as usize;
        Plan { decides: self.decides, ..Plan::by_rule(layer, self.score.clone().into()) }
            .protecting(rows(&self.first), rows(&self.newest))
    }
}

/// The value of an expression over k and constants; of one over anything else NaN.
pub(crate) fn value(expr: &Expr, states: usize) -> f64 {
    let of = |expr| value(expr, states);
    match expr {
        Expr::Number(value) => *value,
        Expr::Input(Input::States) => states as f64,
        Expr::Input(_) | Expr::Remembered(_) | Expr::Random(_) => f64::NAN,
        Expr::Unary(function, x) => function.of(of(x)),
        Expr::Binary(function, a, b) => function.of(of(a), of(b)),
        Expr::If(condition, yes, no) => {
            if of(condition) != 0.0 {
                of(yes)
            } else {
                of(no)
            }
        }
    }
}
