//! `score(...)`: a rule that is typed.

use std::ops::Range;
use std::sync::Arc;

use msrnn_core::policy::{Decides, Policy};
use msrnn_core::score::{Channel, Expr, Score};

use super::expression::{self, Known};
use super::policy::Parser;
use crate::error::SpecError;
use crate::scored::{Scored, value};

const CLAUSES: &str = "the score, as in keep m; an update, as in m = m + weight; first 4, newest 32; or per head";

/// The clauses as they come.
#[derive(Default)]
struct Clauses {
    remembers: Vec<Channel>,
    keep: Option<Expr>,
    first: Option<Expr>,
    newest: Option<Expr>,
    decides: Option<Decides>,
    /// Names in expressions that must be remembered, and where.
    names: Vec<(String, Range<usize>)>,
}

impl Parser<'_, '_> {
    /// What stands in the parentheses of a score: clauses separated by `;`.
    pub(super) fn score(&mut self) -> Result<Arc<dyn Policy>, SpecError> {
        self.cursor.expect("(", "( as in score(weight)")?;
        let mut clauses = Clauses::default();
        loop {
            self.clause(&mut clauses)?;
            if !self.cursor.eat(";") {
                break;
            }
        }
        let Some(keep) = clauses.keep else { return Err(self.cursor.expected("; and the score, as in keep m")) };
        self.cursor.expect(")", "an operator, ; or )")?;
        let Clauses { remembers, first, newest, decides, names, .. } = clauses;
        let mut of_head = None;
        for (name, at) in names {
            if !remembers.iter().any(|channel| channel.name == name) {
                if name == expression::UNLESS_REMEMBERED.name() {
                    of_head = Some(at);
                    continue;
                }
                let inputs: Vec<&str> = expression::inputs().collect();
                let problem = format!(
                    "{name:?} is neither known of a row nor remembered; there are {}, and what is remembered by an update, as in {name} = {name} + weight",
                    inputs.join(", ")
                );
                return Err(self.cursor.wrong(at, problem));
            }
        }
        let score = match of_head {
            None => Score { remembers, keep },
            Some(at) if decides != Some(Decides::KvHead) => {
                let problem = "which head it is is known where every head decides; write per head, as in score(head * age; per head)";
                return Err(self.cursor.wrong(at, problem));
            }
            Some(_) => {
                let known = |channel: Channel| Channel { becomes: expression::known(channel.becomes), ..channel };
                Score { remembers: remembers.into_iter().map(known).collect(), keep: expression::known(keep) }
            }
        };
        let scored = Scored::by(score);
        Ok(Arc::new(Scored {
            first: first.unwrap_or(scored.first),
            newest: newest.unwrap_or(scored.newest),
            decides: decides.unwrap_or(scored.decides),
            ..Scored::by(scored.score)
        }))
    }

    fn clause(&mut self, clauses: &mut Clauses) -> Result<(), SpecError> {
        let Some(word) = self.cursor.sees_identifier() else { return self.keep(clauses) };
        match word.text {
            "first" | "newest" => self.protected(clauses),
            "per" => self.decides(clauses),
            "keep" => {
                self.cursor.identifier();
                self.keep(clauses)
            }
            name => {
                let after = self.text[word.at.end..].trim_start();
                if !after.starts_with('=') || after.starts_with("==") {
                    return self.keep(clauses);
                }
                self.cursor.identifier();
                self.cursor.expect("=", "=")?;
                if expression::is_reserved(name) {
                    let problem = format!("{name:?} means something already; remember it under another name");
                    return Err(self.cursor.wrong(word.at, problem));
                }
                if clauses.remembers.iter().any(|channel| channel.name == name) {
                    let problem = format!("{name:?} is remembered already; give each a name of its own");
                    return Err(self.cursor.wrong(word.at, problem));
                }
                if clauses.keep.is_some() {
                    return Err(self
                        .cursor
                        .wrong(word.at, "what is remembered stands before the score; move it there"));
                }
                let becomes = expression::parse(&mut self.cursor, Known::OfRow(&mut clauses.names))?;
                clauses.remembers.push(Channel { name: name.into(), becomes });
                Ok(())
            }
        }
    }

    fn keep(&mut self, clauses: &mut Clauses) -> Result<(), SpecError> {
        let start = self.cursor.next();
        if self.cursor.is_at_end() || self.cursor.sees(")") || self.cursor.sees(";") {
            return Err(self.cursor.expected(CLAUSES));
        }
        let keep = expression::parse(&mut self.cursor, Known::OfRow(&mut clauses.names))?;
        match clauses.keep.replace(keep) {
            None => Ok(()),
            Some(_) => Err(self.cursor.wrong(start..self.cursor.now(), "there are two scores; leave one out")),
        }
    }

    /// `first 4, newest 32`
    fn protected(&mut self, clauses: &mut Clauses) -> Result<(), SpecError> {
        loop {
            let expected = "first or newest, and how many";
            let word = self.cursor.identifier().ok_or_else(|| self.cursor.expected(expected))?;
            let start = self.cursor.next();
            let rows = match word.text {
                "first" => &mut clauses.first,
                "newest" => &mut clauses.newest,
                _ => return Err(self.cursor.wrong(word.at, format!("expected {expected}"))),
            };
            let expr = expression::parse(&mut self.cursor, Known::OfStates)?;
            // What is wrong with every k is wrong as it is written; with some, it protects nothing there.
            let values = [1, 1 << 24].map(|states| value(&expr, states));
            if values.iter().all(|value| value.is_nan() || *value < 0.0) {
                let problem = format!("{expr} is no number of rows; give 0 or more");
                return Err(self.cursor.wrong(start..self.cursor.now(), problem));
            }
            if rows.replace(expr).is_some() {
                return Err(self.cursor.wrong(word.at, format!("{} is given twice; leave one out", word.text)));
            }
            if !self.cursor.eat(",") {
                return Ok(());
            }
        }
    }

    /// `per head` or `per layer`
    fn decides(&mut self, clauses: &mut Clauses) -> Result<(), SpecError> {
        let per = self.cursor.identifier();
        let who = self.cursor.sees_identifier();
        let decides = match who.as_ref().map(|word| word.text) {
            Some("head") => Decides::KvHead,
            Some("layer") => Decides::Layer,
            _ => return Err(self.cursor.expected("head or layer")),
        };
        self.cursor.identifier();
        match (clauses.decides.replace(decides), per) {
            (Some(_), Some(per)) => {
                Err(self.cursor.wrong(per.at.start..self.cursor.now(), "who decides is said twice; leave one out"))
            }
            _ => Ok(()),
        }
    }
}
