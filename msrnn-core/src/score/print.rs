//! Expressions as text, with no more parentheses than they need.

use std::fmt::{Display, Formatter, Result};

use super::expr::{Binary, Channel, Expr, Score, Unary};

/// Binds tighter than any operator.
const TIGHTEST: u8 = 4;

impl Expr {
    /// Writes it where what is around binds with this strength.
    fn write(&self, f: &mut Formatter<'_>, around: u8) -> Result {
        match self {
            Expr::Number(value) if *value < 0.0 && around > 0 => write!(f, "({value})"),
            Expr::Number(value) => write!(f, "{value}"),
            Expr::Input(input) => f.write_str(input.name()),
            Expr::Remembered(name) => f.write_str(name),
            Expr::Random(seed) => write!(f, "random({seed})"),
            Expr::Unary(Unary::Neg, x) => {
                if around > 0 {
                    f.write_str("(")?;
                }
                f.write_str("-")?;
                x.write(f, TIGHTEST)?;
                if around > 0 { f.write_str(")") } else { Ok(()) }
            }
            Expr::Unary(function, x) => {
                write!(f, "{}(", function.name())?;
                x.write(f, 0)?;
                f.write_str(")")
            }
            Expr::Binary(function, a, b) => match function.binds() {
                0 => arguments(f, function.name(), &[a, b]),
                binds => {
                    // Operators of equal strength are read from the left; comparisons stand alone.
                    let left = if is_comparison(*function) { binds + 1 } else { binds };
                    let inside = binds < around;
                    if inside {
                        f.write_str("(")?;
                    }
                    a.write(f, left)?;
                    write!(f, " {} ", function.name())?;
                    b.write(f, binds + 1)?;
                    if inside { f.write_str(")") } else { Ok(()) }
                }
            },
            Expr::If(condition, yes, no) => arguments(f, "if", &[condition, yes, no]),
        }
    }
}

fn is_comparison(function: Binary) -> bool {
    matches!(function, Binary::Less | Binary::LessEqual | Binary::Equal)
}

fn arguments(f: &mut Formatter<'_>, name: &str, arguments: &[&Expr]) -> Result {
    write!(f, "{name}(")?;
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        argument.write(f, 0)?;
    }
    f.write_str(")")
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.write(f, 0)
    }
}

impl Display for Score {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for Channel { name, becomes } in &self.remembers {
            write!(f, "{name} = {becomes}; ")?;
        }
        match self.remembers.is_empty() {
            true => write!(f, "{}", self.keep),
            false => write!(f, "keep {}", self.keep),
        }
    }
}
