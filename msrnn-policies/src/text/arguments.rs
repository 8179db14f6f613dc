//! What is written behind the name of a registered policy.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use super::place::Place;
use crate::error::SpecError;

/// The parameters of a policy as they were written, such as `+4`, `:7` or `(window=32, pool=max7)`.
///
/// What is written and never asked for is an error, so a policy cannot be given what it does not know.
#[derive(Debug)]
pub struct Arguments<'t> {
    text: &'t str,
    /// The policy's name as written.
    name: &'t str,
    at: Range<usize>,
    named: Vec<Named<'t>>,
    first: Option<usize>,
    /// With its place, where it was written.
    seed: Option<(u64, Range<usize>)>,
    /// For what draws at random and names no seed.
    given: Option<u64>,
    /// What was asked for.
    asked: RefCell<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    seed: bool,
    named: Vec<String>,
}

/// `name=value`
#[derive(Clone, Debug)]
pub(super) struct Named<'t> {
    pub(super) name: &'t str,
    pub(super) value: &'t str,
    /// Of the name and of the value.
    pub(super) at: [Range<usize>; 2],
}

impl<'t> Arguments<'t> {
    pub(super) fn new(text: &'t str, name: &'t str, at: Range<usize>, named: Vec<Named<'t>>) -> Self {
        Self { text, name, at, named, first: None, seed: None, given: None, asked: RefCell::default() }
    }

    pub(super) fn with_first(self, first: usize) -> Self {
        Self { first: Some(first), ..self }
    }

    pub(super) fn with_seed(self, seed: Option<(u64, Range<usize>)>, given: Option<u64>) -> Self {
        Self { seed, given, ..self }
    }

    /// The number behind `+`; 0 where the entry's name has none.
    pub fn first(&self) -> usize {
        self.first.unwrap_or(0)
    }

    /// The number behind `:`, else the seed that the command was given for all that draws at random, if it was.
    pub fn seed(&self) -> Option<u64> {
        self.asked.borrow_mut().seed = true;
        self.seed.as_ref().map(|(seed, _)| *seed).or(self.given)
    }

    /// The value of an argument that is written as `name=value`; none where it is absent.
    ///
    /// # Errors
    ///
    /// When the value cannot be read.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, SpecError> {
        self.asked.borrow_mut().named.push(name.into());
        let Some(argument) = self.named.iter().find(|argument| argument.name == name) else { return Ok(None) };
        match argument.value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.refuse(name, format!("{:?} is no value of {name}: {error}", argument.value))),
        }
    }

    /// An error that points at the value of an argument, or at the policy's name where it is absent.
    pub fn refuse(&self, name: &str, problem: impl Into<String>) -> SpecError {
        let argument = self.named.iter().find(|argument| argument.name == name);
        let at = argument.map_or(&self.at, |argument| &argument.at[1]);
        SpecError::Meaning { problem: problem.into(), place: Place::new(self.text, at.clone()) }
    }

    /// Where the value of an argument stands.
    pub(super) fn place(&self, name: &str) -> Option<Range<usize>> {
        self.named.iter().find(|argument| argument.name == name).map(|argument| argument.at[1].clone())
    }

    /// Whether a seed was asked for that is not written.
    pub(super) fn wants_seed(&self) -> bool {
        self.seed.is_none() && self.asked.borrow().seed
    }

    /// Refuses what was not asked for, or stands there twice.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let asked = self.asked.borrow();
        let wrong = |problem: String, at: &Range<usize>| {
            Err(SpecError::Meaning { problem, place: Place::new(self.text, at.clone()) })
        };
        if let (Some((seed, at)), false) = (&self.seed, asked.seed) {
            return wrong(format!("{} draws nothing at random; leave :{seed} out", self.name), at);
        }
        for (index, argument) in self.named.iter().enumerate() {
            if !asked.named.iter().any(|name| name == argument.name) {
                let takes = match &asked.named[..] {
                    [] => "none; leave it out".into(),
                    names => names.join(", "),
                };
                return wrong(
                    format!("{} has no argument {:?}; it takes {takes}", self.name, argument.name),
                    &argument.at[0],
                );
            }
            if self.named[..index].iter().any(|other| other.name == argument.name) {
                return wrong(format!("{} is given twice; leave one out", argument.name), &argument.at[0]);
            }
        }
        Ok(())
    }
}
