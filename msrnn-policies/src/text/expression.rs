//! Expressions, as they are displayed.

use std::ops::Range;

use msrnn_core::score::{Binary, Expr, Input, Unary, number, random};

use super::cursor::{Cursor, Word};
use crate::error::SpecError;

/// Functions of functions, and terms behind terms.
const DEEPEST: usize = 256;

/// Words of scores that name nothing.
const WORDS: [&str; 8] = ["keep", "first", "newest", "per", "if", "random", "inf", "nan"];

/// What an expression may speak of.
pub(super) enum Known<'n> {
    /// All that is known of a row, and what is remembered: other names are noted.
    OfRow(&'n mut Vec<(String, Range<usize>)>),
    /// k alone.
    OfStates,
}

/// Reads an expression.
pub(super) fn parse(cursor: &mut Cursor<'_>, known: Known<'_>) -> Result<Expr, SpecError> {
    Expressions { cursor, known }.comparison().map(|tree| tree.expr)
}

/// Names of what is known of a row.
pub(super) fn inputs() -> impl Iterator<Item = &'static str> {
    Input::ALL.into_iter().map(Input::name)
}

/// Known of a row unless a score remembers something under that name, as it could before it was known.
pub(super) const UNLESS_REMEMBERED: Input = Input::Head;

/// What stands for a name that is not remembered.
pub(super) fn known(expr: Expr) -> Expr {
    let inside = |expr: Box<Expr>| Box::new(known(*expr));
    match expr {
        Expr::Remembered(name) if name == UNLESS_REMEMBERED.name() => Expr::Input(UNLESS_REMEMBERED),
        Expr::Unary(function, x) => Expr::Unary(function, inside(x)),
        Expr::Binary(function, a, b) => Expr::Binary(function, inside(a), inside(b)),
        Expr::If(condition, yes, no) => Expr::If(inside(condition), inside(yes), inside(no)),
        leaf => leaf,
    }
}

fn unary() -> impl Iterator<Item = Unary> {
    Unary::ALL.into_iter().filter(|function| *function != Unary::Neg)
}

fn binary() -> impl Iterator<Item = Binary> {
    Binary::ALL.into_iter().filter(|function| function.binds() == 0)
}

/// Whether a name cannot be remembered.
pub(super) fn is_reserved(name: &str) -> bool {
    let functions = unary().map(Unary::name).chain(binary().map(Binary::name));
    let inputs = inputs().filter(|name| *name != UNLESS_REMEMBERED.name());
    inputs.chain(functions).chain(WORDS).any(|word| word == name)
}

/// An expression and how deep it is.
struct Tree {
    expr: Expr,
    height: usize,
}

impl From<Expr> for Tree {
    fn from(leaf: Expr) -> Self {
        Self { expr: leaf, height: 1 }
    }
}

struct Expressions<'c, 't, 'n> {
    cursor: &'c mut Cursor<'t>,
    known: Known<'n>,
}

impl<'t> Expressions<'_, 't, '_> {
    fn grown(&self, below: usize, expr: Expr) -> Result<Tree, SpecError> {
        let height = below + 1;
        if height > DEEPEST { Err(self.cursor.too_deep(DEEPEST)) } else { Ok(Tree { expr, height }) }
    }

    fn pair(&self, function: Binary, a: Tree, b: Tree) -> Result<Tree, SpecError> {
        self.grown(a.height.max(b.height), a.expr.with(function, b.expr))
    }

    /// Comparisons bind least, and only two things are compared.
    fn comparison(&mut self) -> Result<Tree, SpecError> {
        let left = self.sum()?;
        let Some(sign) = self.compares() else { return Ok(left) };
        let right = self.sum()?;
        let at = self.cursor.next();
        if let Some(sign) = self.compares() {
            let problem = "only two things are compared at once; multiply two comparisons, as in (1 < age) * (age < 8)";
            return Err(self.cursor.wrong(at..at + sign.len(), problem));
        }
        match sign {
            "<" => self.pair(Binary::Less, left, right),
            "<=" => self.pair(Binary::LessEqual, left, right),
            ">" => self.pair(Binary::Less, right, left),
            ">=" => self.pair(Binary::LessEqual, right, left),
            "==" => self.pair(Binary::Equal, left, right),
            _ => {
                let equal = self.pair(Binary::Equal, left, right)?;
                self.pair(Binary::Sub, number(1.0).into(), equal)
            }
        }
    }

