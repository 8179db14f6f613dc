//! A policy as users write it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use msrnn_core::Error;
use msrnn_core::budget::{Budget, StateBytes};
use msrnn_core::compression::Compression;
use msrnn_core::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::error::SpecError;
use crate::needs;
use crate::needs::{check, fewest_states, lacking};
use crate::registry::Registry;
use crate::text::{self, Parsed};

/// `full`, or `NAME@BUDGET` such as `window+4@512`, `tova@25%` or `h2o@64MiB`.
///
/// In the place of a name may stand a policy made of others, such as `every(128, tova)`, and a rule of its own,
/// `score(weight * value_norm)`; `docs/policy-guide.md` has them all. A policy alone (`tova`) is a spec whose budget
/// is still to be given.
///
/// A spec is displayed as it was written, [`name`](Self::name) is the same in one form, and specs that mean the same
/// are equal.
///
/// ```
/// use msrnn_policies::PolicySpec;
///
/// let spec: PolicySpec = "window+4@512".parse()?;
/// assert_eq!(spec.to_string(), "window+4@512");
/// assert_eq!(spec.compression(4096, |_| 1)?.states(), Some(512));
/// assert!("window+4@4".parse::<PolicySpec>()?.compression(4096, |_| 1).is_err());
///
/// let spec: PolicySpec = "score(m=.98*m+weight; keep m*value_norm; newest ceil(k/2); per head)@25%".parse()?;
/// assert_eq!(spec.name(), "score(m = 0.98 * m + weight; keep m * value_norm; newest ceil(k / 2); per head)");
/// # Ok::<(), msrnn_policies::SpecError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PolicySpec {
    policy: Option<Arc<dyn Policy>>,
    budget: Option<Budget>,
    written: Cow<'static, str>,
    /// What of it stands before the budget; none where the budget stands inside.
    bare: Option<Cow<'static, str>>,
}

impl PolicySpec {
    /// The unbounded state.
    pub const fn full() -> Self {
        Self { policy: None, budget: None, written: Cow::Borrowed("full"), bare: None }
    }

    pub(crate) fn read(registry: &Registry, text: &str) -> Result<Self, SpecError> {
        let Parsed { policy, budget, bare, .. } = text::parse(registry, text, None)?;
        let written = text.trim().to_owned();
        Ok(Self { policy, budget, bare: bare.map(|bytes| written[..bytes].to_owned().into()), written: written.into() })
    }

    /// Whether nothing is ever omitted and rows are held as they were computed.
    pub fn is_full(&self) -> bool {
        self.policy.is_none()
    }

    /// Whether no row goes in any layer, however rows are held: `full` and `int4(full)` take no budget.
    pub fn keeps_all(&self) -> bool {
        self.policy.as_ref().is_none_or(|policy| !needs::omits(policy.as_ref()))
    }

    /// Name and parameters in the one form that all spellings share, without the budget.
    pub fn name(&self) -> String {
        self.policy.as_ref().map_or_else(|| "full".into(), |policy| policy.name())
    }

    /// The policy; none for `full`.
    pub fn policy(&self) -> Option<Arc<dyn Policy>> {
        self.policy.clone()
    }

    /// The budget as written, if any.
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// The same policy under another budget; one that keeps all stays as it is.
    #[must_use]
    pub fn with_budget(&self, budget: Budget) -> Self {
        if self.budget == Some(budget) || self.keeps_all() {
            return self.clone();
        }
        let bare = self.bare.clone().unwrap_or_else(|| self.name().into());
        let written = format!("{bare}@{budget}").into();
        Self { policy: self.policy.clone(), budget: Some(budget), written, bare: Some(bare) }
    }

