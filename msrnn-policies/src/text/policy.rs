//! A policy and its budget.

use std::ops::Range;
use std::sync::Arc;

use msrnn_core::budget::Budget;
use msrnn_core::packing::Bits;
use msrnn_core::placement::Positions;
use msrnn_core::policy::Policy;

use super::arguments::{Arguments, Named};
use super::cursor::{Cursor, Word};
use super::elsewhere;
use super::list::without_budget;
use crate::combine::Protect;
use crate::error::SpecError;
use crate::needs::{fewest_states, omits};
use crate::registry::{Entry, Registry};

/// Bytes that a text may have.
const LONGEST: usize = 4096;

/// Names that cannot be registered, and how they are written.
pub(crate) const RESERVED: [(&str, &str); 18] = [
    ("full", "full"),
    ("score", "score(weight)"),
    ("protect", "protect(tova, first=4)"),
    ("layers", "layers(0-1: full, *: tova)"),
    ("heads", "heads(0: full, *: window+4)"),
    ("pyramid", "pyramid(tova)"),
    ("every", "every(128, tova)"),
    ("after-prompt", "after-prompt(tova)"),
    ("merge", "merge(h2o)"),
    ("pooled", "pooled(snapkv, floor=0.2)"),
    ("int8", "int8(tova)"),
    ("int4", "int4(tova, recent=32)"),
    ("int2", "int2(full, keys=channel)"),
    ("in-state", "in-state(tova)"),
    ("gap-compressed", "gap-compressed(tova)"),
    ("original", "original(tova)"),
    ("streaming", "streaming(first=4)"),
    ("kivi", "kivi(bits=2, group=32, recent=128)"),
];

/// What a text says.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// None for `full`.
    pub(crate) policy: Option<Arc<dyn Policy>>,
    pub(crate) budget: Option<Budget>,
    /// Bytes of the text before the budget that stands behind it; none where the budget stands inside.
    pub(crate) bare: Option<usize>,
    /// Behind which bytes a seed may be written that is not.
    pub(crate) unseeded: Vec<usize>,
}

/// Reads a policy with or without a budget. `seed`: for what draws at random and names none.
pub(crate) fn parse(registry: &Registry, text: &str, seed: Option<u64>) -> Result<Parsed, SpecError> {
    let text = text.trim();
    // A budget or a seed that is put behind a policy later makes it no longer than it may be.
    let length = without_budget(text).len().max(text.len().saturating_sub(LONGEST));
    if length > LONGEST {
        return Err(SpecError::TooLong { length: text.len(), most: LONGEST });
    }
    let cursor = Cursor::new(text);
    let mut parser = Parser { registry, text, seed, cursor, inner: None, unseeded: Vec::new(), channels: Vec::new() };
    let policy = match parser.full() {
        true => None,
        false => Some(parser.policy()?),
    };
    let bare = parser.cursor.now();
    let outer = parser.budget(policy.as_ref())?;
    if let Some(policy) = &policy {
        parser.check_packed(policy.as_ref(), 0..bare)?;
    }
    if let Some(policy) = &policy
        && fewest_states(policy.as_ref()).is_none()
    {
        return Err(parser.cursor.at(0..bare, SpecError::NeverEnough(policy.name())));
    }
    let (budget, bare) = match (outer, parser.inner) {
        (Some((_, at)), Some(_)) => {
            return Err(parser.cursor.wrong(at, "the budget is given inside already; leave one out"));
        }
        (None, Some((budget, _))) => (Some(budget), None),
        (outer, None) => (outer.map(|(budget, _)| budget), Some(bare)),
    };
    Ok(Parsed { policy, budget, bare, unseeded: parser.unseeded })
}

/// The entry that a text without budget is of, if it is no more than that.
pub(crate) fn entry_of<'r>(registry: &'r Registry, text: &str) -> Option<&'r Entry> {
    let text = elsewhere::same(text).unwrap_or(text);
    let mut cursor = Cursor::new(text);
    let name = cursor.name()?;
    if cursor.eat(":") || cursor.sees("(") {
        return registry.named(name.text).filter(|_| parse(registry, text, None).is_ok());
    }
    match cursor.eat("+") {
        false => registry.named(name.text).filter(|_| cursor.is_at_end()),
        true => registry
            .named(&format!("{}+i", name.text))
            .filter(|_| cursor.integer::<usize>().is_some() && cursor.is_at_end()),
    }
}

/// Whether a name can be written in a spec.
pub(crate) fn is_name(name: &str) -> bool {
    let mut cursor = Cursor::new(name);
    cursor.name().is_some_and(|word| word.text == name)
}

pub(super) struct Parser<'r, 't> {
    pub(super) registry: &'r Registry,
    pub(super) text: &'t str,
    pub(super) seed: Option<u64>,
    pub(super) cursor: Cursor<'t>,
    /// A budget that stood inside.
    pub(super) inner: Option<(Budget, Range<usize>)>,
    unseeded: Vec<usize>,
    /// Where keys are said to be packed per channel.
    pub(super) channels: Vec<Range<usize>>,
}