    fn compares(&mut self) -> Option<&'static str> {
        self.cursor.eat_any(&["<=", ">=", "==", "!=", "<", ">"])
    }

    fn sum(&mut self) -> Result<Tree, SpecError> {
        let mut left = self.product()?;
        while let Some(sign) = self.cursor.eat_any(&["+", "-"]) {
            let right = self.product()?;
            left = self.pair(if sign == "+" { Binary::Add } else { Binary::Sub }, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Tree, SpecError> {
        let mut left = self.signed()?;
        while let Some(sign) = self.cursor.eat_any(&["*", "/"]) {
            let right = self.signed()?;
            left = self.pair(if sign == "*" { Binary::Mul } else { Binary::Div }, left, right)?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Tree, SpecError> {
        if !self.cursor.eat("-") {
            return self.atom();
        }
        if let Some(value) = self.constant()? {
            return Ok(number(-value).into());
        }
        self.cursor.down()?;
        let of = self.signed()?;
        self.cursor.up();
        self.grown(of.height, -of.expr)
    }

    /// A number or `inf`, if one comes next.
    fn constant(&mut self) -> Result<Option<f64>, SpecError> {
        match self.cursor.sees_identifier() {
            Some(word) if word.text == "inf" => {
                self.cursor.identifier();
                Ok(Some(f64::INFINITY))
            }
            _ => self.cursor.number(),
        }
    }

    fn atom(&mut self) -> Result<Tree, SpecError> {
        if let Some(value) = self.constant()? {
            return Ok(number(value).into());
        }
        if self.cursor.eat("(") {
            self.cursor.down()?;
            let inside = self.comparison()?;
            self.cursor.up();
            self.cursor.expect(")", "an operator or )")?;
            return Ok(inside);
        }
        let Some(word) = self.cursor.identifier() else {
            return Err(self.cursor.expected("a number, a name such as weight, or ("));
        };
        match self.cursor.sees("(") {
            true => self.call(word),
            false => self.named(word),
        }
    }

    /// A name that stands for a number.
    fn named(&mut self, word: Word<'t>) -> Result<Tree, SpecError> {
        let mut inputs = Input::ALL.into_iter().filter(|input| *input != UNLESS_REMEMBERED);
        let input = inputs.find(|input| input.name() == word.text);
        match (&mut self.known, input) {
            (Known::OfRow(_), Some(input)) | (Known::OfStates, Some(input @ Input::States)) => {
                Ok(Expr::Input(input).into())
            }
            (Known::OfStates, _) => {
                let problem =
                    format!("how many rows are protected follows from numbers and k, not from {:?}", word.text);
                Err(self.cursor.wrong(word.at, problem))
            }
            (Known::OfRow(_), None) if is_reserved(word.text) => {
                let problem =
                    format!("{:?} stands for no number here; it takes arguments, or begins a clause", word.text);
                Err(self.cursor.wrong(word.at, problem))
            }
            (Known::OfRow(names), None) => {
                names.push((word.text.into(), word.at));
                Ok(Expr::Remembered(word.text.into()).into())
            }
        }
    }

    /// A function, whose parenthesis comes next.
    fn call(&mut self, word: Word<'t>) -> Result<Tree, SpecError> {
        if word.text == "random" && matches!(self.known, Known::OfRow(_)) {
            self.cursor.eat("(");
            let (seed, _) = self.cursor.integer().ok_or_else(|| self.cursor.expected("a seed, as in random(7)"))?;
            self.cursor.expect(")", ")")?;
            return Ok(random(seed).into());
        }
        if word.text == "if" {
            let [condition, yes, no] = self.arguments()?;
            let height = condition.height.max(yes.height).max(no.height);
            return self.grown(height, condition.expr.choose(yes.expr, no.expr));
        }
        if let Some(function) = unary().find(|function| function.name() == word.text) {
            let [x] = self.arguments()?;
            return self.grown(x.height, x.expr.then(function));
        }
        if let Some(function) = binary().find(|function| function.name() == word.text) {
            let [a, b] = self.arguments()?;
            return self.pair(function, a, b);
        }
        let functions: Vec<&str> = unary().map(Unary::name).chain(binary().map(Binary::name)).collect();
        let problem =
            format!("no function is called {:?}; there are {}, if and random", word.text, functions.join(", "));
        Err(self.cursor.wrong(word.at, problem))
    }

    fn arguments<const N: usize>(&mut self) -> Result<[Tree; N], SpecError> {
        self.cursor.expect("(", "(")?;
        self.cursor.down()?;
        let mut arguments = Vec::with_capacity(N);
        for index in 0..N {
            if index > 0 {
                self.cursor.expect(",", &format!("an operator, or , and argument {} of {N}", index + 1))?;
            }
            arguments.push(self.comparison()?);
        }
        self.cursor.expect(")", "an operator or )")?;
        self.cursor.up();
        arguments.try_into().map_err(|_| self.cursor.expected(")"))
    }
}
