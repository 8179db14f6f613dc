//! Score expressions: what a row is worth, as data.

use std::ops::{Add, Div, Mul, Neg, Sub};

use serde::{Deserialize, Serialize};

/// What is known of a row, or of the step, without any tensor code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The current query's softmax weight on the row: the mean over the query heads that share the decision.
    Weight,
    /// The highest of these weights.
    MaxWeight,
    /// The current query's scaled logit on the row, before the softmax: the mean over those heads.
    Logit,
    /// Euclidean norm of the row's key, as it is held: the mean over the KV heads that share the decision.
    KeyNorm,
    /// Euclidean norm of the row's value: the mean over those heads.
    ValueNorm,
    /// Original position of the row.
    Position,
    /// Tokens since the row came; 0 for the current token's.
    Age,
    /// Position of the current token.
    Now,
    /// k, the states of this layer.
    States,
    /// Which layer of the stack this is, counted from 0.
    Layer,
    /// How many layers there are.
    Layers,
    /// Which KV head of the layer this is, counted from 0. Only of scores by which every head decides for itself.
    Head,
}

impl Input {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Weight,
        Self::MaxWeight,
        Self::Logit,
        Self::KeyNorm,
        Self::ValueNorm,
        Self::Position,
        Self::Age,
        Self::Now,
        Self::States,
        Self::Layer,
        Self::Layers,
        Self::Head,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::MaxWeight => "max_weight",
            Self::Logit => "logit",
            Self::KeyNorm => "key_norm",
            Self::ValueNorm => "value_norm",
            Self::Position => "position",
            Self::Age => "age",
            Self::Now => "now",
            Self::States => "k",
            Self::Layer => "layer",
            Self::Layers => "layers",
            Self::Head => "head",
        }
    }
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// −x
    Neg,
    /// |x|
    Abs,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// The largest integer that is not above x.
    Floor,
    /// The smallest integer that is not below x.
    Ceil,
}

impl Unary {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Neg, Self::Abs, Self::Exp, Self::Log, Self::Sqrt, Self::Floor, Self::Ceil];

    /// As it is written: `-` before its argument, else a function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neg => "-",
            Self::Abs => "abs",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
        }
    }

    /// Its value.
    #[inline(always)]
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
        }
    }
}

/// A function of two numbers. Comparisons give 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a ÷ b
    Div,
    /// aᵇ
    Pow,
    /// The lower one; b where a is not a number.
    Min,
    /// The higher one; b where a is not a number.
    Max,
    /// a < b
    Less,
    /// a ≤ b
    LessEqual,
    /// a = b
    Equal,
}

impl Binary {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Pow,
        Self::Min,
        Self::Max,
        Self::Less,
        Self::LessEqual,
        Self::Equal,
    ];

    /// As it is written: an operator between its arguments, or a function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Pow => "pow",
            Self::Min => "min",
            Self::Max => "max",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Equal => "==",
        }
    }

    /// How tightly an operator binds its arguments, 0 for a function.
    pub fn binds(self) -> u8 {
        match self {
            Self::Pow | Self::Min | Self::Max => 0,
            Self::Less | Self::LessEqual | Self::Equal => 1,
            Self::Add | Self::Sub => 2,
            Self::Mul | Self::Div => 3,
        }
    }

    /// Its value.
    #[inline(always)]
    pub fn of(self, a: f64, b: f64) -> f64 {
        let truth = |holds| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Min => {
                if a < b {
                    a
                } else {
                    b
                }
            }
            Self::Max => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            Self::Less => truth(a < b),
            Self::LessEqual => truth(a <= b),
            Self::Equal => truth(a == b),
        }
    }
}

/// An expression over what is known of a row.
///
/// Made with the functions of this module and Rust's operators:
///
/// ```
/// use msrnn_core::score::{age, number, value_norm, weight};
///
/// let score = weight() * value_norm() / (age() + number(1.0));
/// assert_eq!(score.to_string(), "weight * value_norm / (age + 1)");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// A constant.
    Number(f64),
    /// What is known.
    Input(Input),
    /// What the score remembers of the row under a name: the value from before in the update of that name and
    /// before it, the new one after it.
    Remembered(String),
    /// A pseudo-random number that follows from this seed, layer, current position and row position: an
    /// integer from 0 to 32,716.
    Random(u64),
    /// A function of one number.
    Unary(Unary, Box<Expr>),
    /// A function of two.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second where the first is not 0, else the third.
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// A constant.
pub fn number(value: f64) -> Expr {
    Expr::Number(value)
}

/// [`Input::Weight`]
pub fn weight() -> Expr {
    Expr::Input(Input::Weight)
}

/// [`Input::MaxWeight`]
pub fn max_weight() -> Expr {
    Expr::Input(Input::MaxWeight)
}

/// [`Input::Logit`]
pub fn logit() -> Expr {
    Expr::Input(Input::Logit)
}

/// [`Input::KeyNorm`]
pub fn key_norm() -> Expr {
    Expr::Input(Input::KeyNorm)
}

/// [`Input::ValueNorm`]
pub fn value_norm() -> Expr {
    Expr::Input(Input::ValueNorm)
}

/// [`Input::Position`]
pub fn position() -> Expr {
    Expr::Input(Input::Position)
}

/// [`Input::Age`]
pub fn age() -> Expr {
    Expr::Input(Input::Age)
}

/// [`Input::Head`]
pub fn head() -> Expr {
    Expr::Input(Input::Head)
}

/// [`Expr::Remembered`]
pub fn remembered(name: &str) -> Expr {
    Expr::Remembered(name.into())
}

/// [`Expr::Random`]
pub fn random(seed: u64) -> Expr {
    Expr::Random(seed)
}

impl Expr {
    /// A function of this.
    #[must_use]
    pub fn then(self, function: Unary) -> Self {
        Self::Unary(function, Box::new(self))
    }

    /// A function of this and another.
    #[must_use]
    pub fn with(self, function: Binary, other: Self) -> Self {
        Self::Binary(function, Box::new(self), Box::new(other))
    }

    /// `yes` where this is not 0, else `no`.
    #[must_use]
    pub fn choose(self, yes: Self, no: Self) -> Self {
        Self::If(Box::new(self), Box::new(yes), Box::new(no))
    }
}

macro_rules! operator {
    ($operator:ident, $method:ident) => {
        impl $operator for Expr {
            type Output = Expr;

            fn $method(self, other: Expr) -> Expr {
                self.with(Binary::$operator, other)
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for Expr {
    type Output = Expr;

    fn neg(self) -> Expr {
        self.then(Unary::Neg)
    }
}

/// What a policy remembers of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// By which expressions refer to it.
    pub name: String,
    /// Its value after a step; before the first it is 0.
    pub becomes: Expr,
}

/// What rows are worth: the row with the lowest score goes, of equal ones the oldest.
///
/// ```
/// use msrnn_core::score::{Score, number, remembered, weight};
///
/// // An average of the attention that a row receives, in which the past fades.
/// let fading = Score::of(remembered("m")).remember("m", number(0.9) * remembered("m") + weight());
/// assert_eq!(fading.to_string(), "m = 0.9 * m + weight; keep m");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Updated at every token, in this order, before the score is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembers: Vec<Channel>,
    /// The score.
    pub keep: Expr,
}

impl Score {
    /// A score that remembers nothing.
    pub fn of(keep: Expr) -> Self {
        Self { remembers: Vec::new(), keep }
    }

    /// The same, with one more thing to remember.
    #[must_use]
    pub fn remember(mut self, name: &str, becomes: Expr) -> Self {
        self.remembers.push(Channel { name: name.into(), becomes });
        self
    }
}
