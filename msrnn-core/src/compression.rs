//! A policy with its budget: how a multi-state is bounded.

use std::sync::Arc;

use crate::error::Error;
use crate::layer::Layer;
use crate::needs::{HEADS, fewest_states, lacking};
use crate::policy::Policy;

/// How a multi-state is bounded.
#[derive(Clone, Debug)]
pub enum Compression {
    /// Not at all: the vanilla transformer, g(t) = t.
    Unbounded,
    /// To `states` rows by a policy, g(t) = min(t, k). Made by [`Compression::bounded`].
    Bounded {
        /// Which row goes.
        policy: Arc<dyn Policy>,
        /// k, the mean over the layers.
        states: usize,
    },
    /// Not at all, as [`Compression::Unbounded`], but rows are held as a policy says of which nothing goes in any layer.
    /// Made by [`Compression::held`].
    Held {
        /// How rows are held.
        policy: Arc<dyn Policy>,
    },
}

impl Compression {
    /// At most `states` rows, chosen by `policy`.
    ///
    /// # Errors
    ///
    /// When the policy needs more states than that, or its plan for a stack of one layer cannot be carried out; see
    /// [`Plan::check`](crate::policy::Plan::check).
    pub fn bounded(policy: Arc<dyn Policy>, states: usize) -> Result<Self, Error> {
        if lacking(policy.as_ref(), states, 0) > 0 {
            let needed = fewest_states(policy.as_ref(), 0);
            return Err(Error::TooFewStates { policy: policy.name(), states, needed: needed.unwrap_or(usize::MAX) });
        }
        let layer = Layer { kv_heads: HEADS, ..Layer::only(states) };
        policy.plan(&layer).check(policy.as_ref(), &layer)?;
        Ok(Self::Bounded { policy, states })
    }

    /// Every row, held as `policy` says.
    ///
    /// # Errors
    ///
    /// When its plan for a stack of one layer cannot be carried out, or makes rows go.
    pub fn held(policy: Arc<dyn Policy>) -> Result<Self, Error> {
        let layer = Layer { kv_heads: HEADS, ..Layer::only(usize::MAX) };
        let plan = policy.plan(&layer);
        plan.check(policy.as_ref(), &layer)?;
        match plan.parts().iter().any(|part| part.states.is_some()) {
            false => Ok(Self::Held { policy }),
            true => Err(Error::NotHeld(policy.name())),
        }
    }

    /// The same bound by another policy.
    #[must_use]
    pub fn by(&self, policy: Arc<dyn Policy>) -> Self {
        match self {
            Self::Unbounded => Self::Unbounded,
            Self::Bounded { states, .. } => Self::Bounded { policy, states: *states },
            Self::Held { .. } => Self::Held { policy },
        }
    }

    /// Refuses a ceiling, which has to be told what comes; see [`Policy::foresight`].
    ///
    /// # Errors
    ///
    /// When the policy is one.
    pub fn check_no_foresight(&self) -> Result<(), Error> {
        match self.policy().filter(|policy| policy.foresight().is_some()) {
            Some(policy) => Err(Error::Foresight(policy.name())),
            None => Ok(()),
        }
    }

    /// Refuses a policy that names layers or KV heads which a model of so many has not; see
    /// [`Plan::check_named`](crate::policy::Plan::check_named).
    ///
    /// # Errors
    ///
    /// When it does.
    pub fn check_named(&self, layers: usize, kv_heads: usize) -> Result<(), Error> {
        let Some((policy, states)) = self.planned() else { return Ok(()) };
        let mut of_model = (0..layers).map(|index| Layer { index, layers, kv_heads, states });
        of_model.try_for_each(|layer| policy.plan(&layer).check_named(policy, &layer))
    }

    /// The bound k, or none.
    pub fn states(&self) -> Option<usize> {
        match self {
            Self::Unbounded | Self::Held { .. } => None,
            Self::Bounded { states, .. } => Some(*states),
        }
    }

    /// Policy and k, if there is a bound.
    pub fn bound(&self) -> Option<(&dyn Policy, usize)> {
        self.policy().map(|policy| policy.as_ref()).zip(self.states())
    }

    /// The policy and the k that its plans are asked for: without a bound but with a policy, as many as come.
    pub fn planned(&self) -> Option<(&dyn Policy, usize)> {
        self.policy().map(|policy| (policy.as_ref(), self.states().unwrap_or(usize::MAX)))
    }

    /// The policy, if there is one.
    pub fn policy(&self) -> Option<&Arc<dyn Policy>> {
        match self {
            Self::Unbounded => None,
            Self::Bounded { policy, .. } | Self::Held { policy } => Some(policy),
        }
    }
}
