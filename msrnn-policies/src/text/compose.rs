//! Policies made of others.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use msrnn_core::placement::Positions;
use msrnn_core::policy::{Layer, Policy};

use super::arguments::Arguments;
use super::cursor::Word;
use super::policy::{Parser, RESERVED};
use crate::combine::{AfterPrompt, Every, Merge, PerHead, PerLayer, Pooled, Protect, Pyramid, Renumbered};
use crate::error::SpecError;
use crate::needs::{fewest_states, omits};
use crate::window::Window;

/// An entry of `layers(...)` or `heads(...)`.
struct Part {
    /// None for `*`.
    range: Option<RangeInclusive<usize>>,
    policy: Option<Arc<dyn Policy>>,
    at: Range<usize>,
}

/// Its entries with ranges, and what `*` is.
type Parts = (Vec<Part>, Option<Arc<dyn Policy>>);

/// States that are enough for all of them.
fn fewest_states_of<'p>(policies: impl Iterator<Item = &'p Arc<dyn Policy>>) -> usize {
    policies.filter_map(|policy| fewest_states(policy.as_ref())).max().unwrap_or(1)
}

impl<'t> Parser<'_, 't> {
    pub(super) fn open(&mut self, name: &Word<'t>) -> Result<(), SpecError> {
        let example = RESERVED.iter().find(|(known, _)| *known == name.text).map_or("", |(_, example)| example);
        self.cursor.expect("(", &format!("( as in {example}"))
    }

    /// The policy inside another, which has no budget of its own.
    pub(super) fn inside(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let policy = self.policy()?;
        let at = self.cursor.next();
        match self.cursor.sees("@") {
            false => Ok(policy),
            true => Err(self
                .cursor
                .wrong(at..at + 1, format!("the budget stands behind the whole, as in {}(…)@512", name.text))),
        }
    }

    /// `name=value` behind the policy inside, up to the parenthesis.
    pub(super) fn options(&mut self, name: &Word<'t>) -> Result<Arguments<'t>, SpecError> {
        let named = match self.cursor.eat(",") {
            true => self.named()?,
            false => self.cursor.expect(")", ", or )").map(|()| Vec::new())?,
        };
        Ok(Arguments::new(self.text, name.text, name.at.clone(), named))
    }

    pub(super) fn protect(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        let options = self.options(name)?;
        let rows = |what| Ok::<usize, SpecError>(options.get(what)?.unwrap_or(0));
        let protect = Protect { policy, first: rows("first")?, newest: rows("newest")? };
        options.check()?;
        Ok(Arc::new(protect))
    }

    pub(super) fn pyramid(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        let options = self.options(name)?;
        let beta = options.get("beta")?.unwrap_or(Pyramid::BETA);
        options.check()?;
        match Pyramid::new(policy, beta) {
            Ok(pyramid) => Ok(Arc::new(pyramid)),
            Err(error) => Err(options.refuse("beta", error.to_string())),
        }
    }

    pub(super) fn every(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let expected = "a number of tokens as in every(128, tova)";
        let (tokens, at) = self.cursor.integer::<usize>().ok_or_else(|| self.cursor.expected(expected))?;
        if tokens == 0 {
            return Err(self.cursor.wrong(at, "a cut every 0 tokens is none; give 1, for every token, or more"));
        }
        self.cursor.expect(",", ", and the policy")?;
        let policy = self.inside(name)?;
        self.cursor.expect(")", ")")?;
        Ok(Arc::new(Every { tokens, policy }))
    }

    pub(super) fn after_prompt(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        self.cursor.expect(")", ")")?;
        Ok(Arc::new(AfterPrompt { policy }))
    }

    pub(super) fn renumbered(&mut self, name: &Word<'t>, positions: Positions) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        self.cursor.expect(")", ")")?;
        Ok(Arc::new(Renumbered { positions, policy }))
    }

    /// StreamingLLM: sinks and a window, numbered within the state.
    pub(super) fn streaming(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let named = if self.cursor.eat("(") { self.named()? } else { Vec::new() };
        let options = Arguments::new(self.text, name.text, name.at.clone(), named);
        let first = options.get("first")?.unwrap_or(4);
        options.check()?;
        Ok(Arc::new(Renumbered { positions: Positions::InState, policy: Arc::new(Window { first }) }))
    }

    pub(super) fn merge(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        let options = self.options(name)?;
        let merge = Merge::of(policy);
        let threshold = options.get("threshold")?.unwrap_or(merge.threshold);
        let weight = options.get("weight")?.unwrap_or(merge.weight);
        options.check()?;
        Ok(Arc::new(Merge { threshold, weight, ..merge }))
    }

    pub(super) fn pooled(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let policy = self.inside(name)?;
        let options = self.options(name)?;
        let floor: f64 = options.get("floor")?.unwrap_or(Pooled::FLOOR);
        if !(0.0..=1.0).contains(&floor) {
            return Err(options.refuse("floor", "give a share of the states from 0 to 1, such as floor=0.2"));
        }
        options.check()?;
        Ok(Arc::new(Pooled { policy, floor }))
    }

    pub(super) fn layers(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let (parts, rest) = self.parts(name, "layer")?;
        let mut layers = PerLayer::all(rest);
        for Part { range, policy, at } in parts {
            if let Some(range) = range {
                layers = layers.but(range, policy).map_err(|error| self.cursor.at(at, error))?;
            }
        }
        Ok(Arc::new(layers))
    }

    pub(super) fn heads(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let (parts, rest) = self.parts(name, "head")?;
        let policies = parts.iter().map(|part| &part.policy).chain([&rest]).flatten();
        let whole = Layer { kv_heads: 2, ..Layer::only(fewest_states_of(policies.clone())) };
        for policy in policies {
            let plan = policy.plan(&whole);
            let problem = match () {
                () if policy.foresight().is_some() => "is told what comes, which is for whole layers",
                () if !plan.heads.is_empty() => "has heads of its own",
                () if plan.pooled.is_some() => "lets the heads of a layer compete",
                () if plan.positions.is_some() => {
                    "numbers rows anew, which is for whole layers; put it around the whole"
                }
                () => continue,
            };
            let problem = format!("{} {problem}; it cannot stand in heads(…)", policy.name());
            return Err(self.cursor.wrong(name.at.clone(), problem));
        }
        let mut heads = PerHead::all(rest);
        for Part { range, policy, at } in parts {
            if let Some(range) = range {
                heads = heads.but(range, policy).map_err(|error| self.cursor.at(at, error))?;
            }
        }
        Ok(Arc::new(heads))
    }

    /// In any order; `*` is what the other entries leave. `one`: a layer or a head.
    fn parts(&mut self, name: &Word<'t>, one: &str) -> Result<Parts, SpecError> {
        self.open(name)?;
        let mut parts: Vec<Part> = Vec::new();
        let mut rest: Option<Option<Arc<dyn Policy>>> = None;
        loop {
            let part = self.part(one)?;
            match part.range {
                None if rest.is_some() => {
                    return Err(self.cursor.wrong(part.at, "* stands there twice; leave one out"));
                }
                None => rest = Some(part.policy),
                Some(_) => parts.push(part),
            }
            if !self.cursor.eat(",") {
                break;
            }
        }
        let Some(rest) = rest else {
            let expected = format!(", and a policy for the {one}s that are left, as in *: tova");
            return Err(self.cursor.expected(expected));
        };
        self.cursor.expect(")", ", or )")?;
        if rest.is_none() && parts.iter().all(|part| part.policy.is_none()) {
            let problem = format!("every {one} is full; write full, or bound some of them");
            return Err(self.cursor.wrong(name.at.clone(), problem));
        }
        Ok((parts, rest))
    }

    /// `0-1: full`, `2: tova@512` or `*: tova`.
    fn part(&mut self, one: &str) -> Result<Part, SpecError> {
        let start = self.cursor.next();
        let range = match self.cursor.eat("*") {
            true => None,
            false => {
                let expected = format!("{one}s as in 0-1, a {one} as in 3, or * for the rest");
                let (first, _) = self.cursor.integer().ok_or_else(|| self.cursor.expected(expected))?;
                let last = match self.cursor.eat("-") {
                    true => {
                        self.cursor
                            .integer()
                            .ok_or_else(|| self.cursor.expected(format!("the last {one} of the range")))?
                            .0
                    }
                    false => first,
                };
                Some(first..=last)
            }
        };
        let at = start..self.cursor.now();
        self.cursor.expect(":", &format!(": and the policy of these {one}s"))?;
        if self.full() {
            let at_sign = self.cursor.next();
            return match self.cursor.sees("@") {
                false => Ok(Part { range, policy: None, at }),
                true => Err(self
                    .cursor
                    .wrong(at_sign..at_sign + 1, "full keeps every state and takes no budget; leave it out")),
            };
        }
        let policy = self.policy()?;
        let at_sign = self.cursor.next();
        if self.cursor.eat("@") {
            if !omits(policy.as_ref()) {
                let problem = format!("{} keeps every state and takes no budget; leave it out", policy.name());
                return Err(self.cursor.wrong(at_sign..at_sign + 1, problem));
            }
            self.inner_budget()?;
        }
        Ok(Part { range, policy: Some(policy), at })
    }

    /// A budget inside is one of the whole: k is the same for all layers and heads that are bounded.
    fn inner_budget(&mut self) -> Result<(), SpecError> {
        let next = self.cursor.next();
        let word = self.cursor.value().unwrap_or(Word { text: "", at: next..next });
        let (budget, at) = self.read_budget(word)?;
        match &self.inner {
            Some((other, _)) if *other != budget => {
                let problem = format!(
                    "another entry has @{other}, but there is one k for all of them; write one budget behind the parenthesis, as in layers(…)@{other}"
                );
                Err(self.cursor.wrong(at, problem))
            }
            _ => {
                self.inner = Some((budget, at));
                Ok(())
            }
        }
    }
}
