//! Policies whose rows are packed.

use std::ops::Range;
use std::sync::Arc;

use msrnn_core::packing::{Bits, Packing, Per};
use msrnn_core::policy::Policy;

use super::arguments::Arguments;
use super::cursor::Word;
use super::policy::Parser;
use crate::combine::Packed;
use crate::error::SpecError;
use crate::needs::{check_packed, packs};

/// Most numbers that may share a scale.
const MOST_GROUPED: usize = 1 << 12;

/// Most rows that may be whole.
const MOST_RECENT: usize = 1 << 20;

impl<'t> Parser<'_, 't> {
    /// `int4(tova, keys=channel, group=32, recent=32)`, `int4(full)`
    pub(super) fn packed(&mut self, name: &Word<'t>, bits: Bits) -> Result<Arc<dyn Policy>, SpecError> {
        self.open(name)?;
        let start = self.cursor.next();
        let policy = match self.full() {
            true => None,
            false => Some(self.inside(name)?),
        };
        let end = self.cursor.now();
        if policy.as_ref().is_some_and(|policy| packs(policy.as_ref())) {
            return Err(self.cursor.wrong(start..end, "its rows are packed already; pack them once"));
        }
        let options = self.options(name)?;
        let (group, recent) = (group(&options)?, recent(&options, Packing::RECENT)?);
        let keys = match options.get::<String>("keys")?.as_deref() {
            None | Some("token") => Per::Token,
            Some("channel") => Per::Channel,
            Some(_) => {
                return Err(options.refuse("keys", "give keys=token, or keys=channel where no row goes at every token"));
            }
        };
        options.check()?;
        if keys == Per::Channel {
            self.channels.extend(options.place("keys"));
        }
        Ok(Arc::new(Packed { policy, packing: Packing::new(bits, keys, group, recent) }))
    }

    /// `kivi(bits=2, group=32, recent=128)`
    pub(super) fn kivi(&mut self, name: &Word<'t>) -> Result<Arc<dyn Policy>, SpecError> {
        let named = match self.cursor.eat("(") {
            true => self.named()?,
            false => Vec::new(),
        };
        let options = Arguments::new(self.text, name.text, name.at.clone(), named);
        let bits = match Bits::of(options.get("bits")?.unwrap_or(2)) {
            Some(bits) => bits,
            None => return Err(options.refuse("bits", "give bits=2, bits=4 or bits=8")),
        };
        let (group, recent) = (group(&options)?, recent(&options, 4 * Packing::RECENT)?);
        if recent == 0 || !recent.is_multiple_of(group) {
            let problem =
                format!("recent={recent} keys are packed at once in groups of {group}; give a multiple of the group");
            return Err(options.refuse("recent", problem));
        }
        options.check()?;
        Ok(Arc::new(Packed { policy: None, packing: Packing::kivi(bits, group, recent) }))
    }

    /// Whether rows can be packed so in the policy as a whole; else points at what asks for it.
    pub(super) fn check_packed(&self, policy: &dyn Policy, whole: Range<usize>) -> Result<(), SpecError> {
        let at = self.channels.first().cloned().unwrap_or(whole);
        check_packed(policy).map_err(|error| self.cursor.at(at, SpecError::Core(error)))
    }
}

fn group(options: &Arguments<'_>) -> Result<usize, SpecError> {
    let group = options.get("group")?.unwrap_or(Packing::GROUP);
    match (1..=MOST_GROUPED).contains(&group) {
        true => Ok(group),
        false => Err(options.refuse("group", format!("give a number from 1 to {MOST_GROUPED}, such as group=32"))),
    }
}

fn recent(options: &Arguments<'_>, unsaid: usize) -> Result<usize, SpecError> {
    let recent = options.get("recent")?.unwrap_or(unsaid);
    match recent <= MOST_RECENT {
        true => Ok(recent),
        false => Err(options.refuse("recent", format!("give a number of rows up to {MOST_RECENT}, such as recent=32"))),
    }
}