    /// The same spec with a seed for what draws at random and names none of its own. Seed 0 is the one that is
    /// drawn with where none is named, and leaves the name as it is.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        if seed == 0 || self.is_full() {
            return self;
        }
        let Ok(Parsed { policy, bare, unseeded, .. }) = text::parse(Registry::current(), &self.written, Some(seed))
        else {
            return self;
        };
        let with_seeds = |text: &str| {
            let mut text = text.to_owned();
            for &at in unseeded.iter().rev() {
                text.insert_str(at, &format!(":{seed}"));
            }
            Cow::Owned(text)
        };
        let bare = bare.map(|bytes| with_seeds(&self.written[..bytes]));
        Self { policy, budget: self.budget, written: with_seeds(&self.written), bare }
    }

    /// Whether it is no policy but a ceiling, which is told what comes; see [`Policy::foresight`].
    pub fn is_ceiling(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.foresight().is_some())
    }

    /// Whether rows are attended as they came in every layer, as far as the policy says it: not merged, not rounded, and
    /// rotated by original positions.
    pub fn leaves_rows(&self) -> bool {
        self.policy.as_ref().is_none_or(|policy| needs::leaves_rows(policy.as_ref()))
    }

    /// The same policy, of which rows of the first tokens never go. What keeps every row stays as it is.
    ///
    /// # Errors
    ///
    /// When that makes the text too long.
    pub fn protecting(&self, first: usize) -> Result<Self, SpecError> {
        if self.keeps_all() {
            return Ok(self.clone());
        }
        let protected: Self = format!("protect({}, first={first})", self.name()).parse()?;
        Ok(self.budget.map_or_else(|| protected.clone(), |budget| protected.with_budget(budget)))
    }

    /// Whether the policy says in some layer how rows are numbered, which else is said by who runs it.
    pub fn says_positions(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| needs::says_positions(policy.as_ref()))
    }

    /// Whether every layer holds k rows and loses one at every token, as the policies of the paper do; not where
    /// layers differ in k, are full, or are cut at rarer times.
    pub fn is_one_in_one_out(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| needs::is_one_in_one_out(policy.as_ref()))
    }

    /// The policy with its budget resolved to a number of states.
    ///
    /// `bytes_per_state`: of one row in all layers, and beside all rows, given the policy.
    ///
    /// # Errors
    ///
    /// When a budget is needed and absent, comes to nothing, or is below what the policy needs; and when it is in
    /// bytes, and the policy lets states grow.
    pub fn compression<B: Into<StateBytes>>(
        &self,
        context: usize,
        bytes_per_state: impl Fn(&dyn Policy) -> B,
    ) -> Result<Compression, SpecError> {
        let Some(policy) = &self.policy else { return Ok(Compression::Unbounded) };
        if self.budget.is_none() && self.keeps_all() {
            return Ok(Compression::held(policy.clone())?);
        }
        let budget = self.budget.ok_or_else(|| SpecError::NoBudget(policy.name()))?;
        let bytes: StateBytes = bytes_per_state(policy.as_ref()).into();
        let states = match budget {
            Budget::Bytes(_) => {
                let Some(above) = needs::above(policy.as_ref()) else {
                    return Err(SpecError::GrowsBeyondBytes { policy: policy.name(), budget: budget.to_string() });
                };
                // One row above k is counted there already.
                match budget.resolve(usize::MAX, bytes).map_or(0, |rows| rows.saturating_sub(above - 1)) {
                    0 => {
                        let StateBytes { each: bytes_per_state, beside } = bytes;
                        let budget = budget.to_string();
                        return Err(Error::EmptyBudget { budget, bytes_per_state, beside, context }.into());
                    }
                    _ if above == 1 => budget.resolve(context, bytes)?,
                    states => Budget::States(states).resolve(context, bytes)?,
                }
            }
            _ => budget.resolve(context, bytes)?,
        };
        bounded(policy.clone(), states)
    }
}

/// A policy with its number of states.
///
/// # Errors
///
/// When some layer needs more.
pub(crate) fn bounded(policy: Arc<dyn Policy>, states: usize) -> Result<Compression, SpecError> {
    if !needs::omits(policy.as_ref()) {
        return Ok(Compression::held(policy)?);
    }
    if lacking(policy.as_ref(), states) > 0 {
        let needed = fewest_states(policy.as_ref()).ok_or_else(|| SpecError::NeverEnough(policy.name()))?;
        return Err(Error::TooFewStates { policy: policy.name(), states, needed }.into());
    }
    let compression = Compression::bounded(policy, states)?;
    check(&compression)?;
    Ok(compression)
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl PartialEq for PolicySpec {
    fn eq(&self, other: &Self) -> bool {
        self.budget == other.budget && self.name() == other.name()
    }
}

impl FromStr for PolicySpec {
    type Err = SpecError;

    /// Reads a spec with the registry of the process.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Registry::current().spec(text)
    }
}

impl From<PolicySpec> for String {
    fn from(spec: PolicySpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for PolicySpec {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}