impl<'t> Parser<'_, 't> {
    /// Moves past `full` if it comes next, alone.
    pub(super) fn full(&mut self) -> bool {
        let mut ahead = Cursor::new(&self.text[self.cursor.next()..]);
        let is_full = ahead.name().is_some_and(|word| word.text == "full");
        is_full && self.cursor.eat("full")
    }

    /// A bounded policy.
    pub(super) fn policy(&mut self) -> Result<Arc<dyn Policy>, SpecError> {
        self.cursor.down()?;
        let Some(name) = self.cursor.name() else {
            return Err(self.cursor.expected("a policy such as tova or window+4"));
        };
        let policy = match name.text {
            "full" => {
                let problem = "full keeps every state, there is nothing to change about it; it stands alone, or for some of the layers as in layers(0-1: full, *: tova)";
                return Err(self.cursor.wrong(name.at, problem));
            }
            "score" => self.score()?,
            "protect" => self.protect(&name)?,
            "layers" => self.layers(&name)?,
            "heads" => self.heads(&name)?,
            "pyramid" => self.pyramid(&name)?,
            "every" => self.every(&name)?,
            "after-prompt" => self.after_prompt(&name)?,
            "merge" => self.merge(&name)?,
            "pooled" => self.pooled(&name)?,
            "int8" => self.packed(&name, Bits::Eight)?,
            "int4" => self.packed(&name, Bits::Four)?,
            "int2" => self.packed(&name, Bits::Two)?,
            "kivi" => self.kivi(&name)?,
            "in-state" => self.renumbered(&name, Positions::InState)?,
            "gap-compressed" => self.renumbered(&name, Positions::GapCompressed)?,
            "original" => self.renumbered(&name, Positions::Original)?,
            "streaming" => self.streaming(&name)?,
            _ => self.registered(&name)?,
        };
        self.cursor.up();
        Ok(policy)
    }

    /// A registered policy, whose name was read.
    fn registered(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let own = self.registry.named(&format!("{}+i", name.text));
        if own.is_none() && self.registry.named(name.text).is_none() {
            return match elsewhere::same(name.text) {
                Some(here) => self.registry.policy(here),
                None => Err(self.unknown(name)),
            };
        }
        let seed = match self.cursor.eat(":") {
            true => Some(self.parameter(name)?),
            false => None,
        };
        let named = match self.cursor.eat("(") {
            true => self.named()?,
            false => Vec::new(),
        };
        let first = match self.cursor.eat("+") {
            true => Some(self.parameter(name)?),
            false => None,
        };
        let arguments = Arguments::new(self.text, name.text, name.at.clone(), named).with_seed(seed, self.seed);
        let (entry, arguments, protected) = match (first, own) {
            (Some((first, _)), Some(entry)) => (entry, arguments.with_first(first), 0),
            (first, _) => match self.registry.named(name.text) {
                Some(entry) => (entry, arguments, first.map_or(0, |(first, _)| first)),
                None => return Err(self.unknown(name)),
            },
        };
        let policy = entry.make(&arguments)?;
        arguments.check()?;
        if arguments.wants_seed() {
            self.unseeded.push(name.at.end);
        }
        match protected {
            0 => Ok(policy),
            first => Ok(Arc::new(Protect { policy, first, newest: 0 })),
        }
    }

    /// The number behind `+` or `:`.
    fn parameter<T: std::str::FromStr>(&mut self, name: &Word<'t>) -> Result<(T, Range<usize>), SpecError> {
        if let Some(found) = self.cursor.integer() {
            return Ok(found);
        }
        let next = self.cursor.next();
        let (text, at) = self.cursor.value().map_or(("", next..next), |word| (word.text, word.at));
        Err(SpecError::Parameter { name: name.text.into(), text: text.into(), place: self.cursor.place(at) })
    }

    /// Arguments up to the parenthesis that closes them.
    pub(super) fn named(&mut self) -> Result<Vec<Named<'t>>, SpecError> {
        let mut named = Vec::new();
        if self.cursor.eat(")") {
            return Ok(named);
        }
        loop {
            let expected = "an argument as in window=32";
            let name = self.cursor.identifier().ok_or_else(|| self.cursor.expected(expected))?;
            self.cursor.expect("=", "= and the argument's value")?;
            let value = self.cursor.value().ok_or_else(|| self.cursor.expected("the argument's value"))?;
            named.push(Named { name: name.text, value: value.text, at: [name.at, value.at] });
            if !self.cursor.eat(",") {
                self.cursor.expect(")", ", or )")?;
                return Ok(named);
            }
        }
    }

    fn unknown(&self, name: &Word<'t>) -> SpecError {
        let registered: Vec<&'static str> = self.registry.entries().map(|entry| entry.name).collect();
        let made = RESERVED[1..].iter().map(|(_, example)| *example);
        let known: Vec<&str> = std::iter::once("full").chain(registered.iter().copied()).chain(made).collect();
        let bare = registered.iter().map(|name| name.strip_suffix("+i").unwrap_or(name));
        SpecError::Unknown {
            name: name.text.into(),
            meant: elsewhere::meant(name.text, bare.chain(RESERVED.iter().map(|(name, _)| *name))),
            known: known.join(", "),
            place: self.cursor.place(name.at.clone()),
        }
    }

    /// The budget behind the policy, up to the end.
    fn budget(&mut self, policy: Option<&Arc<dyn Policy>>) -> Result<Option<(Budget, Range<usize>)>, SpecError> {
        if self.cursor.is_at_end() {
            return Ok(None);
        }
        if !self.cursor.eat("@") {
            return Err(self.cursor.expected("@ and a budget as in @512, or the end"));
        }
        let word = self.cursor.all();
        match policy {
            None => return Err(SpecError::FullBounded(word.text.into())),
            Some(policy) if !omits(policy.as_ref()) => {
                let problem =
                    format!("{} keeps every state and takes no budget; leave @{} out", policy.name(), word.text);
                return Err(self.cursor.wrong(word.at, problem));
            }
            Some(_) => {}
        }
        self.read_budget(word).map(Some)
    }

    pub(super) fn read_budget(&self, word: Word<'t>) -> Result<(Budget, Range<usize>), SpecError> {
        match word.text.parse() {
            Ok(budget) => Ok((budget, word.at)),
            Err(error) => Err(self.cursor.at(word.at, SpecError::Core(error))),
        }
    }
}
